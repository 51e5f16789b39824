//! Notices: what a person, or a program that watches, is told.
//!
//! Invariant: a notice holds no secret and is bounded: what is longer is cut when the notice is made.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::words::words;

/// A text of a notice is cut to so many bytes.
const TEXT_LIMIT: usize = 8 << 10;
/// A notice has at most so many details.
const DETAILS_LIMIT: usize = 32;
/// A detail is cut to so many bytes.
const DETAIL_LIMIT: usize = 1 << 10;

words! {
    /// What a notice is about.
    Event {
        /// A job began. Only pings tell it unless it is asked for.
        Start = "start",
        /// A job ended well.
        Success = "success",
        /// A job failed.
        Failure = "failure",
        /// What was told as wrong is well again.
        Recovery = "recovery",
        /// There is no good backup that is new enough.
        Missing = "missing",
        /// A backup is complete, but looks wrong.
        Suspect = "suspect",
        /// Stored bytes are not what was stored.
        Damage = "damage",
        /// A restore ended.
        Restore = "restore",
        /// An undo of a restore ended.
        Undo = "undo",
        /// A drill ended.
        Drill = "drill",
        /// The health of the host's backups changed.
        Health = "health",
        /// The daemon itself does not run as it should.
        Daemon = "daemon",
        /// Somebody tries whether notices arrive.
        Test = "test",
    }
}

words! {
    /// How much a notice matters; the order is that of weight.
    Severity {
        /// All is well.
        Info = "info",
        /// Somebody should look at it.
        Warning = "warning",
        /// Somebody must look at it now.
        Critical = "critical",
    }
}

/// One thing to tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What it is about.
    pub event: Event,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong, or well again: notices of one topic are about the same thing (such as `create shop`). Empty for a notice
    /// that stands alone, which is neither repeated nor followed by a recovery.
    pub topic: String,
    /// The source, as shown; empty where it is about none.
    pub source: String,
    /// The backup, in hex; empty where it is about none.
    pub backup: String,
    /// The number of the job; 0 where it is about none.
    pub job: u64,
    /// One or more sentences. The first line is what a subject shows.
    pub text: String,
    /// Facts for programs.
    pub details: BTreeMap<String, String>,
    /// When it happened, microseconds since the epoch.
    pub time: u64,
}

impl Notice {
    /// A notice about nothing in particular; the other fields are empty.
    #[must_use]
    pub fn new(event: Event, severity: Severity, topic: impl Into<String>, text: &str, time: u64) -> Self {
        Self {
            event,
            severity,
            topic: topic.into(),
            source: String::new(),
            backup: String::new(),
            job: 0,
            text: cut(text.trim_end(), TEXT_LIMIT),
            details: BTreeMap::new(),
            time,
        }
    }

    /// Names the source.
    #[must_use]
    pub fn about(mut self, source: &str) -> Self {
        self.source = cut(source, DETAIL_LIMIT);
        self
    }

    /// Adds a fact for programs. Beyond a bound, facts are left out.
    #[must_use]
    pub fn detail(mut self, key: &str, value: &str) -> Self {
        if self.details.len() < DETAILS_LIMIT {
            self.details.insert(cut(key, DETAIL_LIMIT), cut(value, DETAIL_LIMIT));
        }
        self
    }

    /// Whether it says that something is wrong.
    #[must_use]
    pub fn is_trouble(&self) -> bool {
        self.severity > Severity::Info
    }

    /// The first line of the text.
    #[must_use]
    pub fn headline(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }
}

/// A text, at most so long, ended by `…` where something is missing.
fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let most = limit.saturating_sub('…'.len_utf8());
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_bounded() {
        let notice =
            Notice::new(Event::Failure, Severity::Critical, "t", &"ä\n".repeat(100_000), 1).about(&"s".repeat(5000));
        assert!(notice.text.len() <= TEXT_LIMIT && notice.text.ends_with('…'), "{}", notice.text.len());
        assert_eq!(notice.headline(), "ä");
        assert_eq!(notice.source.len(), DETAIL_LIMIT);
        let notice = (0..100).fold(notice, |notice, i| notice.detail(&i.to_string(), "x"));
        assert_eq!(notice.details.len(), DETAILS_LIMIT);
    }

    #[test]
    fn severities_are_ordered_by_weight() {
        assert!(Severity::ALL.is_sorted());
        assert!(Severity::Critical > Severity::Info);
    }
}
