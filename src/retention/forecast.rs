//! When a backup will go, if backups go on as they did.

use std::collections::BTreeMap;

use chrono::TimeZone;

use super::decide::{Candidate, Question};
use crate::model::BackupId;

/// So many backups to come are looked at.
const STEPS: u64 = 800;
/// How far that looks ahead, at least as far as the steps allow: a bit more than a year, microseconds.
const HORIZON: u64 = 400 * 24 * 3_600_000_000;
/// How often backups are taken where that cannot be told.
const DAY: u64 = 24 * 3_600_000_000;

/// How often backups were taken lately, microseconds: the middle one of the last gaps between them.
#[must_use]
pub fn interval(backups: &[Candidate]) -> u64 {
    let mut times: Vec<(u64, u64)> = backups.iter().map(|backup| (backup.sequence, backup.taken_at)).collect();
    times.sort_unstable();
    let lately = &times[times.len().saturating_sub(8)..];
    let mut gaps: Vec<u64> = lately.windows(2).map(|pair| pair[1].1.saturating_sub(pair[0].1)).collect();
    gaps.sort_unstable();
    gaps.get(gaps.len() / 2).copied().filter(|gap| *gap > 0).unwrap_or(DAY)
}

/// When each of the backups goes that go within a year or so, if a good one is taken every `interval` microseconds from
/// the newest on. Those that go now are not among them, nor those that stay beyond.
#[must_use]
pub fn going<Z: TimeZone>(question: &Question<'_, Z>, backups: &[Candidate], interval: u64) -> BTreeMap<BackupId, u64> {
    let Some(newest) = backups.iter().max_by_key(|backup| backup.sequence) else { return BTreeMap::new() };
    // A shorter step than this sees no further than some weeks; the forecast may be late by one.
    let step = interval.max(HORIZON / STEPS);
    let mut left = backups.to_vec();
    let mut gone = BTreeMap::new();
    for number in 0..=HORIZON / step {
        if number > 0 {
            left.push(to_come(newest, number, step));
        }
        let now = left.iter().map(|backup| backup.taken_at).max().unwrap_or_default().max(question.now);
        let decisions = Question { now, ..*question }.decide(&left);
        let going: Vec<BackupId> = decisions.iter().filter(|d| !d.stays()).map(|decision| decision.id).collect();
        for id in &going {
            if number > 0 && backups.iter().any(|backup| backup.id == *id) {
                gone.insert(*id, newest.taken_at + number * step);
            }
        }
        left.retain(|backup| !going.contains(&backup.id));
    }
    gone
}

/// A backup to come. Nothing has its id: the ids of backups are hashes.
fn to_come(newest: &Candidate, number: u64, step: u64) -> Candidate {
    let mut id = [0xff; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    Candidate {
        id: BackupId(id),
        sequence: newest.sequence + number,
        taken_at: newest.taken_at + number * step,
        good: true,
        complete: true,
        verified: false,
        drilled: false,
        pin: None,
    }
}
