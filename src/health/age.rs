//! How old the newest good backup of a source may get before somebody has to know.
//!
//! Invariant: a schedule that is kept never reaches its own limit, whenever within it one looks.

use std::time::Duration;

use crate::config::{SourceConfig, Within};

/// What a timer adds to its calendar (`RandomizedDelaySec=`, `AccuracySec=`), a job in the queue, and a host that boots.
const LEAST_SLACK: Duration = Duration::from_secs(45 * 60);
/// No schedule is so coarse that half a day more is not a miss.
const MOST_SLACK: Duration = Duration::from_secs(12 * 3600);
/// The slack is this part of the gap: two hours for a day.
const SLACK_PART: u32 = 12;

/// How old is too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgeLimit {
    /// The age from which on it is, counted from the state that the backup holds.
    pub limit: Duration,
    /// Where that comes from.
    pub basis: Basis,
}

/// What a limit was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// `rpo` of the source.
    Rpo,
    /// Its schedule, in which the longest time between two runs is this.
    Schedule(Duration),
}

/// The limit of a source. `gap` is the longest time between two runs of its schedule, as systemd reads it, and `None`
/// where there is no schedule or nobody could be asked; `usual` is how long its backups take, zero if that is not
/// known. `None` where nothing says how old a backup may get: no `rpo` and no schedule, `rpo = "off"`, a source that
/// is disabled.
#[must_use]
pub fn age_limit(source: &SourceConfig, gap: Option<Duration>, usual: Duration) -> Option<AgeLimit> {
    if !source.enabled {
        return None;
    }
    match source.rpo {
        Some(Within::Off) => None,
        Some(Within::Time(limit)) => Some(AgeLimit { limit, basis: Basis::Rpo }),
        None => {
            let gap = gap?;
            let slack = (gap / SLACK_PART).clamp(LEAST_SLACK, MOST_SLACK);
            let limit = gap.saturating_add(slack).saturating_add(usual);
            Some(AgeLimit { limit, basis: Basis::Schedule(gap) })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn source(keys: &str) -> SourceConfig {
        let text = format!("type = \"sqlite\"\npath = \"/x\"\n{keys}");
        crate::config::read_source("x.toml".as_ref(), &text).unwrap()
    }

    #[test]
    fn an_rpo_wins_over_the_schedule_and_off_over_both() {
        let limit = |keys, gap| age_limit(&source(keys), gap, Duration::ZERO).map(|limit| limit.limit);
        assert_eq!(limit("", None), None);
        assert_eq!(limit("", Some(24 * HOUR)), Some(26 * HOUR));
        assert_eq!(limit("rpo = \"4h\"", Some(24 * HOUR)), Some(4 * HOUR));
        assert_eq!(limit("rpo = \"4h\"", None), Some(4 * HOUR));
        assert_eq!(limit("rpo = \"off\"", Some(24 * HOUR)), None);
        assert_eq!(limit("rpo = \"4h\"\nenabled = false", Some(24 * HOUR)), None);
    }

    #[test]
    fn the_slack_has_bounds_and_knows_how_long_backups_take() {
        let limit = |gap, usual| age_limit(&source(""), Some(gap), usual).unwrap().limit;
        assert_eq!(limit(HOUR / 4, Duration::ZERO), HOUR);
        assert_eq!(limit(24 * 365 * HOUR, Duration::ZERO), (24 * 365 + 12) * HOUR);
        assert_eq!(limit(24 * HOUR, 5 * HOUR), 31 * HOUR);
    }

    proptest! {
        #[test]
        fn a_schedule_that_is_kept_is_never_too_old(gap in 60_u64..31 * 86_400, usual in 0_u64..86_400, delay in 0_u64..=31 * 60) {
            let [gap, usual, delay] = [gap, usual, delay].map(Duration::from_secs);
            // The oldest that the newest gets: the next one began late, and is just about to be complete.
            let oldest = gap + delay + usual;
            prop_assert!(age_limit(&source(""), Some(gap), usual).unwrap().limit > oldest);
        }
    }
}
