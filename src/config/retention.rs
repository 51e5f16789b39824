//! `[retention]`: which backups stay. Of `backupd.toml` for all sources, and of the file of a source for that one, key by key.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::de::DeValue;

use super::{reader::Section, values};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Which backups of a source stay. What a keep rule names stays, unless a maximum takes it away; some backups always
/// stay, see [`crate::retention`]. 0 switches a number off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionPolicy {
    /// The newest so many.
    pub keep_last: u32,
    /// All that are at most so much older than the newest.
    pub keep_within: Option<Duration>,
    /// The newest of each of so many hours with a backup.
    pub keep_hourly: u32,
    /// The same for days of the daemon's time zone.
    pub keep_daily: u32,
    /// The same for weeks as ISO 8601 counts them, from Monday.
    pub keep_weekly: u32,
    /// The same for months.
    pub keep_monthly: u32,
    /// The same for years.
    pub keep_yearly: u32,
    /// None that is more than so much older than the newest.
    pub max_age: Option<Duration>,
    /// None beyond the newest so many of those that the rules keep.
    pub max_count: u32,
    /// None beyond the newest of those that the rules keep that need so many bytes together.
    pub max_size: Option<u64>,
    /// The newest so many good ones stay in any case.
    pub min_backups: u32,
}

impl Default for RetentionPolicy {
    fn default() -> Self {
        // All of a day: somebody who takes two backups around a change of his wants both.
        Self { keep_within: Some(DAY), keep_daily: 7, keep_weekly: 4, keep_monthly: 12, ..Self::everything() }
    }
}

impl RetentionPolicy {
    /// Nothing is ever deleted.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            keep_last: 0,
            keep_within: None,
            keep_hourly: 0,
            keep_daily: 0,
            keep_weekly: 0,
            keep_monthly: 0,
            keep_yearly: 0,
            max_age: None,
            max_count: 0,
            max_size: None,
            min_backups: 1,
        }
    }
}

/// `[retention]` of `backupd.toml` beyond the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionHost {
    /// Whether the daemon deletes by itself: after each backup, and when the timer asks.
    pub automatic: bool,
    /// How long a deleted backup can be brought back.
    pub undelete: Duration,
}

impl Default for RetentionHost {
    fn default() -> Self {
        Self { automatic: true, undelete: DAY }
    }
}

/// The keys of a policy that a file has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetentionKeys {
    keep_last: Option<u32>,
    keep_within: Option<Option<Duration>>,
    keep_hourly: Option<u32>,
    keep_daily: Option<u32>,
    keep_weekly: Option<u32>,
    keep_monthly: Option<u32>,
    keep_yearly: Option<u32>,
    max_age: Option<Option<Duration>>,
    max_count: Option<u32>,
    max_size: Option<Option<u64>>,
    min_backups: Option<u32>,
}

impl RetentionKeys {
    /// These keys, and for the others what `below` says.
    #[must_use]
    pub fn over(&self, below: &RetentionPolicy) -> RetentionPolicy {
        RetentionPolicy {
            keep_last: self.keep_last.unwrap_or(below.keep_last),
            keep_within: self.keep_within.unwrap_or(below.keep_within),
            keep_hourly: self.keep_hourly.unwrap_or(below.keep_hourly),
            keep_daily: self.keep_daily.unwrap_or(below.keep_daily),
            keep_weekly: self.keep_weekly.unwrap_or(below.keep_weekly),
            keep_monthly: self.keep_monthly.unwrap_or(below.keep_monthly),
            keep_yearly: self.keep_yearly.unwrap_or(below.keep_yearly),
            max_age: self.max_age.unwrap_or(below.max_age),
            max_count: self.max_count.unwrap_or(below.max_count),
            max_size: self.max_size.unwrap_or(below.max_size),
            min_backups: self.min_backups.unwrap_or(below.min_backups),
        }
    }
}

/// Reads `[retention]` of `backupd.toml`.
pub(super) fn read_host(mut section: Section<'_>) -> (RetentionPolicy, RetentionHost) {
    let default = RetentionHost::default();
    let host = RetentionHost {
        automatic: section.take("automatic", values::boolean).unwrap_or(default.automatic),
        undelete: section.take("undelete", values::duration).unwrap_or(default.undelete),
    };
    let keys = read_keys(&mut section);
    section.finish();
    (keys.over(&RetentionPolicy::default()), host)
}

/// Reads `[retention]` of a source.
pub(super) fn read(mut section: Section<'_>) -> RetentionKeys {
    section.refuse("automatic", "is for backupd.toml: it holds for all sources");
    section.refuse("undelete", "is for backupd.toml: it holds for all sources");
    let keys = read_keys(&mut section);
    section.finish();
    keys
}

/// What `convert` reads, or nothing for the word "off".
fn or_off<'a, T>(
    convert: impl FnOnce(DeValue<'a>) -> Result<T, String>,
) -> impl FnOnce(DeValue<'a>) -> Result<Option<T>, String> {
    move |value| match value {
        DeValue::String(text) if text == "off" => Ok(None),
        value => convert(value).map(Some),
    }
}

fn read_keys(section: &mut Section<'_>) -> RetentionKeys {
    let mut number = |key| section.take(key, values::integer(0..=u32::MAX));
    let keys = RetentionKeys {
        keep_last: number("keep_last"),
        keep_hourly: number("keep_hourly"),
        keep_daily: number("keep_daily"),
        keep_weekly: number("keep_weekly"),
        keep_monthly: number("keep_monthly"),
        keep_yearly: number("keep_yearly"),
        max_count: number("max_count"),
        min_backups: section.take("min_backups", values::integer(1..=u32::MAX)),
        ..RetentionKeys::default()
    };
    let keys = RetentionKeys {
        keep_within: section.take("keep_within", or_off(values::duration)),
        max_age: section.take("max_age", or_off(values::duration)),
        max_size: section.take("max_size", or_off(values::size)),
        ..keys
    };
    if keys.max_size == Some(Some(0)) {
        section.problem("max_size", "allows no backup at all; leave the key out for no limit");
    }
    if let (Some(Some(within)), Some(Some(age))) = (keys.keep_within, keys.max_age)
        && within > age
    {
        section.problem("keep_within", "keeps what max_age takes away; it cannot be longer than that");
    }
    keys
}
