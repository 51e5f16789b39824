//! Runs that take every database of a server: which backups belong together, and which run is the newest. Pure.
//!
//! Of two runs that have a database in common, its sequences tell which is the newer one; only between runs that share
//! none does the clock, by the ids of the runs, which sort by time.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Name, RunId, SourceName, summary::BackupSummary};

/// The backups of the newest run that was about the whole of this source, in the order that they come in; with `before`
/// of the newest run whose snapshots all are from before that time, microseconds since the epoch. Empty if there is none.
pub(super) fn newest_whole<'a>(
    backups: &'a [BackupSummary],
    source: &SourceName,
    before: Option<u64>,
) -> Vec<&'a BackupSummary> {
    let whole = || backups.iter().filter(|backup| backup.whole_run && backup.source.source == *source);
    let too_late: BTreeSet<Option<RunId>> =
        whole().filter(|backup| before.is_some_and(|time| backup.snapshot_at >= time)).map(|b| b.run_id).collect();
    let mut latest: BTreeMap<Option<&Name>, &BackupSummary> = BTreeMap::new();
    for backup in whole().filter(|backup| !too_late.contains(&backup.run_id)) {
        let entry = latest.entry(backup.source.child.as_ref()).or_insert(backup);
        if backup.sequence > entry.sequence {
            *entry = backup;
        }
    }
    let newest = latest.values().filter_map(|backup| backup.run_id).max();
    whole().filter(|backup| newest.is_some() && backup.run_id == newest).collect()
}

/// The databases that a source has backups of, each with its newest.
pub(super) fn newest_of_each<'a>(
    backups: &'a [BackupSummary],
    source: &SourceName,
) -> BTreeMap<&'a Name, &'a BackupSummary> {
    let mut newest: BTreeMap<&Name, &BackupSummary> = BTreeMap::new();
    for backup in backups.iter().filter(|backup| backup.source.source == *source) {
        let Some(database) = &backup.source.child else { continue };
        let entry = newest.entry(database).or_insert(backup);
        if backup.sequence > entry.sequence {
            *entry = backup;
        }
    }
    newest
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::service::selector::tests::summary;

    /// The run that began this many milliseconds after the epoch.
    pub(crate) fn run(time: u64) -> RunId {
        RunId(uuid::Builder::from_unix_timestamp_millis(time, &[7; 10]).into_uuid())
    }

    /// A backup of a whole run.
    pub(crate) fn taken(source: &str, sequence: u64, snapshot_at: u64, run_time: u64) -> BackupSummary {
        let id = format!("{:x}", 0xa000_0000 + sequence * 0x1000 + run_time * 0x100_0000 % 0xfff_ffff);
        let mut summary = summary(source, sequence, snapshot_at, &id);
        (summary.run_id, summary.whole_run) = (Some(run(run_time)), true);
        summary
    }

    fn shown(backups: &[&BackupSummary]) -> Vec<(String, u64)> {
        backups.iter().map(|backup| (backup.source.to_string(), backup.sequence)).collect()
    }

    #[test]
    fn the_newest_run_is_found_by_sequences_before_the_clock() {
        let all: SourceName = "all".parse().unwrap();
        // The clock was set back between the two runs; `c` is in the first only.
        let backups = [
            taken("all/a", 1, 100, 9),
            taken("all/a", 2, 50, 5),
            taken("all/b", 1, 101, 9),
            taken("all/b", 2, 51, 5),
            taken("other/a", 1, 500, 20),
        ];
        assert_eq!(shown(&newest_whole(&backups, &all, None)), [("all/a".into(), 2), ("all/b".into(), 2)]);
        assert_eq!(shown(&newest_whole(&backups, &all, Some(51))), [] as [(String, u64); 0], "half a run is none");
        let forward = [taken("all/a", 1, 10, 1), taken("all/b", 1, 11, 1), taken("all/a", 2, 20, 2)];
        assert_eq!(shown(&newest_whole(&forward, &all, None)), [("all/a".into(), 2)]);
        assert_eq!(shown(&newest_whole(&forward, &all, Some(20))), [("all/a".into(), 1), ("all/b".into(), 1)]);
    }

    #[test]
    fn a_backup_of_one_database_alone_is_no_run_of_the_whole() {
        let all: SourceName = "all".parse().unwrap();
        let mut alone = taken("all/a", 2, 20, 2);
        alone.whole_run = false;
        let backups = [taken("all/a", 1, 10, 1), alone, taken("all/b", 1, 11, 1)];
        assert_eq!(shown(&newest_whole(&backups, &all, None)), [("all/a".into(), 1), ("all/b".into(), 1)]);
        let newest = newest_of_each(&backups, &all);
        assert_eq!(newest.values().map(|backup| backup.sequence).collect::<Vec<_>>(), [2, 1]);
        assert!(newest_whole(&backups, &"none".parse().unwrap(), None).is_empty());
    }
}
