//! The journal's record of calls: who was let do what, with what result, and who was not.
//!
//! Invariants: every accepted call that changes something is one line, with its result; every refused one is, until a
//! user was refused so often that more would only fill the journal: then the next line says how many there were. Calls
//! that only look, which may be a thousand a second, are lines of the level debug, and cost nothing while that is off.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use zbus::OwnedObjectPath;

use super::{
    action::{About, Action},
    error::ApiError,
    identity::Origin,
};
use crate::{
    model::{
        job::{JobNumber, JobRecord},
        message_id,
    },
    service::operations::Caller,
};

/// Refusals of one user that are written down within [`WINDOW`].
const REFUSALS: u32 = 20;
/// See [`REFUSALS`].
const WINDOW: Duration = Duration::from_secs(60);
/// Users whose refusals are counted apart.
const USERS: usize = 256;

/// Whether accepted calls of this action are written down now.
pub(super) fn is_recorded(action: Action) -> bool {
    action != Action::Inspect || tracing::enabled!(tracing::Level::DEBUG)
}

/// A call that was let through.
#[must_use = "the journal gets its result"]
pub(super) struct Grant {
    pub(super) caller: Caller,
    /// Nothing for a call that is not written down.
    pub(super) entry: Option<Box<Entry>>,
}

/// What is written down of a call.
pub(super) struct Entry {
    pub(super) caller: Caller,
    pub(super) origin: Origin,
    pub(super) member: String,
    pub(super) about: About,
}

impl Grant {
    /// Writes the call down, and hands its result on.
    pub(super) fn conclude<T>(self, result: Result<T, ApiError>) -> Result<T, ApiError> {
        if let Some(entry) = self.entry {
            entry.accepted(result.as_ref().err(), None);
        }
        result
    }

    /// As [`Grant::conclude`], for a call that started a job.
    pub(super) fn conclude_job(
        self,
        result: Result<(JobNumber, OwnedObjectPath), ApiError>,
        job: impl FnOnce(JobNumber) -> Option<JobRecord>,
    ) -> Result<(JobNumber, OwnedObjectPath), ApiError> {
        if let Some(entry) = self.entry {
            let job = result.as_ref().ok().and_then(|(number, _)| job(*number));
            entry.accepted(result.as_ref().err(), job.as_ref());
        }
        result
    }
}

impl Entry {
    fn accepted(&self, error: Option<&ApiError>, job: Option<&JobRecord>) {
        let (Self { caller, origin, member, about }, action) = (self, self.about.action.id());
        let result = match (error, job) {
            (Some(error), _) => format!("it failed: {}", error.message()),
            (None, Some(job)) => format!("it started job {}", job.number),
            (None, None) => "it was done".to_owned(),
        };
        let source = job.map_or(&about.source, |job| &job.source);
        let backup = job.map(|job| &job.backup).filter(|backup| !backup.is_empty()).unwrap_or(&about.backup);
        macro_rules! write_down {
            ($level:ident) => {
                tracing::$level!(
                    MESSAGE_ID = message_id::CALL_ACCEPTED,
                    BACKUPD_CALL = member,
                    BACKUPD_CALLER_UID = caller.uid,
                    BACKUPD_CALLER_PID = origin.process,
                    BACKUPD_CALLER_UNIT = some(&origin.unit),
                    BACKUPD_CALLER_SENDER = some(&origin.sender),
                    BACKUPD_POLKIT_ACTION = action,
                    BACKUPD_SOURCE = some(source),
                    BACKUPD_BACKUP = some(backup),
                    BACKUPD_JOB = job.map(|job| job.run_id.to_string()),
                    BACKUPD_JOB_NUMBER = job.map(|job| job.number),
                    BACKUPD_RESULT = if error.is_some() { "failed" } else { "done" },
                    BACKUPD_ERROR = error.map(|error| error.code().name()),
                    "{member}{} by {}: {result}",
                    object(source, backup),
                    by(*caller, origin)
                )
            };
        }
        match about.action {
            Action::Inspect => write_down!(debug),
            _ => write_down!(info),
        }
    }

    /// Writes a refusal down; `before` were not.
    pub(super) fn refused(&self, error: &ApiError, before: u32) {
        let Self { caller, origin, member, about } = self;
        let more = if before == 0 { String::new() } else { format!(" ({before} refusals before it were not logged)") };
        tracing::warn!(
            MESSAGE_ID = message_id::CALL_REFUSED,
            BACKUPD_CALL = member,
            BACKUPD_CALLER_UID = caller.uid,
            BACKUPD_CALLER_PID = origin.process,
            BACKUPD_CALLER_UNIT = some(&origin.unit),
            BACKUPD_CALLER_SENDER = some(&origin.sender),
            BACKUPD_POLKIT_ACTION = about.action.id(),
            BACKUPD_SOURCE = some(&about.source),
            BACKUPD_BACKUP = some(&about.backup),
            BACKUPD_RESULT = "refused",
            BACKUPD_ERROR = error.code().name(),
            "refused {member}{} by {}: {}{more}",
            object(&about.source, &about.backup),
            by(*caller, origin),
            error.message()
        );
    }
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// ` of shop (backup 0f3a…)`.
fn object(source: &str, backup: &str) -> String {
    match (source.is_empty(), backup.is_empty()) {
        (true, true) => String::new(),
        (false, true) => format!(" of {source:?}"),
        (true, false) => format!(" of {backup:?}"),
        (false, false) => format!(" of {source:?}, backup {backup}"),
    }
}

fn by(caller: Caller, origin: &Origin) -> String {
    let process = origin.process.map(|process| format!(", process {process}")).unwrap_or_default();
    let unit = if origin.unit.is_empty() { String::new() } else { format!(" of {}", origin.unit) };
    format!("the user with the id {}{process}{unit}", caller.uid)
}

/// How often whom was refused.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<u32, Window>>);

#[derive(Debug)]
struct Window {
    since: Instant,
    written: u32,
    left_out: u32,
}

impl Refusals {
    /// Whether the next refusal of this user is written down, and if so how many before it were not.
    pub(super) fn count(&self, uid: u32, now: Instant) -> Option<u32> {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |window: &Window| now.saturating_duration_since(window.since) >= WINDOW;
        if users.len() >= USERS && !users.contains_key(&uid) {
            users.retain(|_, window| !is_over(window) || window.left_out > 0);
            if users.len() >= USERS {
                return None; // So many users at once are one that plays games.
            }
        }
        let window = users.entry(uid).or_insert(Window { since: now, written: 0, left_out: 0 });
        if is_over(window) {
            (window.since, window.written) = (now, 0);
        }
        if window.written >= REFUSALS {
            window.left_out = window.left_out.saturating_add(1);
            return None;
        }
        window.written += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_becomes_a_number() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let written = (0..1000).filter(|_| refusals.count(7, start).is_some()).count();
        assert_eq!(written, REFUSALS as usize);
        assert_eq!(refusals.count(8, start), Some(0), "another user has a count of his own");
        assert_eq!(refusals.count(7, start + WINDOW), Some(1000 - REFUSALS));
        assert_eq!(refusals.count(7, start + WINDOW), Some(0));
    }

    #[test]
    fn the_count_is_bounded() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let written = (0..100_000).filter(|uid| refusals.count(*uid, start).is_some()).count();
        assert_eq!(written, USERS);
        assert_eq!(refusals.count(100_000, start + WINDOW), Some(0));
        assert!(refusals.0.lock().unwrap().len() <= USERS);
    }
}
