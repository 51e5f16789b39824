//! `prune`: what the retention of a source does not keep goes. [`plan`] says what that is and why, without touching
//! anything; `accepted` remembers under which policies prunes were let run; `automatic` prunes after backups.
//!
//! Invariants: each database is judged by itself, never with others; a backup goes only by a plan that was made from the
//! list as it is while the job runs; a policy that changed and would delete more than a third of a source, or one that
//! was never applied to it, deletes nothing of it until somebody says so.

mod accepted;
mod automatic;
mod plan;

use std::sync::Arc;

use serde_json::json;

use super::{
    engine::Engine,
    error::ServiceError,
    jobs::{JobHandle, JobOutcome, JobRequest},
    opening::Opened,
    operations::{Caller, PruneOptions},
    several,
};
use crate::{
    clock::now_micros,
    model::{
        ErrorCode, SourceName,
        job::{JobNumber, JobType, Phase},
        message_id,
        summary::BackupSummary,
    },
    repository::{Deletion, GcOptions, Repository, RepositoryError},
};

pub(super) use accepted::Accepted;
pub(super) use automatic::begin as begin_automatic;
use plan::{Plan, Planner};
pub(super) use plan::{explain, held};

/// The sources that a prune is about: the one with this name, or all that are configured.
fn sources(engine: &Engine, source: &str) -> Result<Vec<SourceName>, ServiceError> {
    let config = engine.config();
    if source.is_empty() {
        return Ok(config.sources.keys().cloned().collect());
    }
    let name = source.parse::<SourceName>().ok().filter(|name| config.sources.contains_key(name));
    name.map(|name| vec![name]).ok_or_else(|| match config.broken.get(source) {
        Some(_) => ServiceError::new(
            ErrorCode::SourceDisabled,
            format!("the file of source {source} has errors, so its retention is not known; nothing of it is deleted"),
        ),
        None => ServiceError::new(ErrorCode::NoSuchSource, format!("there is no source {source:?}")),
    })
}

pub(super) fn submit(engine: &Arc<Engine>, caller: Caller, options: PruneOptions) -> Result<JobNumber, ServiceError> {
    let sources = sources(engine, &options.source)?;
    engine.repository()?;
    let job = JobRequest {
        job_type: JobType::Prune,
        source: options.source.clone(),
        exclusive: vec!["prune".to_owned()],
        backup: String::new(),
        uid: caller.uid,
        timeout: None,
    };
    let engine_of_job = engine.clone();
    engine.jobs().submit(job, Box::new(move |handle| run(&engine_of_job, &sources, &options, handle)))
}

fn run(
    engine: &Engine,
    sources: &[SourceName],
    options: &PruneOptions,
    job: &JobHandle,
) -> Result<JobOutcome, ServiceError> {
    let opened = engine.repository()?;
    let cancel = &job.context.cancel;
    job.context.progress.enter(Phase::Checking);
    let planner = Planner::for_prune(engine, &opened, sources, options.despite_clock, cancel)?;
    let plans: Vec<Plan> = sources.iter().filter_map(|source| planner.plan(source)).collect();
    job.context.progress.enter(Phase::Deleting);
    let (mut deleted, mut held, mut failed) = (0_usize, Vec::new(), Vec::new());
    for plan in &plans {
        if let Some(why) = plan.held.as_ref().filter(|_| !options.force) {
            tracing::warn!(
                MESSAGE_ID = message_id::PRUNE_HELD,
                BACKUPD_SOURCE = %plan.source,
                BACKUPD_ERROR = ErrorCode::PruneHeld.name(),
                "{why}"
            );
            held.push((plan.source.to_string(), why.clone()));
            continue;
        }
        let mut all = true;
        for (backup, why) in plan.going() {
            if cancel.reason().is_some() {
                all = false;
                break;
            }
            match delete(&opened, backup, options.force) {
                Ok(true) => {
                    deleted += 1;
                    tracing::info!(
                        MESSAGE_ID = message_id::BACKUP_PRUNED,
                        BACKUPD_SOURCE = %backup.source,
                        BACKUPD_BACKUP = %backup.id,
                        "backup {} (#{}) of {} goes: {why}",
                        backup.id.short(),
                        backup.sequence,
                        backup.source
                    );
                }
                Ok(false) => {}
                Err(error) => {
                    all = false;
                    failed.push((backup.id.short().to_string(), error.to_string()));
                }
            }
        }
        if all {
            engine.accepted_policies().accept(&plan.source, &plan.policy);
        }
    }
    // Deleted they are from their records on, also where the job is cancelled or freeing space fails.
    opened.refresh(engine.jobs())?;
    cancel.check()?;
    let options = GcOptions { force: options.force, ..engine.gc_options(now_micros()) };
    let report = opened.owned().free_space(options, cancel)?;
    let statistics = json!({
        "deleted": deleted,
        "held": held.iter().map(|(source, _)| source).collect::<Vec<_>>(),
        "freed_bytes": report.bytes,
        "deleted_packs": report.packs,
    });
    Ok(JobOutcome { failure: failure(&held, &failed), ..JobOutcome::new(None, statistics) })
}

/// Whether it was there.
fn delete(opened: &Opened, backup: &BackupSummary, by_name: bool) -> Result<bool, ServiceError> {
    let deletion = Deletion { now: now_micros(), by_name, at_once: false };
    match opened.owned().mark_deleted(&Repository::folder_of(backup), deletion) {
        Ok(()) => Ok(true),
        // Somebody deleted it meanwhile.
        Err(RepositoryError::NoSuchBackup(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What kept a prune from all that it was to do.
fn failure(held: &[(String, String)], failed: &[(String, String)]) -> Option<ServiceError> {
    if !failed.is_empty() {
        let reasons = several::enumerate(failed.iter().cloned());
        let message = format!("{} backups could not be deleted: {reasons}", failed.len());
        return Some(ServiceError::new(ErrorCode::PartlyFailed, message));
    }
    let reasons: Vec<&str> = held.iter().map(|(_, why)| why.as_str()).collect();
    (!held.is_empty()).then(|| ServiceError::new(ErrorCode::PruneHeld, reasons.join("; ")))
}
