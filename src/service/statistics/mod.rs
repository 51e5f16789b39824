//! Numbers about backups and jobs, gathered from repository and state folder for the pure functions of
//! [`crate::statistics`].
//!
//! - [`compare`]: what changed between two backups.

use crate::{
    model::{ErrorCode, summary::BackupSummary},
    repository::Repository,
    service::ServiceError,
    statistics::diff::BackupDiff,
};

/// What changed from one backup to another, by what their manifests say.
///
/// # Errors
/// `InvalidArgs` for backups of different kinds; `NoSuchBackup`, `BackupDamaged`, `UnsupportedFormat`,
/// `RepositoryUnavailable`.
pub fn compare(repository: &Repository, from: &BackupSummary, to: &BackupSummary) -> Result<BackupDiff, ServiceError> {
    let manifest = |backup: &BackupSummary| -> Result<_, ServiceError> {
        let (manifest, _) = repository.manifest(&Repository::folder_of(backup))?;
        Ok(manifest)
    };
    let (a, b) = (manifest(from)?, manifest(to)?);
    BackupDiff::between((from.id, &a), (to.id, &b)).map_err(|different| {
        let message = format!(
            "cannot compare backup {} of {} with {} of {}: {different}",
            from.id.short(),
            from.source,
            to.id.short(),
            to.source
        );
        ServiceError::new(ErrorCode::InvalidArgs, message)
    })
}
