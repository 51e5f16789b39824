//! Every check turned red, and green again.

use std::sync::Arc;

use proptest::prelude::*;

use super::{
    facts::{RepositoryFacts, SourceFacts, TimerFacts, UndoFacts},
    *,
};
use crate::{
    config::{HealthConfig, SourceConfig, Within, read_source},
    model::{
        BackupId, ErrorCode, RunId, SourceKey,
        job::{JobError, JobRecord, JobResult, JobType, Phase},
        summary::BackupSummary,
    },
};

const MINUTE: u64 = 60_000_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const NOW: u64 = 20_000 * DAY;
const GIB: u64 = 1 << 30;

fn config(keys: &str) -> Arc<SourceConfig> {
    Arc::new(read_source("shop.toml".as_ref(), &format!("type = \"sqlite\"\npath = \"/x\"\n{keys}")).unwrap())
}

fn backup(sequence: u64, at: u64) -> BackupSummary {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&sequence.to_be_bytes());
    BackupSummary {
        id: BackupId(id),
        sequence,
        started_at: at,
        snapshot_at: at,
        finished_at: at + MINUTE,
        ..BackupSummary::nothing()
    }
}

fn job(number: u64, source: &str, result: JobResult) -> JobRecord {
    JobRecord {
        number,
        run_id: RunId::new(),
        job_type: JobType::Create,
        source: source.to_owned(),
        backup: String::new(),
        started_by_uid: 0,
        start_time: NOW - number * HOUR,
        end_time: NOW - number * HOUR + MINUTE,
        phase: Phase::Data,
        result: Some(result),
        error: (result != JobResult::Done).then(|| JobError::new(ErrorCode::DumpFailed, "it broke")),
        statistics: serde_json::Map::new(),
    }
}

fn healthy() -> Facts {
    Facts {
        now: NOW,
        latest_known: NOW - HOUR,
        repository: RepositoryFacts {
            name: "/repository".to_owned(),
            free: Some(100 * GIB),
            reserve: GIB,
            next_round: GIB,
            full_within: Some(std::time::Duration::from_secs(14 * 86_400)),
            ..RepositoryFacts::default()
        },
        sources: vec![SourceFacts {
            name: "shop".to_owned(),
            config: Some(config("schedule = \"daily\"")),
            configured_at: NOW - 90 * DAY,
            backups: Some(vec![backup(2, NOW - 3 * HOUR), backup(1, NOW - 27 * HOUR)]),
            jobs: vec![job(3, "shop", JobResult::Done)],
            gap: Some(std::time::Duration::from_secs(86_400)),
            timer: Some(TimerFacts {
                unit: "backupd-create@shop.timer".to_owned(),
                active: true,
                ..TimerFacts::default()
            }),
            ..SourceFacts::default()
        }],
        ..Facts::default()
    }
}

/// What is found after a change of healthy facts, without advice.
fn found(change: impl FnOnce(&mut Facts)) -> Vec<(Code, Severity)> {
    let mut facts = healthy();
    change(&mut facts);
    let report = assess(&facts);
    assert_eq!(report.severity, report.findings.iter().map(|f| f.severity).max().unwrap_or_default());
    for finding in &report.findings {
        assert!(!finding.message.is_empty() && !finding.advice.is_empty(), "{finding:?}");
    }
    report.findings.iter().map(|finding| (finding.code, finding.severity)).collect()
}

fn of_shop(change: impl FnOnce(&mut SourceFacts)) -> Vec<(Code, Severity)> {
    found(|facts| change(&mut facts.sources[0]))
}

fn with_backups(backups: Vec<BackupSummary>) -> Vec<(Code, Severity)> {
    of_shop(|shop| shop.backups = Some(backups))
}

#[test]
fn all_is_well() {
    assert_eq!(found(|_| {}), []);
    let report = assess(&healthy());
    assert_eq!((report.sources[0].last_good_at, report.sources[0].good_backups), (NOW - 3 * HOUR, 2));
    assert_eq!(report.sources[0].age_limit, 26 * HOUR + MINUTE);
}

#[test]
fn a_newest_good_backup_that_is_too_old() {
    let critical = [(Code::BackupOverdue, Severity::Critical)];
    assert_eq!(with_backups(vec![backup(1, NOW - 27 * HOUR)]), critical);
    assert_eq!(with_backups(vec![backup(1, NOW - 26 * HOUR)]), []);
    assert_eq!(of_shop(|shop| shop.config = Some(config("rpo = \"2h\""))), critical);
    assert_eq!(of_shop(|shop| shop.config = Some(config("rpo = \"3h\""))), []);
    // Without a schedule nobody can be late.
    let unscheduled = |shop: &mut SourceFacts| {
        shop.backups = Some(vec![backup(1, NOW - 400 * DAY)]);
        shop.gap = None;
    };
    assert_eq!(of_shop(unscheduled), []);
    // Neither a suspect one nor one that is damaged is a good one.
    let damaged = BackupSummary { damaged: true, ..backup(2, NOW - HOUR) };
    let found = with_backups(vec![damaged, backup(1, NOW - 27 * HOUR)]);
    assert_eq!(found, [(Code::BackupOverdue, Severity::Critical), (Code::BackupDamaged, Severity::Critical)]);
    let suspect = BackupSummary { suspect: true, ..backup(2, NOW - HOUR) };
    let found = with_backups(vec![suspect, backup(1, NOW - 27 * HOUR)]);
    assert_eq!(found, [(Code::BackupOverdue, Severity::Critical), (Code::BackupSuspect, Severity::Warning)]);
}

#[test]
fn no_backup_at_all() {
    assert_eq!(with_backups(Vec::new()), [(Code::NoBackup, Severity::Critical)]);
    let fresh = |shop: &mut SourceFacts| {
        shop.backups = Some(Vec::new());
        shop.configured_at = NOW - HOUR;
    };
    assert_eq!(of_shop(fresh), [(Code::NoBackup, Severity::Warning)], "there was no time for one yet");
    let damaged = BackupSummary { damaged: true, ..backup(1, NOW - HOUR) };
    let found = with_backups(vec![damaged]);
    assert_eq!(found, [(Code::NoBackup, Severity::Critical), (Code::BackupDamaged, Severity::Critical)]);
    assert_eq!(of_shop(|shop| shop.backups = None), [], "the repository says it");
}

#[test]
fn the_last_backup_failed() {
    let jobs = |results: &[JobResult]| {
        let jobs = results.iter().zip(1..).map(|(result, number)| job(number, "shop", *result)).collect();
        of_shop(|shop| shop.jobs = jobs)
    };
    use JobResult::{Canceled, Done, Failed, Interrupted};
    assert_eq!(jobs(&[Failed, Done]), [(Code::BackupFailed, Severity::Warning)]);
    assert_eq!(jobs(&[Interrupted, Done]), [(Code::BackupFailed, Severity::Warning)]);
    assert_eq!(jobs(&[Failed, Interrupted, Done]), [(Code::BackupFailed, Severity::Critical)]);
    assert_eq!(jobs(&[Canceled, Failed, Done]), [(Code::BackupFailed, Severity::Warning)]);
    assert_eq!(jobs(&[Done, Failed, Failed]), []);
    assert_eq!(jobs(&[Canceled, Done]), []);
}

#[test]
fn a_single_database_that_failed_after_the_whole_succeeded() {
    let jobs = |list: Vec<JobRecord>| of_shop(|shop| shop.jobs = list);
    let (one, whole) = (job(1, "shop/app", JobResult::Failed), job(2, "shop", JobResult::Done));
    assert_eq!(jobs(vec![one.clone(), whole.clone()]), [(Code::BackupFailed, Severity::Warning)]);
    assert_eq!(jobs(vec![whole, one]), []);
}

fn child(name: &str, sequence: u64, at: u64, run: RunId) -> BackupSummary {
    let source = SourceKey { source: "shop".parse().unwrap(), child: Some(name.into()) };
    BackupSummary { source, run_id: Some(run), whole_run: true, ..backup(sequence, at) }
}

#[test]
fn the_oldest_database_of_a_server_counts_but_not_one_that_is_gone() {
    let run = |time: u64| RunId(uuid::Builder::from_unix_timestamp_millis(time, &[7; 10]).into_uuid());
    let (old, new) = (run(1), run(2));
    let backups = vec![
        child("app", 2, NOW - HOUR, new),
        child("app", 1, NOW - 50 * HOUR, old),
        child("gone", 1, NOW - 50 * HOUR, old),
    ];
    assert_eq!(with_backups(backups.clone()), []);
    // One that is there, but could not be backed up.
    let failing = |shop: &mut SourceFacts| {
        let mut job = job(1, "shop", JobResult::Failed);
        job.statistics = serde_json::from_str(r#"{"failures": [{"database": "gone", "error": "x"}]}"#).unwrap();
        shop.jobs = vec![job];
        shop.backups = Some(backups);
    };
    assert_eq!(of_shop(failing), [(Code::BackupOverdue, Severity::Critical), (Code::BackupFailed, Severity::Warning)]);
}

#[test]
fn suspects_and_damage() {
    let suspect = |sequence, at| BackupSummary { suspect: true, ..backup(sequence, at) };
    let found = with_backups(vec![suspect(2, NOW - HOUR), backup(1, NOW - 20 * HOUR)]);
    assert_eq!(found, [(Code::BackupSuspect, Severity::Warning)]);
    assert_eq!(with_backups(vec![backup(2, NOW - HOUR), suspect(1, NOW - 20 * HOUR)]), [], "a good one came after it");
    let damaged = BackupSummary { damaged: true, ..backup(1, NOW - 9 * DAY) };
    assert_eq!(with_backups(vec![backup(2, NOW - HOUR), damaged]), [(Code::BackupDamaged, Severity::Critical)]);
    let unreadable = |facts: &mut Facts| facts.repository.unreadable = vec![("shop".to_owned(), "torn".to_owned())];
    assert_eq!(found_in_source(unreadable), [(Code::BackupUnreadable, Severity::Critical)]);
}

/// As [`found`], and the source itself is as bad.
fn found_in_source(change: impl FnOnce(&mut Facts)) -> Vec<(Code, Severity)> {
    let mut facts = healthy();
    change(&mut facts);
    let report = assess(&facts);
    assert_eq!(report.sources[0].severity, report.severity);
    report.findings.iter().map(|finding| (finding.code, finding.severity)).collect()
}

#[test]
fn too_few_backups() {
    let wanted = |number| of_shop(|shop| shop.health.min_backups = Some(number));
    assert_eq!(wanted(2), []);
    assert_eq!(wanted(3), [(Code::TooFewBackups, Severity::Warning)]);
}

#[test]
fn proofs_that_are_too_old() {
    let week = Some(Within::Time(std::time::Duration::from_secs(7 * 86_400)));
    let check = |code: Code, health: HealthConfig, set: fn(&mut BackupSummary, u64)| {
        let proven = |at: u64| {
            let mut old = backup(1, NOW - 10 * DAY);
            set(&mut old, at);
            of_shop(|shop| {
                shop.health = health.clone();
                shop.backups = Some(vec![backup(2, NOW - HOUR), old]);
            })
        };
        assert_eq!(proven(NOW - 6 * DAY), []);
        assert_eq!(proven(NOW - 8 * DAY), [(code, Severity::Warning)]);
        assert_eq!(proven(NOW - 15 * DAY), [(code, Severity::Critical)]);
        assert_eq!(proven(0), [(code, Severity::Warning)], "never, and something is there for ten days");
        assert_eq!(proven(NOW + DAY), [(code, Severity::Warning)], "the future proves nothing");
    };
    let verified = HealthConfig { verified_within: week, ..HealthConfig::default() };
    check(Code::NotVerified, verified, |backup, at| backup.verified_at = at);
    let drilled = HealthConfig { drilled_within: week, ..HealthConfig::default() };
    check(Code::NotDrilled, drilled, |backup, at| backup.drilled_at = at);
}

#[test]
fn a_drill_that_failed() {
    let drilled = |failed_at, drilled_at| {
        with_backups(vec![BackupSummary { drill_failed_at: failed_at, drilled_at, ..backup(1, NOW - HOUR) }])
    };
    assert_eq!(drilled(NOW - MINUTE, 0), [(Code::DrillFailed, Severity::Critical)]);
    assert_eq!(drilled(NOW - 2 * MINUTE, NOW - MINUTE), []);
}

#[test]
fn a_clock_that_is_not_what_it_was() {
    let found = with_backups(vec![backup(2, NOW + DAY), backup(1, NOW - HOUR)]);
    assert_eq!(found, [(Code::BackupInFuture, Severity::Warning)]);
    let found = with_backups(vec![backup(2, NOW + DAY), backup(1, NOW - 9 * DAY)]);
    assert_eq!(found, [(Code::BackupOverdue, Severity::Critical), (Code::BackupInFuture, Severity::Warning)]);
    assert_eq!(with_backups(vec![backup(1, NOW + MINUTE)]), [], "clocks differ a little");
    let set_back = |facts: &mut Facts| facts.latest_known = NOW + HOUR;
    assert_eq!(super::tests::found(set_back), [(Code::ClockWentBack, Severity::Warning)]);
    assert_eq!(super::tests::found(|facts| facts.latest_known = NOW), []);
}

#[test]
fn sources_that_are_broken_or_disabled() {
    let broken = |shop: &mut SourceFacts| {
        shop.config = None;
        shop.broken = "shop.toml:1: no".to_owned();
    };
    assert_eq!(of_shop(broken), [(Code::SourceBroken, Severity::Critical)]);
    let disabled = |shop: &mut SourceFacts| {
        shop.config = Some(config("enabled = false"));
        shop.backups = Some(Vec::new());
    };
    assert_eq!(of_shop(disabled), [(Code::SourceDisabled, Severity::Ok)]);
}

#[test]
fn what_a_backup_will_need() {
    let problem = || Some("it is not there".to_owned());
    let found = of_shop(|shop| shop.credential_problem = problem());
    assert_eq!(found, [(Code::CredentialUnreadable, Severity::Critical)]);
    let found = of_shop(|shop| shop.client_problem = problem());
    assert_eq!(found, [(Code::ClientProgramMissing, Severity::Critical)]);
    let found = of_shop(|shop| shop.retention_problem = problem());
    assert_eq!(found, [(Code::RetentionHeld, Severity::Warning)]);
}

#[test]
fn timers() {
    let timer = |keys: &str, active, masked| {
        of_shop(|shop| {
            shop.config = Some(config(keys));
            shop.timer = Some(TimerFacts { unit: "x.timer".to_owned(), active, masked, events: Vec::new() });
        })
    };
    let daily = "schedule = \"daily\"";
    assert_eq!(timer(daily, true, false), []);
    assert_eq!(timer(daily, false, false), [(Code::TimerInactive, Severity::Warning)]);
    assert_eq!(timer(daily, false, true), [(Code::TimerMasked, Severity::Warning)]);
    assert_eq!(timer("", false, false), [(Code::NoSchedule, Severity::Ok)]);
    assert_eq!(timer("", true, false), []);
    assert_eq!(timer("rpo = \"1d\"", false, false), [], "somebody else begins them");
    let unreachable = |facts: &mut Facts| facts.systemd_problem = Some("no answer".to_owned());
    assert_eq!(found(unreachable), [(Code::SystemdUnreachable, Severity::Unknown)]);
}

fn of_repository(change: impl FnOnce(&mut RepositoryFacts)) -> Vec<(Code, Severity)> {
    found(|facts| change(&mut facts.repository))
}

#[test]
fn the_repository() {
    let trouble = |code| of_repository(|repository| repository.trouble = Some((code, "no".to_owned())));
    assert_eq!(trouble(ErrorCode::RepositoryUnavailable), [(Code::RepositoryUnavailable, Severity::Critical)]);
    assert_eq!(trouble(ErrorCode::RepositoryLocked), [(Code::RepositoryLocked, Severity::Critical)]);
    assert_eq!(of_repository(|it| it.opening = true), [(Code::RepositoryOpening, Severity::Unknown)]);
    let read_only = of_repository(|it| it.not_writable = Some("read-only".to_owned()));
    assert_eq!(read_only, [(Code::RepositoryReadOnly, Severity::Critical)]);
}

#[test]
fn space() {
    let free = |free| of_repository(|repository| repository.free = Some(free));
    assert_eq!(free(2 * GIB), []);
    assert_eq!(free(2 * GIB - 1), [(Code::SpaceLow, Severity::Warning)]);
    assert_eq!(free(GIB - 1), [(Code::RepositoryFull, Severity::Critical)]);
}

#[test]
fn a_file_system_that_fills_up() {
    let falling = |per_day: u64, days: u64| {
        of_repository(|repository| {
            let now = repository.free.unwrap();
            repository.free_history = (0..=days).rev().map(|ago| (NOW - ago * DAY, now + ago * per_day)).collect();
        })
    };
    // 99 GiB are left above the reserve.
    assert_eq!(falling(8 * GIB, 5), [(Code::FillsUp, Severity::Warning)]);
    assert_eq!(falling(7 * GIB, 5), []);
    assert_eq!(falling(8 * GIB, 2), [], "too few points");
    assert_eq!(falling(0, 9), []);
    let off = |repository: &mut RepositoryFacts| {
        repository.free_history = (0..9).rev().map(|ago| (NOW - ago * DAY, (100 + ago * 50) * GIB)).collect();
        repository.full_within = None;
    };
    assert_eq!(of_repository(off), []);
}

#[test]
fn undo_copies() {
    let copy = UndoFacts {
        source: "shop".to_owned(),
        target: "shop".to_owned(),
        until: NOW + DAY,
        bytes: GIB,
        free: Some(GIB),
    };
    let undo = |copy: UndoFacts| found(|facts| facts.undo = vec![copy]);
    assert_eq!(undo(copy.clone()), []);
    assert_eq!(undo(UndoFacts { until: NOW - 2 * HOUR, ..copy.clone() }), [(Code::UndoOverdue, Severity::Warning)]);
    assert_eq!(undo(UndoFacts { free: Some(GIB - 1), ..copy.clone() }), [(Code::UndoSpace, Severity::Warning)]);
    let limited = |limit| {
        found(|facts| {
            facts.undo = vec![copy.clone(), copy.clone()];
            facts.max_undo = Some(limit);
        })
    };
    assert_eq!(limited(2 * GIB), []);
    assert_eq!(limited(2 * GIB - 1), [(Code::UndoSpace, Severity::Warning)]);
}

#[test]
fn a_report_of_one_source_leaves_others_out() {
    let mut facts = healthy();
    facts.sources.push(SourceFacts { name: "x".to_owned(), broken: "no".to_owned(), ..SourceFacts::default() });
    let report = assess(&facts);
    assert_eq!((report.severity, report.findings.len()), (Severity::Critical, 1));
    let shop = report.of_source("shop");
    assert_eq!((shop.severity, shop.findings.len(), shop.sources.len()), (Severity::Ok, 0, 1));
    assert_eq!(report.of_source("x").severity, Severity::Critical);
}

proptest! {
    /// No facts panic, and time alone, with nothing new, makes no age better.
    #[test]
    fn time_alone_heals_no_age(ages in prop::collection::vec(0_u64..60 * DAY, 1..5), later in 0_u64..90 * DAY) {
        let mut facts = healthy();
        let backups = ages.iter().zip(1..).map(|(age, sequence)| backup(sequence, NOW - age)).collect();
        facts.sources[0].backups = Some(backups);
        let before = assess(&facts).severity;
        facts.now += later;
        prop_assert!(assess(&facts).severity >= before);
    }

    #[test]
    fn any_times_get_an_answer(now: u64, at: u64, until: u64, free: u64, history: Vec<(u64, u64)>) {
        let mut facts = healthy();
        facts.now = now;
        facts.latest_known = at;
        facts.sources[0].backups = Some(vec![backup(1, at.min(u64::MAX - MINUTE))]);
        facts.repository.free = Some(free);
        facts.repository.free_history = history;
        facts.undo = vec![UndoFacts { until, ..UndoFacts::default() }];
        let _ = assess(&facts);
    }
}
