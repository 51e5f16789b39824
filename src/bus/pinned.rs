//! What a caller's name of a backup meant when it was allowed, so that it means the same when it is done.

use super::{action::About, error::ApiError};
use crate::model::{ErrorCode, summary::BackupSummary};

/// Whether this is `SOURCE@…`, with no database of the source.
pub(super) fn names_a_source(backup: &str) -> bool {
    backup.rsplit_once('@').is_some_and(|(source, _)| !source.contains('/'))
}

/// What a caller's name of a backup means, so that it means the same later.
pub(super) struct Pinned {
    pub(super) selector: String,
    backup: Option<BackupSummary>,
    source: String,
}

impl Pinned {
    pub(super) fn one(backup: &BackupSummary) -> Self {
        let source = backup.source.source.to_string();
        Self { selector: backup.id.to_string(), backup: Some(backup.clone()), source }
    }

    /// All backups of the run that took this one.
    pub(super) fn run(backup: &BackupSummary) -> Result<Self, ApiError> {
        let source = backup.source.source.to_string();
        match backup.run_id {
            Some(run) => Ok(Self { selector: format!("{source}@{run}"), backup: None, source }),
            None => Err(ApiError::new(ErrorCode::Internal, format!("backup {} names no run", backup.id))),
        }
    }

    pub(super) fn tell(&self, about: About) -> About {
        match &self.backup {
            Some(backup) => about.found(backup),
            None => about.found_run(&self.source, &self.selector),
        }
    }
}
