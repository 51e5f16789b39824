//! What a listing shows of a backup: small, fixed, enough to filter and sort by.

use serde::{Deserialize, Serialize};

use super::{
    ids::{BackupId, RunId},
    manifest::{Kind, Manifest, Selection},
    name::SourceKey,
};

/// How far a backup is known to restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// Its bytes were written and synced.
    #[default]
    Stored,
    /// Every chunk was read back, decoded and hashed.
    Checked,
    /// It was restored into a scratch database and compared.
    Drilled,
}

impl Proof {
    /// The word used on the bus and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Checked => "checked",
            Self::Drilled => "drilled",
        }
    }
}

/// Somebody's word that a backup is to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// When it ends, microseconds since the epoch; absent for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Free text of who pinned it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl Pin {
    /// Whether it holds at a time, microseconds since the epoch.
    #[must_use]
    pub fn holds(&self, now: u64) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// One backup in a listing. Times are microseconds since the epoch, sizes bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSummary {
    /// Its id.
    pub id: BackupId,
    /// Its source.
    #[serde(flatten)]
    pub source: SourceKey,
    /// The run that took it, which backups of several databases may share; `None` where a listing does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// Whether that run took every database of the source; `false` where a listing does not say.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole_run: bool,
    /// Its number within the source.
    pub sequence: u64,
    /// What kind it is.
    pub kind: Kind,
    /// When the job began.
    pub started_at: u64,
    /// The instant whose state it holds.
    pub snapshot_at: u64,
    /// When the last byte was written.
    pub finished_at: u64,
    /// Plaintext bytes.
    pub raw_bytes: u64,
    /// Stored bytes, shared ones included.
    pub stored_bytes: u64,
    /// Bytes it added to the repository.
    pub new_bytes: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// How far it is known to restore.
    pub proof: Proof,
    /// When it was last verified at level `packs` or `data`; 0 for never.
    pub verified_at: u64,
    /// When it was last drilled with success; 0 for never.
    #[serde(default)]
    pub drilled_at: u64,
    /// How long the restore of that drill took, microseconds; 0 for never.
    #[serde(default)]
    pub recovery: u64,
    /// When its last drill failed; 0 where it did not, or there was none.
    #[serde(default)]
    pub drill_failed_at: u64,
    /// Whether a part of it is known to be damaged.
    pub damaged: bool,
    /// Whether it holds suspiciously less than an earlier one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspect: bool,
    /// Whether and how long retention must keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
    /// What was chosen of the source, where it is not all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<Selection>,
    /// How many things it could not include.
    pub incomplete: u32,
    /// Free text of the user.
    pub description: String,
    /// Words of the user.
    pub tags: Vec<String>,
}

impl BackupSummary {
    /// Whether nothing is known that speaks against it.
    #[must_use]
    pub fn is_good(&self) -> bool {
        !self.suspect && !self.damaged
    }

    /// For tests: a backup of the source `shop` that holds nothing, and of which nothing is known.
    #[cfg(test)]
    pub(crate) fn nothing() -> Self {
        Self {
            id: BackupId([1; 16]),
            source: SourceKey::single("shop".parse().unwrap()),
            run_id: None,
            whole_run: false,
            sequence: 1,
            kind: Kind::Logical,
            started_at: 0,
            snapshot_at: 0,
            finished_at: 0,
            raw_bytes: 0,
            stored_bytes: 0,
            new_bytes: 0,
            rows: 0,
            proof: Proof::Stored,
            verified_at: 0,
            drilled_at: 0,
            recovery: 0,
            drill_failed_at: 0,
            damaged: false,
            suspect: false,
            pin: None,
            selection: None,
            incomplete: 0,
            description: String::new(),
            tags: Vec::new(),
        }
    }

    /// The summary of a backup about which no record says anything.
    #[must_use]
    pub fn of(id: BackupId, manifest: &Manifest) -> Self {
        let statistics = &manifest.statistics;
        Self {
            id,
            source: manifest.source.clone(),
            run_id: Some(manifest.run_id),
            whole_run: manifest.whole_run,
            sequence: manifest.sequence,
            kind: manifest.kind,
            started_at: manifest.started_at,
            snapshot_at: manifest.snapshot_at,
            finished_at: manifest.finished_at,
            raw_bytes: statistics.raw_bytes,
            stored_bytes: statistics.stored_bytes,
            new_bytes: statistics.new_bytes,
            rows: statistics.rows,
            proof: Proof::Stored,
            verified_at: 0,
            drilled_at: 0,
            recovery: 0,
            drill_failed_at: 0,
            damaged: false,
            suspect: false,
            pin: None,
            selection: manifest.postgresql.as_ref().and_then(|facts| facts.selection.clone()),
            incomplete: u32::try_from(manifest.incomplete.len()).unwrap_or(u32::MAX),
            description: manifest.description.clone(),
            tags: manifest.tags.clone(),
        }
    }
}
