//! The checks of what all sources share: the repository, its file system, undo copies, the clock, systemd.

use super::{
    facts::{Facts, RepositoryFacts},
    finding::{Code, Finding, Severity},
    source_checks::CLOCK_TOLERANCE,
    text,
};
use crate::model::ErrorCode;

/// How long after its time an undo copy may still be there.
const UNDO_GRACE: u64 = 3_600_000_000;
/// A trend over less says nothing: backups come in bursts.
const LEAST_TREND: u64 = 2 * 86_400_000_000;
/// Nor does one of fewer points.
const LEAST_POINTS: usize = 4;

/// Looks at what all sources share.
pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    repository(&facts.repository, &mut findings);
    space(&facts.repository, facts.now, &mut findings);
    undo(facts, &mut findings);
    if facts.latest_known > facts.now.saturating_add(CLOCK_TOLERANCE) {
        let back = text::duration(facts.latest_known - facts.now);
        findings.push(host(
            Code::ClockWentBack,
            Severity::Warning,
            format!("the clock was set back: something happened {back} from now already"),
            "look at the clock of this host; ages are wrong until it is past that time",
        ));
    }
    if let Some(problem) = &facts.systemd_problem {
        let message = format!("nothing is known of the timers: {problem}");
        findings.push(host(Code::SystemdUnreachable, Severity::Unknown, message, "look at systemd and the system bus"));
    }
    findings
}

fn host(code: Code, severity: Severity, message: String, advice: &str) -> Finding {
    Finding { code, severity, source: None, message, advice: advice.to_owned() }
}

fn repository(facts: &RepositoryFacts, findings: &mut Vec<Finding>) {
    let name = &facts.name;
    if facts.opening {
        let message = format!("the repository {name} is being opened");
        findings.push(host(Code::RepositoryOpening, Severity::Unknown, message, "ask again in a moment"));
        return;
    }
    if let Some((code, problem)) = &facts.trouble {
        let code =
            if *code == ErrorCode::RepositoryLocked { Code::RepositoryLocked } else { Code::RepositoryUnavailable };
        let message = format!("the repository {name} cannot be used: {problem}");
        let advice = "is its file system mounted, and may the daemon's user read and write it?";
        findings.push(host(code, Severity::Critical, message, advice));
        return;
    }
    if let Some(problem) = &facts.not_writable {
        let message = format!("the repository {name} cannot be written to: {problem}");
        let advice = "mount it for writing, and let it belong to the daemon's user";
        findings.push(host(Code::RepositoryReadOnly, Severity::Critical, message, advice));
    }
    for (source, problem) in &facts.unreadable {
        findings.push(Finding {
            code: Code::BackupUnreadable,
            severity: Severity::Critical,
            source: Some(source.clone()),
            message: format!("{source} has a backup that cannot be listed: {problem}"),
            advice: "look at the disk; `backupctl verify` tells what else is damaged".to_owned(),
        });
    }
}

fn space(facts: &RepositoryFacts, now: u64, findings: &mut Vec<Finding>) {
    let Some(free) = facts.free.filter(|_| !facts.opening && facts.trouble.is_none()) else { return };
    let advice = "free some space, keep fewer backups, or lower [repository] reserve";
    let (name, is_free) = (&facts.name, text::size(free));
    if free < facts.reserve {
        let reserve = text::size(facts.reserve);
        let message = format!(
            "the file system of {name} has {is_free} free, less than the {reserve} that are reserved: backups are refused"
        );
        findings.push(host(Code::RepositoryFull, Severity::Critical, message, advice));
    } else if free < facts.reserve.saturating_add(facts.next_round) {
        let next = text::size(facts.next_round);
        let message = format!("the file system of {name} has {is_free} free; the next backups add about {next}");
        findings.push(host(Code::SpaceLow, Severity::Warning, message, advice));
    }
    if let (Some(left), Some(limit)) = (full_in(facts, free, now), facts.full_within)
        && u128::from(left) < limit.as_micros()
    {
        let message = format!("the file system of {name} will be full in {}, by its trend", text::duration(left));
        findings.push(host(Code::FillsUp, Severity::Warning, message, advice));
    }
}

/// When the free space is down to the reserve if it goes on as it did: microseconds from now. A line through the points
/// that is nearest to all of them (least squares); `None` where it does not fall, or there are too few points.
#[must_use]
pub fn full_in(facts: &RepositoryFacts, free: u64, now: u64) -> Option<u64> {
    let points: Vec<(f64, f64)> = facts
        .free_history
        .iter()
        .filter(|(at, _)| *at <= now)
        .map(|(at, free)| (to_days(now - at), *free as f64))
        .collect();
    let span = facts.free_history.first().map_or(0, |(at, _)| now.saturating_sub(*at));
    if points.len() < LEAST_POINTS || span < LEAST_TREND {
        return None;
    }
    let count = points.len() as f64;
    let (mean_x, mean_y) =
        (points.iter().map(|p| p.0).sum::<f64>() / count, points.iter().map(|p| p.1).sum::<f64>() / count);
    let variance: f64 = points.iter().map(|p| (p.0 - mean_x).powi(2)).sum();
    let covariance: f64 = points.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum();
    // Days count backwards, so what falls has a positive slope.
    let per_day = covariance / variance;
    if !per_day.is_finite() || per_day < 1.0 {
        return None;
    }
    let days = free.saturating_sub(facts.reserve) as f64 / per_day;
    Some((days * 86_400_000_000.0) as u64)
}

fn to_days(micros: u64) -> f64 {
    micros as f64 / 86_400_000_000.0
}

fn undo(facts: &Facts, findings: &mut Vec<Finding>) {
    for copy in &facts.undo {
        let about = |code, message: String, advice: &str| Finding {
            code,
            severity: Severity::Warning,
            source: Some(copy.source.clone()),
            message,
            advice: advice.to_owned(),
        };
        let late = facts.now.saturating_sub(copy.until);
        if copy.until != 0 && late > UNDO_GRACE {
            let message =
                format!("what {} held before a restore should be gone for {}", copy.target, text::duration(late));
            findings.push(about(
                Code::UndoOverdue,
                message,
                "`journalctl -u backupd` says why; `backupctl restore forget` drops it",
            ));
        }
        if let Some(free) = copy.free.filter(|free| copy.bytes > *free) {
            let message = format!(
                "what {} held before a restore takes {}; {} are left beside it",
                copy.target,
                text::size(copy.bytes),
                text::size(free)
            );
            findings.push(about(
                Code::UndoSpace,
                message,
                "`backupctl restore forget` drops it, where it is not needed any more",
            ));
        }
    }
    let bytes: u64 = facts.undo.iter().map(|copy| copy.bytes).sum();
    if let Some(limit) = facts.max_undo.filter(|limit| bytes > *limit) {
        let message = format!("undo copies take {}; `max_undo` is {}", text::size(bytes), text::size(limit));
        let advice =
            "`backupctl restore forget` drops those that are not needed any more; [undo] keep says how long they stay";
        findings.push(host(Code::UndoSpace, Severity::Warning, message, advice));
    }
}
