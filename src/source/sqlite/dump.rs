//! The early checks, and taking the image of a database.

use crate::{
    config::SqliteConfig,
    model::{
        ErrorCode,
        manifest::{Incomplete, SqliteFacts},
    },
    source::{JobContext, SetSink, SourceError},
};

/// What to take: the configuration of the source has it all.
pub type DumpRequest = SqliteConfig;

/// What the early checks found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preflight {
    /// Size of the database, bytes.
    pub database_bytes: u64,
}

/// What a dump gives besides the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dumped {
    /// For the manifest.
    pub facts: SqliteFacts,
    /// What could not be included.
    pub incomplete: Vec<Incomplete>,
    /// Size of the database, bytes.
    pub database_bytes: u64,
    /// When the snapshot was taken, microseconds since the epoch.
    pub snapshot_at: u64,
}

/// The early checks: the file, the rights on it and on its folder, that it is a database, its lock.
///
/// # Errors
/// `NoSuchDatabase`, `DatabasePermission` with the rights that are needed, `NotADatabase`, `DatabaseEncrypted`,
/// `DatabaseCorrupt`, `DatabaseBusy`.
pub fn preflight(request: &DumpRequest, _context: &JobContext) -> Result<Preflight, SourceError> {
    Err(SourceError::new(ErrorCode::NotSupported, format!("cannot read {} yet", request.path.display())))
}

/// Takes the image, and says which tables it has with how many rows.
///
/// # Errors
/// As [`preflight`], `TimedOut`, what the sink gives, and the cancel's reason.
pub fn dump(request: &DumpRequest, _sink: &mut dyn SetSink, context: &JobContext) -> Result<Dumped, SourceError> {
    preflight(request, context)?;
    Err(SourceError::new(ErrorCode::NotSupported, format!("cannot read {} yet", request.path.display())))
}
