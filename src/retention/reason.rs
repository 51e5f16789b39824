//! Why a backup stays or goes.

use serde::{Deserialize, Serialize};

use super::calendar::Period;

/// Why a backup stays. There may be several reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Staying {
    /// It is the newest.
    Newest,
    /// It is the so many-th newest, from 1, of those that `keep_last` keeps.
    Last {
        /// Counted from 1.
        place: u32,
        /// Of so many.
        of: u32,
    },
    /// It is not older than `keep_within`.
    Within,
    /// It is the newest of its period.
    Calendar {
        /// The kind of period.
        period: Period,
        /// The period, `2026-W48`.
        which: String,
        /// Counted from 1.
        place: u32,
        /// Of so many.
        of: u32,
    },
    /// There is no keep rule, so all are kept.
    NoRule,
    /// It is among the newest `min_backups` good ones.
    Minimum {
        /// How many stay.
        of: u32,
    },
    /// Somebody pinned it.
    Pinned {
        /// The end, microseconds since the epoch; absent for never.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<u64>,
        /// Why.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        why: String,
    },
    /// It is the newest that lacks nothing.
    NewestComplete,
    /// It is the newest that was verified.
    NewestVerified,
    /// It is the newest that was drilled.
    NewestDrilled,
    /// Its time contradicts those of others, which agree. It takes no place, and nothing says how old it is.
    WrongTime,
    /// It shows that the time of a later one is wrong.
    Witness,
    /// The times of backups contradict their order, so nothing goes.
    Clock {
        /// What contradicts what.
        contradiction: String,
    },
}

/// Why a backup goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Going {
    /// No rule keeps it.
    NoRule,
    /// It is older than `max_age`.
    MaxAge,
    /// It is beyond `max_count`.
    MaxCount,
    /// It is beyond `max_size`.
    MaxSize,
}

impl std::fmt::Display for Staying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Newest => f.write_str("newest"),
            Self::Last { place, of } => write!(f, "last {place} of {of}"),
            Self::Within => f.write_str("within keep_within"),
            Self::Calendar { period, which, place, of } => {
                let word = match period {
                    Period::Hour => "hourly",
                    Period::Day => "daily",
                    Period::Week => "weekly",
                    Period::Month => "monthly",
                    Period::Year => "yearly",
                };
                write!(f, "{word} {place} of {of} ({which})")
            }
            Self::NoRule => f.write_str("no rule limits"),
            Self::Minimum { of } => write!(f, "among the newest {of} good ones"),
            Self::Pinned { until: None, why } if why.is_empty() => f.write_str("pinned"),
            Self::Pinned { until: None, why } => write!(f, "pinned ({why})"),
            Self::Pinned { until: Some(until), why } => {
                let end = crate::clock::rfc3339(*until);
                if why.is_empty() { write!(f, "pinned until {end}") } else { write!(f, "pinned until {end} ({why})") }
            }
            Self::NewestComplete => f.write_str("newest complete"),
            Self::NewestVerified => f.write_str("newest verified"),
            Self::NewestDrilled => f.write_str("newest drilled"),
            Self::WrongTime => f.write_str("its time is wrong; it stays until it is deleted by name"),
            Self::Witness => f.write_str("shows that the time of a later one is wrong"),
            Self::Clock { contradiction } => write!(f, "clocks disagree: {contradiction}"),
        }
    }
}

impl std::fmt::Display for Going {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoRule => "no rule keeps it",
            Self::MaxAge => "older than max_age",
            Self::MaxCount => "beyond max_count",
            Self::MaxSize => "beyond max_size",
        })
    }
}
