//! What waits on disk: through restarts, unfinished writes, full queues and notifiers that are down.

use std::{fs, path::Path, time::Duration};

use proptest::prelude::*;

use super::routing::{notice, notifier};
use crate::{
    config::NotifyConfig,
    model::notice::{Event, Severity},
    notify::queue::{Failure, LIMIT, Queue},
};

const SECOND: u64 = 1_000_000;

fn push(queue: &mut Queue, severity: Severity, source: &str, now: u64) {
    queue.push(&notifier(), &notice(Event::Failure, severity, source, now), now).unwrap();
}

fn sources(queue: &Queue) -> Vec<String> {
    queue.shown().waiting.into_iter().map(|entry| entry.notice.source).collect()
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn what_waits_and_what_was_told_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut queue = Queue::open(folder.path()).unwrap();
    push(&mut queue, Severity::Critical, "a", 1);
    push(&mut queue, Severity::Critical, "b", 2);
    let mut queue = Queue::open(folder.path()).unwrap();
    assert_eq!(sources(&queue), ["a", "b"]);
    // It was told, so it is not told again.
    push(&mut queue, Severity::Critical, "a", 3);
    assert_eq!(sources(&queue), ["a", "b"]);
    assert_eq!(queue.batch(&notifier(), 29 * SECOND), None, "grouped");
    let batch = queue.batch(&notifier(), 31 * SECOND).unwrap();
    assert_eq!(batch.notices.len(), 2);
    queue.sent(&batch).unwrap();
    assert_eq!(sources(&Queue::open(folder.path()).unwrap()), [""; 0]);
    assert_eq!(files(folder.path()), 1, "only what was told stays");
}

#[test]
fn torn_and_foreign_files_stop_nothing() {
    let folder = tempfile::tempdir().unwrap();
    push(&mut Queue::open(folder.path()).unwrap(), Severity::Critical, "a", 1);
    fs::write(folder.path().join("00000000000000000002.json"), "{\"notice\":").unwrap();
    fs::write(folder.path().join(".tmpAbCd"), "half").unwrap();
    fs::write(folder.path().join("state.json"), "").unwrap();
    let mut queue = Queue::open(folder.path()).unwrap();
    assert_eq!(sources(&queue), ["a"]);
    push(&mut queue, Severity::Critical, "b", 2);
    assert_eq!(sources(&Queue::open(folder.path()).unwrap()), ["a", "b"]);
}

#[test]
fn tries_come_at_longer_and_longer_intervals_and_have_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let config = NotifyConfig { group: Duration::ZERO, ..notifier() };
    let mut queue = Queue::open(folder.path()).unwrap();
    push(&mut queue, Severity::Critical, "a", SECOND);
    let (mut now, mut pauses) = (SECOND, Vec::new());
    while let Some(due) = queue.due(&config, now) {
        pauses.push((due - now) / SECOND);
        now = due;
        let batch = queue.batch(&config, now).unwrap();
        queue.failed(&config, &batch, Failure::Passing, "refused", now).unwrap();
        assert_eq!(queue.shown().error, "refused");
        queue = Queue::open(folder.path()).unwrap();
    }
    assert_eq!(pauses[..6], [0, 10, 20, 40, 80, 160]);
    assert!(pauses.iter().all(|pause| *pause <= 1800) && pauses.len() < 100, "{pauses:?}");
    assert!(now >= 86_400 * SECOND);
    assert_eq!(queue.shown().dropped, 1);
    // What was never told does not silence the next.
    push(&mut queue, Severity::Critical, "a", now);
    let batch = queue.batch(&config, now + 1800 * SECOND).unwrap();
    assert_eq!((batch.notices.len(), batch.dropped), (1, 1));
    queue.sent(&batch).unwrap();
    assert_eq!(queue.shown().dropped, 0);
}

#[test]
fn what_is_refused_for_good_is_dropped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut queue = Queue::open(folder.path()).unwrap();
    push(&mut queue, Severity::Critical, "a", 1);
    let batch = queue.batch(&notifier(), 100 * SECOND).unwrap();
    assert_eq!(queue.failed(&notifier(), &batch, Failure::Final, "404", 100 * SECOND).unwrap(), 1);
    assert_eq!((sources(&queue).len(), queue.shown().dropped), (0, 1));
}

#[test]
fn a_clock_that_was_set_back_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut queue = Queue::open(folder.path()).unwrap();
    push(&mut queue, Severity::Critical, "a", u64::MAX / 2);
    let batch = queue.batch(&notifier(), u64::MAX / 2 + 60 * SECOND).unwrap();
    queue.failed(&notifier(), &batch, Failure::Passing, "refused", u64::MAX / 2 + 60 * SECOND).unwrap();
    assert!(queue.batch(&notifier(), SECOND).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2))]
    #[test]
    fn a_full_queue_drops_the_oldest_of_those_that_matter_least(
        severities in prop::collection::vec(prop::bool::ANY, LIMIT..LIMIT + 60),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut queue = Queue::open(folder.path()).unwrap();
        let mut model: Vec<(Severity, String)> = Vec::new();
        for (i, critical) in severities.iter().enumerate() {
            let severity = if *critical { Severity::Critical } else { Severity::Warning };
            let now = u64::try_from(i).unwrap() + 1;
            push(&mut queue, severity, &i.to_string(), now);
            model.push((severity, i.to_string()));
            if model.len() > LIMIT {
                // The first ones may be on their way.
                let least = model.iter().skip(50).map(|(severity, _)| *severity).min().unwrap();
                let oldest = model.iter().skip(50).position(|(severity, _)| *severity == least).unwrap();
                model.remove(50 + oldest);
            }
        }
        let wanted: Vec<String> = model.into_iter().map(|(_, source)| source).collect();
        prop_assert_eq!(sources(&queue), wanted);
        prop_assert_eq!(queue.shown().dropped, u64::try_from(severities.len() - LIMIT).unwrap());
        prop_assert_eq!(files(folder.path()), LIMIT + 1);
    }
}

/// The queue of a notifier that groups nothing.
fn open(folder: &Path) -> (Queue, NotifyConfig) {
    (Queue::open(folder).unwrap(), NotifyConfig { group: Duration::ZERO, ..notifier() })
}

fn ends(queue: &mut Queue, config: &NotifyConfig, source: &str, now: u64) {
    queue.push(config, &notice(Event::Success, Severity::Info, source, now), now).unwrap();
}

fn events(queue: &Queue) -> Vec<Event> {
    queue.shown().waiting.into_iter().map(|entry| entry.notice.event).collect()
}

#[test]
fn a_repeat_that_nobody_heard_takes_nothing_of_what_was_told_away() {
    let folder = tempfile::tempdir().unwrap();
    let (mut queue, config) = open(folder.path());
    push(&mut queue, Severity::Critical, "a", SECOND);
    queue.sent(&queue.batch(&config, SECOND).unwrap()).unwrap();
    let later = 4000 * SECOND;
    push(&mut queue, Severity::Critical, "a", later);
    let batch = queue.batch(&config, later).unwrap();
    assert_eq!(queue.failed(&config, &batch, Failure::Final, "no", later).unwrap(), 1);
    // It goes on, so it is told at the next occasion; and its end is told.
    push(&mut queue, Severity::Critical, "a", later + SECOND);
    assert_eq!(events(&queue), [Event::Failure]);
    ends(&mut queue, &config, "a", later + 2 * SECOND);
    assert_eq!(events(&queue), [Event::Failure, Event::Recovery]);
}

#[test]
fn an_end_that_nobody_heard_is_told_by_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let (mut queue, config) = open(folder.path());
    push(&mut queue, Severity::Critical, "a", SECOND);
    queue.sent(&queue.batch(&config, SECOND).unwrap()).unwrap();
    ends(&mut queue, &config, "a", 2 * SECOND);
    let batch = queue.batch(&config, 2 * SECOND).unwrap();
    assert_eq!(queue.failed(&config, &batch, Failure::Final, "no", 2 * SECOND).unwrap(), 1);
    ends(&mut queue, &config, "a", 3 * SECOND);
    assert_eq!(events(&queue), [Event::Recovery]);
    // Heard at last, it is not told again.
    queue.sent(&queue.batch(&config, 60 * SECOND).unwrap()).unwrap();
    ends(&mut queue, &config, "a", 61 * SECOND);
    assert_eq!(events(&queue), []);
}

#[test]
fn a_crash_between_a_notice_and_what_is_remembered_costs_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let (mut queue, config) = open(folder.path());
    push(&mut queue, Severity::Critical, "a", SECOND);
    drop(queue);
    fs::remove_file(folder.path().join("state.json")).unwrap();
    let (mut queue, _) = open(folder.path());
    queue.sent(&queue.batch(&config, SECOND).unwrap()).unwrap();
    ends(&mut queue, &config, "a", 2 * SECOND);
    assert_eq!(events(&queue), [Event::Recovery]);
    let told = fs::read(folder.path().join("state.json")).unwrap();
    drop(queue);
    // The same with the end: it waits, so it is remembered as told.
    fs::write(folder.path().join("state.json"), told).unwrap();
    let (mut queue, _) = open(folder.path());
    ends(&mut queue, &config, "a", 3 * SECOND);
    assert_eq!(events(&queue), [Event::Recovery]);
}

#[test]
fn what_is_on_its_way_and_the_ends_of_troubles_are_not_dropped_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let (mut queue, config) = open(folder.path());
    push(&mut queue, Severity::Warning, "a", SECOND);
    queue.sent(&queue.batch(&config, SECOND).unwrap()).unwrap();
    push(&mut queue, Severity::Warning, "first", 2 * SECOND);
    let on_its_way = queue.batch(&config, 2 * SECOND).unwrap();
    for n in 0..60 {
        push(&mut queue, Severity::Critical, &format!("c{n}"), 3 * SECOND);
    }
    ends(&mut queue, &config, "a", 4 * SECOND);
    for n in 0..LIMIT {
        push(&mut queue, Severity::Warning, &format!("w{n}"), 5 * SECOND);
    }
    assert_eq!(queue.shown().waiting.len(), LIMIT);
    assert!(sources(&queue).contains(&"first".to_owned()), "it may be sent just now");
    queue.sent(&on_its_way).unwrap();
    let weight = |severity| queue.shown().waiting.iter().filter(|entry| entry.notice.severity == severity).count();
    assert_eq!(weight(Severity::Critical), 60);
    assert!(queue.shown().dropped > 0);
}
