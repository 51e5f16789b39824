//! What only systemd knows, as health asks for it.

use std::{fmt, time::Duration};

use crate::health::facts::TimerFacts;

/// The host's systemd. Calls block, and have limits of their own.
pub trait Host: fmt::Debug + Send + Sync {
    /// The longest time between two runs of a schedule of calendar events; `None` where that is not known.
    fn longest_gap(&self, events: &[String]) -> Option<Duration>;

    /// The timers of these names, in the same order; `None` where no systemd runs that the daemon belongs to.
    ///
    /// # Errors
    /// A sentence, where systemd does not answer.
    fn timers(&self, units: &[String]) -> Result<Option<Vec<TimerFacts>>, String>;
}
