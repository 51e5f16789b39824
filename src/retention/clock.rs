//! Whether the times of backups can be believed. Their order is known by their sequences, which no clock can change.

use std::collections::BTreeSet;

use super::{decide::Candidate, reason::Staying};

/// Clocks are corrected by so much without anybody noticing, microseconds.
const TOLERANCE: u64 = 3_600_000_000;

/// So many periods may lie between the newest backup and the one before it without a third having to confirm it.
const PLAUSIBLE: u64 = 3;

/// Times that so many later backups contradict are wrong; until then it may be those that are.
const WITNESSES: usize = 3;

/// So many wrong times are taken for accidents, whatever share of all they are.
const ACCIDENTS: usize = 2;

/// Which times are wrong, as the others agree.
#[derive(Debug, Default)]
pub(super) struct Wrong {
    /// The sequences of the backups that have them.
    pub(super) times: BTreeSet<u64>,
    /// The last of each of those whose times contradict one that is too early: without it that would seem right.
    witnesses: BTreeSet<u64>,
}

impl Wrong {
    /// Why these backups stay.
    pub(super) fn reasons(&self) -> impl Iterator<Item = (u64, Staying)> {
        let times = self.times.iter().map(|sequence| (*sequence, Staying::WrongTime));
        times.chain(self.witnesses.iter().map(|sequence| (*sequence, Staying::Witness)))
    }
}

/// Which backups have wrong times, where the others agree. They are in order of their sequences, the
/// newest first.
///
/// # Errors
/// A sentence, where it cannot be told which of two is wrong: one of the newest contradicts another, the newest is ahead
/// of `now`, or too many are wrong.
pub(super) fn wrong(newest_first: &[&Candidate], now: u64) -> Result<Wrong, String> {
    let Some(newest) = newest_first.first() else { return Ok(Wrong::default()) };
    let ahead = ahead(newest_first);
    let (mut wrong, mut witnesses) = (ahead.clone(), BTreeSet::new());
    let mut latest: Option<&Candidate> = None;
    let mut contradiction = None;
    for backup in newest_first.iter().rev().filter(|backup| !ahead.contains(&backup.sequence)) {
        match latest {
            Some(before) if backup.taken_at.saturating_add(TOLERANCE) < before.taken_at => {
                contradiction = Some((before.sequence, backup.sequence));
                wrong.insert(backup.sequence);
                witnesses.insert(before.sequence);
            }
            Some(before) if before.taken_at > backup.taken_at => {}
            _ => latest = Some(backup),
        }
    }
    let of_the_newest = newest_first.iter().take(WITNESSES).any(|backup| wrong.contains(&backup.sequence));
    if let Some((earlier, later)) = contradiction.filter(|_| of_the_newest) {
        return Err(format!("backup #{earlier} has a later time than #{later}, which was taken after it"));
    }
    if newest.taken_at > now.saturating_add(TOLERANCE) {
        return Err(format!("the time of the newest backup, #{}, is yet to come", newest.sequence));
    }
    if wrong.len() > ACCIDENTS.max(newest_first.len() / 4) {
        return Err(format!("the times of {} backups contradict those of the others", wrong.len()));
    }
    Ok(Wrong { times: wrong, witnesses })
}

/// Those that are later than several that were taken after them.
fn ahead(newest_first: &[&Candidate]) -> BTreeSet<u64> {
    let mut earliest: Vec<u64> = Vec::new();
    let mut ahead = BTreeSet::new();
    for backup in newest_first {
        let contradicted = earliest.get(WITNESSES - 1);
        if contradicted.is_some_and(|last| last.saturating_add(TOLERANCE) < backup.taken_at) {
            ahead.insert(backup.sequence);
            continue;
        }
        earliest.push(backup.taken_at);
        earliest.sort_unstable();
        earliest.truncate(WITNESSES);
    }
    ahead
}

/// Whether the newest backup is so much later than the one before it that a clock may have been wrong: more than some
/// periods of this length. It then says nothing about how much time has passed until another follows it.
pub(super) fn is_unconfirmed(newest_first: &[&Candidate], period: u64) -> bool {
    match newest_first {
        [newest, before, ..] => newest.taken_at.saturating_sub(before.taken_at) > PLAUSIBLE * period,
        _ => false,
    }
}

/// The time that backups vouch for: that of the newest one, or of the one before it while that is unconfirmed.
pub(super) fn vouched(newest_first: &[&Candidate]) -> u64 {
    let day = super::calendar::Period::Day.length();
    match newest_first {
        [_, before, ..] if is_unconfirmed(newest_first, day) => before.taken_at,
        [newest, ..] => newest.taken_at,
        [] => 0,
    }
}
