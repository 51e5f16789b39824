//! `drill`: restores backups where nothing depends on them, looks at what came out, and writes down what was found.
//!
//! - `runner`: where a worker runs: in a unit of its own, or as another user;
//! - `folders`: what a worker without a unit may leave on disk;
//! - `feed`: handing it the backup, and judging what it says.
//!
//! Invariants: what is restored runs as another user, or not at all; a drill that could not be carried out says nothing
//! about a backup, and is not written down.

mod feed;
mod folders;
mod runner;

use std::sync::Arc;

use serde_json::json;

pub(super) use self::folders::sweep;
pub use self::runner::DrillUnits;
use self::runner::Runner;
use super::{
    engine::Engine,
    error::ServiceError,
    jobs::{JobHandle, JobOutcome, JobRequest},
    operations::Caller,
    reading,
    selector::Chosen,
    several,
};
use crate::{
    clock::now_micros,
    config::{self, DrillConfig, SourceKind},
    drill::wire::{Order, Verdict},
    model::{
        ErrorCode,
        job::{JobNumber, JobType, Phase},
        message_id,
        summary::BackupSummary,
    },
    repository::{Record, Repository, verify::Level},
    source::SetReader as _,
};

/// What is looked at in the backups of a source.
struct Plan {
    config: DrillConfig,
    assertions: Option<String>,
    client_bin_dir: Option<std::path::PathBuf>,
}

pub(super) fn submit(engine: &Arc<Engine>, caller: Caller, backup: &str) -> Result<JobNumber, ServiceError> {
    let (_, chosen) = engine.choose(backup)?;
    let backup = match &chosen {
        Chosen::One(summary) => summary.id.to_string(),
        Chosen::Whole(_) => String::new(),
    };
    let backups = chosen.into_backups();
    let Some(first) = backups.first() else {
        return Err(ServiceError::new(ErrorCode::NoSuchBackup, "there is nothing to drill"));
    };
    let source = if backup.is_empty() { first.source.source.to_string() } else { first.source.to_string() };
    let plan = plan(engine, first)?;
    let runner = Runner::choose(engine)?;
    let job = JobRequest {
        job_type: JobType::Drill,
        exclusive: vec![format!("drill/{source}")],
        source,
        backup,
        uid: caller.uid,
        timeout: Some(plan.config.timeout),
    };
    let engine_of_job = engine.clone();
    engine.jobs().submit(job, Box::new(move |handle| run(&engine_of_job, &backups, &plan, &runner, handle)))
}

/// As the file of the source says; a source that is configured no more is drilled without assertions.
fn plan(engine: &Engine, backup: &BackupSummary) -> Result<Plan, ServiceError> {
    let config = engine.config();
    let source = config.sources.get(&backup.source.source);
    let drill = source.map(|source| source.drill.clone()).unwrap_or_default();
    let client_bin_dir = match source.map(|source| &source.kind) {
        Some(SourceKind::Postgres(postgres)) => postgres.client_bin_dir.clone(),
        _ => None,
    };
    let read = drill.assertions.as_deref().map(config::read_assertions).transpose();
    let assertions = read.map_err(|problem| {
        let message = format!("cannot drill backups of {}: {problem}", backup.source.source);
        ServiceError::new(ErrorCode::ConfigInvalid, message)
    })?;
    Ok(Plan { config: drill, assertions, client_bin_dir })
}

fn run(
    engine: &Arc<Engine>,
    backups: &[BackupSummary],
    plan: &Plan,
    runner: &Runner,
    job: &JobHandle,
) -> Result<JobOutcome, ServiceError> {
    if let [backup] = backups {
        let verdict = one(engine, backup, plan, runner, job)?;
        let failure = failure(backup, &verdict);
        return Ok(JobOutcome { failure, ..JobOutcome::new(Some(backup.id), &verdict.report) });
    }
    let (mut passed, mut failed) = (0, Vec::new());
    for (at, backup) in backups.iter().enumerate() {
        job.context.cancel.check()?;
        let after = backups[at + 1..].iter().map(|backup| backup.raw_bytes).sum();
        job.context.progress.begin_part(backup.raw_bytes, after);
        match one(engine, backup, plan, runner, job).map(|verdict| failure(backup, &verdict)) {
            Ok(None) => passed += 1,
            Ok(Some(error)) | Err(error) => {
                job.context.cancel.check()?;
                failed.push((backup.source.to_string(), error));
            }
        }
    }
    let statistics = json!({ "passed": passed, "failed": failed.len() });
    Ok(JobOutcome { failure: of_several(backups.len(), &failed), ..JobOutcome::new(None, statistics) })
}

/// The error of several drills: the one that they share, or `PartlyFailed`.
fn of_several(number: usize, failed: &[(String, ServiceError)]) -> Option<ServiceError> {
    let first = failed.first()?.1.code();
    let same = failed.len() == number && failed.iter().all(|(_, error)| error.code() == first);
    let code = if same { first } else { ErrorCode::PartlyFailed };
    let reasons = several::enumerate(failed.iter().map(|(source, error)| (source.clone(), error.to_string())));
    Some(ServiceError::new(code, format!("{} of {number} drills did not pass: {reasons}", failed.len())))
}

/// Drills one backup, and writes down how that ended.
fn one(
    engine: &Arc<Engine>,
    backup: &BackupSummary,
    plan: &Plan,
    runner: &Runner,
    job: &JobHandle,
) -> Result<Verdict, ServiceError> {
    job.context.progress.enter(Phase::Checking);
    let opened = engine.repository()?;
    let reader = reading::open_reader(opened.reading(), backup, &job.context)?;
    job.context.progress.expect_bytes(reader.manifest().statistics.raw_bytes);
    let order = Order {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        run_id: job.run_id,
        manifest: reader.manifest().clone(),
        assertions: plan.assertions.clone(),
        server_bin_dir: plan.config.server_bin_dir.clone(),
        client_bin_dir: plan.client_bin_dir.clone(),
        preload_libraries: plan.config.preload_libraries.clone(),
    };
    let mut worker = runner.start(&job.context)?;
    let verdict = feed::feed(worker.socket(), &reader, &order, &job.context);
    // Whatever was restored ends before anything is said about it.
    let ended = worker.end();
    drop(worker);
    note_damage(engine, backup, &verdict)?;
    let verdict = verdict.map_err(|error| match &ended {
        Err(why) if error.code() == ErrorCode::DrillUnavailable => {
            ServiceError::new(error.code(), format!("{error} ({why})"))
        }
        _ => error,
    })?;
    let failed = verdict.failure.as_ref().filter(|failure| !failure.unavailable);
    if failed.is_some() || verdict.failure.is_none() {
        let (at, by) = (now_micros(), concat!("backupd ", env!("CARGO_PKG_VERSION")).to_owned());
        let report = verdict.report.clone();
        let record = match failed {
            None => Record::Drilled { at, by, report },
            Some(failure) => Record::DrillFailed { at, by, message: failure.message.clone(), report },
        };
        opened.owned().record_drill(&Repository::folder_of(backup), &record)?;
        opened.refresh(engine.jobs())?;
    }
    Ok(verdict)
}

/// Damage that came to light is written down, as a verification would.
fn note_damage(
    engine: &Arc<Engine>,
    backup: &BackupSummary,
    verdict: &Result<Verdict, ServiceError>,
) -> Result<(), ServiceError> {
    let Err(error) = verdict else { return Ok(()) };
    if !matches!(error.code(), ErrorCode::BackupDamaged | ErrorCode::RepositoryDamaged) {
        return Ok(());
    }
    let record = Record::Damaged { at: now_micros(), level: Level::Data, findings: vec![error.to_string()] };
    let opened = engine.repository()?;
    opened.owned().record_drill(&Repository::folder_of(backup), &record)?;
    opened.refresh(engine.jobs())
}

fn failure(backup: &BackupSummary, verdict: &Verdict) -> Option<ServiceError> {
    let failure = verdict.failure.as_ref()?;
    let (id, source) = (backup.id.short(), &backup.source);
    if failure.unavailable {
        let message = format!("backup {id} of {source} was not drilled: {}", failure.message);
        return Some(ServiceError::new(ErrorCode::DrillUnavailable, message));
    }
    let message = format!("the drill of backup {id} of {source} failed: {}", failure.message);
    tracing::error!(MESSAGE_ID = message_id::DRILL_FAILED, BACKUPD_BACKUP = %backup.id, BACKUPD_ERROR = ErrorCode::DrillFailed.name(), "{message}");
    Some(ServiceError::new(ErrorCode::DrillFailed, message))
}
