//! What holds for every policy and all backups.

use std::collections::BTreeSet;

use super::*;

fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { 2000 };
    ProptestConfig { cases, ..default }
}

/// What is asked of all backups: after each of them was taken, and at last.
struct World {
    policy: RetentionPolicy,
    zone: Tz,
    space: Space,
}

impl World {
    fn ask(&self, backups: &[Candidate], now: u64) -> BTreeSet<u64> {
        let question =
            Question { policy: &self.policy, space: Some(&self.space), zone: &self.zone, now, despite_clock: false };
        staying(&question.decide(backups), backups).into_iter().collect()
    }
}

fn world(policy: RetentionPolicy, zone: Tz, backups: &[Candidate]) -> World {
    World { policy, zone, space: space_of(backups) }
}

fn of(backups: &[Candidate], which: impl Fn(&Candidate) -> bool) -> Vec<Candidate> {
    backups.iter().filter(|backup| which(backup)).cloned().collect()
}

fn newest(backups: &[Candidate], which: impl Fn(&Candidate) -> bool) -> Option<u64> {
    backups.iter().filter(|backup| which(backup)).map(|backup| backup.sequence).max()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_kept_is_kept_again(policy in policy(), zone in zone(), backups in backups(), later in 0..9000_u64) {
        let world = world(policy, zone, &backups);
        let now = NOON + later * HOUR;
        let kept = world.ask(&backups, now);
        let left = of(&backups, |backup| kept.contains(&backup.sequence));
        prop_assert_eq!(world.ask(&left, now), kept);
    }

    #[test]
    fn clocks_that_were_wrong_delete_nothing_more(
        policy in policy(), zone in zone(), backups in backups(),
        faults in prop::collection::vec((any::<prop::sample::Index>(), -90_000..90_000_i64), 0..5), later in 0..90_000_u64,
    ) {
        let mut backups = backups;
        let faults = if backups.is_empty() { Vec::new() } else { faults };
        for (index, hours) in &faults {
            let backup = index.get_mut(&mut backups);
            backup.taken_at = backup.taken_at.saturating_add_signed(hours * 3_600_000_000);
        }
        let world = world(policy, zone, &backups);
        let kept = world.ask(&backups, NOON);
        let left = of(&backups, |backup| kept.contains(&backup.sequence));
        // Where all that contradicted a wrong time is gone, it is right again, and its backup, and those that showed it, are judged like others.
        let question = Question { policy: &world.policy, space: Some(&world.space), zone: &world.zone, now: NOON, despite_clock: false };
        let was_wrong = |id: BackupId| {
            let decisions = question.decide(&backups);
            decisions.iter().filter(|decision| decision.id == id).any(|decision| {
                decision.staying.iter().any(|why| matches!(why, Staying::WrongTime | Staying::Witness))
            })
        };
        let kept_again = world.ask(&left, NOON);
        for backup in left.iter().filter(|backup| !kept_again.contains(&backup.sequence)) {
            prop_assert!(was_wrong(backup.id), "#{} goes the second time", backup.sequence);
        }
        let kept_later = world.ask(&backups, NOON + later * HOUR);
        prop_assert!(kept_later.is_subset(&kept), "something came back: {:?}", kept_later.difference(&kept));
    }

    #[test]
    fn the_order_in_which_they_are_given_does_not_matter(
        policy in policy(), zone in zone(), (backups, shuffled) in backups().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        let world = world(policy, zone, &backups);
        prop_assert_eq!(world.ask(&backups, NOON), world.ask(&shuffled, NOON));
    }

    #[test]
    fn time_alone_changes_nothing(policy in policy(), zone in zone(), backups in backups(), later in 0..900_000_u64) {
        // Neither a later time, nor a clock that runs ahead: nothing comes back, and nothing goes.
        let world = world(policy, zone, &backups);
        prop_assert_eq!(world.ask(&backups, NOON), world.ask(&backups, NOON + later * HOUR));
    }

    #[test]
    fn what_must_stay_stays(policy in policy(), zone in zone(), backups in backups()) {
        let min = usize::try_from(policy.min_backups).unwrap();
        let world = world(policy, zone, &backups);
        let kept = world.ask(&backups, NOON);
        let newest_of: [Option<u64>; 4] = [
            newest(&backups, |_| true),
            newest(&backups, |backup| backup.complete),
            newest(&backups, |backup| backup.verified),
            newest(&backups, |backup| backup.drilled),
        ];
        for sequence in newest_of.into_iter().flatten() {
            prop_assert!(kept.contains(&sequence), "#{} is gone", sequence);
        }
        let good = of(&backups, |backup| backup.good);
        for backup in good.iter().rev().take(min) {
            prop_assert!(kept.contains(&backup.sequence), "#{} was among the newest good ones", backup.sequence);
        }
        for backup in of(&backups, |backup| backup.pin.as_ref().is_some_and(|pin| pin.until.is_none())) {
            prop_assert!(kept.contains(&backup.sequence), "#{} was pinned", backup.sequence);
        }
    }

    #[test]
    fn a_bad_backup_takes_no_place_from_a_good_one(policy in policy(), zone in zone(), backups in backups()) {
        // The maxima count them, as space is space; rules do not. The newest one tells the time, good or not.
        let policy = RetentionPolicy { max_count: 0, max_size: None, max_age: None, keep_within: None, ..policy };
        let world = world(policy, zone, &backups);
        let kept = world.ask(&backups, NOON);
        let pinless = |backup: &Candidate| backup.good;
        for sequence in world.ask(&of(&backups, pinless), NOON) {
            let pin = backups.iter().find(|backup| backup.sequence == sequence).unwrap().pin.is_some();
            prop_assert!(kept.contains(&sequence) || pin, "#{} was displaced by a bad one", sequence);
        }
    }

    #[test]
    fn a_wrong_clock_at_the_next_backup_deletes_nothing_more(
        policy in policy(), zone in zone(), backups in backups(), ahead in 4..90_000_u64,
    ) {
        // In an orderly state, one more backup comes, with the clock far ahead or set back.
        let world = world(policy, zone, &backups);
        let kept = world.ask(&backups, NOON);
        let backups = of(&backups, |backup| kept.contains(&backup.sequence));
        let Some(newest) = backups.last() else { return Ok(()) };
        let next = |at| {
            let mut all = backups.clone();
            all.push(candidate(newest.sequence + 1, at));
            all
        };
        let right = next(newest.taken_at + HOUR);
        let kept_with_right_clock = world.ask(&right, NOON);
        // Four years, so that it is no plausible gap for any rule.
        let future = newest.taken_at + 4 * 366 * DAY + ahead * HOUR;
        for now in [future, NOON] {
            let kept = world.ask(&next(future), now);
            // What the new backup itself takes a place from, as the newest of the same hour, is not lost by the clock.
            let lost: Vec<_> = kept_with_right_clock.difference(&kept).filter(|sequence| **sequence != newest.sequence + 1).collect();
            let pinned = |sequence: &&&u64| backups.iter().any(|b| b.sequence == ***sequence && b.pin.is_some());
            let counted = world.policy.max_count > 0 || world.policy.max_size.is_some();
            prop_assert!(lost.iter().all(|sequence| pinned(&sequence) || counted), "{:?} are lost", lost);
        }
        let past = next(newest.taken_at.saturating_sub((1 + ahead) * HOUR));
        prop_assert_eq!(world.ask(&past, NOON).len(), past.len(), "times contradict, and something went");
    }

    #[test]
    fn missed_days_promote_the_next(skipped in prop::collection::btree_set(1..40_u64, 0..20)) {
        let policy = RetentionPolicy { keep_daily: 7, ..RetentionPolicy::everything() };
        let days: Vec<u64> = (1..=60).filter(|day| !skipped.contains(&(60 - day))).collect();
        let backups: Vec<_> = days.iter().map(|day| candidate(*day, NOON - 60 * DAY + day * DAY)).collect();
        let kept = staying(&question(&policy, NOON).decide(&backups), &backups);
        let seven: Vec<u64> = days.iter().rev().take(7).copied().collect();
        // After a long gap the newest takes no place until another confirms that time has passed.
        let unconfirmed = days.len() > 1 && days[days.len() - 1] - days[days.len() - 2] > 3;
        prop_assert_eq!(&kept[..7], &seven[..]);
        prop_assert_eq!(kept.len(), 7 + usize::from(unconfirmed));
    }
}

proptest! {
    // Each looks at hundreds of backups to come.
    #![proptest_config(ProptestConfig { cases: config().cases / 50, ..config() })]

    #[test]
    fn a_forecast_comes_true(policy in policy(), backups in backups()) {
        let policy = RetentionPolicy { max_size: None, ..policy };
        let question = question(&policy, NOON);
        let interval = forecast::interval(&backups);
        let going = forecast::going(&question, &backups, interval);
        let now: Vec<BackupId> = question.decide(&backups).iter().filter(|d| !d.stays()).map(|d| d.id).collect();
        prop_assert!(going.keys().all(|id| !now.contains(id)), "what goes now does not go later");
        let newest = backups.iter().map(|backup| backup.taken_at).max().unwrap_or_default();
        prop_assert!(going.values().all(|at| *at > newest));
    }
}
