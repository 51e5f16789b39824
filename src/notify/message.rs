//! What a batch of notices says: subject, text, and the values that templates and programs get.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat};

use super::queue::Batch;
use crate::model::notice::{Event, Notice, Severity};

/// A text never gets longer, whatever is in the batch.
const LIMIT: usize = 64 << 10;

/// A batch in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What matters most, in one line without control characters.
    pub subject: String,
    /// All of it.
    pub text: String,
    /// Of the notice that matters most, the oldest of them.
    pub event: Event,
    /// Of the same.
    pub severity: Severity,
    /// Of the same.
    pub source: String,
    /// Of the same.
    pub backup: String,
    /// Of the same; 0 where it is about none.
    pub job: u64,
    /// When that happened, RFC 3339 in UTC.
    pub time: String,
    /// The name of this host.
    pub host: String,
    /// All notices, in JSON.
    pub notices: String,
}

impl Message {
    /// The words for a batch; `None` for one without notices.
    #[must_use]
    pub fn of(batch: &Batch, host: &str) -> Option<Self> {
        let first = batch.notices.iter().min_by_key(|notice| std::cmp::Reverse(notice.severity))?;
        let mut subject = format!("{}: {}", label(first), first.headline());
        if batch.notices.len() > 1 {
            let _ = write!(subject, " (and {} more)", batch.notices.len() - 1);
        }
        let mut text = String::new();
        for notice in &batch.notices {
            if text.len() + notice.text.len() > LIMIT {
                text.push_str("…\n\n");
                break;
            }
            describe(&mut text, notice);
        }
        if batch.dropped > 0 {
            let _ = writeln!(
                text,
                "Before this, {} could not be told and will not be; `journalctl -u backupd` has what was said.\n",
                count(batch.dropped)
            );
        }
        let _ = write!(text, "-- \nbackupd on {host}");
        Some(Self {
            subject: format!("[backupd {host}] {}", one_line(&subject)),
            text,
            event: first.event,
            severity: first.severity,
            source: first.source.clone(),
            backup: first.backup.clone(),
            job: first.job,
            time: time(first.time),
            host: host.to_owned(),
            notices: serde_json::to_string(&batch.notices).unwrap_or_else(|_| "[]".to_owned()),
        })
    }

    /// The value of a name in a template, and whether it is JSON already.
    pub(super) fn value(&self, name: &str) -> Option<(String, bool)> {
        let plain = |text: &str| Some((text.to_owned(), false));
        match name {
            "text" => plain(&self.text),
            "subject" => plain(&self.subject),
            "event" => plain(self.event.as_str()),
            "severity" => plain(self.severity.as_str()),
            "source" => plain(&self.source),
            "backup" => plain(&self.backup),
            "job" => plain(&self.job.to_string()),
            "host" => plain(&self.host),
            "time" => plain(&self.time),
            "notices" => Some((self.notices.clone(), true)),
            _ => None,
        }
    }
}

/// "1 notice", "3 notices".
pub fn count(notices: u64) -> String {
    format!("{notices} notice{}", if notices == 1 { "" } else { "s" })
}

fn label(notice: &Notice) -> String {
    match notice.event {
        Event::Recovery => "RECOVERED".to_owned(),
        Event::Test => "TEST".to_owned(),
        _ => notice.severity.as_str().to_uppercase(),
    }
}

fn describe(text: &mut String, notice: &Notice) {
    let _ = writeln!(text, "{}: {}", label(notice), notice.text);
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {name}: {}", one_line(value));
        }
    };
    fact("time", &time(notice.time));
    fact("source", &notice.source);
    fact("backup", &notice.backup);
    if notice.job != 0 {
        fact("job", &notice.job.to_string());
    }
    for (name, value) in &notice.details {
        fact(name, value);
    }
    text.push('\n');
}

fn time(micros: u64) -> String {
    i64::try_from(micros)
        .ok()
        .and_then(DateTime::from_timestamp_micros)
        .map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
        .unwrap_or_default()
}

/// A text that can be in a header or a line of a list.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Fills a template: `{{name}}` becomes the value, escaped for a string of JSON where `json` says so. What has no value
/// is left as it is.
pub(super) fn fill(template: &str, message: &Message, json: bool) -> String {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let found = after.split_once("}}").and_then(|(name, after)| Some((message.value(name.trim())?, after)));
        match found {
            Some(((value, is_json), after)) => {
                if json && !is_json {
                    // A string of JSON without its quotation marks.
                    let quoted = serde_json::to_string(&value).unwrap_or_default();
                    filled.push_str(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
                } else {
                    filled.push_str(&value);
                }
                rest = after;
            }
            None => {
                filled.push_str("{{");
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch(notices: Vec<Notice>, dropped: u64) -> Batch {
        Batch::alone(notices, dropped)
    }

    fn notice(severity: Severity, text: &str) -> Notice {
        Notice::new(Event::Failure, severity, "t", text, 1_700_000_000_000_000).about("shop")
    }

    #[test]
    fn the_subject_is_what_matters_most_and_the_text_has_all() {
        let notices = vec![
            notice(Severity::Warning, "first"),
            notice(Severity::Critical, "second\r\nBcc: x"),
            notice(Severity::Info, "third"),
        ];
        let message = Message::of(&batch(notices, 3), "db1").unwrap();
        assert_eq!(message.subject, "[backupd db1] CRITICAL: second (and 2 more)");
        for part in
            ["first", "second", "third", "Before this, 3 notices could not", "source: shop", "2023-11-14T22:13:20Z"]
        {
            assert!(message.text.contains(part), "{part}: {}", message.text);
        }
    }

    #[test]
    fn a_template_keeps_what_it_does_not_know() {
        let message = Message::of(&batch(vec![notice(Severity::Critical, "t")], 0), "h").unwrap();
        assert_eq!(fill("{{ severity }} {{no}} {{", &message, false), "critical {{no}} {{");
    }

    proptest! {
        #[test]
        fn a_body_of_json_is_json_whatever_the_notice_says(text in any::<String>(), source in any::<String>()) {
            let given = notice(Severity::Critical, &text).about(&source);
            let message = Message::of(&batch(vec![given.clone()], 0), "h").unwrap();
            let body = fill(r#"{"s":"{{source}}","t":"{{text}}","n":{{notices}}}"#, &message, true);
            let value: serde_json::Value = serde_json::from_str(&body).unwrap();
            prop_assert_eq!(value["s"].as_str().unwrap(), &given.source);
            prop_assert_eq!(value["t"].as_str().unwrap(), &message.text);
            prop_assert_eq!(value["n"][0]["text"].as_str().unwrap(), &given.text);
            prop_assert!(!message.subject.chars().any(char::is_control));
        }
    }
}
