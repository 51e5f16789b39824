//! Records: what becomes known about a backup after it was committed. Written once, beside the manifest, never edits of it.
//!
//! Invariants: only the owner writes records; a record whose name is not known here is left alone; a newer check at
//! the same or a deeper level overrides older ones of the same kind, which may then be removed.

use serde::{Deserialize, Serialize};

use super::{
    RepositoryError,
    layout::{DELETED, utc_stamp},
    listing::BackupObjects,
    open::{OwnedRepository, Repository},
    storage::{PutMode, Storage, StorageErrorKind},
    verify::Level,
};
use crate::model::{
    BackupId,
    drill::DrillReport,
    summary::{BackupSummary, Pin, Proof},
};

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "lowercase")]
pub enum Record {
    /// It was verified and found good.
    Checked {
        /// When, microseconds since the epoch.
        at: u64,
        /// How deep.
        level: Level,
    },
    /// It was verified and found damaged.
    Damaged {
        /// When, microseconds since the epoch.
        at: u64,
        /// How deep was looked.
        level: Level,
        /// What is wrong, a sentence each.
        findings: Vec<String>,
    },
    /// It holds suspiciously less than an earlier one.
    Suspect {
        /// When, microseconds since the epoch.
        at: u64,
        /// The backup that it was compared with.
        compared_with: BackupId,
        /// What is suspicious, a sentence each.
        findings: Vec<String>,
    },
    /// It was restored into a scratch database, and everything that was looked at was as it should be.
    Drilled {
        /// When, microseconds since the epoch.
        at: u64,
        /// The program that did it, `backupd 0.1.0`.
        by: String,
        /// What was found.
        #[serde(flatten)]
        report: DrillReport,
    },
    /// It was drilled, and did not restore as it should.
    DrillFailed {
        /// When, microseconds since the epoch.
        at: u64,
        /// The program that did it.
        by: String,
        /// Why.
        message: String,
        /// What was found until then.
        #[serde(flatten)]
        report: DrillReport,
    },
    /// Retention must keep it. The newest of these records counts.
    Pinned {
        /// When, microseconds since the epoch.
        at: u64,
        /// When the pin ends; absent for never.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<u64>,
        /// Free text of who pinned it.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// It is deleted. While no backup of the source has a higher sequence, this record stays when the rest is gone.
    Deleted {
        /// When, microseconds since the epoch.
        at: u64,
        /// The backup.
        id: BackupId,
        /// Its sequence.
        sequence: u64,
        /// Whether somebody named this very backup, rather than a rule.
        by_name: bool,
        /// Whether it goes at once, so that it cannot be brought back.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        at_once: bool,
    },
}

impl Record {
    /// When it was written, microseconds since the epoch.
    #[must_use]
    pub fn at(&self) -> u64 {
        match self {
            Self::Checked { at, .. }
            | Self::Damaged { at, .. }
            | Self::Suspect { at, .. }
            | Self::Drilled { at, .. }
            | Self::DrillFailed { at, .. }
            | Self::Pinned { at, .. }
            | Self::Deleted { at, .. } => *at,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Checked { at, .. } => format!("checked-{}.json", precise_stamp(*at)),
            Self::Damaged { at, .. } => format!("damaged-{}.json", precise_stamp(*at)),
            Self::Suspect { .. } => SUSPECT.to_owned(),
            Self::Drilled { at, .. } => format!("drilled-{}.json", precise_stamp(*at)),
            Self::DrillFailed { at, .. } => format!("drillfailed-{}.json", precise_stamp(*at)),
            Self::Pinned { at, .. } => format!("{PINNED}{}.json", precise_stamp(*at)),
            Self::Deleted { .. } => DELETED.to_owned(),
        }
    }
}

/// A stamp of which two records seldom share one: with microseconds.
fn precise_stamp(at: u64) -> String {
    format!("{}.{:06}Z", utc_stamp(at).trim_end_matches('Z'), at % 1_000_000)
}

/// What the names of records begin with that tell of a check.
const CHECKS: [&str; 2] = ["checked-", "damaged-"];
/// What the names of records begin with that tell of a drill.
const DRILLS: [&str; 2] = ["drilled-", "drillfailed-"];
/// So many drills of a backup are remembered.
const DRILLS_KEPT: usize = 10;
/// The name of the record of a suspect: there is one at most.
const SUSPECT: &str = "suspect.json";

/// What the names of pins begin with.
const PINNED: &str = "pinned-";

fn is_record(name: &str) -> bool {
    name == DELETED || name == SUSPECT || is_check(name) || is_drill(name) || is_pin(name)
}

fn is_pin(name: &str) -> bool {
    name.starts_with(PINNED) && name.ends_with(".json")
}

fn is_check(name: &str) -> bool {
    CHECKS.iter().any(|beginning| name.starts_with(beginning)) && name.ends_with(".json")
}

fn is_drill(name: &str) -> bool {
    DRILLS.iter().any(|beginning| name.starts_with(beginning)) && name.ends_with(".json")
}

/// The records of a backup, oldest first.
pub(crate) fn read(repository: &Repository, backup: &BackupObjects) -> Result<Vec<Record>, RepositoryError> {
    let mut records = Vec::new();
    for object in backup.objects.iter().filter(|object| is_record(&object.key)) {
        records.push(read_one(repository.storage(), &backup.folder.key(&object.key))?);
    }
    records.sort_by_key(Record::at);
    Ok(records)
}

/// One record.
pub(crate) fn read_one(storage: &dyn Storage, key: &str) -> Result<Record, RepositoryError> {
    serde_json::from_slice(&storage.get(key)?)
        .map_err(|error| RepositoryError::damaged(key, format!("not a record: {error}")))
}

/// Writes a record, and removes the checks that it overrides.
pub(crate) fn write(repository: &Repository, backup: &BackupObjects, record: &Record) -> Result<(), RepositoryError> {
    let bytes =
        serde_json::to_vec(record).map_err(|e| RepositoryError::Misuse(format!("cannot write a record: {e}")))?;
    let storage = repository.storage();
    match storage.put(&backup.folder.key(&record.name()), &bytes, PutMode::IfAbsent) {
        // Of the same microsecond, or our own after a call that lied: it says the same.
        Err(error) if error.kind == StorageErrorKind::AlreadyExists => {}
        other => other?,
    }
    if matches!(record, Record::Drilled { .. } | Record::DrillFailed { .. }) {
        return forget_old_drills(storage, backup);
    }
    if matches!(record, Record::Pinned { .. }) {
        // The new one is there before the old ones go: there is no moment without a pin.
        return remove_pins(storage, backup, |name| name != record.name());
    }
    let Record::Checked { at, level } = record else { return Ok(()) };
    for object in backup.objects.iter().filter(|object| is_check(&object.key)) {
        let key = backup.folder.key(&object.key);
        let overridden = match read_one(storage, &key)? {
            Record::Checked { at: older, level: shallower } | Record::Damaged { at: older, level: shallower, .. } => {
                older < *at && shallower <= *level
            }
            Record::Suspect { .. }
            | Record::Drilled { .. }
            | Record::DrillFailed { .. }
            | Record::Pinned { .. }
            | Record::Deleted { .. } => false,
        };
        if overridden {
            storage.delete(&key)?;
        }
    }
    Ok(())
}

impl OwnedRepository {
    /// Writes down what became known of a backup.
    ///
    /// # Errors
    /// `NoSuchBackup`, and what the storage meets; may be repeated.
    pub fn record(&self, id: BackupId, record: &Record) -> Result<(), RepositoryError> {
        // Nothing is deleted meanwhile, so no record is written into a folder that goes away.
        let _gate = self.close_gate();
        write(self, &self.find(id)?, record)
    }

    /// Lets retention decide again about a backup that was pinned.
    ///
    /// # Errors
    /// `NoSuchBackup`, and what the storage meets; may be repeated.
    pub fn unpin(&self, id: BackupId) -> Result<(), RepositoryError> {
        let _gate = self.close_gate();
        remove_pins(self.storage(), &self.find(id)?, |_| true)
    }
}

/// Removes pins, the oldest first: the newest counts to the end.
fn remove_pins(
    storage: &dyn Storage,
    backup: &BackupObjects,
    which: impl Fn(&str) -> bool,
) -> Result<(), RepositoryError> {
    let mut pins: Vec<&str> =
        backup.objects.iter().map(|object| object.key.as_str()).filter(|name| is_pin(name)).collect();
    pins.sort_unstable();
    for name in pins.into_iter().filter(|name| which(name)) {
        storage.delete(&backup.folder.key(name))?;
    }
    Ok(())
}

/// Removes the oldest records of drills beyond those that are kept, one of which was just written.
fn forget_old_drills(storage: &dyn Storage, backup: &BackupObjects) -> Result<(), RepositoryError> {
    let mut drills: Vec<&str> =
        backup.objects.iter().map(|object| object.key.as_str()).filter(|name| is_drill(name)).collect();
    drills.sort_by_key(|name| name.split_once('-').map(|(_, stamp)| stamp));
    for name in drills.iter().take((drills.len() + 1).saturating_sub(DRILLS_KEPT)) {
        storage.delete(&backup.folder.key(name))?;
    }
    Ok(())
}

/// What the records say, in a summary. They are in order of their times.
pub(crate) fn apply(records: &[Record], summary: &mut BackupSummary) {
    let mut damaged: Option<Level> = None;
    for record in records {
        match record {
            Record::Checked { at, level } => {
                summary.verified_at = (*at).max(summary.verified_at);
                damaged = damaged.filter(|found_at| found_at > level);
                if *level == Level::Data {
                    summary.proof = summary.proof.max(Proof::Checked);
                }
            }
            Record::Damaged { level, .. } => {
                damaged = damaged.max(Some(*level));
                summary.proof = Proof::Stored;
            }
            Record::Suspect { .. } => summary.suspect = true,
            Record::Drilled { at, report, .. } => {
                summary.proof = Proof::Drilled;
                (summary.drilled_at, summary.recovery, summary.drill_failed_at) = (*at, report.recovery, 0);
            }
            Record::DrillFailed { at, .. } => {
                summary.proof = summary.proof.min(Proof::Checked);
                summary.drill_failed_at = *at;
            }
            Record::Pinned { until, reason, .. } => {
                summary.pin = Some(Pin { until: *until, reason: reason.clone() });
            }
            Record::Deleted { .. } => {}
        }
    }
    summary.damaged = damaged.is_some();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drilled(at: u64) -> Record {
        let report = DrillReport { recovery: at * 10, server: "PostgreSQL 15".to_owned(), ..DrillReport::default() };
        Record::Drilled { at, by: "backupd 1".to_owned(), report }
    }

    fn failed(at: u64) -> Record {
        Record::DrillFailed { at, by: "backupd 1".to_owned(), message: "no".to_owned(), report: DrillReport::default() }
    }

    fn after(records: &[Record]) -> (Proof, u64, u64, u64) {
        let mut summary = BackupSummary::nothing();
        apply(records, &mut summary);
        (summary.proof, summary.drilled_at, summary.recovery, summary.drill_failed_at)
    }

    #[test]
    fn the_last_drill_says_how_far_a_backup_is_proved() {
        let checked = Record::Checked { at: 1, level: Level::Data };
        assert_eq!(after(&[checked.clone(), drilled(2)]), (Proof::Drilled, 2, 20, 0));
        assert_eq!(after(&[drilled(2), checked.clone()]), (Proof::Drilled, 2, 20, 0));
        assert_eq!(after(&[checked.clone(), drilled(2), failed(3)]), (Proof::Checked, 2, 20, 3));
        assert_eq!(after(&[failed(3)]), (Proof::Stored, 0, 0, 3));
        assert_eq!(after(&[failed(3), drilled(4)]), (Proof::Drilled, 4, 40, 0));
        let damaged = Record::Damaged { at: 5, level: Level::Data, findings: Vec::new() };
        assert_eq!(after(&[drilled(4), damaged]).0, Proof::Stored);
    }

    #[test]
    fn the_newest_pin_counts() {
        let pinned = |at, until| Record::Pinned { at, until, reason: "audit".to_owned() };
        let mut summary = BackupSummary::nothing();
        apply(&[pinned(1, None), pinned(2, Some(50))], &mut summary);
        let pin = summary.pin.unwrap();
        assert!(pin.holds(49) && !pin.holds(50), "{pin:?}");
        let text = serde_json::to_string(&pinned(1, None)).unwrap();
        assert_eq!(text, r#"{"record":"pinned","at":1,"reason":"audit"}"#);
    }

    #[test]
    fn records_of_drills_read_as_they_were_written() {
        for record in [drilled(7), failed(8)] {
            let text = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record, "{text}");
            assert!(is_record(&record.name()) && is_drill(&record.name()) && !is_check(&record.name()));
        }
        assert!(serde_json::to_string(&drilled(7)).unwrap().starts_with(r#"{"record":"drilled","at":7,"#));
    }
}
