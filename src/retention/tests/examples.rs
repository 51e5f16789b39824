//! Examples that a person can follow.

use super::*;

/// So many daily backups until noon.
fn daily(count: u64) -> Vec<Candidate> {
    (1..=count).map(|n| candidate(n, NOON - (count - n) * DAY)).collect()
}

fn kept(policy: &RetentionPolicy, backups: &[Candidate]) -> Vec<u64> {
    staying(&question(policy, NOON).decide(backups), backups)
}

fn nothing_but(change: impl FnOnce(&mut RetentionPolicy)) -> RetentionPolicy {
    let mut policy = RetentionPolicy::everything();
    change(&mut policy);
    policy
}

#[test]
fn the_defaults_keep_a_week_of_days_a_month_of_weeks_and_a_year_of_months() {
    let policy = RetentionPolicy::default();
    // 2026-11-25 is a Wednesday; the last days of October, September... are 25, 56... days before.
    let kept = kept(&policy, &daily(400));
    let days_before: Vec<u64> = kept.iter().map(|sequence| 400 - sequence).collect();
    let months = [25, 56, 86, 117, 148, 178, 209, 239, 270, 298, 329];
    assert_eq!(days_before, [&[0, 1, 2, 3, 4, 5, 6, 10, 17][..], &months].concat());
}

#[test]
fn rules_are_a_union_and_maxima_take_the_oldest_first() {
    let policy = nothing_but(|policy| policy.keep_last = 3);
    assert_eq!(kept(&policy, &daily(10)), [10, 9, 8]);
    let policy = nothing_but(|policy| policy.keep_within = Some(Duration::from_secs(2 * 86_400)));
    assert_eq!(kept(&policy, &daily(10)), [10, 9, 8]);
    let policy = nothing_but(|policy| (policy.keep_last, policy.keep_weekly) = (2, 2));
    assert_eq!(kept(&policy, &daily(10)), [10, 9, 7]);
    let policy = nothing_but(|policy| policy.max_count = 4);
    assert_eq!(kept(&policy, &daily(10)), [10, 9, 8, 7]);
    let policy = nothing_but(|policy| policy.max_age = Some(Duration::from_secs(86_400)));
    assert_eq!(kept(&policy, &daily(10)), [10, 9]);
    let policy = nothing_but(|policy| (policy.max_count, policy.min_backups) = (1, 3));
    assert_eq!(kept(&policy, &daily(10)), [10, 9, 8]);
    assert_eq!(kept(&RetentionPolicy::everything(), &daily(10)).len(), 10);
}

#[test]
fn the_size_is_that_of_the_packs_together() {
    let backups = daily(10);
    let space = space_of(&backups);
    let policy = nothing_but(|policy| policy.max_size = Some(101 + 102 + 103 + 100 + 100));
    let question = Question { space: Some(&space), ..question(&policy, NOON) };
    // The newest needs four packs, the next two share three of those and add one; the one before adds another.
    assert_eq!(staying(&question.decide(&backups), &backups), [10, 9, 8]);
}

#[test]
fn the_last_good_one_never_goes() {
    let mut backups = daily(30);
    for bad in &mut backups[5..] {
        (bad.good, bad.complete) = (false, false);
    }
    let policy = nothing_but(|policy| (policy.keep_daily, policy.max_count) = (3, 3));
    // The three newest are all suspect; the newest good ones stay by their own count, and past the maximum one does.
    assert_eq!(kept(&policy, &backups), [30, 29, 28, 5]);
    let policy = nothing_but(|policy| policy.keep_daily = 3);
    assert_eq!(kept(&policy, &backups), [30, 29, 28, 5, 4, 3]);
}

#[test]
fn a_backup_says_why_it_stays_or_goes() {
    let mut backups = daily(40);
    backups[1].pin = Some(Pin { until: None, reason: "audit".to_owned() });
    backups[20].drilled = true;
    let policy = RetentionPolicy { keep_daily: 2, keep_weekly: 1, keep_monthly: 1, ..RetentionPolicy::everything() };
    let decisions = question(&policy, NOON).decide(&backups);
    let reasons = |sequence: usize| {
        let decision = &decisions[40 - sequence];
        decision.staying.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        reasons(40),
        [
            "newest",
            "newest complete",
            "among the newest 1 good ones",
            "daily 1 of 2 (2026-11-25)",
            "weekly 1 of 1 (2026-W48)",
            "monthly 1 of 1 (2026-11)"
        ]
    );
    assert_eq!(reasons(39), ["daily 2 of 2 (2026-11-24)"]);
    assert_eq!(reasons(21), ["newest drilled"]);
    assert_eq!(reasons(2), ["pinned (audit)"]);
    assert_eq!(decisions[2].going, Some(Going::NoRule));
}

#[test]
fn a_clock_that_was_wrong_is_named_and_can_be_overruled() {
    let mut backups = daily(20);
    backups.push(candidate(21, 1_000_000)); // 1970, as a computer without a battery has it.
    let policy = nothing_but(|policy| policy.keep_daily = 3);
    let decisions = question(&policy, NOON).decide(&backups);
    assert!(decisions.iter().all(Decision::stays));
    let said = decisions[20].staying[0].to_string();
    assert_eq!(said, "clocks disagree: backup #20 has a later time than #21, which was taken after it");
    // Three more make clear which one was wrong. It takes no place, and stays with the one that shows it.
    let mut later = backups.clone();
    later.extend((1..=3).map(|n| candidate(21 + n, NOON + n * DAY)));
    assert_eq!(staying(&question(&policy, NOON + 3 * DAY).decide(&later), &later), [24, 23, 22, 21, 20]);
    let overruled = Question { despite_clock: true, ..question(&policy, NOON) };
    assert_eq!(staying(&overruled.decide(&backups), &backups), [21, 20, 19]);
    // A clock that was set back by less than an hour is none of retention's business.
    backups[20].taken_at = NOON - HOUR / 2;
    assert_eq!(staying(&question(&policy, NOON).decide(&backups), &backups), [21, 19, 18]);
}

#[test]
fn backups_that_stopped_do_not_expire() {
    let policy = nothing_but(|policy| policy.keep_within = Some(Duration::from_secs(7 * 86_400)));
    let backups = daily(8);
    let a_year_later = question(&policy, NOON + 366 * DAY);
    assert_eq!(staying(&a_year_later.decide(&backups), &backups).len(), 8);
    // The first one after that says little, the second one says that time has passed.
    let mut backups = backups;
    backups.push(candidate(9, NOON + 366 * DAY));
    assert_eq!(staying(&a_year_later.decide(&backups), &backups).len(), 9);
    backups.push(candidate(10, NOON + 367 * DAY));
    assert_eq!(staying(&question(&policy, NOON + 367 * DAY).decide(&backups), &backups), [10, 9]);
}

#[test]
fn one_can_see_when_a_backup_will_go() {
    let policy = nothing_but(|policy| policy.keep_daily = 3);
    let backups = daily(3);
    let going = forecast::going(&question(&policy, NOON), &backups, forecast::interval(&backups));
    assert_eq!(going.len(), 3);
    for (n, backup) in (1..).zip(&backups) {
        assert_eq!(going[&backup.id], NOON + n * DAY);
    }
    let pinned = Candidate { pin: Some(Pin { until: None, reason: String::new() }), ..backups[0].clone() };
    let backups = [pinned, backups[1].clone(), backups[2].clone()];
    assert!(!forecast::going(&question(&policy, NOON), &backups, DAY).contains_key(&backups[0].id));
}
