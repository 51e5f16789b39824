//! Jobs: numbered, queued, cancellable, remembered.

use super::error::ServiceError;
use crate::{
    model::{
        BackupId,
        job::{JobNumber, JobType},
    },
    source::JobContext,
};

/// What a job is about, stated when it is submitted.
#[derive(Debug, Clone)]
pub struct JobRequest {
    /// What it does.
    pub job_type: JobType,
    /// The source it is about, as shown; empty for the whole repository.
    pub source: String,
    /// Two jobs with the same key never are in the table together: the second is refused as `SourceBusy`.
    pub exclusive: Option<String>,
    /// The backup it is about, in hex; empty where there is none.
    pub backup: String,
    /// Who asked.
    pub uid: u32,
    /// How long it may run.
    pub timeout: Option<std::time::Duration>,
}

/// What a job that was done leaves.
#[derive(Debug, Clone, Default)]
pub struct JobOutcome {
    /// The backup it made.
    pub backup: Option<BackupId>,
    /// Numbers and texts about it.
    pub statistics: serde_json::Map<String, serde_json::Value>,
}

/// The work of a job, run on a thread of its own.
pub type Work = Box<dyn FnOnce(&JobContext) -> Result<JobOutcome, ServiceError> + Send>;

/// The table of jobs. Clones share it.
#[derive(Debug, Clone)]
pub struct Jobs {}

impl Jobs {
    /// Accepts a job: it starts now or waits for its turn.
    ///
    /// # Errors
    /// `SourceBusy` naming the job that has the key; `LimitsExceeded` when the queue is full; `ShuttingDown`.
    pub fn submit(&self, _request: JobRequest, _work: Work) -> Result<JobNumber, ServiceError> {
        Err(ServiceError::new(crate::model::ErrorCode::Internal, "jobs are not built yet"))
    }
}
