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
    config,
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

/// The backups that a subset means, those first that were not verified for longest, never ones before all. At least one,
/// so that a timer gets on; then for as long as the next still fits into the share of the stored bytes, or the bytes.
///
/// # Errors
/// `InvalidArgs` for what is neither a share nor a size.
pub fn subset(mut backups: Vec<BackupSummary>, wanted: &str) -> Result<Vec<BackupSummary>, ServiceError> {
    backups.sort_by_key(|backup| (backup.verified_at, backup.snapshot_at));
    let total: u64 = backups.iter().map(|backup| backup.stored_bytes).sum();
    let odd = || {
        let message =
            format!("{wanted:?} is no part of the backups; write a share such as \"10%\" or a size such as \"5GiB\"");
        ServiceError::new(ErrorCode::InvalidArgs, message)
    };
    let most = match wanted.strip_suffix('%') {
        _ if wanted.is_empty() => return Ok(backups),
        Some(percent) => {
            let percent = percent.trim().parse::<u64>().ok().filter(|percent| (1..=100).contains(percent));
            u64::try_from(u128::from(total) * u128::from(percent.ok_or_else(odd)?) / 100).unwrap_or(u64::MAX)
        }
        None => config::parse_size(wanted).map_err(|_| odd())?,
    };
    let mut taken = 0_u64;
    let fit = backups.iter().take_while(|backup| {
        taken = taken.saturating_add(backup.stored_bytes);
        taken <= most
    });
    let count = fit.count().max(1);
    backups.truncate(count);
    Ok(backups)
}

pub(super) fn submit(engine: &Arc<Engine>, caller: Caller, request: VerifyRequest) -> Result<JobNumber, ServiceError> {
    let opened = engine.repository()?;
    let (backups, source, backup) = if request.backup.is_empty() {
        let filter = ListFilter { source: request.source.clone(), ..ListFilter::default() };
        let all = listing::matching(&opened.backups(), &filter)?;
        (subset(all, &request.subset)?, request.source.clone(), String::new())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::selector::tests::summary;

    /// Backups of ten bytes each, verified at these times.
    fn backups(verified: &[u64]) -> Vec<BackupSummary> {
        let backup = |(number, at): (usize, &u64)| BackupSummary {
            verified_at: *at,
            stored_bytes: 10,
            ..summary("shop", number as u64, number as u64, &format!("{number:02x}").repeat(16))
        };
        verified.iter().enumerate().map(backup).collect()
    }

    #[test]
    fn the_longest_unverified_come_first_and_a_subset_ends_where_it_is_full() {
        let chosen = |wanted: &str| -> Vec<u64> {
            let chosen = subset(backups(&[30, 0, 20, 0, 10]), wanted).unwrap();
            chosen.iter().map(|backup| backup.sequence).collect()
        };
        assert_eq!(chosen(""), [1, 3, 4, 2, 0]);
        assert_eq!(
            (chosen("40%"), chosen("59%"), chosen("1%"), chosen("100%").len()),
            (vec![1, 3], vec![1, 3], vec![1], 5)
        );
        assert_eq!((chosen("25"), chosen("1GiB").len()), (vec![1, 3], 5));
        for bad in ["0%", "101%", "x%", "half", "%"] {
            assert_eq!(subset(backups(&[0]), bad).unwrap_err().code(), ErrorCode::InvalidArgs, "{bad}");
        }
        assert!(subset(Vec::new(), "10%").unwrap().is_empty());
    }
}
