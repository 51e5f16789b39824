//! What the checks look at. Plain data; who gathers it is `service::health`. Times are microseconds since the epoch,
//! 0 for never; sizes are bytes.

use std::{sync::Arc, time::Duration};

use crate::{
    config::{HealthConfig, SourceConfig},
    model::{
        ErrorCode,
        job::{JobRecord, JobType},
        summary::BackupSummary,
    },
};

/// Everything that is looked at.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The time.
    pub now: u64,
    /// The latest time that anything in the state of the daemon tells of.
    pub latest_known: u64,
    /// The repository.
    pub repository: RepositoryFacts,
    /// The sources, in order of their names.
    pub sources: Vec<SourceFacts>,
    /// What can be undone.
    pub undo: Vec<UndoFacts>,
    /// How much of that is too much.
    pub max_undo: Option<u64>,
    /// Why systemd does not answer; absent where it does, or was not asked.
    pub systemd_problem: Option<String>,
}

/// The repository and its file system.
#[derive(Debug, Clone, Default)]
pub struct RepositoryFacts {
    /// Where it is.
    pub name: String,
    /// Whether it is still being opened for the first time.
    pub opening: bool,
    /// Why it cannot be used.
    pub trouble: Option<(ErrorCode, String)>,
    /// Why it cannot be written to.
    pub not_writable: Option<String>,
    /// Bytes free, where that is known.
    pub free: Option<u64>,
    /// Bytes that backups leave free.
    pub reserve: u64,
    /// How much a round of backups adds: what the newest of each database did.
    pub next_round: u64,
    /// Free bytes by time, the oldest first.
    pub free_history: Vec<(u64, u64)>,
    /// How soon is too soon to be full.
    pub full_within: Option<Duration>,
    /// Backups that cannot be listed: the source, and why.
    pub unreadable: Vec<(String, String)>,
}

/// One source.
#[derive(Debug, Clone, Default)]
pub struct SourceFacts {
    /// Its name.
    pub name: String,
    /// Its configuration; absent where its file is broken.
    pub config: Option<Arc<SourceConfig>>,
    /// What is wrong with its file.
    pub broken: String,
    /// When its file was last changed.
    pub configured_at: u64,
    /// What of `[health]` holds for it.
    pub health: HealthConfig,
    /// Its backups, of each database the newest first; absent while the repository is not open.
    pub backups: Option<Vec<BackupSummary>>,
    /// Its jobs that ended, the newest first.
    pub jobs: Vec<JobRecord>,
    /// The longest time between two runs of its schedule.
    pub gap: Option<Duration>,
    /// Its timer, where systemd could be asked.
    pub timer: Option<TimerFacts>,
    /// Why a password cannot be read.
    pub credential_problem: Option<String>,
    /// Why no client programs fit its server.
    pub client_problem: Option<String>,
    /// Why its retention is not applied.
    pub retention_problem: Option<String>,
}

impl SourceFacts {
    /// The newest job of one type about it.
    pub(super) fn jobs_of(&self, job_type: JobType) -> impl Iterator<Item = &JobRecord> {
        self.jobs.iter().filter(move |job| job.job_type == job_type)
    }
}

/// A timer, as systemd has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimerFacts {
    /// Its unit.
    pub unit: String,
    /// Whether it runs.
    pub active: bool,
    /// Whether it is masked.
    pub masked: bool,
    /// Its calendar events.
    pub events: Vec<String>,
}

/// An undo copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UndoFacts {
    /// The source of the backup that replaced it.
    pub source: String,
    /// What was replaced.
    pub target: String,
    /// When it is dropped.
    pub until: u64,
    /// Its size.
    pub bytes: u64,
    /// What is free in its file system, where that is known.
    pub free: Option<u64>,
}
