//! The one clock of the program. Decisions never read it themselves: they take the time as an argument.

/// Microseconds since the epoch.
#[must_use]
pub fn now_micros() -> u64 {
    u64::try_from(chrono::Utc::now().timestamp_micros()).unwrap_or_default()
}
