//! `restore`: a plan, then one job that carries it out, and what is left to do after a crash.

mod journal;
mod sweep;
mod target;

use std::sync::Arc;

use self::journal::{Entry, RestoreJournal};
pub(super) use self::sweep::sweep_after_crash;
pub use self::{
    journal::Temporary,
    target::{OnTemporary, PostgresTarget, SqliteTarget, Target},
};
use super::{
    engine::Engine,
    error::ServiceError,
    jobs::{JobHandle, JobOutcome, JobRequest},
    operations::{Caller, RestoreOptions},
    reading::open_reader,
};
use crate::{
    config::SourceKind,
    model::{
        ErrorCode,
        job::{JobNumber, JobType},
        manifest::Kind,
        summary::BackupSummary,
    },
    source::SourceError,
};

/// Where the source of a backup is.
fn target_of(engine: &Engine, backup: &BackupSummary) -> Result<Target, ServiceError> {
    let config = engine.config();
    let source = config.sources.get(&backup.source.source).ok_or_else(|| {
        ServiceError::new(
            ErrorCode::NoSuchSource,
            format!(
                "source {} of backup {} is not configured, so it is not known where to restore to",
                backup.source,
                backup.id.short()
            ),
        )
    })?;
    let is_sqlite = matches!(source.kind, SourceKind::Sqlite(_));
    if is_sqlite != (backup.kind == Kind::Sqlite) {
        return Err(ServiceError::new(
            ErrorCode::NotSupported,
            format!(
                "backup {} is of kind {}, but source {} is of type {} now; configure a source of the old type to restore it",
                backup.id.short(),
                backup.kind.as_str(),
                backup.source,
                source.kind.as_str()
            ),
        ));
    }
    Ok(Target::of(&source.kind))
}

/// The plan, as JSON.
pub(super) fn plan(
    engine: &Arc<Engine>,
    backup: &str,
    options: &RestoreOptions,
) -> Result<serde_json::Value, ServiceError> {
    let (opened, summary) = engine.find(backup)?;
    let target = target_of(engine, &summary)?;
    let checks = engine.early_checks()?;
    let reader = open_reader(opened.reading(), &summary, checks.context())?;
    target.plan(&reader, options, checks.context())
}

/// Submits the job.
pub(super) fn submit(
    engine: &Arc<Engine>,
    caller: Caller,
    backup: &str,
    options: RestoreOptions,
) -> Result<JobNumber, ServiceError> {
    let (_, summary) = engine.find(backup)?;
    let target = target_of(engine, &summary)?;
    let job = JobRequest {
        job_type: JobType::Restore,
        source: summary.source.to_string(),
        exclusive: Some(format!("restore {} {}", summary.source, options.to)),
        backup: summary.id.to_string(),
        uid: caller.uid,
        timeout: None,
    };
    let engine_of_job = engine.clone();
    engine.jobs().submit(job, Box::new(move |handle| run(&engine_of_job, &summary, &target, &options, handle)))
}

fn run(
    engine: &Arc<Engine>,
    summary: &BackupSummary,
    target: &Target,
    options: &RestoreOptions,
    job: &JobHandle,
) -> Result<JobOutcome, ServiceError> {
    let opened = engine.repository()?;
    let reader = open_reader(opened.reading(), summary, &job.context)?;
    let journal = RestoreJournal::new(&engine.folders().state);
    let source = summary.source.source.to_string();
    let keep_journal = |temporary: Option<Temporary>| {
        let kept = match temporary {
            Some(temporary) => journal.add(&Entry { run_id: job.run_id, source: source.clone(), temporary }),
            None => journal.remove(job.run_id),
        };
        kept.map_err(|error| SourceError::new(error.code(), error.to_string()))
    };
    let report = target.restore(&reader, options, job.run_id, &job.context, &keep_journal)?;
    Ok(JobOutcome::new(Some(summary.id), report))
}
