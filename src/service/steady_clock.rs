//! The time as it can be by the clock that nobody sets: one that was set forward is believed after a while only.
//!
//! For what ends by time and cannot be taken back, such as that a deleted backup can be. A host whose clock was wrong when
//! the daemon started, and is right from then on, waits that while once.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::clock::{micros, now_micros};

/// Clocks are corrected by less without anybody noticing.
const TOLERANCE: Duration = Duration::from_secs(3600);

/// The two clocks of a daemon.
#[derive(Debug)]
pub(super) struct SteadyClock {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Microseconds since the epoch, and the steady clock then.
    base: (u64, Instant),
    /// Since when the time is ahead of what it can be.
    ahead_since: Option<Instant>,
}

impl SteadyClock {
    /// What the clock says now is believed.
    pub(super) fn start() -> Self {
        Self { state: Mutex::new(State { base: (now_micros(), Instant::now()), ahead_since: None }) }
    }

    /// The time `now`, microseconds since the epoch, or the latest that it can be. After a jump the new time is believed when it
    /// has lasted for `patience`.
    pub(super) fn believed(&self, now: u64, patience: Duration) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).believed(now, Instant::now(), patience)
    }
}

impl State {
    fn believed(&mut self, now: u64, steady: Instant, patience: Duration) -> u64 {
        let (at, then) = self.base;
        // It stands still while the host sleeps, which only waits longer.
        let since = steady.saturating_duration_since(then).saturating_add(TOLERANCE);
        let latest = at.saturating_add(micros(since));
        if now <= latest {
            self.ahead_since = None;
            return now;
        }
        let ahead = *self.ahead_since.get_or_insert(steady);
        if steady.saturating_duration_since(ahead) < patience {
            return latest;
        }
        *self = Self { base: (now, steady), ahead_since: None };
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_clock_that_jumps_ahead_is_believed_after_a_day() {
        let (start, at) = (Instant::now(), 1_000_000_000_000_000);
        let mut state = State { base: (at, start), ahead_since: None };
        let mut ask = |now: u64, days: u32| state.believed(now, start + DAY * days, DAY);
        assert_eq!(ask(at + micros(DAY), 1), at + micros(DAY), "as it should be");
        assert_eq!(ask(at - 5, 1), at - 5, "one that is set back ends nothing early");
        let jumped = at + micros(DAY * 300);
        assert_eq!(ask(jumped, 2), at + micros(DAY * 2 + TOLERANCE), "a jump");
        assert_eq!(ask(at + micros(DAY * 2), 2), at + micros(DAY * 2), "set right again");
        assert_eq!(ask(jumped, 3), at + micros(DAY * 3 + TOLERANCE), "another jump");
        assert_eq!(ask(jumped + micros(DAY), 4), jumped + micros(DAY), "it lasted");
        assert_eq!(ask(jumped + micros(DAY * 2), 5), jumped + micros(DAY * 2), "and is the time from then on");
    }
}
