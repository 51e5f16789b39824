use proptest::prelude::*;

use super::*;
use crate::model::BackupId;

const NOW: u64 = 1_793_577_600_000_000;

fn backup(source: &str, number: u64, age: u64, raw: u64) -> BackupSummary {
    let source = match source.split_once('/') {
        Some((source, child)) => SourceKey { source: source.parse().unwrap(), child: Some(child.into()) },
        None => SourceKey::single(source.parse().unwrap()),
    };
    let at = NOW - age;
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    id[8..].copy_from_slice(&at.to_be_bytes());
    BackupSummary {
        id: BackupId(id),
        source,
        sequence: number,
        started_at: at,
        snapshot_at: at,
        finished_at: at + 2_000_000,
        raw_bytes: raw,
        stored_bytes: raw / 2,
        new_bytes: raw / 10,
        rows: 7,
        ..BackupSummary::nothing()
    }
}

fn job(source: &str, age: u64, result: JobResult) -> JobRow {
    let (at, source) = (NOW - age, source.to_owned());
    JobRow { at, number: age + 1, job_type: JobType::Create, source, result, duration: 2, recovery: 0 }
}

fn remembered(listed: &[BackupSummary], jobs: Vec<JobRow>) -> Remembered {
    Remembered { jobs, backups: listed.iter().map(BackupRow::of).collect(), ..Remembered::default() }
}

#[test]
fn the_numbers_of_a_small_history() {
    let hour = DAY / 24;
    let ages = [hour, 2 * DAY, 8 * DAY];
    let listed: Vec<_> = ages
        .iter()
        .zip([3000, 2000, 1000])
        .zip([3, 2, 1])
        .map(|((age, raw), n)| backup("shop", n, *age, raw))
        .collect();
    let jobs = vec![
        job("shop", hour, JobResult::Done),
        job("shop", 2 * DAY, JobResult::Done),
        job("shop", 3 * DAY, JobResult::Failed),
        job("shop", 40 * DAY, JobResult::Failed),
        job("shop", 41 * DAY, JobResult::Canceled),
    ];
    let names = ["shop".parse().unwrap(), "crm".parse().unwrap()];
    let report = report(&Scope::All, &names, &remembered(&listed, jobs), &listed, NOW);
    assert_eq!(report.sources.iter().map(|s| s.source.as_str()).collect::<Vec<_>>(), ["crm", "shop"]);
    assert_eq!(report.sources[0].figures, Figures::default());
    let shop = &report.sources[1];
    let figures = &shop.figures;
    assert_eq!((figures.backups, figures.taken_24h, figures.taken_7d), (3, 1, 2));
    assert_eq!((figures.raw_bytes, figures.stored_bytes, figures.new_bytes), (6000, 3000, 600));
    assert_eq!((figures.average.raw_bytes, figures.average.duration), (2000, 2_000_000));
    assert_eq!((figures.compression_ratio, figures.deduplication_ratio), (Some(2.0), Some(5.0)));
    assert_eq!(figures.total_ratio, Some(10.0));
    assert_eq!((figures.creates.done, figures.creates.failed, figures.creates.canceled), (2, 2, 1));
    assert_eq!(figures.creates.success_rate, Some(0.5));
    assert_eq!(figures.creates_30d.success_rate, ratio(2, 3));
    let growth = figures.raw_bytes_growth_per_day.unwrap();
    assert!((200.0..300.0).contains(&growth), "{growth}");
    let new = figures.new_bytes_per_day.unwrap();
    assert!((74.9..75.1).contains(&new), "{new}");
    assert_eq!(shop.trend.iter().map(|point| point.raw_bytes).collect::<Vec<_>>(), [1000, 2000, 3000]);
    assert_eq!(report.total, *figures);
}

#[test]
fn a_whole_server_is_compared_run_by_run_and_a_database_by_itself() {
    let (one, two) = (RunId::new(), RunId::new());
    let of = |child: &str, run, number, age, raw| BackupSummary {
        run_id: Some(run),
        whole_run: true,
        ..backup(&format!("all/{child}"), number, age, raw)
    };
    let alone = BackupSummary { run_id: Some(RunId::new()), ..backup("all/a", 3, 1, 10) };
    let listed = [
        of("a", one, 1, 2 * DAY, 10),
        of("b", one, 1, 2 * DAY, 100),
        of("a", two, 2, DAY, 20),
        of("b", two, 2, DAY, 200),
        alone,
    ];
    let remembered = remembered(&listed, vec![job("all", DAY, JobResult::Done)]);
    let server = report(&Scope::Source("all".parse().unwrap()), &[], &remembered, &listed, NOW);
    let trend = &server.sources[0].trend;
    assert_eq!(trend.iter().map(|point| (point.backups, point.raw_bytes)).collect::<Vec<_>>(), [(2, 110), (2, 220)]);
    assert_eq!(server.total.raw_bytes_growth_per_day, Some(110.0));
    assert_eq!((server.total.creates.done, server.total.backups), (1, 5));
    let scope = Scope::Database(listed[0].source.clone());
    let database = report(&scope, &[], &remembered, &listed, NOW);
    assert_eq!(database.sources[0].source, "all/a");
    assert_eq!(database.sources[0].trend.len(), 3);
    assert_eq!((database.total.creates, database.total.backups), (Outcomes::default(), 3));
}

#[test]
fn recovery_comes_from_drills_or_from_what_stands_beside_backups() {
    let mut listed = [backup("shop", 1, 9, 1), backup("shop", 2, 5, 1)];
    for (backup, (at, took)) in listed.iter_mut().zip([(NOW - 8, 30), (NOW - 4, 10)]) {
        (backup.drilled_at, backup.recovery) = (at, took);
    }
    let recovery = |jobs| report(&Scope::All, &[], &remembered(&listed, jobs), &listed, NOW).total.recovery;
    let rebuilt = Recovery { drills: 2, last: Some(10), average: Some(20), longest: Some(30) };
    assert_eq!(recovery(Vec::new()), rebuilt);
    let drill = |took| JobRow { job_type: JobType::Drill, recovery: took, ..job("shop", took, JobResult::Done) };
    let known = Recovery { drills: 3, last: Some(10), average: Some(30), longest: Some(50) };
    assert_eq!(recovery(vec![drill(50), drill(30), drill(10)]), known);
}

proptest! {
    #[test]
    fn neither_order_nor_thinning_changes_totals(
        ages in prop::collection::vec((0_u64..1000, 0_u64..1_000_000, any::<bool>()), 0..40),
        seed in any::<u64>(),
    ) {
        let (mut listed, mut jobs) = (Vec::new(), Vec::new());
        for (number, (age, raw, failed)) in (1_u64..).zip(ages) {
            let source = if raw % 2 == 0 { "shop" } else { "crm" };
            listed.push(backup(source, number, age * DAY + raw, raw));
            let result = if failed { JobResult::Failed } else { JobResult::Done };
            jobs.push(JobRow { number, ..job(source, age * DAY, result) });
        }
        let remembered = remembered(&listed, jobs);
        let before = report(&Scope::All, &[], &remembered, &listed, NOW);
        let mut shuffled = remembered.clone();
        if let Some(places) = u64::try_from(listed.len()).ok().filter(|count| *count > 0) {
            let by = usize::try_from(seed % places).unwrap();
            listed.rotate_left(by);
            shuffled.backups.rotate_left(by);
            shuffled.jobs.reverse();
        }
        let again = report(&Scope::All, &[], &shuffled, &listed, NOW);
        prop_assert_eq!(&again.sources, &before.sources);
        shuffled.thin(NOW);
        let thin = report(&Scope::All, &[], &shuffled, &listed, NOW);
        prop_assert_eq!(thin.total.creates, before.total.creates);
        prop_assert_eq!(thin.total.creates_30d, before.total.creates_30d);
        prop_assert_eq!((thin.total.taken, thin.total.taken_7d), (before.total.taken, before.total.taken_7d));
        for (thin, before) in thin.sources.iter().zip(&before.sources) {
            prop_assert_eq!(&thin.months, &before.months);
        }
    }

    #[test]
    fn a_line_has_the_slope_it_has(start in 0_u64..1_000_000, step in 0_u64..1_000_000, days in 2_u64..40) {
        let points: Vec<_> = (0..days).map(|day| (NOW + day * DAY, start + day * step)).collect();
        let slope = slope_per_day(&points).unwrap();
        prop_assert!((slope - float(step)).abs() < 1e-3, "{}", slope);
    }
}
