//! Jobs: their types, phases, results and the record that history keeps.

use serde::{Deserialize, Serialize};

use super::{error_code::ErrorCode, ids::RunId, words::words};

words! {
    /// What a job does.
    JobType {
        /// Takes a backup.
        Create = "create",
        /// Restores one.
        Restore = "restore",
        /// Reads one or all back.
        Verify = "verify",
        /// Deletes one and frees its space.
        Delete = "delete",
        /// Writes one out as one plain file.
        Export = "export",
        /// Brings back what a restore replaced.
        Undo = "undo",
        /// Drops what was kept for an undo.
        Forget = "forget",
        /// Restores one into a scratch database and compares.
        Drill = "drill",
        /// Deletes what retention does not keep.
        Prune = "prune",
    }
}

words! {
    /// Where a job is. A job that is done stays in its last phase.
    Phase {
        /// Waiting for its turn.
        Queued = "queued",
        /// Looking whether it can be done.
        Checking = "checking",
        /// Locking tables and taking the snapshot.
        Snapshot = "snapshot",
        /// Dumping roles, properties and schema.
        Schema = "schema",
        /// Moving the rows.
        Data = "data",
        /// Restoring indexes, constraints, triggers.
        PostData = "post-data",
        /// Comparing counts.
        Comparing = "comparing",
        /// Statistics for the planner.
        Analyze = "analyze",
        /// Making and starting the scratch server of a drill.
        Starting = "starting",
        /// What a drill looks for beyond the rows: schema, indexes, the user's assertions.
        Proving = "proving",
        /// Reading stored bytes.
        Reading = "reading",
        /// Making the result visible.
        Committing = "committing",
        /// Deleting.
        Deleting = "deleting",
        /// Taking away what a failure or a cancel left.
        CleaningUp = "cleaning-up",
    }
}

words! {
    /// How a job ended.
    JobResult {
        /// As asked.
        Done = "done",
        /// Cancelled by somebody.
        Canceled = "canceled",
        /// It failed; the error says why.
        Failed = "failed",
        /// The daemon stopped or died while it ran.
        Interrupted = "interrupted",
    }
}

/// A job number: never reused, also across restarts.
pub type JobNumber = u64;

/// What history keeps of a job, and what `GetJob` gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its number.
    pub number: JobNumber,
    /// Its run, the journal's `BACKUPD_JOB`.
    pub run_id: RunId,
    /// What it does.
    #[serde(rename = "type")]
    pub job_type: JobType,
    /// The source it is about, as shown; empty for one that is about the whole repository.
    pub source: String,
    /// The backup it is about or made, in hex; empty where there is none (yet).
    pub backup: String,
    /// Who asked for it.
    pub started_by_uid: u32,
    /// When it was accepted, microseconds since the epoch.
    pub start_time: u64,
    /// When it ended; 0 while it runs.
    pub end_time: u64,
    /// Where it is, or was at the end.
    pub phase: Phase,
    /// How it ended; absent while it runs.
    pub result: Option<JobResult>,
    /// Why it failed.
    pub error: Option<JobError>,
    /// Numbers and texts about its outcome, by job type.
    pub statistics: serde_json::Map<String, serde_json::Value>,
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// The stable name of the [`ErrorCode`].
    pub name: String,
    /// What was attempted, on which object, why it failed and what to do.
    pub message: String,
}

impl JobError {
    /// An error with this code.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { name: code.name().to_owned(), message: message.into() }
    }
}
