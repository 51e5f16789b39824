//! `verify`: reads backups back, and writes down what was found.
//!
//! The repository's part finds and writes nothing; only this daemon, which owns the repository, records.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{
    engine::Engine,
    error::ServiceError,
    jobs::{JobHandle, JobOutcome, JobRequest},
    listing,
    operations::{Caller, ListFilter, VerifyLevel, VerifyRequest},
    selector::Chosen,
    several,
};
use crate::{
    model::{
        ErrorCode,
        job::{JobNumber, JobType, Phase},
        message_id,
        summary::BackupSummary,
    },
    repository::{
        Repository,
        verify::{Level, VerifyReport},
    },
    source::JobContext,
};

impl From<VerifyLevel> for Level {
    fn from(level: VerifyLevel) -> Self {
        match level {
            VerifyLevel::List => Self::List,
            VerifyLevel::Packs => Self::Packs,
            VerifyLevel::Data => Self::Data,
        }
    }
}

/// Reads these backups back.
///
/// # Errors
/// Only where nothing can be said; damage is in the report.
pub fn examine(
    repository: &Repository,
    backups: &[BackupSummary],
    level: VerifyLevel,
    context: &JobContext,
) -> Result<VerifyReport, ServiceError> {
    context.progress.enter(Phase::Reading);
    let folders: Vec<_> = backups.iter().map(Repository::folder_of).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(repository.verify(Some(&folders), level.into(), threads, &context.cancel, &context.progress)?)
}

/// The error of a verification that found something, and none where all is good.
///
/// # Errors
/// `BackupDamaged` naming what is damaged; `UnsupportedFormat` or `Io` where a backup could not be looked at.
pub fn judge(report: &VerifyReport) -> Result<(), ServiceError> {
    if !report.damaged.is_empty() {
        let damaged = report.damaged.iter().map(|(folder, problems)| (folder.id.short(), problems.join(", ")));
        return Err(ServiceError::new(
            ErrorCode::BackupDamaged,
            format!(
                "{} of {} backups are damaged: {}",
                report.damaged.len(),
                report.damaged.len() + report.good.len() + report.skipped.len(),
                several::enumerate(damaged)
            ),
        ));
    }
    if !report.skipped.is_empty() {
        let skipped = report.skipped.iter().map(|(folder, why)| (folder.id.short(), why.clone()));
        return Err(ServiceError::new(
            ErrorCode::Io,
            format!("{} backups could not be verified: {}", report.skipped.len(), several::enumerate(skipped)),
        ));
    }
    Ok(())
}

/// The report, as the job's statistics and `--no-daemon` show it.
#[must_use]
pub fn statistics(report: &VerifyReport) -> Map<String, Value> {
    let value = json!({
        "level": report.level,
        "good": report.good.len(),
        "damaged": report.damaged.len(),
        "skipped": report.skipped.len(),
        "bad_packs": report.bad_packs.len(),
        "packs": report.packs,
        "stored_bytes": report.stored_bytes,
        "raw_bytes": report.raw_bytes,
    });
    value.as_object().cloned().unwrap_or_default()
}

pub(super) fn submit(engine: &Arc<Engine>, caller: Caller, request: VerifyRequest) -> Result<JobNumber, ServiceError> {
    let opened = engine.repository()?;
    let (backups, source, backup) = if request.backup.is_empty() {
        let filter = ListFilter { source: request.source.clone(), ..ListFilter::default() };
        let all = listing::matching(&opened.backups(), &filter)?;
        (all, request.source.clone(), String::new())
    } else {
        match engine.choose(&request.backup)?.1 {
            Chosen::One(summary) => {
                let (source, id) = (summary.source.to_string(), summary.id.to_string());
                (vec![*summary], source, id)
            }
            Chosen::Whole(backups) => {
                let source = backups.first().map(|backup| backup.source.source.to_string());
                (backups, source.unwrap_or_default(), String::new())
            }
        }
    };
    let job =
        JobRequest { job_type: JobType::Verify, source, exclusive: Vec::new(), backup, uid: caller.uid, timeout: None };
    let engine_of_job = engine.clone();
    engine.jobs().submit(job, Box::new(move |handle| run(&engine_of_job, &backups, request.level, handle)))
}

fn run(
    engine: &Arc<Engine>,
    backups: &[BackupSummary],
    level: VerifyLevel,
    job: &JobHandle,
) -> Result<JobOutcome, ServiceError> {
    let opened = engine.repository()?;
    let report = examine(opened.reading(), backups, level, &job.context)?;
    opened.owned().record_findings(&report)?;
    opened.refresh(engine.jobs())?;
    for (folder, problems) in &report.damaged {
        tracing::error!(MESSAGE_ID = message_id::DAMAGE_FOUND, BACKUPD_BACKUP = %folder.id, "backup {} of {} is damaged: {}", folder.id.short(), folder.source, problems.join("; "));
    }
    Ok(JobOutcome { backup: None, statistics: statistics(&report), failure: judge(&report).err() })
}
