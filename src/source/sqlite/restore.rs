//! Giving a database back as a new file: written under a temporary name beside its place, checked, then named.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{
    model::{ErrorCode, RunId},
    source::{JobContext, SetReader, SourceError},
};

/// Where a restore goes.
pub struct RestoreRequest<'a> {
    /// The new file. It must not exist.
    pub to: PathBuf,
    /// `USER` or `USER:GROUP` that the file shall belong to; empty for the one who runs this program.
    pub owner: String,
    /// The run, which is part of the temporary name.
    pub run_id: RunId,
    /// Told the temporary path before the file exists, and `None` when it is gone or has its name.
    pub on_temporary_file: &'a (dyn Fn(Option<&Path>) -> Result<(), SourceError> + Sync),
}

/// What a restore would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestorePlan {
    /// The new file.
    pub to: PathBuf,
    /// Its size, bytes.
    pub bytes: u64,
    /// What stands in the way, a sentence each; empty if nothing does.
    pub obstacles: Vec<String>,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// The new file.
    pub path: PathBuf,
    /// Its size, bytes.
    pub bytes: u64,
    /// Its tables.
    pub tables: u64,
    /// Rows of all of them, counted in the new file.
    pub rows: u64,
}

/// What a restore would do and what stands in its way. Touches nothing.
///
/// # Errors
/// When the backup cannot be read; obstacles are part of the plan.
pub fn plan(
    request: &RestoreRequest<'_>,
    _reader: &dyn SetReader,
    _context: &JobContext,
) -> Result<RestorePlan, SourceError> {
    Err(SourceError::new(ErrorCode::NotSupported, format!("cannot restore to {} yet", request.to.display())))
}

/// Restores. Without an error the file is there, whole, synced and checked; with one, nothing of it is left.
///
/// # Errors
/// `TargetExists` and `RestoreRefused` with the obstacles; `RestoreFailed`, `RestoreMismatch`, `NoSpace`, the reader's.
pub fn carry_out(
    _plan: &RestorePlan,
    request: &RestoreRequest<'_>,
    _reader: &dyn SetReader,
    _context: &JobContext,
) -> Result<RestoreReport, SourceError> {
    Err(SourceError::new(ErrorCode::NotSupported, format!("cannot restore to {} yet", request.to.display())))
}

/// Removes a temporary file that a crash left.
///
/// # Errors
/// `Io`; a file that is not there is no error.
pub fn sweep(temporary: &Path) -> Result<(), SourceError> {
    match std::fs::remove_file(temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(SourceError::io(format!("remove {}", temporary.display()), &error))
        }
        _ => Ok(()),
    }
}
