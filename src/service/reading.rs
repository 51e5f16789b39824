//! What needs no writer: describing a backup and exporting it. Works on an opened repository, with a daemon or without.

use std::{fs::File, sync::Arc};

use serde_json::{Value, json};

use super::{
    engine::Engine,
    error::ServiceError,
    export,
    jobs::{JobOutcome, JobRequest},
    operations::Caller,
};
use crate::{
    model::{
        ErrorCode,
        job::{JobNumber, JobType},
        manifest::Kind,
        summary::BackupSummary,
    },
    repository::{BackupReader, Repository},
    source::{JobContext, postgres::restore::by_hand as postgres, sqlite::by_hand as sqlite},
};

/// Everything about a backup: its summary, its manifest as it is stored, the records about it, and the commands that
/// restore it by hand.
///
/// # Errors
/// `NoSuchBackup`, `BackupDamaged`, `UnsupportedFormat`, `RepositoryUnavailable`.
pub fn describe(repository: &Repository, summary: &BackupSummary) -> Result<Value, ServiceError> {
    let folder = Repository::folder_of(summary);
    let (manifest, bytes) = repository.manifest(&folder)?;
    let stored: Value = serde_json::from_slice(&bytes)
        .map_err(|error| ServiceError::new(ErrorCode::BackupDamaged, format!("the manifest is no JSON: {error}")))?;
    let records = repository.records(&folder)?;
    let commands = match manifest.kind {
        Kind::Sqlite => sqlite::commands,
        Kind::Logical | Kind::Physical | Kind::Wal => postgres::commands,
    };
    Ok(json!({
        "summary": summary,
        "manifest": stored,
        "records": records,
        "by_hand": commands(&repository.storage().name(), summary.id, &manifest),
    }))
}

/// A reader of one backup.
///
/// # Errors
/// `NoSuchBackup`, `BackupDamaged`, `UnsupportedFormat`, `RepositoryUnavailable`.
pub fn open_reader(
    repository: &Repository,
    summary: &BackupSummary,
    context: &JobContext,
) -> Result<BackupReader, ServiceError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(repository.reader(&Repository::folder_of(summary), threads, context.cancel.clone())?)
}

pub(super) fn submit_export(
    engine: &Arc<Engine>,
    caller: Caller,
    backup: &str,
    output: File,
) -> Result<JobNumber, ServiceError> {
    let (_, summary) = engine.find(backup)?;
    let job = JobRequest {
        job_type: JobType::Export,
        source: summary.source.to_string(),
        exclusive: Vec::new(),
        backup: summary.id.to_string(),
        uid: caller.uid,
        timeout: None,
    };
    let engine_of_job = engine.clone();
    engine.jobs().submit(
        job,
        Box::new(move |handle| {
            let opened = engine_of_job.repository()?;
            let reader = open_reader(opened.reading(), &summary, &handle.context)?;
            let exported = export::export_to_file(&reader, output, &handle.context)?;
            let statistics = json!({ "raw_bytes": exported.raw_bytes, "written_bytes": exported.written_bytes });
            Ok(JobOutcome::new(Some(summary.id), statistics))
        }),
    )
}
