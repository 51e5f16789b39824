//! Properties and examples of retention.

mod examples;
mod properties;
mod year;

use std::time::Duration;

use chrono_tz::Tz;
use proptest::prelude::*;

use super::*;
use crate::{
    config::RetentionPolicy,
    model::{BackupId, PackId, summary::Pin},
};

pub(crate) const HOUR: u64 = 3_600_000_000;
pub(crate) const DAY: u64 = 24 * HOUR;
/// 2026-11-25T12:00:00Z.
pub(crate) const NOON: u64 = 1_795_608_000_000_000;

/// A good, complete backup that nobody looked at.
pub(crate) fn candidate(sequence: u64, taken_at: u64) -> Candidate {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&sequence.to_be_bytes());
    Candidate {
        id: BackupId(id),
        sequence,
        taken_at,
        good: true,
        complete: true,
        verified: false,
        drilled: false,
        pin: None,
    }
}

/// The question at a time, in UTC.
pub(crate) fn question(policy: &RetentionPolicy, now: u64) -> Question<'_, Tz> {
    Question { policy, space: None, zone: &Tz::UTC, now, despite_clock: false }
}

/// The sequences of what stays.
pub(crate) fn staying(decisions: &[Decision], backups: &[Candidate]) -> Vec<u64> {
    let sequence = |id: BackupId| backups.iter().find(|backup| backup.id == id).unwrap().sequence;
    decisions.iter().filter(|decision| decision.stays()).map(|decision| sequence(decision.id)).collect()
}

/// Any policy.
fn policy() -> impl Strategy<Value = RetentionPolicy> {
    let few = || prop_oneof![3 => Just(0_u32), 2 => 0..6_u32];
    let span = || prop::option::weighted(0.3, (1..60_u64).prop_map(|days| Duration::from_secs(days * 86_400)));
    let size = prop::option::weighted(0.3, 1..4000_u64);
    let keep = (few(), few(), few(), few(), few(), few(), span());
    (keep, span(), few(), size, 1..4_u32).prop_map(|(keep, max_age, max_count, max_size, min_backups)| {
        let (keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly, keep_within) = keep;
        RetentionPolicy {
            keep_last,
            keep_within,
            keep_hourly,
            keep_daily,
            keep_weekly,
            keep_monthly,
            keep_yearly,
            max_age,
            max_count,
            max_size,
            min_backups,
        }
    })
}

/// Any backups of a source whose clock ran well, the oldest first.
fn backups() -> impl Strategy<Value = Vec<Candidate>> {
    let gap = prop_oneof![4 => 1..30_u64, 2 => 30..400_u64, 1 => 400..4000_u64];
    let pin = prop::option::weighted(0.1, prop::option::of(0..6000_u64));
    let one = (gap, prop::bool::weighted(0.8), prop::bool::weighted(0.9), any::<bool>(), any::<bool>(), pin);
    prop::collection::vec(one, 0..40).prop_map(|all| {
        let mut at = NOON - 20 * 366 * DAY;
        let mut sequence = 0;
        let candidate = |(gap, good, complete, verified, drilled, pin): (u64, bool, bool, bool, bool, Option<_>)| {
            at += gap * HOUR;
            sequence += 1 + gap % 2;
            Candidate {
                good,
                complete: good && complete,
                verified: good && verified,
                drilled: good && drilled,
                pin: pin.map(|hours: Option<u64>| Pin { until: hours.map(|h| at + h * HOUR), reason: String::new() }),
                ..candidate(sequence, at)
            }
        };
        all.into_iter().map(candidate).collect()
    })
}

/// The zones in which it is asked.
fn zone() -> impl Strategy<Value = Tz> {
    prop::sample::select(vec![Tz::UTC, Tz::Europe__Berlin, Tz::America__New_York, Tz::Australia__Lord_Howe])
}

/// Packs of which neighbours share some.
fn space_of(backups: &[Candidate]) -> Space {
    let packs = |backup: &Candidate| {
        (0..4)
            .map(|n| {
                let (number, mut id) = (backup.sequence / 2 + n, [0; 32]);
                id[..8].copy_from_slice(&number.to_be_bytes());
                (PackId(id), 100 + number % 4)
            })
            .collect()
    };
    backups.iter().map(|backup| (backup.id, packs(backup))).collect()
}
