//! The figures, under the names that Prometheus' conventions ask for: seconds, bytes, times in place of ages. Pure.

use std::collections::BTreeMap;

use super::text::{Kind, Text};
use crate::{
    health::{Report, Severity},
    model::{
        job::{JobResult, JobType},
        summary::BackupSummary,
    },
};

/// What the figures are made from.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) report: Report,
    /// All backups.
    pub(super) backups: Vec<BackupSummary>,
    /// Jobs that ended since the start, by source, type and result.
    pub(super) jobs: BTreeMap<(String, JobType, JobResult), u64>,
    /// Bytes and number of packs, where they are known.
    pub(super) packs: Option<(u64, u64)>,
    /// Bytes free.
    pub(super) free: Option<u64>,
}

type Labels = Vec<(&'static str, String)>;

/// The whole text.
pub(super) fn render(figures: &Figures) -> String {
    let mut text = Text::default();
    let none = Vec::<(&'static str, String)>::new;
    let Figures { report, .. } = figures;
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    text.family("backupd_build_info", Kind::Gauge, "The version of the daemon.", [(version, 1.0)]);
    let help = "When these figures were written.";
    text.family("backupd_report_timestamp_seconds", Kind::Gauge, help, [(none(), seconds(report.at))]);
    health(&mut text, report);
    newest(&mut text, figures);
    let jobs = figures.jobs.iter().map(|((source, job_type, result), count)| {
        let labels = vec![
            ("source", source.clone()),
            ("type", job_type.as_str().to_owned()),
            ("result", result.as_str().to_owned()),
        ];
        (labels, *count as f64)
    });
    text.family("backupd_jobs_total", Kind::Counter, "Jobs that ended since the daemon started.", jobs);
    let packs = figures.packs;
    let size = packs.map(|(bytes, _)| (none(), bytes as f64));
    text.family("backupd_repository_size_bytes", Kind::Gauge, "What the packs of the repository hold.", size);
    let count = packs.map(|(_, count)| (none(), count as f64));
    text.family("backupd_repository_packs", Kind::Gauge, "How many packs the repository has.", count);
    let free = figures.free.map(|free| (none(), free as f64));
    text.family(
        "backupd_repository_free_bytes",
        Kind::Gauge,
        "What is free in the file system of the repository.",
        free,
    );
    text.into_string()
}

fn health(text: &mut Text, report: &Report) {
    let level = |severity: Severity| f64::from(severity.exit_code());
    let help = "The worst that health found: 0 ok, 1 warning, 2 critical, 3 unknown.";
    text.family("backupd_health_status", Kind::Gauge, help, [(Labels::new(), level(report.severity))]);
    let of = |value: fn(&crate::health::SourceHealth) -> Option<f64>| {
        report.sources.iter().filter_map(move |source| Some((vec![("source", source.source.clone())], value(source)?)))
    };
    let status = of(|source| Some(f64::from(source.severity.exit_code())));
    text.family("backupd_source_health_status", Kind::Gauge, "As backupd_health_status, of each source.", status);
    let last = of(|source| (source.last_good_at != 0).then(|| seconds(source.last_good_at)));
    let help = "The state that the newest good backup holds; of a whole server that of the database that is oldest.";
    text.family("backupd_last_success_timestamp_seconds", Kind::Gauge, help, last);
    let limit = of(|source| (source.age_limit != 0).then(|| seconds(source.age_limit)));
    let help = "From which age on the newest good backup is too old.";
    text.family("backupd_age_limit_seconds", Kind::Gauge, help, limit);
    let good = of(|source| Some(source.good_backups as f64));
    text.family("backupd_good_backups", Kind::Gauge, "Backups that are neither suspect nor damaged.", good);
    let verified = of(|source| (source.verified_at != 0).then(|| seconds(source.verified_at)));
    let help = "When a backup of the source was last verified.";
    text.family("backupd_last_verified_timestamp_seconds", Kind::Gauge, help, verified);
    let drilled = of(|source| (source.drilled_at != 0).then(|| seconds(source.drilled_at)));
    let help = "When a backup of the source was last drilled with success.";
    text.family("backupd_last_drilled_timestamp_seconds", Kind::Gauge, help, drilled);
    // Several findings may share a code: of one source the worst counts.
    let mut findings: BTreeMap<(String, &str), Severity> = BTreeMap::new();
    for finding in report.findings.iter().filter(|finding| finding.severity > Severity::Ok) {
        let key = (finding.source.clone().unwrap_or_default(), finding.code.name());
        let worst = findings.entry(key).or_default();
        *worst = finding.severity.max(*worst);
    }
    let findings = findings.into_iter().map(|((source, code), severity)| {
        let severity = severity.as_str().to_owned();
        (vec![("source", source), ("code", code.to_owned()), ("severity", severity)], 1.0)
    });
    text.family(
        "backupd_finding",
        Kind::Gauge,
        "What health found, by its code; the source is empty for the host.",
        findings,
    );
}

/// Of the newest backup of each database.
fn newest(text: &mut Text, figures: &Figures) {
    let mut newest: BTreeMap<String, &BackupSummary> = BTreeMap::new();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for backup in &figures.backups {
        let key = backup.source.to_string();
        *counts.entry(key.clone()).or_default() += 1;
        let entry = newest.entry(key).or_insert(backup);
        if backup.sequence > entry.sequence {
            *entry = backup;
        }
    }
    let label = |source: &String| vec![("source", source.clone())];
    let counts = counts.iter().map(|(source, count)| (label(source), *count as f64));
    text.family("backupd_backups", Kind::Gauge, "Backups, by source or database.", counts);
    let mut family = |name: &str, help: &str, value: fn(&BackupSummary) -> f64| {
        let samples = newest.iter().map(|(source, backup)| (label(source), value(backup)));
        text.family(name, Kind::Gauge, help, samples);
    };
    family("backupd_last_backup_duration_seconds", "How long the newest backup took.", |backup| {
        seconds(backup.finished_at.saturating_sub(backup.started_at))
    });
    family("backupd_last_backup_raw_bytes", "What the newest backup has before compression.", |b| b.raw_bytes as f64);
    let help = "What the newest backup takes, shared bytes included.";
    family("backupd_last_backup_stored_bytes", help, |backup| backup.stored_bytes as f64);
    family("backupd_last_backup_new_bytes", "What the newest backup added.", |backup| backup.new_bytes as f64);
    family("backupd_last_backup_rows", "The rows of all tables of the newest backup.", |backup| backup.rows as f64);
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::health::{Code, Finding, SourceHealth};

    /// Figures in which every family has a sample.
    pub(in crate::service::metrics) fn everything() -> Figures {
        let finding = Finding {
            code: Code::BackupOverdue,
            severity: Severity::Critical,
            source: Some("shop".to_owned()),
            message: "m".to_owned(),
            advice: "a".to_owned(),
        };
        let source = SourceHealth {
            source: "shop".to_owned(),
            severity: Severity::Critical,
            last_good_at: 1,
            age_limit: 2,
            good_backups: 3,
            verified_at: 4,
            drilled_at: 5_500_000,
        };
        Figures {
            report: Report {
                at: 9_000_000,
                severity: Severity::Critical,
                sources: vec![source],
                findings: vec![finding.clone(), finding],
            },
            backups: vec![BackupSummary { rows: 7, ..BackupSummary::nothing() }],
            jobs: BTreeMap::from([(("shop".to_owned(), JobType::Create, JobResult::Failed), 2)]),
            packs: Some((10, 1)),
            free: Some(5),
        }
    }

    #[test]
    fn every_figure_is_there_and_no_two_are_the_same() {
        let text = render(&everything());
        for line in [
            "backupd_health_status 2",
            "backupd_finding{source=\"shop\",code=\"BackupOverdue\",severity=\"critical\"} 1",
            "backupd_last_drilled_timestamp_seconds{source=\"shop\"} 5.5",
            "backupd_jobs_total{source=\"shop\",type=\"create\",result=\"failed\"} 2",
            "backupd_last_backup_rows{source=\"shop\"} 7",
            "backupd_repository_free_bytes 5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        let mut samples: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '))
            .map(|p| p.0)
            .collect();
        let count = samples.len();
        samples.sort_unstable();
        samples.dedup();
        assert_eq!(samples.len(), count);
    }
}
