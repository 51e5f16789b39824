//! `delete`: one backup goes, or all of a run, and with them what only they needed.

use std::sync::Arc;

use serde_json::json;

use super::{
    engine::Engine,
    error::ServiceError,
    jobs::{JobHandle, JobOutcome, JobRequest},
    operations::Caller,
    selector::Chosen,
    several,
};
use crate::{
    clock::now_micros,
    model::{
        BackupId, ErrorCode,
        job::{JobNumber, JobType, Phase},
        summary::BackupSummary,
    },
    repository::{Deletion, Repository, RepositoryError},
};

pub(super) fn submit(
    engine: &Arc<Engine>,
    caller: Caller,
    backup: &str,
    at_once: bool,
) -> Result<JobNumber, ServiceError> {
    let (_, chosen) = engine.choose(backup)?;
    let one = match &chosen {
        Chosen::One(summary) => Some(summary.id),
        Chosen::Whole(_) => None,
    };
    let backups = chosen.into_backups();
    let Some(first) = backups.first() else {
        return Err(ServiceError::new(ErrorCode::NoSuchBackup, format!("{backup:?} means no backup")));
    };
    let (source, exclusive) = match (one, first.run_id) {
        (None, Some(run)) => (first.source.source.to_string(), format!("delete {run}")),
        _ => (first.source.to_string(), format!("delete {}", first.id)),
    };
    let job = JobRequest {
        job_type: JobType::Delete,
        source,
        exclusive: vec![exclusive],
        backup: one.map(|id| id.to_string()).unwrap_or_default(),
        uid: caller.uid,
        timeout: None,
    };
    let engine_of_job = engine.clone();
    engine.jobs().submit(job, Box::new(move |handle| run(&engine_of_job, &backups, one, at_once, handle)))
}

fn run(
    engine: &Engine,
    backups: &[BackupSummary],
    one: Option<BackupId>,
    at_once: bool,
    job: &JobHandle,
) -> Result<JobOutcome, ServiceError> {
    let opened = engine.repository()?;
    let cancel = &job.context.cancel;
    cancel.check()?;
    job.context.progress.enter(Phase::Deleting);
    let now = now_micros();
    let deletion = Deletion { now, by_name: true, at_once };
    let (mut tried, mut deleted) = (0_usize, 0_usize);
    let mut failed: Vec<(&BackupSummary, RepositoryError)> = Vec::new();
    for backup in backups {
        if cancel.reason().is_some() {
            break;
        }
        tried += 1;
        match opened.owned().mark_deleted(&Repository::folder_of(backup), deletion) {
            Ok(()) => deleted += 1,
            // Somebody else deleted it meanwhile.
            Err(RepositoryError::NoSuchBackup(_)) if one.is_none() => {}
            Err(error) => failed.push((backup, error)),
        }
    }
    // Deleted they are from their records on, also where freeing their space fails.
    opened.refresh(engine.jobs())?;
    let freed = opened.owned().free_space(engine.gc_options(now), cancel);
    let report = freed.as_ref().copied().unwrap_or_default();
    let statistics = json!({ "deleted": deleted, "freed_bytes": report.bytes, "deleted_packs": report.packs });
    let mut outcome = JobOutcome::new(one, statistics);
    outcome.failure = match (freed, cancel.reason()) {
        (Ok(_), _) if tried == backups.len() => failure(backups.len(), failed),
        (Err(error), None) => Some(error.into()),
        (_, Some(reason)) => {
            let error = ServiceError::from(reason);
            let message = format!("{error}; {deleted} of {} backups were deleted before", backups.len());
            Some(ServiceError::new(error.code(), message))
        }
        (Ok(_), None) => None,
    };
    Ok(outcome)
}

/// The error of what could not be deleted.
fn failure(backups: usize, mut failed: Vec<(&BackupSummary, RepositoryError)>) -> Option<ServiceError> {
    if backups == 1 {
        return failed.pop().map(|(_, error)| error.into());
    }
    let (_, first) = failed.first()?;
    let code = if failed.len() == backups { first.code() } else { ErrorCode::PartlyFailed };
    let reasons =
        failed.iter().map(|(backup, error)| (format!("{} of {}", backup.id.short(), backup.source), error.to_string()));
    let message =
        format!("{} of {backups} backups could not be deleted: {}", failed.len(), several::enumerate(reasons));
    Some(ServiceError::new(code, message))
}
