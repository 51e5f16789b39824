//! `delete`: one backup goes, and with it what only it needed.

use std::sync::Arc;

use serde_json::json;

use super::{
    engine::Engine,
    error::ServiceError,
    jobs::{JobHandle, JobOutcome, JobRequest},
    operations::Caller,
};
use crate::{
    clock::now_micros,
    model::{
        job::{JobNumber, JobType, Phase},
        summary::BackupSummary,
    },
    repository::{GcOptions, Repository},
};

pub(super) fn submit(engine: &Arc<Engine>, caller: Caller, backup: &str) -> Result<JobNumber, ServiceError> {
    let (_, summary) = engine.find(backup)?;
    let job = JobRequest {
        job_type: JobType::Delete,
        source: summary.source.to_string(),
        exclusive: Some(format!("delete {}", summary.id)),
        backup: summary.id.to_string(),
        uid: caller.uid,
        timeout: None,
    };
    let engine_of_job = engine.clone();
    engine.jobs().submit(job, Box::new(move |handle| run(&engine_of_job, &summary, handle)))
}

fn run(engine: &Arc<Engine>, summary: &BackupSummary, job: &JobHandle) -> Result<JobOutcome, ServiceError> {
    let opened = engine.repository()?;
    job.context.cancel.check()?;
    job.context.progress.enter(Phase::Deleting);
    let folder = Repository::folder_of(summary);
    let options = GcOptions { now: now_micros(), ..GcOptions::default() };
    let freed = opened.owned().delete_backup(&folder, options, &job.context.cancel);
    // Deleted it is from its record on, also where freeing its space failed.
    opened.refresh(engine.jobs())?;
    let freed = freed?;
    let statistics = json!({ "freed_bytes": freed.bytes, "deleted_packs": freed.packs });
    Ok(JobOutcome::new(Some(summary.id), statistics))
}
