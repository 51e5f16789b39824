//! Numbers about backups and jobs, gathered from repository and state folder for the pure functions of
//! [`crate::statistics`].
//!
//! - `history`: what is remembered of jobs and backups that are gone.
//!
//! Whatever was missed (while the daemon was away, or because its file was lost) is taken in from the history of jobs and
//! from the repository. So a lost file costs the backups that were deleted, and the jobs that the history of jobs has
//! forgotten: what failed before cannot be told from manifests.

mod history;

use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;

pub(super) use self::history::History;
use super::{
    ServiceError,
    engine::Engine,
    jobs::{JobEvent, Jobs},
    selector::parse_source,
};
use crate::{
    clock::now_micros,
    model::{
        ErrorCode, SourceName,
        job::{JobResult, JobType},
        summary::BackupSummary,
    },
    repository::Repository,
    statistics::{
        diff::BackupDiff,
        report::{Report, Scope, report},
        rows::{BackupRow, JobRow, Remembered, configured},
    },
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
        let of = |backup: &BackupSummary| format!("backup {} of {}", backup.id.short(), backup.source);
        let message = format!("cannot compare {} with {}: {different}", of(from), of(to));
        ServiceError::new(ErrorCode::InvalidArgs, message)
    })
}

/// The numbers of a repository by what is in it, without what a daemon remembers.
///
/// # Errors
/// `NoSuchSource` for a name that no source can have, or that nothing is known of.
pub fn of_backups(source: &str, listed: &[BackupSummary]) -> Result<Report, ServiceError> {
    let now = now_micros();
    let backups = listed.iter().map(BackupRow::of).collect();
    numbers(source, &[], &Remembered { jobs_since: now, backups, ..Remembered::default() }, listed, now)
}

/// The numbers of a daemon. Takes in first what was missed.
///
/// # Errors
/// As [`of_backups`].
pub(super) fn of_engine(engine: &Engine, source: &str) -> Result<Report, ServiceError> {
    engine.repository()?;
    take_in(engine);
    let configured: Vec<SourceName> = engine.config().sources.keys().cloned().collect();
    numbers(source, &configured, &engine.statistics_history().remembered(), &engine.listed_backups(), now_micros())
}

fn numbers(
    source: &str,
    configured: &[SourceName],
    remembered: &Remembered,
    listed: &[BackupSummary],
    now: u64,
) -> Result<Report, ServiceError> {
    let scope = match source {
        "" => Scope::All,
        source => match parse_source(source)? {
            key if key.child.is_some() => Scope::Database(key),
            key => Scope::Source(key.source),
        },
    };
    let report = report(&scope, configured, remembered, listed, now);
    let unknown = match &scope {
        Scope::All => false,
        Scope::Source(_) => report.sources.is_empty(),
        Scope::Database(_) => report.total.taken == 0 && report.total.backups == 0,
    };
    if unknown {
        return Err(ServiceError::new(ErrorCode::NoSuchSource, format!("nothing is known of a source {source:?}")));
    }
    Ok(report)
}

/// Opens what is remembered. Where its file is lost, jobs are known for as long as their own history goes back.
pub(super) fn open(state: &std::path::Path, jobs: &Jobs) -> History {
    let since = jobs.list().iter().map(|job| job.record.start_time).min().unwrap_or_else(now_micros);
    History::open(state.join("statistics.jsonl"), since)
}

/// Takes in whatever jobs leave, for as long as the engine lives.
pub(super) fn begin(engine: &Arc<Engine>) {
    let mut events = engine.jobs().subscribe();
    let weak = Arc::downgrade(engine);
    let runtime = engine.runtime().clone();
    runtime.clone().spawn(async move {
        loop {
            let Some(engine) = weak.upgrade() else { return };
            // What cannot be taken in now, because the repository is not open, is when the next job ends.
            let _ = runtime.spawn_blocking(move || take_in(&engine)).await;
            loop {
                match events.recv().await {
                    // Who missed something looks at everything anyway.
                    Ok(JobEvent::Finished(_)) | Err(RecvError::Lagged(_)) => break,
                    Ok(_) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        }
    });
}

/// Takes in the jobs that ended and the backups that are there, and are not remembered yet.
fn take_in(engine: &Engine) {
    let listed = engine.known_backups();
    let ended = engine.jobs().list().into_iter().map(|job| job.record).filter(|record| record.result.is_some());
    engine.statistics_history().take_in(now_micros(), |known| {
        let backups = listed.map_or_else(Vec::new, |listed| {
            known.forget_gone(&listed);
            known.unknown_backups(&listed)
        });
        (known.unknown_jobs(ended), backups)
    });
}

/// Remembers that a backup was refused before there was a job: its database cannot be reached, the repository is full… What
/// is wrong with the call, or passes by itself, says nothing about the source.
pub(super) fn refused(engine: &Engine, source: &str, error: &ServiceError) {
    let says_nothing = matches!(
        error.code(),
        ErrorCode::NoSuchSource
            | ErrorCode::InvalidArgs
            | ErrorCode::SourceBusy
            | ErrorCode::SourceDisabled
            | ErrorCode::LimitsExceeded
            | ErrorCode::ShuttingDown
    );
    let Ok(key) = parse_source(source) else { return };
    if says_nothing {
        return;
    }
    let at = now_micros();
    let row = JobRow {
        at,
        number: 0,
        job_type: JobType::Create,
        source: configured(key.source.as_str()).to_owned(),
        result: JobResult::Failed,
        duration: 0,
        recovery: 0,
    };
    engine.statistics_history().take_in(at, |_| (vec![row], Vec::new()));
}
