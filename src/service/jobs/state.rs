//! What is shown of a job: its record, how far and how fast it is.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    clock::now_micros,
    model::job::{JobRecord, Phase},
    stream::{Cancel, Progress},
};

/// A job as it is now. Sizes are plaintext bytes; a past job has none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobState {
    /// What history keeps of it, as far as it is known.
    #[serde(flatten)]
    pub record: JobRecord,
    /// Bytes moved.
    pub bytes_done: u64,
    /// Bytes expected, an estimate; 0 for unknown.
    pub bytes_total: u64,
    /// Bytes per second, over the last seconds.
    pub rate: u64,
    /// When it should end, microseconds since the epoch; 0 for unknown.
    pub expected_end_time: u64,
    /// Whether a cancel would have an effect: it was not cancelled yet, and is neither committing nor cleaning up.
    pub cancelable: bool,
}

impl JobState {
    /// A job that ended.
    #[must_use]
    pub fn past(record: JobRecord) -> Self {
        Self { record, bytes_done: 0, bytes_total: 0, rate: 0, expected_end_time: 0, cancelable: false }
    }

    /// A job that runs or waits.
    pub(super) fn live(record: &JobRecord, progress: &Progress, cancel: &Cancel, meter: &mut RateMeter) -> Self {
        let (bytes_done, bytes_total, phase) = (progress.bytes_done(), progress.bytes_total(), progress.phase());
        let rate = meter.rate(Instant::now(), bytes_done);
        let expected_end_time = match bytes_total.checked_sub(bytes_done) {
            Some(left) if rate > 0 && bytes_total > 0 => now_micros() + left.saturating_mul(1_000_000) / rate,
            _ => 0,
        };
        Self {
            record: JobRecord { phase, ..record.clone() },
            bytes_done,
            bytes_total,
            rate,
            expected_end_time,
            cancelable: cancel.reason().is_none() && !matches!(phase, Phase::Committing | Phase::CleaningUp),
        }
    }

    /// How far it is, from 0 to 1, if that can be told.
    #[must_use]
    pub fn progress(&self) -> Option<f64> {
        #[allow(clippy::cast_precision_loss, reason = "a part in 2^52 is not seen in a progress bar")]
        (self.bytes_total > 0).then(|| (self.bytes_done as f64 / self.bytes_total as f64).min(1.0))
    }
}

/// Measures a rate from samples taken whenever somebody looks, so that no timer is needed.
#[derive(Debug)]
pub(super) struct RateMeter {
    samples: VecDeque<(Instant, u64)>,
}

impl RateMeter {
    const WINDOW: Duration = Duration::from_secs(5);
    const SPACING: Duration = Duration::from_millis(200);

    pub(super) fn new(start: Instant) -> Self {
        Self { samples: VecDeque::from([(start, 0)]) }
    }

    /// Bytes per second since the oldest sample of the window.
    pub(super) fn rate(&mut self, now: Instant, bytes: u64) -> u64 {
        while self.samples.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= Self::WINDOW) {
            self.samples.pop_front();
        }
        let rate = self.samples.front().map_or(0, |(at, before)| {
            let micros = now.saturating_duration_since(*at).as_micros();
            u64::try_from(u128::from(bytes.saturating_sub(*before)) * 1_000_000 / micros.max(1)).unwrap_or(u64::MAX)
        });
        if self.samples.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= Self::SPACING) {
            self.samples.push_back((now, bytes));
        }
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_the_last_seconds() {
        let start = Instant::now();
        let mut meter = RateMeter::new(start);
        let mut bytes = 0;
        for step in 1..=100 {
            bytes += 1000;
            assert_eq!(meter.rate(start + Duration::from_millis(100 * step), bytes), 10_000);
        }
        assert!(meter.samples.len() < 30);
        let stalled = meter.rate(start + Duration::from_secs(16), bytes);
        assert!(stalled < 1_000, "{stalled}");
    }
}
