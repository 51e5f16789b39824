//! The structures and options on the wire, and their way to and from the service's own types.
//!
//! - `options`: what methods are given by name.
//!
//! Invariant: the fields of a row and their order are the contract in `org.backupd1.xml`; a test holds the signatures.

mod options;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use zbus::{Type, Variant};

pub use self::options::*;
use super::limits::{short_text, text, texts};
use crate::{
    model::{
        ErrorCode, Name, SourceKey,
        manifest::Kind,
        summary::{BackupSummary, Pin, Proof},
    },
    service::{
        ServiceError, Undeletable,
        operations::{SourceSummary, UndoSummary},
    },
};

/// Options as a client sends them.
pub type Options<'a> = HashMap<&'static str, Variant<'a>>;

/// One backup in a listing, see [`BackupSummary`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
#[allow(missing_docs, reason = "the fields of `BackupSummary`")]
pub struct BackupRow {
    pub id: String,
    pub source: String,
    pub database: Vec<u8>,
    pub sequence: u64,
    pub kind: String,
    pub started_at: u64,
    pub snapshot_at: u64,
    pub finished_at: u64,
    pub raw_bytes: u64,
    pub stored_bytes: u64,
    pub new_bytes: u64,
    pub rows: u64,
    pub proof: String,
    pub verified_at: u64,
    pub damaged: bool,
    pub incomplete: u32,
    pub description: String,
    pub tags: Vec<String>,
    pub drilled_at: u64,
    pub recovery: u64,
    pub drill_failed_at: u64,
    pub suspect: bool,
}

impl From<&BackupSummary> for BackupRow {
    fn from(summary: &BackupSummary) -> Self {
        Self {
            id: summary.id.to_string(),
            source: summary.source.source.to_string(),
            database: summary.source.child.as_ref().map_or_else(Vec::new, |name| name.as_bytes().to_vec()),
            sequence: summary.sequence,
            kind: summary.kind.as_str().to_owned(),
            started_at: summary.started_at,
            snapshot_at: summary.snapshot_at,
            finished_at: summary.finished_at,
            raw_bytes: summary.raw_bytes,
            stored_bytes: summary.stored_bytes,
            new_bytes: summary.new_bytes,
            rows: summary.rows,
            proof: summary.proof.as_str().to_owned(),
            verified_at: summary.verified_at,
            drilled_at: summary.drilled_at,
            recovery: summary.recovery,
            drill_failed_at: summary.drill_failed_at,
            suspect: summary.suspect,
            damaged: summary.damaged,
            incomplete: summary.incomplete,
            description: text(&summary.description),
            tags: texts(&summary.tags),
        }
    }
}

impl TryFrom<BackupRow> for BackupSummary {
    type Error = ServiceError;
    fn try_from(row: BackupRow) -> Result<Self, ServiceError> {
        let unknown = |what: &str, word: &str| {
            let message = format!("the daemon sent a backup whose {what} this program does not know: {word:?}");
            ServiceError::new(ErrorCode::NotSupported, message)
        };
        let kinds = [Kind::Logical, Kind::Sqlite, Kind::Physical, Kind::Wal];
        let proofs = [Proof::Stored, Proof::Checked, Proof::Drilled];
        Ok(Self {
            id: row.id.parse().map_err(|_| unknown("id", &row.id))?,
            source: SourceKey {
                source: row.source.parse().map_err(|_| unknown("source", &row.source))?,
                child: (!row.database.is_empty()).then(|| Name::from(row.database)),
            },
            // The rows of a listing do not carry these.
            run_id: None,
            whole_run: false,
            sequence: row.sequence,
            kind: kinds.into_iter().find(|k| k.as_str() == row.kind).ok_or_else(|| unknown("kind", &row.kind))?,
            started_at: row.started_at,
            snapshot_at: row.snapshot_at,
            finished_at: row.finished_at,
            raw_bytes: row.raw_bytes,
            stored_bytes: row.stored_bytes,
            new_bytes: row.new_bytes,
            rows: row.rows,
            proof: proofs.into_iter().find(|p| p.as_str() == row.proof).ok_or_else(|| unknown("proof", &row.proof))?,
            verified_at: row.verified_at,
            drilled_at: row.drilled_at,
            recovery: row.recovery,
            drill_failed_at: row.drill_failed_at,
            damaged: row.damaged,
            suspect: row.suspect,
            pin: None,
            selection: None,
            incomplete: row.incomplete,
            description: row.description,
            tags: row.tags,
        })
    }
}

/// The fields of a [`BackupRow`] by name and its run's id, as `GetBackup` gives them.
#[must_use]
pub fn backup_properties(summary: &BackupSummary) -> HashMap<&'static str, Variant<'static>> {
    let row = BackupRow::from(summary);
    let run = summary.run_id.map(|run| ("run-id", run.to_string().into()));
    let mut properties = HashMap::from([
        ("id", row.id.into()),
        ("source", row.source.into()),
        ("database", row.database.into()),
        ("sequence", row.sequence.into()),
        ("kind", row.kind.into()),
        ("started-at", row.started_at.into()),
        ("snapshot-at", row.snapshot_at.into()),
        ("finished-at", row.finished_at.into()),
        ("raw-bytes", row.raw_bytes.into()),
        ("stored-bytes", row.stored_bytes.into()),
        ("new-bytes", row.new_bytes.into()),
        ("rows", row.rows.into()),
        ("proof", row.proof.into()),
        ("verified-at", row.verified_at.into()),
        ("drilled-at", row.drilled_at.into()),
        ("recovery", row.recovery.into()),
        ("drill-failed-at", row.drill_failed_at.into()),
        ("damaged", row.damaged.into()),
        ("suspect", row.suspect.into()),
        ("incomplete", row.incomplete.into()),
        ("description", row.description.into()),
        ("tags", row.tags.into()),
    ]);
    properties.extend(run);
    if let Some(Pin { until, reason }) = &summary.pin {
        properties.insert("pinned-until", until.unwrap_or_default().into());
        properties.insert("pin-reason", reason.clone().into());
    }
    properties
}

/// A deleted backup, see [`Undeletable`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Type)]
#[allow(missing_docs, reason = "the contract has their meanings")]
pub struct DeletedRow {
    pub id: String,
    pub source: String,
    pub database: Vec<u8>,
    pub sequence: u64,
    pub snapshot_at: u64,
    pub raw_bytes: u64,
    pub deleted_at: u64,
    pub until: u64,
    pub by_name: bool,
}

impl From<&Undeletable> for DeletedRow {
    fn from(Undeletable { deleted, until }: &Undeletable) -> Self {
        let row = BackupRow::from(&deleted.summary);
        Self {
            id: row.id,
            source: row.source,
            database: row.database,
            sequence: row.sequence,
            snapshot_at: row.snapshot_at,
            raw_bytes: row.raw_bytes,
            deleted_at: deleted.at,
            until: *until,
            by_name: deleted.by_name,
        }
    }
}

/// One source, see [`SourceSummary`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Type)]
#[allow(missing_docs, reason = "the fields of `SourceSummary`")]
pub struct SourceRow {
    pub name: String,
    pub source_type: String,
    pub state: String,
    pub location: String,
    pub description: String,
    pub problem: String,
    pub last_backup: String,
    pub last_backup_at: u64,
    pub running_job: u64,
}

impl From<SourceSummary> for SourceRow {
    fn from(summary: SourceSummary) -> Self {
        Self {
            name: summary.name,
            source_type: summary.source_type,
            state: summary.state,
            location: short_text(&summary.location),
            description: short_text(&summary.description),
            problem: short_text(&summary.problem),
            last_backup: summary.last_backup,
            last_backup_at: summary.last_backup_at,
            running_job: summary.running_job,
        }
    }
}

impl From<SourceRow> for SourceSummary {
    fn from(row: SourceRow) -> Self {
        Self {
            name: row.name,
            source_type: row.source_type,
            state: row.state,
            location: row.location,
            description: row.description,
            problem: row.problem,
            last_backup: row.last_backup,
            last_backup_at: row.last_backup_at,
            running_job: row.running_job,
        }
    }
}

/// One job, past, running or waiting. Its fields are those of [`crate::model::job::JobRecord`]; `result` is empty
/// while it runs, `error_name` is a D-Bus name, `object` is `/` for a past job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
#[allow(missing_docs, reason = "the fields of `JobRecord`")]
pub struct JobRow {
    pub id: u64,
    pub run_id: String,
    pub job_type: String,
    pub source: String,
    pub backup: String,
    pub started_by_uid: u32,
    pub start_time: u64,
    pub end_time: u64,
    pub phase: String,
    pub result: String,
    pub error_name: String,
    pub error_message: String,
    pub bytes_done: u64,
    pub bytes_total: u64,
    pub object: zbus::OwnedObjectPath,
}

/// One thing that can be undone, see [`UndoSummary`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Type)]
#[allow(missing_docs, reason = "the fields of `UndoSummary`")]
pub struct UndoRow {
    pub job: u64,
    pub run_id: String,
    pub source: String,
    pub backup: String,
    pub target: String,
    pub kept: String,
    pub undid: bool,
    pub made_at: u64,
    pub until: u64,
    pub bytes: u64,
}

impl From<UndoSummary> for UndoRow {
    fn from(summary: UndoSummary) -> Self {
        Self {
            job: summary.job,
            run_id: summary.run_id.to_string(),
            source: summary.source,
            backup: summary.backup,
            target: summary.target,
            kept: summary.kept,
            undid: summary.undid,
            made_at: summary.made_at,
            until: summary.until,
            bytes: summary.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_the_signatures_of_the_contract() {
        let rows = [BackupRow::SIGNATURE, SourceRow::SIGNATURE, JobRow::SIGNATURE, UndoRow::SIGNATURE];
        for signature in rows {
            assert!(crate::bus::INTROSPECTION.contains(&format!("\"a{signature}\"")), "{signature}");
        }
    }
}
