//! What is to be told of a change of health. Pure.

use crate::{
    health::{self, Code},
    model::notice::{Event, Notice, Severity},
    service::health::HealthChange,
};

/// The notice of a change; nothing for what the ends of jobs tell already.
pub(super) fn changed(change: &HealthChange) -> Option<Notice> {
    let finding = &change.finding;
    let event = match finding.code {
        Code::BackupFailed | Code::BackupSuspect | Code::BackupDamaged | Code::DrillFailed => return None,
        _ if change.is_over() => Event::Recovery,
        Code::NoBackup | Code::BackupOverdue => Event::Missing,
        _ => Event::Health,
    };
    let severity = match change.now {
        health::Severity::Ok => Severity::Info,
        health::Severity::Unknown | health::Severity::Warning => Severity::Warning,
        health::Severity::Critical => Severity::Critical,
    };
    let source = finding.source.as_deref().unwrap_or_default();
    let text = match change.is_over() {
        true => format!("Over: {}.", finding.message),
        false => format!("{}. {}", finding.message, finding.advice),
    };
    let topic = format!("health {} {source}", finding.code.name());
    Some(Notice::new(event, severity, topic, &text, change.at).about(source).detail("finding", finding.code.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(code: Code, before: health::Severity, now: health::Severity) -> HealthChange {
        let finding = health::Finding {
            code,
            severity: before.max(now),
            source: Some("shop".to_owned()),
            message: "shop has no good backup".to_owned(),
            advice: "Take one.".to_owned(),
        };
        HealthChange { at: 7, finding, before, now }
    }

    #[test]
    fn a_missing_backup_and_its_end_are_about_the_same() {
        use health::Severity::{Critical, Ok};
        let missing = changed(&change(Code::BackupOverdue, Ok, Critical)).unwrap();
        assert_eq!((missing.event, missing.severity), (Event::Missing, Severity::Critical));
        assert_eq!((missing.text.as_str(), missing.source.as_str()), ("shop has no good backup. Take one.", "shop"));
        let over = changed(&change(Code::BackupOverdue, Critical, Ok)).unwrap();
        assert_eq!((over.event, over.severity, over.topic), (Event::Recovery, Severity::Info, missing.topic));
    }

    #[test]
    fn what_jobs_tell_is_not_told_twice_and_all_else_is() {
        for code in Code::ALL {
            let notice = changed(&change(*code, health::Severity::Ok, health::Severity::Warning));
            let by_jobs = [Code::BackupFailed, Code::BackupSuspect, Code::BackupDamaged, Code::DrillFailed];
            assert_eq!(notice.is_none(), by_jobs.contains(code), "{}", code.name());
        }
    }
}
