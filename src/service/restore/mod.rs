//! `restore`: a plan, then one job that carries it out, for one database or for all of a run, and what is left to do
//! after a crash.

mod journal;
mod sweep;
mod target;
mod whole;

use std::sync::Arc;

use self::journal::{Entry, RestoreJournal};
pub(super) use self::sweep::sweep_after_crash;
pub use self::{
    journal::Temporary,
    target::{OnTemporary, PostgresTarget, SqliteTarget, Target},
    whole::{WholePlan, WholeRestore},
};
use super::{
    engine::Engine,
    error::ServiceError,
    jobs::{JobHandle, JobOutcome, JobRequest},
    operations::{Caller, RestoreOptions},
    reading::open_reader,
    selector::Chosen,
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

/// What is restored.
enum Wanted {
    One(Box<BackupSummary>, Target),
    All(Vec<BackupSummary>, PostgresTarget),
}

impl Wanted {
    fn find(engine: &Engine, selector: &str, all: bool) -> Result<Self, ServiceError> {
        let chosen = engine.choose(selector)?.1;
        let backups = match (chosen, all) {
            (Chosen::Whole(backups), true) => backups,
            (Chosen::One(backup), false) => {
                let target = target_of(engine, &backup)?;
                return Ok(Self::One(backup, target));
            }
            (chosen @ Chosen::Whole(_), false) => {
                let error = chosen.into_one().err();
                let error = error.unwrap_or_else(|| ServiceError::new(ErrorCode::InvalidArgs, "a whole run is meant"));
                return Err(error.context("to restore all databases, say so (--all)"));
            }
            (Chosen::One(backup), true) => {
                let message =
                    format!("{} is one backup of {}, not a run over all databases", backup.id.short(), backup.source);
                return Err(ServiceError::new(ErrorCode::InvalidArgs, message));
            }
        };
        let target = backups.first().map(|backup| target_of(engine, backup)).transpose()?;
        match target {
            Some(Target::Postgres(target)) => Ok(Self::All(backups, target)),
            _ => Err(ServiceError::new(ErrorCode::InvalidArgs, "only databases of a server are restored all at once")),
        }
    }
}

/// The plan, as JSON.
pub(super) fn plan(
    engine: &Arc<Engine>,
    backup: &str,
    options: &RestoreOptions,
) -> Result<serde_json::Value, ServiceError> {
    let wanted = Wanted::find(engine, backup, options.all)?;
    let opened = engine.repository()?;
    let checks = engine.early_checks()?;
    match wanted {
        Wanted::One(summary, target) => {
            let reader = open_reader(opened.reading(), &summary, checks.context())?;
            target.plan(&reader, options, checks.context())
        }
        Wanted::All(backups, target) => {
            let (listed, backup_count) = (opened.backups(), backups.len());
            let whole = WholeRestore::new(opened.reading(), &target, backups, &listed, options)?;
            let plan = whole.plan(checks.context()).map_err(|error| match error.code() {
                ErrorCode::TimedOut => {
                    let why = format!("planning {} databases takes longer than a call may", backup_count);
                    error.context(format!("{why}; start the restore, which plans them all before it touches anything"))
                }
                _ => error,
            })?;
            target::to_json(&plan)
        }
    }
}

/// Submits the job.
pub(super) fn submit(
    engine: &Arc<Engine>,
    caller: Caller,
    backup: &str,
    options: RestoreOptions,
) -> Result<JobNumber, ServiceError> {
    let wanted = Wanted::find(engine, backup, options.all)?;
    let (source, exclusive, backup) = match &wanted {
        Wanted::One(summary, _) => {
            let source = summary.source.to_string();
            let exclusive = format!("restore {source} {}", options.to);
            (source, exclusive, summary.id.to_string())
        }
        Wanted::All(backups, target) => {
            let opened = engine.repository()?;
            // Refuses what cannot be asked for, at once.
            let whole = WholeRestore::new(opened.reading(), target, backups.clone(), &opened.backups(), &options)?;
            (whole.source().to_string(), format!("restore all {}", whole.source()), String::new())
        }
    };
    let job = JobRequest {
        job_type: JobType::Restore,
        source,
        exclusive: Some(exclusive),
        backup,
        uid: caller.uid,
        timeout: None,
    };
    let engine_of_job = engine.clone();
    engine.jobs().submit(job, Box::new(move |handle| run(&engine_of_job, &wanted, &options, handle)))
}

fn run(
    engine: &Arc<Engine>,
    wanted: &Wanted,
    options: &RestoreOptions,
    job: &JobHandle,
) -> Result<JobOutcome, ServiceError> {
    let opened = engine.repository()?;
    let journal = RestoreJournal::new(&engine.folders().state);
    let source = match wanted {
        Wanted::One(summary, _) => summary.source.source.to_string(),
        Wanted::All(backups, _) => backups.first().map(|b| b.source.source.to_string()).unwrap_or_default(),
    };
    let keep_journal = |temporary: Option<Temporary>| {
        let kept = match temporary {
            Some(temporary) => journal.add(&Entry { run_id: job.run_id, source: source.clone(), temporary }),
            None => journal.remove(job.run_id),
        };
        kept.map_err(|error| SourceError::new(error.code(), error.to_string()))
    };
    match wanted {
        Wanted::One(summary, target) => {
            let reader = open_reader(opened.reading(), summary, &job.context)?;
            let report = target.restore(&reader, options, job.run_id, &job.context, &keep_journal)?;
            Ok(JobOutcome::new(Some(summary.id), report))
        }
        Wanted::All(backups, target) => {
            let listed = opened.backups();
            let whole = WholeRestore::new(opened.reading(), target, backups.clone(), &listed, options)?;
            whole.carry_out(job.run_id, &job.context, &keep_journal)
        }
    }
}
