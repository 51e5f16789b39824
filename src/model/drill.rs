//! What a drill finds: a backup restored where nothing depends on it, and looked at. Plain data.

use serde::{Deserialize, Serialize};

/// What a drill did and found, as far as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillReport {
    /// What it was restored with, for people: `PostgreSQL 15.18`, `SQLite 3.50.4`.
    pub server: String,
    /// From the first byte of the backup to the usable database, microseconds; 0 where it did not come so far.
    pub recovery: u64,
    /// Tables whose rows were counted.
    pub tables: u64,
    /// Rows that were counted, equal to the backup's.
    pub rows: u64,
    /// What was looked at, in order.
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// A stable word: `restore`, `schema`, `indexes`, `heaps`, `integrity`, `foreign-keys`, `rows`, `assertions`.
    pub name: String,
    /// How it ended.
    pub result: CheckResult,
    /// What was seen, a sentence.
    pub message: String,
    /// How long it took, microseconds.
    pub duration: u64,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckResult {
    /// As it should be.
    Passed,
    /// It could not be made here; the message says why.
    Skipped,
    /// Not as it should be.
    Failed,
}

impl CheckResult {
    /// The word that people see.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Skipped => "skipped",
            Self::Failed => "FAILED",
        }
    }
}
