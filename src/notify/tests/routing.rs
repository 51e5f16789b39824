//! Decisions about notices, under generated histories.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use crate::{
    config::{
        NotifyConfig,
        notify::{PingConfig, Transport},
    },
    model::notice::{Event, Notice, Severity},
    notify::routing::{BACKUP_TOPIC, Told, decide},
};

const SECOND: u64 = 1_000_000;
const REPEAT: u64 = 3600 * SECOND;

pub(super) fn notifier() -> NotifyConfig {
    NotifyConfig {
        sources: Vec::new(),
        events: Vec::new(),
        min_severity: Severity::Warning,
        repeat: Some(Duration::from_micros(REPEAT)),
        group: Duration::from_secs(30),
        timeout: Duration::from_secs(5),
        retry_for: Duration::from_secs(86_400),
        transport: Transport::Command(vec!["/bin/true".into()]),
    }
}

pub(super) fn notice(event: Event, severity: Severity, source: &str, time: u64) -> Notice {
    Notice::new(event, severity, format!("{BACKUP_TOPIC}{source}"), &format!("{event} of {source}"), time).about(source)
}

fn any_notice() -> impl Strategy<Value = (Event, Severity, u8, u64)> {
    let event =
        prop::sample::select(vec![Event::Success, Event::Failure, Event::Suspect, Event::Start, Event::Recovery]);
    (event, prop::sample::select(Severity::ALL), 0..3_u8, 0..2 * REPEAT).prop_map(|(event, severity, source, pause)| {
        let good = matches!(event, Event::Success | Event::Start | Event::Recovery);
        (event, if good { Severity::Info } else { severity.max(Severity::Warning) }, source, pause)
    })
}

#[test]
fn a_failure_is_told_once_then_after_the_repeat_and_its_end_once() {
    let (mut told, config) = (Told::default(), notifier());
    let failure = |at| notice(Event::Failure, Severity::Critical, "shop", at);
    let success = |at| notice(Event::Success, Severity::Info, "shop", at);
    assert!(decide(&mut told, &config, &success(0), 0).is_none());
    assert!(decide(&mut told, &config, &failure(1), 1).is_some());
    assert!(decide(&mut told, &config, &failure(2), 2).is_none());
    let again = decide(&mut told, &config, &failure(3), REPEAT + 1).unwrap();
    assert_eq!(again.details["repeated"], "1");
    assert_eq!(decide(&mut told, &config, &success(4), REPEAT + 2).unwrap().event, Event::Recovery);
    assert!(decide(&mut told, &config, &success(5), REPEAT + 3).is_none());
}

#[test]
fn what_is_never_told_has_no_recovery_and_does_not_silence() {
    let (mut told, config) = (Told::default(), notifier());
    let failure = notice(Event::Failure, Severity::Critical, "shop", 1);
    assert!(decide(&mut told, &config, &failure, 1).is_some());
    told.not_told(&failure, &told.clone().of(&notice(Event::Failure, Severity::Critical, "other", 1)));
    assert!(decide(&mut told, &config, &notice(Event::Success, Severity::Info, "shop", 2), 2).is_none());
    assert!(decide(&mut told, &config, &failure, 3).is_some());
}

#[test]
fn sources_severities_and_events_are_filtered() {
    let config = NotifyConfig { sources: vec!["shop".into()], min_severity: Severity::Critical, ..notifier() };
    let told = |config: &NotifyConfig, notice: &Notice| decide(&mut Told::default(), config, notice, 1).is_some();
    for (source, wanted) in [("shop", true), ("shop/db", true), ("shops", false), ("", false)] {
        assert_eq!(told(&config, &notice(Event::Failure, Severity::Critical, source, 1)), wanted, "{source}");
    }
    assert!(!told(&config, &notice(Event::Failure, Severity::Warning, "shop", 1)));
    let config = NotifyConfig { events: vec![Event::Drill], ..notifier() };
    assert!(!told(&config, &notice(Event::Failure, Severity::Critical, "shop", 1)));
    assert!(told(&config, &notice(Event::Drill, Severity::Critical, "shop", 1)));
}

#[test]
fn a_ping_is_every_start_and_end_of_a_backup() {
    let transport = Transport::Ping(PingConfig { url: "hc".into(), ca_file: None });
    let config = NotifyConfig { transport, min_severity: Severity::Info, ..notifier() };
    let mut told = Told::default();
    for event in [Event::Start, Event::Failure, Event::Start, Event::Failure, Event::Start, Event::Success] {
        let severity = if event == Event::Failure { Severity::Critical } else { Severity::Info };
        let ping = decide(&mut told, &config, &notice(event, severity, "shop", 1), 1).unwrap();
        assert_eq!(ping.event, event);
    }
    let verified = Notice { topic: "verify shop".into(), ..notice(Event::Success, Severity::Info, "shop", 1) };
    assert!(decide(&mut told, &config, &verified, 1).is_none());
}

proptest! {
    #[test]
    fn there_is_no_storm_nothing_critical_is_lost_and_a_recovery_follows_what_was_told(
        history in prop::collection::vec(any_notice(), 0..200),
    ) {
        let (mut told, config) = (Told::default(), notifier());
        let mut now = 1;
        // When each topic and event was told last, and with what weight; independent of what `decide` remembers.
        let mut last: BTreeMap<(u8, Event), (u64, Severity)> = BTreeMap::new();
        for (event, severity, source, pause) in history {
            now += pause;
            let given = notice(event, severity, &source.to_string(), now);
            let said = decide(&mut told, &config, &given, now);
            let before = last.get(&(source, event)).copied();
            match &said {
                Some(said) if said.event == Event::Recovery => {
                    prop_assert!(last.keys().any(|(topic, _)| *topic == source), "a recovery of nothing");
                    last.retain(|(topic, _), _| *topic != source);
                }
                Some(said) => {
                    prop_assert_eq!(said.severity, severity);
                    let due = before.is_none_or(|(at, weight)| now - at >= REPEAT || severity > weight);
                    prop_assert!(due, "a storm");
                    last.insert((source, event), (now, severity));
                }
                None if severity > Severity::Info => {
                    let silenced = before.is_some_and(|(at, weight)| now - at < REPEAT && weight >= severity);
                    prop_assert!(silenced, "lost: {:?}", given);
                }
                None => {
                    let open = last.keys().any(|(topic, _)| *topic == source);
                    prop_assert!(!open || event == Event::Start, "an end that was not told");
                }
            }
        }
    }

    #[test]
    fn a_clock_that_is_set_back_silences_nothing(back in 1..u64::MAX / 2) {
        let (mut told, config) = (Told::default(), notifier());
        let failure = notice(Event::Failure, Severity::Critical, "shop", 1);
        prop_assert!(decide(&mut told, &config, &failure, u64::MAX / 2).is_some());
        prop_assert!(decide(&mut told, &config, &failure, u64::MAX / 2 - back).is_some());
        prop_assert!(decide(&mut told, &config, &failure, u64::MAX / 2 - back + 1).is_none());
    }
}
