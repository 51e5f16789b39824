//! How far a job is, written by its threads without locks and read by whoever shows it.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::model::job::Phase;

/// Progress of one job.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    before: AtomicU64,
    after: AtomicU64,
}

impl Progress {
    /// Enters a phase.
    pub fn enter(&self, phase: Phase) {
        let index = Phase::ALL.iter().position(|p| *p == phase).unwrap_or_default();
        self.phase.store(u8::try_from(index).unwrap_or_default(), Ordering::Relaxed);
    }

    /// The phase entered last; [`Phase::Queued`] before any.
    #[must_use]
    pub fn phase(&self) -> Phase {
        Phase::ALL.get(usize::from(self.phase.load(Ordering::Relaxed))).copied().unwrap_or(Phase::Queued)
    }

    /// Counts plaintext bytes that were moved.
    pub fn add_bytes(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// States how many bytes are expected in all, as well as can be known; 0 for unknown. In one of several parts: of
    /// this part.
    pub fn expect_bytes(&self, bytes: u64) {
        let others = self.before.load(Ordering::Relaxed).saturating_add(self.after.load(Ordering::Relaxed));
        self.bytes_total.store(others.saturating_add(bytes), Ordering::Relaxed);
    }

    /// Begins one of several parts, with `expected` bytes as far as is known before it says so itself, and `after` bytes
    /// in those that follow. Only one thread tells the parts.
    pub fn begin_part(&self, expected: u64, after: u64) {
        self.before.store(self.bytes_done(), Ordering::Relaxed);
        self.after.store(after, Ordering::Relaxed);
        self.expect_bytes(expected);
    }

    /// Plaintext bytes moved so far.
    #[must_use]
    pub fn bytes_done(&self) -> u64 {
        self.bytes_done.load(Ordering::Relaxed)
    }

    /// Bytes expected in all; 0 for unknown. An estimate: fewer or more may come.
    #[must_use]
    pub fn bytes_total(&self) -> u64 {
        self.bytes_total.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_whole_add_up() {
        let progress = Progress::default();
        progress.expect_bytes(10);
        assert_eq!(progress.bytes_total(), 10, "one part is the whole");
        progress.begin_part(100, 50);
        progress.expect_bytes(120);
        progress.add_bytes(130);
        assert_eq!((progress.bytes_done(), progress.bytes_total()), (130, 170));
        progress.begin_part(50, 0);
        assert_eq!(progress.bytes_total(), 180, "what was moved counts, not what was expected of it");
    }
}
