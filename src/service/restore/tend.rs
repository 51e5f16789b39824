//! What restores leave is looked after: what a crash cut off is finished or taken away, and undo copies whose time is
//! over are dropped.
//!
//! Invariants: the entry of a job that runs is the job's own; whatever cannot be done now, because a server does not
//! answer, stays written down and is tried again; nothing wakes the daemon while there is nothing to look after.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    exclusive_key,
    journal::{Entry, Journal, Temporary},
    kept, undo,
};
use crate::{
    clock::now_micros,
    model::{ErrorCode, message_id},
    service::{ServiceError, engine::Engine},
    source::{Settled, postgres::restore as postgres, sqlite::restore as sqlite},
};

/// How often is tried again what failed.
const AGAIN: Duration = Duration::from_secs(60);
/// The longest sleep: clocks are set, and a sleep does not notice.
const LONGEST: Duration = Duration::from_secs(3600);

/// One at a time looks after the journal; others wake it.
#[derive(Debug, Default)]
pub(in crate::service) struct Tending {
    wake: Notify,
    busy: Mutex<()>,
}

impl Tending {
    /// There may be something new to look after.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }
}

/// Looks after the journal for as long as the engine lives, in the background.
pub(in crate::service) fn begin(engine: &Arc<Engine>) {
    let weak = Arc::downgrade(engine);
    let runtime = engine.runtime().clone();
    runtime.clone().spawn(async move {
        loop {
            let Some(engine) = weak.upgrade() else { return };
            let tended = engine.clone();
            let next = runtime.spawn_blocking(move || tend(&tended)).await.unwrap_or(Some(AGAIN));
            // Only what must be is held while sleeping.
            let tending = engine.tending().clone();
            drop(engine);
            match next {
                Some(after) => drop(tokio::time::timeout(after.min(LONGEST), tending.wake.notified()).await),
                None => tending.wake.notified().await,
            }
        }
    });
}

/// Looks once; says when to look again.
fn tend(engine: &Engine) -> Option<Duration> {
    let _alone = engine.tending().busy.lock().unwrap_or_else(PoisonError::into_inner);
    let journal = Journal::of(engine);
    let cut_off = clear_entries(engine, &journal, |_| true);
    let expiry = drop_expired(engine, &journal);
    match (cut_off, expiry) {
        (true, expiry) => expiry,
        (false, expiry) => Some(expiry.unwrap_or(AGAIN).min(AGAIN)),
    }
}

/// Finishes what was cut off of a source before something new begins with it. What cannot be is said in the journal
/// and, where it matters, by the plan of what begins.
pub(super) fn clear(engine: &Engine, source: &str) {
    let _alone = engine.tending().busy.lock().unwrap_or_else(PoisonError::into_inner);
    clear_entries(engine, &Journal::of(engine), |entry| entry.source == source);
}

/// Says whether nothing is left of what was cut off.
fn clear_entries(engine: &Engine, journal: &Journal, which: impl Fn(&Entry) -> bool) -> bool {
    // First: an entry that comes later is that of a job which was not there yet.
    let entries = match journal.entries.all() {
        Ok(entries) => entries,
        Err(error) => {
            tracing::error!(
                MESSAGE_ID = message_id::LEFTOVERS_STAY,
                "{error}; databases that a crash left half restored stay, named *__restore_*"
            );
            return false;
        }
    };
    let running: Vec<_> = engine.jobs().active().into_iter().map(|job| job.record.run_id).collect();
    let mut all = true;
    for entry in entries.iter().filter(|entry| which(entry) && !running.contains(&entry.run_id)) {
        all &= clear_one(engine, journal, entry);
    }
    all
}

fn clear_one(engine: &Engine, journal: &Journal, entry: &Entry) -> bool {
    let cleared =
        clear_entry(engine, journal, entry).and_then(|done| journal.entries.remove(entry.run_id).map(|()| done));
    match cleared {
        Ok(done) => tracing::info!(
            MESSAGE_ID = message_id::LEFTOVERS_REMOVED,
            BACKUPD_JOB = %entry.run_id,
            BACKUPD_SOURCE = entry.source,
            "{done}"
        ),
        Err(error) => {
            tracing::error!(
                MESSAGE_ID = message_id::LEFTOVERS_STAY,
                BACKUPD_JOB = %entry.run_id,
                BACKUPD_SOURCE = entry.source,
                BACKUPD_ERROR = error.code().name(),
                "cannot clear up after an interrupted restore of {}: {error}; it is tried again",
                entry.source
            );
            return false;
        }
    }
    true
}

/// Finishes one, and says what was done.
fn clear_entry(engine: &Engine, journal: &Journal, entry: &Entry) -> Result<String, ServiceError> {
    if let Some(swap) = &entry.swap
        && swap.settle(engine, &entry.source)? == Settled::Swapped
    {
        journal.swapped(entry, swap, engine.config().undo.keep)?;
        swap.finish()?;
        undo::measure(engine, entry.run_id);
        return Ok(format!(
            "an interrupted job had put the other database in the place of {}; the one before is kept as {}",
            swap.target(),
            swap.place()
        ));
    }
    match &entry.temporary {
        Some(Temporary::File(path)) => sqlite::sweep(path)?,
        Some(Temporary::Database(name)) => {
            let checks = engine.early_checks()?;
            let connection = kept::server(engine, &entry.source)?.connection;
            postgres::sweep(&connection, std::slice::from_ref(name), checks.context())?;
        }
        None => return Ok(format!("an interrupted undo of {} left everything as it was", entry.source)),
    }
    let temporary = entry.temporary.as_ref().map(ToString::to_string).unwrap_or_default();
    Ok(format!("removed {temporary}, which an interrupted restore left"))
}

/// Drops the undo copies whose time is over; says when the next one's is.
fn drop_expired(engine: &Engine, journal: &Journal) -> Option<Duration> {
    let copies = match journal.copies.all() {
        Ok(copies) => copies,
        Err(error) => {
            tracing::error!(MESSAGE_ID = message_id::LEFTOVERS_STAY, "{error}; undo copies are not dropped");
            return Some(AGAIN);
        }
    };
    let now = now_micros();
    let mut next: Option<Duration> = None;
    for copy in copies {
        let left = copy.until.saturating_sub(now);
        let again = if left > 0 {
            Duration::from_micros(left)
        } else if engine.jobs().holder(&exclusive_key(&copy.source, &copy.to)).is_some() {
            // An undo that began in time comes to its end.
            AGAIN
        } else {
            match undo::drop_copy(engine, journal, &copy) {
                Ok(()) => continue,
                Err(error) => {
                    tracing::error!(
                        MESSAGE_ID = message_id::LEFTOVERS_STAY,
                        BACKUPD_JOB = %copy.run_id,
                        BACKUPD_SOURCE = copy.source,
                        BACKUPD_ERROR = error.code().name(),
                        "cannot drop {}, which was kept for an undo until now: {error}; it is tried again",
                        copy.kept
                    );
                    // Who took the source away has to put it back, or to drop the copy by hand.
                    if error.code() == ErrorCode::NoSuchSource { LONGEST } else { AGAIN }
                }
            }
        };
        next = Some(next.map_or(again, |next| next.min(again)));
    }
    next
}
