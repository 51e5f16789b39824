//! The one clock of the program. Decisions never read it themselves: they take the time as an argument.

use std::{
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

/// Microseconds since the epoch.
#[must_use]
pub fn now_micros() -> u64 {
    u64::try_from(chrono::Utc::now().timestamp_micros()).unwrap_or_default()
}

/// A duration in microseconds, the most that there is for one that does not fit.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// When a file was written last, as [`now_micros`] counts; 0 where that cannot be told.
#[must_use]
pub fn modified_at(file: &Path) -> u64 {
    let modified = std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok();
    modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, micros)
}

/// A time of [`now_micros`] as RFC 3339 has it, in UTC, to the second.
#[must_use]
pub fn rfc3339(micros: u64) -> String {
    let time = i64::try_from(micros).ok().and_then(chrono::DateTime::from_timestamp_micros);
    time.map_or_else(|| "-".to_owned(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}
