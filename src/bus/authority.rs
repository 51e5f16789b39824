//! Who may do what: polkit on a message bus, nobody but the trusted users on a socket of the daemon's own.
//!
//! Invariants: whoever is not trusted and whom nobody allows is refused, so no polkitd means no; a question has a
//! bound in time and each user a bound in questions, so that one who never answers keeps nobody else waiting; after a
//! question that somebody could answer, the caller is looked at again.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use zbus::{
    Connection, fdo,
    message::{Flags, Header},
    proxy::CacheProperties,
};
use zbus_polkit::policykit1::{AuthorityProxy, AuthorizationResult, CheckAuthorizationFlags, Subject};

use super::{
    action::About,
    error::ApiError,
    identity::{BusClient, Identity as _},
};
use crate::{model::ErrorCode, service::operations::Caller};

/// How long a person may take to answer; sd-bus and polkit's agents have no limit of their own.
const PERSON_LIMIT: Duration = Duration::from_secs(120);
/// How long polkit may take without one.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long it may take for a property. zbus lets no object come or go meanwhile, so this is well below the time in
/// which a signal must go out.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// How long an answer about the properties of an object holds for one client, so that reading all of them is one question.
const READ_MEMORY: Duration = Duration::from_secs(5);
/// Such answers that are remembered.
const READS: usize = 256;
/// Questions that polkit is asked for one user at once.
const QUESTIONS_PER_USER: usize = 8;

/// How a call can be let wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// As its flag says: a person may be asked.
    Call,
    /// Nobody is asked, and an answer holds for a while.
    Read,
    /// Nobody is asked: for what sets a property.
    Set,
}

/// Decides about callers who are neither root nor the user of the daemon.
pub(super) trait Authority: Send + Sync {
    /// Whether this caller may do this.
    fn check<'a>(
        &'a self,
        connection: &'a Connection,
        call: &'a Header<'_>,
        caller: Caller,
        about: &'a About,
        patience: Patience,
    ) -> BoxFuture<'a, Result<(), ApiError>>;
}

/// Lets nobody else do anything.
#[derive(Debug, Clone, Copy)]
pub(super) struct TrustedOnly;

impl Authority for TrustedOnly {
    fn check<'a>(
        &'a self,
        _: &'a Connection,
        call: &'a Header<'_>,
        caller: Caller,
        _: &'a About,
        _: Patience,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        let why = "only root and the user of the daemon may";
        Box::pin(std::future::ready(Err(denied(caller, call, why))))
    }
}

/// Asks the polkitd of the bus.
#[derive(Debug, Default)]
pub(super) struct Polkit {
    asked: Mutex<HashMap<u32, usize>>,
    questions: AtomicU64,
    /// By client and object.
    reads: Mutex<HashMap<(String, String), Read>>,
}

#[derive(Debug)]
struct Read {
    at: Instant,
    answer: Result<(), ApiError>,
}

impl Authority for Polkit {
    fn check<'a>(
        &'a self,
        connection: &'a Connection,
        call: &'a Header<'_>,
        caller: Caller,
        about: &'a About,
        patience: Patience,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move {
            if patience != Patience::Read {
                return self.decide(connection, call, caller, about, patience).await;
            }
            let object = (call.sender().map(ToString::to_string), call.path().map(ToString::to_string));
            let (Some(client), Some(path)) = object else { return Err(denied(caller, call, "it has no sender")) };
            if let Some(known) = self.remembered(&client, &path) {
                return known;
            }
            let answer = self.decide(connection, call, caller, about, patience).await;
            self.remember(client, path, &answer);
            answer
        })
    }
}

impl Polkit {
    async fn decide(
        &self,
        connection: &Connection,
        call: &Header<'_>,
        caller: Caller,
        about: &About,
        patience: Patience,
    ) -> Result<(), ApiError> {
        let _question = self.begin(caller)?;
        let person = patience == Patience::Call && call.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
        let answer = self.ask(connection, call, about, person, patience).await;
        let answer = answer.map_err(|why| denied(caller, call, &why))?;
        judge(&answer, caller, call, about, person)?;
        // It may have been minutes: an answer is for one who is still there.
        if person && BusClient.caller(connection, call).await.ok() != Some(caller) {
            return Err(denied(caller, call, "the caller went away while somebody was asked"));
        }
        Ok(())
    }

    fn remembered(&self, client: &str, path: &str) -> Option<Result<(), ApiError>> {
        let reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let read = reads.get(&(client.to_owned(), path.to_owned()))?;
        (read.at.elapsed() < READ_MEMORY).then(|| read.answer.clone())
    }

    fn remember(&self, client: String, path: String, answer: &Result<(), ApiError>) {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        if reads.len() >= READS {
            reads.retain(|_, read| read.at.elapsed() < READ_MEMORY);
        }
        if reads.len() < READS {
            reads.insert((client, path), Read { at: Instant::now(), answer: answer.clone() });
        }
    }

    /// Counts a question of a user's, until it is dropped.
    fn begin(&self, caller: Caller) -> Result<Question<'_>, ApiError> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let count = asked.entry(caller.uid).or_default();
        if *count >= QUESTIONS_PER_USER {
            let message = format!(
                "{QUESTIONS_PER_USER} calls of the user with the id {} wait for authorisation; answer them first",
                caller.uid
            );
            return Err(ApiError::new(ErrorCode::LimitsExceeded, message));
        }
        *count += 1;
        Ok(Question { polkit: self, uid: caller.uid })
    }

    /// polkit's answer, or why there is none.
    async fn ask(
        &self,
        connection: &Connection,
        call: &Header<'_>,
        about: &About,
        person: bool,
        patience: Patience,
    ) -> Result<AuthorizationResult, String> {
        let broken = |error: &dyn std::fmt::Display| format!("polkit cannot be asked: {error}");
        let subject = Subject::new_for_message_header(call).map_err(|_| "the message has no sender".to_owned())?;
        let polkit = AuthorityProxy::builder(connection).cache_properties(CacheProperties::No).build().await;
        let polkit = polkit.map_err(|error| broken(&error))?;
        let id = format!("backupd-{}", self.questions.fetch_add(1, Ordering::Relaxed));
        let (flags, limit) = match (person, patience) {
            (true, _) => (CheckAuthorizationFlags::ALLOW_USER_INTERACTION, PERSON_LIMIT),
            (false, Patience::Call) => (CheckAuthorizationFlags::empty(), ANSWER_LIMIT),
            (false, Patience::Read | Patience::Set) => (CheckAuthorizationFlags::empty(), READ_LIMIT),
        };
        let details = about.details();
        let asking = polkit.check_authorization(&subject, about.action.id(), &details, flags, &id);
        match tokio::time::timeout(limit, asking).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if is_absent(&error) => {
                Err("polkit is not running here, and without it only root and the user of the daemon may".to_owned())
            }
            Ok(Err(error)) => Err(broken(&error)),
            Err(_) => {
                // Whether it is still there to take the question back does not matter.
                let _ = tokio::time::timeout(READ_LIMIT, polkit.cancel_check_authorization(&id)).await;
                Err(format!("there was no answer within {} seconds", limit.as_secs()))
            }
        }
    }
}

/// A question that is under way.
struct Question<'a> {
    polkit: &'a Polkit,
    uid: u32,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        let mut asked = self.polkit.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = asked.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                asked.remove(&self.uid);
            }
        }
    }
}

fn is_absent(error: &zbus::Error) -> bool {
    let zbus::Error::MethodError(name, ..) = error else {
        return matches!(
            error,
            zbus::Error::FDO(error)
                if matches!(**error, fdo::Error::ServiceUnknown(_) | fdo::Error::NameHasNoOwner(_))
        );
    };
    ["org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner"].contains(&name.as_str())
}

/// What polkit's answer means for the caller.
fn judge(
    answer: &AuthorizationResult,
    caller: Caller,
    call: &Header<'_>,
    about: &About,
    person: bool,
) -> Result<(), ApiError> {
    if answer.is_authorized {
        return Ok(());
    }
    let action = about.action.id();
    if answer.details.contains_key("polkit.dismissed") {
        return Err(denied(caller, call, &format!("the question about {action} was dismissed")));
    }
    if !answer.is_challenge {
        return Err(denied(caller, call, &format!("polkit does not allow {action}")));
    }
    let how = if person {
        "and no authentication agent of the caller's answers; run it as root, on a terminal, or in a desktop session"
    } else {
        "and the call does not allow a question (the flag ALLOW_INTERACTIVE_AUTHORIZATION)"
    };
    let message = format!("{} needs authentication for {action}, {how}", member(call));
    Err(ApiError::new(ErrorCode::InteractiveAuthorizationRequired, message))
}

fn denied(caller: Caller, call: &Header<'_>, why: &str) -> ApiError {
    let message = format!("the user with the id {} may not call {}: {why}", caller.uid, member(call));
    ApiError::new(ErrorCode::AccessDenied, message)
}

fn member<'a>(call: &'a Header<'_>) -> &'a str {
    call.member().map_or("", |member| member.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_bound_of_questions_that_others_do_not_share() {
        let polkit = Polkit::default();
        let begin = |uid| polkit.begin(Caller { uid });
        let mut under_way: Vec<_> = (0..QUESTIONS_PER_USER).map(|_| begin(7).map_err(drop).unwrap()).collect();
        assert!(begin(7).is_err() && begin(8).is_ok());
        under_way.pop();
        assert!(begin(7).is_ok());
        under_way.clear();
        assert!(polkit.asked.lock().unwrap().is_empty());
    }
}
