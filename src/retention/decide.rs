//! The judgement over the backups of one source.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::TimeZone;

use super::{
    calendar::Period,
    clock::{self, Wrong},
    reason::{Going, Staying},
};
use crate::{
    clock::micros,
    config::RetentionPolicy,
    model::{
        BackupId, PackId,
        manifest::Selection,
        summary::{BackupSummary, Pin},
    },
};

/// What is known of a backup that is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: BackupId,
    /// Its place in the order in which backups were taken.
    pub sequence: u64,
    /// When, as the clock said then, microseconds since the epoch.
    pub taken_at: u64,
    /// Neither damaged nor suspect, and of all that the source is to protect.
    pub good: bool,
    /// Good, and nothing could not be included.
    pub complete: bool,
    /// Good, and verified at least once.
    pub verified: bool,
    /// Good, and its last drill passed.
    pub drilled: bool,
    /// Whether it is pinned.
    pub pin: Option<Pin>,
}

impl Candidate {
    /// What a listing shows of a backup. `selection` is the source's own: a backup of less is not a good one.
    #[must_use]
    pub fn of(backup: &BackupSummary, selection: Option<&Selection>) -> Self {
        let good = backup.is_good() && backup.selection.as_ref() == selection;
        Self {
            id: backup.id,
            sequence: backup.sequence,
            taken_at: backup.snapshot_at,
            good,
            complete: good && backup.incomplete == 0,
            verified: good && backup.verified_at > 0,
            drilled: good && backup.drilled_at > 0 && backup.drill_failed_at == 0,
            pin: backup.pin.clone(),
        }
    }
}

/// The packs that backups need, with their bytes.
pub type Space = HashMap<BackupId, Vec<(PackId, u64)>>;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a, Z> {
    /// What is wanted.
    pub policy: &'a RetentionPolicy,
    /// For `max_size`; without it that is not applied.
    pub space: Option<&'a Space>,
    /// The zone of the calendar.
    pub zone: &'a Z,
    /// The present, microseconds since the epoch: only to notice backups that are ahead of it.
    pub now: u64,
    /// Judge by the order of backups even where their times contradict it.
    pub despite_clock: bool,
}

/// What becomes of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Its id.
    pub id: BackupId,
    /// Why it stays; empty if it goes.
    pub staying: Vec<Staying>,
    /// Why it goes.
    pub going: Option<Going>,
}

impl Decision {
    /// Whether it stays.
    #[must_use]
    pub fn stays(&self) -> bool {
        self.going.is_none()
    }
}

type Reasons = BTreeMap<u64, Vec<Staying>>;

impl<Z: TimeZone> Question<'_, Z> {
    /// What becomes of each of the backups of one source, the newest first.
    #[must_use]
    pub fn decide<'a>(&self, backups: &'a [Candidate]) -> Vec<Decision> {
        let mut all: Vec<&'a Candidate> = backups.iter().collect();
        all.sort_by_key(|backup| std::cmp::Reverse(backup.sequence));
        let good: Vec<&'a Candidate> = all.iter().copied().filter(|backup| backup.good).collect();
        let (wrong, contradiction) = match clock::wrong(&all, self.now) {
            _ if self.despite_clock => (Wrong::default(), None),
            Ok(wrong) => (wrong, None),
            Err(contradiction) => (Wrong::default(), Some(contradiction)),
        };
        // The places are taken by those whose times are right.
        let right = |backups: &[&'a Candidate]| {
            backups.iter().copied().filter(|backup| !wrong.times.contains(&backup.sequence)).collect::<Vec<_>>()
        };
        let (all_right, good_right) = (right(&all), right(&good));
        let vouched = clock::vouched(&all_right);
        let mut ruled = self.rules(&good_right, vouched);
        for (sequence, reasons) in self.rules(&all_right, vouched) {
            ruled.entry(sequence).or_insert(reasons);
        }
        let mut spared = self.spared(&all_right);
        spared.extend(self.spared(&good_right));
        let beyond = self.maxima(&all, &ruled, &spared, vouched);
        let mut protected = self.protected(&all, &good, vouched);
        for (sequence, reason) in wrong.reasons() {
            protected.entry(sequence).or_default().push(reason);
        }
        if let Some(contradiction) = contradiction {
            for backup in &all {
                let ruled = ruled.contains_key(&backup.sequence) || spared.contains_key(&backup.sequence);
                let stays = ruled && !beyond.contains_key(&backup.sequence);
                if !stays && !protected.contains_key(&backup.sequence) {
                    let reason = Staying::Clock { contradiction: contradiction.clone() };
                    protected.entry(backup.sequence).or_default().push(reason);
                }
            }
        }
        let judge = |backup: &&Candidate| {
            let (by_rule, beyond) = (ruled.get(&backup.sequence), beyond.get(&backup.sequence));
            let mut staying = protected.get(&backup.sequence).cloned().unwrap_or_default();
            if beyond.is_none() {
                staying.extend(by_rule.or(spared.get(&backup.sequence)).cloned().unwrap_or_default());
            }
            let going = staying.is_empty().then(|| beyond.cloned().unwrap_or(Going::NoRule));
            Decision { id: backup.id, staying, going }
        };
        all.iter().map(judge).collect()
    }

    /// What the keep rules keep of these backups, which are in order, the newest first.
    fn rules(&self, backups: &[&Candidate], vouched: u64) -> Reasons {
        let policy = self.policy;
        let mut kept = Reasons::new();
        let rules = policy.keep_last > 0 || policy.keep_within.is_some() || self.calendar().next().is_some();
        if !rules {
            return backups.iter().map(|backup| (backup.sequence, vec![Staying::NoRule])).collect();
        }
        for (place, backup) in (1..=policy.keep_last).zip(backups) {
            kept.entry(backup.sequence).or_default().push(Staying::Last { place, of: policy.keep_last });
        }
        if let Some(within) = policy.keep_within {
            for backup in backups.iter().filter(|backup| age(backup, vouched) <= micros(within)) {
                kept.entry(backup.sequence).or_default().push(Staying::Within);
            }
        }
        for (period, of) in self.calendar() {
            self.keep_by_calendar(backups, period, of, &mut kept);
        }
        kept
    }

    /// What the rules of the calendar would keep if the newest backup had not been taken, where that may come from a
    /// wrong clock. These take no place from others in the maxima.
    fn spared(&self, backups: &[&Candidate]) -> Reasons {
        let mut spared = Reasons::new();
        for (period, of) in self.calendar() {
            if clock::is_unconfirmed(backups, period.length()) {
                self.keep_by_calendar(&backups[1..], period, of, &mut spared);
            }
        }
        spared
    }

    /// The rules of the calendar that there are.
    fn calendar(&self) -> impl Iterator<Item = (Period, u32)> + use<Z> {
        let policy = self.policy;
        let rules = [
            (Period::Hour, policy.keep_hourly),
            (Period::Day, policy.keep_daily),
            (Period::Week, policy.keep_weekly),
            (Period::Month, policy.keep_monthly),
            (Period::Year, policy.keep_yearly),
        ];
        rules.into_iter().filter(|(_, of)| *of > 0)
    }

    /// The newest of each period that has one, of so many periods.
    fn keep_by_calendar(&self, backups: &[&Candidate], period: Period, of: u32, kept: &mut Reasons) {
        let mut seen = BTreeSet::new();
        for backup in backups {
            let which = period.of(backup.taken_at, self.zone);
            let place = u32::try_from(seen.len()).unwrap_or(u32::MAX);
            if place >= of {
                break;
            }
            if seen.insert(which.clone()) {
                let reason = Staying::Calendar { period, which, place: place + 1, of };
                kept.entry(backup.sequence).or_default().push(reason);
            }
        }
    }

    /// Those that a maximum takes away. The places are counted over what the rules keep alone: what is protected or spared
    /// comes on top, so that the end of a pin, or a clock that is right again, brings nothing back.
    fn maxima(&self, all: &[&Candidate], ruled: &Reasons, spared: &Reasons, vouched: u64) -> BTreeMap<u64, Going> {
        let policy = self.policy;
        let (mut beyond, mut packs, mut bytes, mut place) = (BTreeMap::new(), HashSet::new(), 0_u64, 0);
        let mut reached = None;
        for backup in all {
            if ruled.contains_key(&backup.sequence) {
                place += 1;
                for (pack, size) in self.space.and_then(|space| space.get(&backup.id)).into_iter().flatten() {
                    if packs.insert(pack) {
                        bytes = bytes.saturating_add(*size);
                    }
                }
                if policy.max_count > 0 && place > policy.max_count {
                    reached = Some(Going::MaxCount);
                } else if policy.max_size.is_some_and(|most| bytes > most) {
                    reached = Some(Going::MaxSize);
                }
            } else if !spared.contains_key(&backup.sequence) {
                continue;
            }
            let too_old = policy.max_age.is_some_and(|most| age(backup, vouched) > micros(most));
            if let Some(why) = too_old.then_some(Going::MaxAge).or_else(|| reached.clone()) {
                beyond.insert(backup.sequence, why);
            }
        }
        beyond
    }

    /// What stays whatever the policy says.
    fn protected(&self, all: &[&Candidate], good: &[&Candidate], vouched: u64) -> Reasons {
        let mut protected = Reasons::new();
        let mut protect = |backup: Option<&&Candidate>, reason: Staying| {
            if let Some(backup) = backup {
                protected.entry(backup.sequence).or_default().push(reason);
            }
        };
        protect(all.first(), Staying::Newest);
        protect(good.iter().find(|backup| backup.complete), Staying::NewestComplete);
        protect(good.iter().find(|backup| backup.verified), Staying::NewestVerified);
        protect(good.iter().find(|backup| backup.drilled), Staying::NewestDrilled);
        let of = self.policy.min_backups;
        for backup in good.iter().take(usize::try_from(of).unwrap_or(usize::MAX)) {
            protect(Some(backup), Staying::Minimum { of });
        }
        for backup in all {
            if let Some(pin) = backup.pin.as_ref().filter(|pin| pin.holds(vouched)) {
                protect(Some(backup), Staying::Pinned { until: pin.until, why: pin.reason.clone() });
            }
        }
        protected
    }
}

fn age(backup: &Candidate, vouched: u64) -> u64 {
    vouched.saturating_sub(backup.taken_at)
}
