//! How a backup is named on the command line, made into what the daemon understands: `SOURCE@2026-11-01` becomes the
//! instant before which the snapshot must be, in microseconds. The daemon does not know this user's time zone.

use chrono::{DateTime, Days, Local, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone};

use super::{
    arguments::{BackupArguments, RestoreArguments},
    error::CtlError,
};
use crate::model::RunId;

impl BackupArguments {
    /// The selector for the daemon.
    ///
    /// # Errors
    /// `InvalidArgs` for a time that is none.
    pub(crate) fn selector(&self) -> Result<String, CtlError> {
        match (&self.backup, &self.of_source, &self.backup_option) {
            (Some(backup), ..) => selector(backup),
            (None, Some(source), None) => Ok(format!("{source}@latest")),
            (None, Some(source), Some(which)) => Ok(format!("{source}@{}", instant(which)?)),
            (None, None, Some(id)) => Ok(id.clone()),
            (None, None, None) => Err(CtlError::usage("name a backup: an id, SOURCE@latest or SOURCE@TIME")),
        }
    }
}

impl RestoreArguments {
    /// The selector for the daemon. With `--all` a source's name alone means its newest run.
    ///
    /// # Errors
    /// As [`BackupArguments::selector`].
    pub(crate) fn selector(&self) -> Result<String, CtlError> {
        match &self.backup.backup {
            Some(source) if self.all && !source.contains('@') => Ok(format!("{source}@latest")),
            _ => self.backup.selector(),
        }
    }
}

/// The selector for the daemon, from the one on the command line.
///
/// # Errors
/// `InvalidArgs` for a time that is none.
pub(crate) fn selector(text: &str) -> Result<String, CtlError> {
    match text.rsplit_once('@') {
        Some((source, which)) => Ok(format!("{source}@{}", instant(which)?)),
        None => Ok(text.to_owned()),
    }
}

/// What follows the `@`: `latest`, the id of a run, microseconds, or the end of a day, minute or second.
fn instant(which: &str) -> Result<String, CtlError> {
    let is_run = || which.len() == 36 && which.parse::<RunId>().is_ok();
    if which == "latest" || is_run() || (which.len() > 8 && which.bytes().all(|c| c.is_ascii_digit())) {
        return Ok(which.to_owned());
    }
    period(which, &Local).map(|(_, end)| end.to_string())
}

/// When the time of `--since` begins, microseconds since the epoch.
///
/// # Errors
/// `InvalidArgs` for a time that is none.
pub(crate) fn since(text: &str) -> Result<u64, CtlError> {
    period(text, &Local).map(|(start, _)| start)
}

/// When the time of `--until` ends.
///
/// # Errors
/// As [`since`].
pub(crate) fn until(text: &str) -> Result<u64, CtlError> {
    period(text, &Local).map(|(_, end)| end)
}

/// The day, minute or second that a text names: its start, and the start of what follows it.
fn period<Z: TimeZone>(text: &str, zone: &Z) -> Result<(u64, u64), CtlError> {
    let wrong =
        || CtlError::usage(format!("{text:?} is no time; write 2026-11-01, 2026-11-01T14:30 or 2026-11-01T14:30:05"));
    let (start, end) = if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        let next = day.checked_add_days(Days::new(1)).ok_or_else(wrong)?;
        (day.and_time(NaiveTime::MIN), next.and_time(NaiveTime::MIN))
    } else if let Ok(minute) = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M") {
        (minute, minute + TimeDelta::minutes(1))
    } else {
        let second = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S").map_err(|_| wrong())?;
        (second, second + TimeDelta::seconds(1))
    };
    let first = local_instants(start, zone).map(|(earliest, _)| earliest);
    let last = local_instants(end, zone).map(|(_, latest)| latest);
    let micros = |time: DateTime<Z>| u64::try_from(time.timestamp_micros()).ok();
    first.and_then(micros).zip(last.and_then(micros)).ok_or_else(wrong)
}

/// The first and the last instant at which clocks show this: two when clocks are set back, and where they are set
/// forward over it, the first time that they show afterwards.
fn local_instants<Z: TimeZone>(time: NaiveDateTime, zone: &Z) -> Option<(DateTime<Z>, DateTime<Z>)> {
    (0..=24).find_map(|quarters| {
        let found = zone.from_local_datetime(&(time + TimeDelta::minutes(15 * quarters)));
        Some((found.clone().earliest()?, found.latest()?))
    })
}

#[cfg(test)]
mod tests {
    use chrono::{FixedOffset, Utc};

    use super::*;

    #[test]
    fn periods_end_where_the_next_begins() {
        let second = 1_000_000;
        let midnight = 1_793_491_200 * second;
        for (text, start, length) in [
            ("2026-11-01", midnight, 86_400),
            ("2026-11-01T14:30", midnight + 52_200 * second, 60),
            ("2026-11-01T14:30:05", midnight + 52_205 * second, 1),
        ] {
            assert_eq!(period(text, &Utc).unwrap(), (start, start + length * second), "{text}");
        }
    }

    #[test]
    fn the_zone_counts() {
        let east = FixedOffset::east_opt(7200).unwrap();
        let (utc, local) = (period("2026-11-01", &Utc).unwrap(), period("2026-11-01", &east).unwrap());
        assert_eq!(utc.0 - local.0, 7_200_000_000);
    }

    #[test]
    fn selectors_are_translated() {
        assert_eq!(selector("deadbeef").unwrap(), "deadbeef");
        assert_eq!(selector("shop@latest").unwrap(), "shop@latest");
        assert_eq!(selector("all/a@b@latest").unwrap(), "all/a@b@latest");
        assert_eq!(selector("shop@1793577600000000").unwrap(), "shop@1793577600000000");
        let run = "all@01a1f972-b701-769b-a723-393f6179df4a";
        assert_eq!(selector(run).unwrap(), run);
        let end = until("2026-11-01").unwrap();
        assert_eq!(selector("shop@2026-11-01").unwrap(), format!("shop@{end}"));
        for bad in ["shop@", "shop@2026", "shop@2026-13-01", "shop@yesterday", "shop@2026-11-01T25:00"] {
            assert_eq!(selector(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn options_name_what_positions_cannot() {
        let with = |backup: Option<&str>, source: Option<&str>, option: Option<&str>| {
            let own = |text: Option<&str>| text.map(str::to_owned);
            BackupArguments { backup: own(backup), of_source: own(source), backup_option: own(option) }.selector()
        };
        assert_eq!(with(None, Some("all/a@b"), None).unwrap(), "all/a@b@latest");
        assert_eq!(with(None, Some("all/a@b"), Some("latest")).unwrap(), "all/a@b@latest");
        assert_eq!(with(None, None, Some("deadbeef")).unwrap(), "deadbeef");
    }
}
