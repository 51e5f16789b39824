//! What a restore did, and the errors of one that stopped.

use std::io;

use serde::{Deserialize, Serialize};

use super::plan::Remark;
use crate::{
    fail_point,
    model::{ErrorCode, Name},
    source::{SourceError, WhileDoing},
};

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreReport {
    /// The new database.
    pub database: Name,
    /// Tables whose rows were restored and counted.
    pub tables: u64,
    /// Rows counted, equal to the backup's.
    pub rows: u64,
    /// The name under which the database that was replaced is kept; absent where there was none.
    pub kept: Option<Name>,
    /// Tables that were put beside the live ones, by schema and name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables_beside: Vec<(Name, Name)>,
    /// Roles that were created. They stay when the database is dropped.
    pub created_roles: Vec<Name>,
    /// What differs from the original.
    pub notices: Vec<Remark>,
}

/// A restore that stopped, said of the step at which it did. Codes that speak of reading a source become
/// `RestoreFailed`; those that say more than that stay.
pub(super) fn stopped(error: SourceError, step: &str) -> SourceError {
    let attempted = format!("the restore stopped while {step}");
    let (code, message) = match error {
        SourceError::Failed { code, message } => (code, message),
        SourceError::Sink(error) => {
            return SourceError::Sink(io::Error::new(error.kind(), WhileDoing { attempted, error }));
        }
        canceled @ SourceError::Canceled(_) => return canceled,
    };
    let code = match code {
        ErrorCode::Failed
        | ErrorCode::DatabasePermission
        | ErrorCode::DumpFailed
        | ErrorCode::LockTimeout
        | ErrorCode::NoSuchDatabase => ErrorCode::RestoreFailed,
        other => other,
    };
    SourceError::Failed { code, message: format!("{attempted}: {message}") }
}

/// Passes a fail point.
pub(super) fn hit(name: &'static str) -> Result<(), SourceError> {
    fail_point::hit(name).map_err(|error| SourceError::io(format!("pass {name}"), &error))
}
