//! What is to be told of a job. Pure.

use serde_json::Value;

use crate::{
    model::{
        ErrorCode,
        job::{JobRecord, JobResult, JobType},
        notice::{Event, Notice, Severity},
        summary::BackupSummary,
    },
    notify::routing::BACKUP_TOPIC,
};

/// The notice that a backup begins; nothing for other jobs.
pub(super) fn started(record: &JobRecord) -> Option<Notice> {
    (record.job_type == JobType::Create).then(|| {
        let text = format!("The backup of {} began.", record.source);
        let notice = Notice::new(Event::Start, Severity::Info, topic(record), &text, record.start_time);
        Notice { job: record.number, ..notice.about(&record.source) }
    })
}

/// What is to be told of a job that ended, of the backups that there are.
pub(super) fn ended(record: &JobRecord, listed: &[BackupSummary]) -> Vec<Notice> {
    let Some(result) = record.result else { return Vec::new() };
    let mut notices: Vec<Notice> = of_result(record, result).into_iter().collect();
    if record.job_type == JobType::Create {
        // A suspect backup is complete, but is no good news: it must not end what was wrong before.
        let suspects: Vec<_> = made(record, listed).filter(|backup| backup.suspect).collect();
        if !suspects.is_empty() {
            notices.retain(|notice| notice.event != Event::Success);
        }
        notices.extend(suspects.into_iter().map(|backup| suspect(record, backup)));
    }
    notices
}

/// The notice that a backup was refused before there was a job, because of something that is wrong.
pub(super) fn refused(source: &str, code: ErrorCode, message: &str, now: u64) -> Notice {
    let text = format!("The backup of {source} could not begin: {message}");
    Notice::new(Event::Failure, Severity::Critical, format!("{BACKUP_TOPIC}{source}"), &text, now)
        .about(source)
        .detail("error", code.name())
}

fn of_result(record: &JobRecord, result: JobResult) -> Option<Notice> {
    let code = record.error.as_ref().map_or("", |error| error.name.as_str());
    let is = |wanted: ErrorCode| code == wanted.name();
    let (event, severity) = match (record.job_type, result) {
        (JobType::Create | JobType::Verify, JobResult::Done) => (Event::Success, Severity::Info),
        (JobType::Restore, JobResult::Done) => (Event::Restore, Severity::Info),
        (JobType::Undo, JobResult::Done) => (Event::Undo, Severity::Info),
        (JobType::Drill, JobResult::Done) => (Event::Drill, Severity::Info),
        // Of these it is told only that they are well again.
        (_, JobResult::Done) => (Event::Recovery, Severity::Info),
        (_, JobResult::Failed) if is(ErrorCode::BackupDamaged) || is(ErrorCode::RepositoryDamaged) => {
            (Event::Damage, Severity::Critical)
        }
        (JobType::Create | JobType::Verify, JobResult::Failed) => (Event::Failure, Severity::Critical),
        (JobType::Restore, JobResult::Failed | JobResult::Interrupted) => (Event::Restore, Severity::Critical),
        (JobType::Undo, JobResult::Failed | JobResult::Interrupted) => (Event::Undo, Severity::Critical),
        (JobType::Drill, JobResult::Failed) if is(ErrorCode::DrillUnavailable) => (Event::Drill, Severity::Warning),
        (JobType::Drill, JobResult::Failed) => (Event::Drill, Severity::Critical),
        (_, JobResult::Failed) => (Event::Failure, Severity::Warning),
        // A backup that was not taken is missing, whoever did not want it.
        (JobType::Create, JobResult::Canceled | JobResult::Interrupted) => (Event::Failure, Severity::Warning),
        (_, JobResult::Canceled | JobResult::Interrupted) => return None,
    };
    let why = record.error.as_ref().map_or("", |error| error.message.as_str());
    let about = if record.source.is_empty() { "all sources" } else { &record.source };
    let text = match result {
        JobResult::Done => format!("Job {} is done: {} of {about}.", record.number, record.job_type),
        JobResult::Canceled => format!("Job {} was cancelled: {} of {about}. {why}", record.number, record.job_type),
        JobResult::Interrupted => {
            format!("Job {} was interrupted: {} of {about}. {why}", record.number, record.job_type)
        }
        JobResult::Failed => format!("Job {} failed: {} of {about}. {why}", record.number, record.job_type),
    };
    // A person waits for these, and each is a case of its own.
    let alone = matches!(record.job_type, JobType::Restore | JobType::Undo);
    let topic = if alone { String::new() } else { topic(record) };
    let mut notice = Notice::new(event, severity, topic, &text, record.end_time).about(&record.source);
    notice.job = record.number;
    notice.backup.clone_from(&record.backup);
    if !code.is_empty() {
        notice = notice.detail("error", code);
    }
    for (name, value) in &record.statistics {
        match value {
            Value::Number(number) => notice = notice.detail(name, &number.to_string()),
            Value::String(text) => notice = notice.detail(name, text),
            _ => {}
        }
    }
    Some(notice)
}

/// The backups that a job made and that are still there.
fn made<'a>(record: &'a JobRecord, listed: &'a [BackupSummary]) -> impl Iterator<Item = &'a BackupSummary> {
    let whole = record.statistics.get("backups").and_then(Value::as_object);
    let ids: Vec<&str> = std::iter::once(record.backup.as_str())
        .chain(whole.into_iter().flat_map(|backups| backups.values()).filter_map(Value::as_str))
        .filter(|id| !id.is_empty())
        .collect();
    listed.iter().filter(move |backup| !ids.is_empty() && ids.contains(&backup.id.to_string().as_str()))
}

fn suspect(record: &JobRecord, backup: &BackupSummary) -> Notice {
    let text = format!(
        "Backup {} of {} is complete, but holds suspiciously less than the one before. `backupctl show {}` says what; \
         older backups are kept.",
        backup.id.short(),
        backup.source,
        backup.id.short()
    );
    let topic = format!("{BACKUP_TOPIC}{}", backup.source);
    let notice = Notice::new(Event::Suspect, Severity::Warning, topic, &text, record.end_time);
    Notice { backup: backup.id.to_string(), job: record.number, ..notice.about(&backup.source.to_string()) }
}

/// What jobs of one type about one source have in common. That of backups begins with [`BACKUP_TOPIC`].
fn topic(record: &JobRecord) -> String {
    match record.job_type {
        JobType::Create => format!("{BACKUP_TOPIC}{}", record.source),
        other => format!("{other} {}", record.source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            RunId,
            job::{JobError, Phase},
        },
        service::selector::tests::summary,
    };

    fn record(job_type: JobType, result: JobResult, code: Option<ErrorCode>) -> JobRecord {
        JobRecord {
            number: 7,
            run_id: RunId::new(),
            job_type,
            source: "shop".to_owned(),
            backup: "01".repeat(16),
            started_by_uid: 0,
            start_time: 1,
            end_time: 2,
            phase: Phase::Data,
            result: Some(result),
            error: code.map(|code| JobError::new(code, "it burns")),
            statistics: serde_json::Map::new(),
        }
    }

    fn told(record: &JobRecord) -> Vec<(Event, Severity)> {
        ended(record, &[]).into_iter().map(|notice| (notice.event, notice.severity)).collect()
    }

    #[test]
    fn every_failure_is_told_and_none_twice() {
        for job_type in JobType::ALL {
            let notices = ended(&record(*job_type, JobResult::Failed, Some(ErrorCode::Io)), &[]);
            let [notice] = notices.as_slice() else { panic!("{job_type}: {notices:?}") };
            assert!(notice.is_trouble() && notice.text.contains("it burns"), "{notice:?}");
            assert_eq!((notice.job, notice.source.as_str(), notice.details["error"].as_str()), (7, "shop", "Io"));
        }
    }

    #[test]
    fn results_have_the_events_of_their_jobs() {
        use Event as E;
        use JobResult::{Canceled, Done, Failed, Interrupted};
        for (job_type, result, code, wanted) in [
            (JobType::Create, Done, None, Some((E::Success, Severity::Info))),
            (JobType::Create, Canceled, Some(ErrorCode::Canceled), Some((E::Failure, Severity::Warning))),
            (JobType::Create, Interrupted, Some(ErrorCode::Interrupted), Some((E::Failure, Severity::Warning))),
            (JobType::Verify, Failed, Some(ErrorCode::BackupDamaged), Some((E::Damage, Severity::Critical))),
            (JobType::Restore, Failed, Some(ErrorCode::BackupDamaged), Some((E::Damage, Severity::Critical))),
            (JobType::Restore, Done, None, Some((E::Restore, Severity::Info))),
            (JobType::Undo, Done, None, Some((E::Undo, Severity::Info))),
            (JobType::Drill, Failed, Some(ErrorCode::DrillFailed), Some((E::Drill, Severity::Critical))),
            (JobType::Drill, Failed, Some(ErrorCode::DrillUnavailable), Some((E::Drill, Severity::Warning))),
            (JobType::Delete, Done, None, Some((E::Recovery, Severity::Info))),
            (JobType::Export, Canceled, Some(ErrorCode::Canceled), None),
        ] {
            assert_eq!(told(&record(job_type, result, code)), Vec::from_iter(wanted), "{job_type} {result}");
        }
    }

    #[test]
    fn a_suspect_backup_is_no_success() {
        let backup = BackupSummary { suspect: true, ..summary("shop", 1, 1, &"01".repeat(16)) };
        let notices = ended(&record(JobType::Create, JobResult::Done, None), std::slice::from_ref(&backup));
        assert_eq!(notices.iter().map(|notice| notice.event).collect::<Vec<_>>(), [Event::Suspect]);
        // Nor is one among those of a whole server, whose job names none.
        let mut whole = JobRecord { backup: String::new(), ..record(JobType::Create, JobResult::Done, None) };
        whole.statistics.insert("backups".into(), serde_json::json!({ "db": backup.id.to_string() }));
        assert_eq!(ended(&whole, &[backup])[0].event, Event::Suspect);
    }

    #[test]
    fn failure_and_success_of_a_source_are_about_the_same() {
        let failed = &ended(&record(JobType::Create, JobResult::Failed, Some(ErrorCode::Io)), &[])[0];
        let done = &ended(&record(JobType::Create, JobResult::Done, None), &[])[0];
        assert_eq!(failed.topic, done.topic);
        assert_eq!(refused("shop", ErrorCode::DatabaseUnreachable, "down", 1).topic, done.topic);
        assert_eq!(started(&record(JobType::Create, JobResult::Done, None)).unwrap().topic, done.topic);
    }
}
