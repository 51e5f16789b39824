//! What a notifier is told: pure decisions that take the time.
//!
//! Invariants:
//! - a trouble is told when it is new, when it is of more weight than what was told of it, or when `repeat` is over; in
//!   between it is not. So of each topic and event at most two notices, one for each weight that is a trouble, come in that time.
//! - a recovery is told after a trouble that was told, once, and never otherwise.
//! - pings are neither left out nor made into recoveries.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    clock::micros,
    config::NotifyConfig,
    model::notice::{Event, Notice, Severity},
};

/// So many topics are remembered; the one that was told longest ago goes first.
const TOPICS: usize = 1000;

/// What the topics of backups begin with; see [`Notice::topic`].
pub const BACKUP_TOPIC: &str = "backup ";

/// What a notifier was told of troubles that are not over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Told {
    troubles: BTreeMap<String, Marks>,
}

/// What was told of one topic.
pub type Marks = BTreeMap<Event, Mark>;

/// When a trouble was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    severity: Severity,
    /// Microseconds since the epoch.
    at: u64,
    /// How often it came since, and was not told.
    unsaid: u64,
}

/// What to tell a notifier of a notice: the notice, perhaps as a recovery; or nothing. `now` in microseconds since the epoch.
#[must_use]
pub fn decide(told: &mut Told, config: &NotifyConfig, notice: &Notice, now: u64) -> Option<Notice> {
    if notice.event == Event::Test {
        return Some(notice.clone());
    }
    if !wants_source(config, &notice.source) {
        return None;
    }
    if config.is_ping() {
        return wants(config, notice).then(|| notice.clone());
    }
    if notice.is_trouble() {
        return if wants(config, notice) { trouble(told, config, notice, now) } else { None };
    }
    if notice.event != Event::Start && told.troubles.remove(&notice.topic).is_some() && lists(config, Event::Recovery) {
        return Some(Notice { event: Event::Recovery, ..notice.clone() });
    }
    (notice.event != Event::Recovery && wants(config, notice)).then(|| notice.clone())
}

impl Told {
    /// What was told of the topic of a notice.
    #[must_use]
    pub fn of(&self, notice: &Notice) -> Marks {
        self.troubles.get(&notice.topic).cloned().unwrap_or_default()
    }

    /// Takes back that a notice was told, since it never will be. `before` is what was told of its topic before it: that
    /// still waits for its recovery, and a trouble that goes on is told at the next occasion.
    pub fn not_told(&mut self, notice: &Notice, before: &Marks) {
        let earlier = |mark: &Mark| Mark { at: 0, ..*mark };
        if notice.event == Event::Recovery {
            let again = before.iter().map(|(event, mark)| (*event, earlier(mark))).collect::<Marks>();
            if !again.is_empty() {
                self.troubles.entry(notice.topic.clone()).or_insert(again);
            }
            return;
        }
        let Some(marks) = self.troubles.get_mut(&notice.topic) else { return };
        match before.get(&notice.event) {
            Some(mark) => drop(marks.insert(notice.event, earlier(mark))),
            None => drop(marks.remove(&notice.event)),
        }
        if marks.is_empty() {
            self.troubles.remove(&notice.topic);
        }
    }

    /// A notice waits that was decided before a crash, which may have come before that was remembered.
    pub fn waits(&mut self, notice: &Notice, queued_at: u64) {
        if notice.event == Event::Recovery {
            self.troubles.remove(&notice.topic);
        } else if notice.is_trouble() && !notice.topic.is_empty() {
            let mark = Mark { severity: notice.severity, at: queued_at, unsaid: 0 };
            self.troubles.entry(notice.topic.clone()).or_default().entry(notice.event).or_insert(mark);
        }
    }
}

fn trouble(told: &mut Told, config: &NotifyConfig, notice: &Notice, now: u64) -> Option<Notice> {
    if notice.topic.is_empty() {
        return Some(notice.clone());
    }
    let marks = told.troubles.entry(notice.topic.clone()).or_default();
    let mut unsaid = 0;
    if let Some(mark) = marks.get_mut(&notice.event) {
        // A clock that was set back must not silence anything.
        let fresh = mark.at <= now && config.repeat.is_none_or(|repeat| now - mark.at < micros(repeat));
        if fresh && notice.severity <= mark.severity {
            mark.unsaid = mark.unsaid.saturating_add(1);
            return None;
        }
        unsaid = mark.unsaid;
    }
    marks.insert(notice.event, Mark { severity: notice.severity, at: now, unsaid: 0 });
    bound(told);
    let notice = notice.clone();
    Some(if unsaid == 0 { notice } else { notice.detail("repeated", &unsaid.to_string()) })
}

/// Forgets what was told longest ago, if too much is remembered.
fn bound(told: &mut Told) {
    if told.troubles.len() > TOPICS {
        let last = |marks: &BTreeMap<Event, Mark>| marks.values().map(|mark| mark.at).max();
        let oldest = told.troubles.iter().min_by_key(|(_, marks)| last(marks)).map(|(topic, _)| topic.clone());
        oldest.and_then(|topic| told.troubles.remove(&topic));
    }
}

fn wants(config: &NotifyConfig, notice: &Notice) -> bool {
    notice.severity >= config.min_severity
        && if !config.events.is_empty() {
            config.events.contains(&notice.event)
        } else if config.is_ping() {
            // A verification that went well says nothing about backups.
            notice.topic.starts_with(BACKUP_TOPIC)
                && matches!(notice.event, Event::Start | Event::Success | Event::Suspect | Event::Failure)
        } else {
            notice.event != Event::Start
        }
}

fn lists(config: &NotifyConfig, event: Event) -> bool {
    config.events.is_empty() || config.events.contains(&event)
}

/// Whether a notice about this source, or a database of it, is wanted.
fn wants_source(config: &NotifyConfig, source: &str) -> bool {
    let is_of = |wanted: &String| {
        source == wanted || source.strip_prefix(wanted.as_str()).is_some_and(|database| database.starts_with('/'))
    };
    config.sources.is_empty() || config.sources.iter().any(is_of)
}
