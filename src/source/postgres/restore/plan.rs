//! The plan of a restore: what would be done, and what stands in its way. Plain data for the bus and for `--dry-run`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{existing::Replaced, request::RestoreRequest, roles::MissingRole, survey};
use crate::{
    model::{Name, SourceKey},
    source::{JobContext, SetReader, SourceError},
};

/// What a restore would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePlan {
    /// The server, for people: `/run/postgresql:5432 as user "restore"`.
    pub server: String,
    /// Its version, for people.
    pub server_version: String,
    /// `server_version_num`.
    pub server_version_num: u32,
    /// The name of the new database.
    pub target: Name,
    /// Whether an empty database of that name makes way for it.
    #[serde(default)]
    pub replaces_vacant: bool,
    /// Whether single tables are put beside those of the database of that name.
    #[serde(default)]
    pub beside: bool,
    /// The database of that name, which is replaced and kept; absent where there is none.
    #[serde(default)]
    pub replaces: Option<Replaced>,
    /// Whether the backup holds nothing: no row and no object beyond those of every new database.
    #[serde(default)]
    pub holds_nothing: bool,
    /// What is restored.
    pub backup: PlannedBackup,
    /// What would be done, in order, a sentence each.
    pub steps: Vec<String>,
    /// Roles that do not exist on the server.
    pub missing_roles: Vec<MissingRole>,
    /// Why the restore would fail. If there is one, nothing is touched.
    pub obstacles: Vec<Remark>,
    /// What differs from the original, or could not be checked.
    pub notices: Vec<Remark>,
    /// Bytes that the new database will take, about.
    pub space_needed: u64,
    /// Bytes free where the server keeps its data; absent where that is not known here.
    pub space_free: Option<u64>,
}

/// The backup that a plan is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedBackup {
    /// Its source.
    #[serde(flatten)]
    pub source: SourceKey,
    /// Its number within the source.
    pub sequence: u64,
    /// The instant whose state it holds, microseconds since the epoch.
    pub snapshot_at: u64,
    /// The database it was taken of.
    pub database: Name,
    /// The version of the server it was taken from.
    pub server_version: String,
    /// Rows that would be restored.
    pub rows: u64,
    /// Plaintext bytes of rows that would be restored.
    pub bytes: u64,
}

/// One thing that stands in the way or is worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// A stable word: `target-exists`, `missing-role`, `superuser`…
    pub what: String,
    /// What it is and what helps.
    pub message: String,
}

impl RestorePlan {
    /// Whether nothing stands in the way.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.obstacles.is_empty()
    }

    /// Whether an obstacle of this kind was found.
    #[must_use]
    pub fn has_obstacle(&self, what: &str) -> bool {
        self.obstacles.iter().any(|remark| remark.what == what)
    }
}

impl fmt::Display for RestorePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backup = &self.backup;
        writeln!(
            f,
            "Restore of {} #{} (database {:?}, PostgreSQL {}, {} rows) as {:?} on {} (PostgreSQL {})",
            backup.source,
            backup.sequence,
            backup.database.display(),
            backup.server_version,
            backup.rows,
            self.target.display(),
            self.server,
            self.server_version
        )?;
        if self.obstacles.is_empty() {
            for (number, step) in self.steps.iter().enumerate() {
                writeln!(f, "  {}. {step}", number + 1)?;
            }
        }
        for (heading, remarks) in [("Stands in the way", &self.obstacles), ("Note", &self.notices)] {
            for remark in remarks {
                writeln!(f, "{heading}: {}", remark.message)?;
            }
        }
        Ok(())
    }
}

/// What a restore would do and what stands in its way. Touches nothing on the server.
///
/// # Errors
/// `DatabaseUnreachable`, `AuthenticationFailed`…; `NotSupported` when the backup is of no PostgreSQL database; the
/// reader's. Obstacles are part of the plan, not errors.
pub fn plan(
    request: &RestoreRequest<'_>,
    reader: &dyn SetReader,
    context: &JobContext,
) -> Result<RestorePlan, SourceError> {
    survey::survey(request, reader, context).map(|survey| survey.plan)
}
