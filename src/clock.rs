//! The one clock of the program. Decisions never read it themselves: they take the time as an argument.

/// Microseconds since the epoch.
#[must_use]
pub fn now_micros() -> u64 {
    u64::try_from(chrono::Utc::now().timestamp_micros()).unwrap_or_default()
}

/// A time of [`now_micros`] as RFC 3339 has it, in UTC, to the second.
#[must_use]
pub fn rfc3339(micros: u64) -> String {
    let time = i64::try_from(micros).ok().and_then(chrono::DateTime::from_timestamp_micros);
    time.map_or_else(|| "-".to_owned(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}
