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
    summary::{BackupSummary, Proof},
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
            | Self::Deleted { at, .. } => *at,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Checked { at, .. } => format!("checked-{}.json", precise_stamp(*at)),
            Self::Damaged { at, .. } => format!("damaged-{}.json", precise_stamp(*at)),
            Self::Suspect { .. } => SUSPECT.to_owned(),
            Self::Deleted { .. } => DELETED.to_owned(),
        }
    }
}

/// A stamp of which two records seldom share one: with microseconds.
fn precise_stamp(at: u64) -> String {
    format!("{}.{:06}Z", utc_stamp(at).trim_end_matches('Z'), at % 1_000_000)
}

/// The name of the record of a suspect: there is one at most.
const SUSPECT: &str = "suspect.json";

fn is_record(name: &str) -> bool {
    name == DELETED
        || name == SUSPECT
        || ((name.starts_with("checked-") || name.starts_with("damaged-")) && name.ends_with(".json"))
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
    let Record::Checked { at, level } = record else { return Ok(()) };
    for object in backup.objects.iter().filter(|object| object.key != DELETED && is_record(&object.key)) {
        let key = backup.folder.key(&object.key);
        let overridden = match read_one(storage, &key)? {
            Record::Checked { at: older, level: shallower } | Record::Damaged { at: older, level: shallower, .. } => {
                older < *at && shallower <= *level
            }
            Record::Suspect { .. } | Record::Deleted { .. } => false,
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
            Record::Deleted { .. } => {}
        }
    }
    summary.damaged = damaged.is_some();
}
