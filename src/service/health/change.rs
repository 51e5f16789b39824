//! What changed from one report to the next. Pure.

use std::collections::BTreeMap;

use crate::health::{Code, Finding, Report, Severity};

/// A finding that came, got better or worse, or went. What is only advice is told to nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthChange {
    /// When, microseconds since the epoch.
    pub at: u64,
    /// What: as it is now, or as it was where it is over.
    pub finding: Finding,
    /// How bad it was before; `Ok` where it is new.
    pub before: Severity,
    /// How bad it is now; `Ok` where it is over.
    pub now: Severity,
}

impl HealthChange {
    /// Whether what was found is not found any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.now == Severity::Ok
    }
}

/// The differences, what came first.
#[must_use]
pub fn changes(before: &Report, now: &Report) -> Vec<HealthChange> {
    let (old, new) = (worst_by_key(before), worst_by_key(now));
    let severity = |finding: Option<&&Finding>| finding.map_or(Severity::Ok, |finding| finding.severity);
    let came = new.iter().filter(|(key, finding)| severity(old.get(*key)) != finding.severity).map(|(key, finding)| {
        let (before, now_severity) = (severity(old.get(key)), finding.severity);
        HealthChange { at: now.at, finding: (*finding).clone(), before, now: now_severity }
    });
    let went = old.iter().filter(|(key, _)| !new.contains_key(*key)).map(|(_, finding)| HealthChange {
        at: now.at,
        finding: (*finding).clone(),
        before: finding.severity,
        now: Severity::Ok,
    });
    came.chain(went).collect()
}

/// Of several findings with one code about one source the worst.
fn worst_by_key(report: &Report) -> BTreeMap<(Option<&str>, Code), &Finding> {
    let mut found: BTreeMap<(Option<&str>, Code), &Finding> = BTreeMap::new();
    for finding in report.findings.iter().filter(|finding| finding.severity > Severity::Ok) {
        let worst = found.entry((finding.source.as_deref(), finding.code)).or_insert(finding);
        if finding.severity > worst.severity {
            *worst = finding;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(findings: &[(&str, Code, Severity)]) -> Report {
        let finding = |(source, code, severity): &(&str, Code, Severity)| Finding {
            code: *code,
            severity: *severity,
            source: Some((*source).to_owned()),
            message: "m".to_owned(),
            advice: "a".to_owned(),
        };
        Report { at: 7, findings: findings.iter().map(finding).collect(), ..Report::default() }
    }

    #[test]
    fn what_comes_changes_and_goes_is_told_once() {
        use Severity::{Critical, Ok, Warning};
        let a = report(&[("a", Code::BackupFailed, Warning), ("b", Code::NoSchedule, Ok)]);
        let b = report(&[("a", Code::BackupFailed, Critical), ("b", Code::NoBackup, Warning)]);
        let told = |before: &Report, now: &Report| {
            let changes = changes(before, now);
            assert!(changes.iter().all(|change| change.at == 7));
            changes
                .into_iter()
                .map(|change| (change.finding.source.unwrap(), change.finding.code, change.before, change.now))
                .collect::<Vec<_>>()
        };
        let (source_a, source_b) = ("a".to_owned(), "b".to_owned());
        assert_eq!(told(&Report::default(), &a), [(source_a.clone(), Code::BackupFailed, Ok, Warning)]);
        assert_eq!(
            told(&a, &b),
            [
                (source_a.clone(), Code::BackupFailed, Warning, Critical),
                (source_b.clone(), Code::NoBackup, Ok, Warning)
            ]
        );
        assert_eq!(told(&b, &b), []);
        assert_eq!(
            told(&b, &a),
            [(source_a, Code::BackupFailed, Critical, Warning), (source_b, Code::NoBackup, Warning, Ok)]
        );
    }
}
