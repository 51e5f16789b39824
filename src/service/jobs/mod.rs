//! Jobs: numbered, queued, cancellable, remembered.
//!
//! - [`table`]: [`Jobs`], who may start, who waits, who is told.
//! - [`run`]: the thread of one job, from its scratch folder to its result.
//! - [`state`]: what is shown of a job: its record, how far and how fast it is.
//! - [`history`]: what is remembered, across restarts and crashes.
//! - [`numbers`]: the numbers, never given twice.

mod history;
mod numbers;
mod run;
mod state;
mod table;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use state::JobState;
pub use table::Jobs;

use super::error::ServiceError;
use crate::{
    config::Limits,
    model::{
        BackupId, RunId,
        job::{JobNumber, JobRecord, JobType},
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
    /// Two jobs that share a key never are in the table together: the second is refused as `SourceBusy`.
    pub exclusive: Vec<String>,
    /// The backup it is about, in hex; empty where there is none.
    pub backup: String,
    /// Who asked.
    pub uid: u32,
    /// How long it may run, its waiting not counted.
    pub timeout: Option<Duration>,
}

/// What a job leaves that went on to its end.
#[derive(Debug, Clone, Default)]
pub struct JobOutcome {
    /// The backup it made.
    pub backup: Option<BackupId>,
    /// Numbers and texts about it.
    pub statistics: serde_json::Map<String, serde_json::Value>,
    /// Why the job counts as failed although it went on to its end and has statistics.
    pub failure: Option<ServiceError>,
}

impl JobOutcome {
    /// An outcome whose statistics are the fields of something that is an object in JSON.
    pub fn new(backup: Option<BackupId>, statistics: impl serde::Serialize) -> Self {
        match serde_json::to_value(statistics) {
            Ok(serde_json::Value::Object(statistics)) => Self { backup, statistics, failure: None },
            _ => Self { backup, ..Self::default() },
        }
    }
}

/// What the work of a job is given.
#[derive(Debug, Clone)]
pub struct JobHandle {
    /// Cancel flag, progress, scratch folder, runtime.
    pub context: JobContext,
    /// The job's number.
    pub number: JobNumber,
    /// The job's run.
    pub run_id: RunId,
    /// Who asked.
    pub uid: u32,
}

/// The work of a job, run on a thread of its own inside the job's tracing span. It enters its phases itself.
///
/// An error that comes after the cancel flag was raised counts as the cancel; `Ok` counts as done even then.
pub type Work = Box<dyn FnOnce(&JobHandle) -> Result<JobOutcome, ServiceError> + Send>;

/// Limits of the table, from the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobLimits {
    /// Jobs that run at once, at least one.
    pub concurrency: usize,
    /// Jobs that may wait.
    pub queue: usize,
    /// Finished jobs that are remembered.
    pub history: usize,
}

impl From<&Limits> for JobLimits {
    fn from(limits: &Limits) -> Self {
        let count = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        Self {
            concurrency: count(limits.concurrency).max(1),
            queue: count(limits.queue),
            history: count(limits.history),
        }
    }
}

/// Something that happened to a job, or to the list of backups by one.
#[derive(Debug, Clone)]
pub enum JobEvent {
    /// It was accepted, and may already run.
    Added(JobNumber),
    /// It left the queue.
    Started(JobNumber),
    /// It ended; this is what history keeps.
    Finished(Box<JobRecord>),
    /// A backup is complete and in the list. It comes before the end of the job that took it.
    BackupAdded {
        /// Its id.
        id: BackupId,
        /// Its source, as shown.
        source: String,
    },
    /// A backup is gone from the list.
    BackupRemoved {
        /// Its id.
        id: BackupId,
        /// Its source, as shown.
        source: String,
    },
}
