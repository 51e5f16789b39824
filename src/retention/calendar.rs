//! Periods of the calendar in a time zone.
//!
//! An hour is an hour of real time: when clocks are set back, the one that comes twice is two. A day is what the calendar
//! there calls so, of 23, 24 or 25 hours. Weeks and the years that they belong to are those of ISO 8601: a week begins on
//! Monday and belongs to the year that has its Thursday.

use chrono::{DateTime, Datelike as _, TimeZone, Timelike as _, Utc};
use serde::{Deserialize, Serialize};

/// A kind of period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// An ISO week.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl Period {
    /// All of them, the shortest first.
    pub const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// About how long one is, microseconds.
    #[must_use]
    pub fn length(self) -> u64 {
        let hours = match self {
            Self::Hour => 1,
            Self::Day => 24,
            Self::Week => 7 * 24,
            Self::Month => 31 * 24,
            Self::Year => 366 * 24,
        };
        hours * 3_600_000_000
    }

    /// The period that a time is in, as people write it: `2026-11-25`, `2026-W48`. Two times are in one period exactly
    /// if the texts are equal.
    #[must_use]
    pub fn of<Z: TimeZone>(self, micros: u64, zone: &Z) -> String {
        let utc = i64::try_from(micros).ok().and_then(DateTime::<Utc>::from_timestamp_micros).unwrap_or_default();
        let local = utc.with_timezone(zone);
        let offset = chrono::Offset::fix(local.offset());
        match self {
            Self::Hour => {
                let (date, hour) = (local.date_naive(), local.hour());
                // Of the two hours that show the same, one has another distance from UTC.
                format!("{date}T{hour:02}{offset}")
            }
            Self::Day => local.date_naive().to_string(),
            Self::Week => format!("{:04}-W{:02}", local.iso_week().year(), local.iso_week().week()),
            Self::Month => format!("{:04}-{:02}", local.year(), local.month()),
            Self::Year => format!("{:04}", local.year()),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono_tz::{America, Asia, Australia, Europe, Tz};

    use super::*;

    fn micros(text: &str) -> u64 {
        u64::try_from(DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()).unwrap()
    }

    fn periods(period: Period, zone: Tz, times: &[&str]) -> Vec<String> {
        times.iter().map(|time| period.of(micros(time), &zone)).collect()
    }

    #[test]
    fn the_hour_that_comes_twice_is_two_and_the_one_that_is_left_out_is_none() {
        let back = ["2026-10-25T00:30:00Z", "2026-10-25T00:59:59Z", "2026-10-25T01:30:00Z"];
        assert_eq!(
            periods(Period::Hour, Europe::Berlin, &back),
            ["2026-10-25T02+02:00", "2026-10-25T02+02:00", "2026-10-25T02+01:00"]
        );
        let forward = ["2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z"];
        assert_eq!(periods(Period::Hour, Europe::Berlin, &forward), ["2026-03-29T01+01:00", "2026-03-29T03+02:00"]);
        // Half an hour, where clocks are set so.
        let half = ["2026-04-04T14:30:00Z", "2026-04-04T15:00:00Z", "2026-04-04T15:29:00Z"];
        assert_eq!(
            periods(Period::Hour, Australia::Lord_Howe, &half),
            ["2026-04-05T01+11:00", "2026-04-05T01+10:30", "2026-04-05T01+10:30"]
        );
    }

    #[test]
    fn days_are_those_of_the_zone_also_when_they_are_longer() {
        let long_day = ["2026-10-24T21:59:59Z", "2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z", "2026-10-25T23:00:00Z"];
        assert_eq!(
            periods(Period::Day, Europe::Berlin, &long_day),
            ["2026-10-24", "2026-10-25", "2026-10-25", "2026-10-26"]
        );
        // Midnight is left out.
        assert_eq!(
            periods(Period::Day, Asia::Beirut, &["2026-03-28T21:59:59Z", "2026-03-28T22:00:00Z"]),
            ["2026-03-28", "2026-03-29"]
        );
        assert_eq!(periods(Period::Day, America::New_York, &["2026-11-25T04:59:59Z"]), ["2026-11-24"]);
    }

    #[test]
    fn weeks_are_those_of_iso_8601() {
        let times = ["2026-12-31T12:00:00Z", "2027-01-03T12:00:00Z", "2027-01-04T12:00:00Z", "2024-12-30T12:00:00Z"];
        assert_eq!(periods(Period::Week, Tz::UTC, &times), ["2026-W53", "2026-W53", "2027-W01", "2025-W01"]);
        // Monday begins there first.
        let monday = ["2026-11-22T14:59:59Z", "2026-11-22T15:00:00Z"];
        assert_eq!(periods(Period::Week, Asia::Tokyo, &monday), ["2026-W47", "2026-W48"]);
    }

    #[test]
    fn months_and_years_begin_at_midnight_there() {
        let times = ["2026-12-31T22:59:59Z", "2026-12-31T23:00:00Z"];
        assert_eq!(periods(Period::Month, Europe::Berlin, &times), ["2026-12", "2027-01"]);
        assert_eq!(periods(Period::Year, Europe::Berlin, &times), ["2026", "2027"]);
    }
}
