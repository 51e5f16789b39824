//! `restore`: a plan, then one job that carries it out, for one database or for all of a run; its undo; and what is left
//! to do after a crash.

mod journal;
mod kept;
mod plans;
mod store;
mod target;
mod tend;
pub(super) mod undo;
mod whole;

use std::sync::Arc;

use self::journal::{Entry, Journal};
pub(super) use self::{
    plans::planned,
    tend::{Tending, begin as begin_tending},
};
pub use self::{
    target::{Approve, OnStep, PostgresTarget, SqliteTarget, Step, Target},
    whole::{WholePlan, WholeRestore},
};
use super::{
    create,
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

/// Two jobs about one target never run at once.
fn exclusive_key(source: &str, to: &str) -> String {
    format!("restore {source} {to}")
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
            let mut plan = target.plan(&reader, options, checks.context())?;
            warn(&mut plan, &summary);
            plans::keep(engine, &summary, options, plan)
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

/// Adds what is known against the backup itself.
fn warn(plan: &mut serde_json::Value, backup: &BackupSummary) {
    let Some(plan) = plan.as_object_mut() else { return };
    let notices = plan.entry("notices").or_insert_with(|| serde_json::json!([]));
    let Some(notices) = notices.as_array_mut() else { return };
    if backup.damaged {
        let message = "the backup is known to be damaged: the restore will fail where it meets that; `show` says more";
        notices.push(serde_json::json!({ "what": "damaged", "message": message }));
    }
    if backup.tags.iter().any(|tag| tag == create::PRE_RESTORE) {
        let message =
            "the backup holds what an earlier restore was about to replace; name another one to repeat that restore";
        notices.push(serde_json::json!({ "what": "pre-restore", "message": message }));
    }
    if backup.suspect {
        let message = "the backup holds suspiciously less than the one before it; `show` has the numbers";
        notices.push(serde_json::json!({ "what": "suspect", "message": message }));
    }
}

/// Submits the job.
pub(super) fn submit(
    engine: &Arc<Engine>,
    caller: Caller,
    backup: &str,
    options: RestoreOptions,
) -> Result<JobNumber, ServiceError> {
    let options = plans::options_of(engine, backup, options)?;
    let wanted = Wanted::find(engine, backup, options.all)?;
    let (source, exclusive, backup) = match &wanted {
        Wanted::One(summary, _) => {
            let source = summary.source.to_string();
            let mut exclusive = vec![exclusive_key(&source, &options.to)];
            if options.replace {
                // The swap would end a backup that runs, and one is taken first.
                exclusive.push(create::exclusive_key(&summary.source.source));
            }
            (source, exclusive, summary.id.to_string())
        }
        Wanted::All(backups, target) => {
            let opened = engine.repository()?;
            // Refuses what cannot be asked for, at once.
            let whole = WholeRestore::new(opened.reading(), target, backups.clone(), &opened.backups(), &options)?;
            (whole.source().to_string(), vec![format!("restore all {}", whole.source())], String::new())
        }
    };
    let job = JobRequest { job_type: JobType::Restore, source, exclusive, backup, uid: caller.uid, timeout: None };
    let engine_of_job = engine.clone();
    engine.jobs().submit(job, Box::new(move |handle| run(&engine_of_job, &wanted, &options, handle)))
}

fn run(
    engine: &Arc<Engine>,
    wanted: &Wanted,
    options: &RestoreOptions,
    job: &JobHandle,
) -> Result<JobOutcome, ServiceError> {
    let outcome = match wanted {
        Wanted::One(summary, target) => Restoring { engine, backup: summary, options, job }.run(target),
        Wanted::All(backups, target) => {
            let opened = engine.repository()?;
            let listed = opened.backups();
            let whole = WholeRestore::new(opened.reading(), target, backups.clone(), &listed, options)?;
            let keeper = Keeper::new(engine, whole.source().to_string(), String::new(), options, job);
            whole.carry_out(job.run_id, &job.context, &|step| keeper.note(step))
        }
    };
    // What could not be settled or taken away by the job itself is looked after from now on.
    engine.tending().wake();
    outcome
}

/// Writes the steps of a restore down.
struct Keeper<'a> {
    engine: &'a Engine,
    journal: Journal,
    entry: Entry,
}

impl<'a> Keeper<'a> {
    fn new(engine: &'a Engine, source: String, backup: String, options: &RestoreOptions, job: &JobHandle) -> Self {
        let entry = Entry {
            run_id: job.run_id,
            job: job.number,
            source,
            backup,
            to: options.to.clone(),
            temporary: None,
            swap: None,
            undoes: None,
        };
        Self { engine, journal: Journal::of(engine), entry }
    }

    fn note(&self, step: Step<'_>) -> Result<(), SourceError> {
        let noted = self.journal.note(&self.entry, step, self.engine.config().undo.keep);
        noted.map_err(|error| SourceError::new(error.code(), error.to_string()))
    }
}

/// The restore of one backup.
struct Restoring<'a> {
    engine: &'a Arc<Engine>,
    backup: &'a BackupSummary,
    options: &'a RestoreOptions,
    job: &'a JobHandle,
}

impl Restoring<'_> {
    fn run(&self, target: &Target) -> Result<JobOutcome, ServiceError> {
        let Self { engine, backup, options, job } = self;
        let source = backup.source.source.to_string();
        tend::clear(engine, &source);
        let opened = engine.repository()?;
        let reader = open_reader(opened.reading(), backup, &job.context)?;
        let keeper = Keeper::new(engine, source, backup.id.to_string(), options, job);
        let (note, approve) = (|step: Step<'_>| keeper.note(step), |plan: &serde_json::Value| self.approve(plan));
        let report = target.restore(&reader, options, job.run_id, &job.context, &note, &approve)?;
        let mut outcome = JobOutcome::new(Some(backup.id), report);
        if options.no_undo {
            match undo::forget_now(engine, job.number) {
                Ok(()) => drop(outcome.statistics.remove("kept")),
                Err(error) => {
                    tracing::error!("{error}");
                    let message = format!("what was replaced is still kept: {error}");
                    outcome.statistics.insert("problem".to_owned(), message.into());
                }
            }
        }
        undo::measure(engine, job.run_id);
        engine.changes_noted();
        Ok(outcome)
    }

    /// The plan is looked at, and what would be replaced is backed up, before anything is touched.
    fn approve(&self, plan: &serde_json::Value) -> Result<(), ServiceError> {
        let Self { engine, backup, options, job } = self;
        if !options.plan.is_empty() {
            let mut now = plan.clone();
            warn(&mut now, backup);
            plans::check(engine, &options.plan, &now)?;
        }
        let possible = plan["obstacles"].as_array().is_some_and(Vec::is_empty);
        if plan["replaces"].is_null() || !possible {
            return Ok(());
        }
        let unless_kept = |why: &str| match options.no_undo {
            true => Err(ServiceError::new(ErrorCode::RestoreRefused, why)),
            false => Ok(()),
        };
        if plan["replaces"]["is_database"] == false {
            return unless_kept("what is replaced is no database, so there is no backup of it: it must be kept");
        }
        if options.no_backup {
            return unless_kept("neither a backup nor an undo copy of what is replaced is wanted; one of them must be");
        }
        let taken = create::before_restore(engine, backup, &options.to, job).map_err(|error| {
            let why = "cannot back up what would be replaced, so nothing was touched; --no-backup restores without";
            ServiceError::new(ErrorCode::RestoreRefused, format!("{why}: {error}"))
        })?;
        let Some(id) = taken else {
            return unless_kept(
                "what is replaced is not what the source backs up, so there is no fresh backup of it: it must be kept",
            );
        };
        tracing::info!("backup {} holds what is replaced", id.short());
        Ok(())
    }
}
