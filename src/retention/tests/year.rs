//! A year of daily backups of twenty sources, with a clock of its own. What is left is a table that people can read.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use super::*;

/// 2026-01-01T22:30:00Z: late in the evening in Berlin in winter, and the next day there in summer.
const BEGIN: u64 = 1_767_306_600_000_000;

struct Source {
    name: &'static str,
    policy: RetentionPolicy,
    zone: Tz,
    /// Hours from a backup to the next.
    every: u64,
    /// What happens to the backup of a day: `None` where it is missed.
    day: fn(u64, Candidate) -> Option<Candidate>,
}

fn plain(_: u64, backup: Candidate) -> Option<Candidate> {
    Some(backup)
}

fn source(name: &'static str, policy: RetentionPolicy) -> Source {
    Source { name, policy, zone: Tz::UTC, every: 24, day: plain }
}

fn sources() -> Vec<Source> {
    let nothing = RetentionPolicy::everything;
    let days = |days: u64| Some(Duration::from_secs(days * 86_400));
    vec![
        source("defaults", RetentionPolicy::default()),
        Source { zone: Tz::Europe__Berlin, ..source("berlin", RetentionPolicy::default()) },
        Source { zone: Tz::Pacific__Auckland, ..source("auckland", RetentionPolicy::default()) },
        Source { every: 6, ..source("four-a-day", RetentionPolicy::default()) },
        Source {
            every: 1,
            zone: Tz::America__New_York,
            ..source("hourly", RetentionPolicy { keep_hourly: 24, ..RetentionPolicy::default() })
        },
        source("last", RetentionPolicy { keep_last: 10, ..nothing() }),
        source("within", RetentionPolicy { keep_within: days(14), ..nothing() }),
        source("weekly", RetentionPolicy { keep_weekly: 8, ..nothing() }),
        source("yearly", RetentionPolicy { keep_yearly: 3, ..nothing() }),
        source("everything", RetentionPolicy { ..nothing() }),
        source("max-age", RetentionPolicy { max_age: days(30), ..RetentionPolicy::default() }),
        source("max-count", RetentionPolicy { max_count: 5, ..RetentionPolicy::default() }),
        source("minimum", RetentionPolicy { max_count: 1, min_backups: 4, ..nothing() }),
        Source {
            day: |day, backup| (day % 7 < 5).then_some(backup),
            ..source("no-weekends", RetentionPolicy::default())
        },
        Source {
            day: |day, backup| (!(100..160).contains(&day)).then_some(backup),
            ..source("two-months-off", RetentionPolicy::default())
        },
        Source {
            day: |day, backup| {
                let good = day % 3 == 0;
                Some(Candidate { good, complete: good, ..backup })
            },
            ..source("two-of-three-suspect", RetentionPolicy::default())
        },
        Source {
            day: |day, backup| {
                let good = day < 200;
                Some(Candidate { good, complete: good, ..backup })
            },
            ..source("suspect-since-july", RetentionPolicy { keep_daily: 3, ..nothing() })
        },
        Source {
            day: |day, backup| {
                let pin = (day == 50).then(|| Pin { until: None, reason: "audit".to_owned() });
                Some(Candidate { pin, drilled: day == 120, verified: day % 30 == 0, ..backup })
            },
            ..source("pinned", RetentionPolicy { keep_daily: 3, ..nothing() })
        },
        Source {
            // For one night the clock is a year ahead.
            day: |day, backup| {
                let wrong = if day == 180 { 366 * DAY } else { 0 };
                Some(Candidate { taken_at: backup.taken_at + wrong, ..backup })
            },
            ..source("clock-ahead-once", RetentionPolicy { keep_daily: 3, ..nothing() })
        },
        Source { day: |day, backup| (day < 30).then_some(backup), ..source("stopped", RetentionPolicy::default()) },
    ]
}

/// What is left of a source at the end, and the most that there was.
fn live(source: &Source) -> (Vec<Candidate>, usize) {
    let (mut left, mut most) = (Vec::new(), 0);
    for turn in 0..365 * 24 / source.every {
        let hours = turn * source.every;
        let now = BEGIN + hours * HOUR;
        if let Some(backup) = (source.day)(hours / 24, candidate(turn + 1, now)) {
            left.push(backup);
        }
        let question = Question { zone: &source.zone, ..question(&source.policy, now) };
        let decisions = question.decide(&left);
        left.retain(|backup| decisions.iter().any(|decision| decision.id == backup.id && decision.stays()));
        most = most.max(left.len());
    }
    (left, most)
}

#[test]
fn a_year_of_twenty_sources() {
    let sources = sources();
    assert_eq!(sources.len(), 20);
    let mut table = String::new();
    for source in &sources {
        let (left, most) = live(source);
        writeln!(table, "{} ({} of {}, at most {most})", source.name, left.len(), 365 * 24 / source.every).unwrap();
        let end = BEGIN + 364 * DAY;
        let question = Question { zone: &source.zone, ..question(&source.policy, end) };
        let shown = question.decide(&left);
        // A source that keeps everything needs no page.
        for decision in shown.iter().take(40) {
            let backup = left.iter().find(|backup| backup.id == decision.id).unwrap();
            let at = DateTime::<Utc>::from_timestamp_micros(backup.taken_at as i64).unwrap();
            let reasons: Vec<String> = decision.staying.iter().map(ToString::to_string).collect();
            let mark = if backup.good { ' ' } else { '!' };
            writeln!(table, " {mark}{:>5} {} {}", backup.sequence, at.format("%FT%H:%MZ"), reasons.join(", ")).unwrap();
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/retention-year.txt");
    if std::env::var_os("BACKUPD_UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    assert!(table == golden, "what is left has changed: look at it with BACKUPD_UPDATE_GOLDEN=1 and git diff");
}
