//! The health of the backups, kept current: facts are gathered every few minutes and after each job, judged by
//! [`crate::health`], and what changed is told.
//!
//! - `gather`: the facts; `clients`: those that a server has to be asked for; [`host`]: what systemd knows;
//!   `memory`: what is remembered across restarts; [`change`]: what changed.
//!
//! Invariants: one gathers at a time; a report that could be made only in part (the repository is still being opened) is
//! shown but compared with nothing; every change is told once, across restarts too.

pub mod change;
mod clients;
mod gather;
pub mod host;
mod memory;

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, broadcast, watch};

pub use self::change::HealthChange;
use self::{clients::Clients, host::Host, memory::Memory};
use super::{engine::Engine, jobs::JobEvent, operations::Operations as _};
use crate::{
    clock::now_micros,
    health::{Code, Finding, Report, Severity, assess},
    model::message_id,
};

/// How often health is looked at while nothing happens.
const INTERVAL: Duration = Duration::from_secs(300);
/// How long is waited after something happened, for what comes with it.
const SETTLE: Duration = Duration::from_millis(200);
/// How old a report may be that answers a question, microseconds.
const FRESH: u64 = 1_000_000;
/// How long the first opening of the repository is waited for.
const OPENING_PATIENCE: Duration = Duration::from_secs(60);
/// Changes that a slow listener may be behind before it misses some; it then looks at the report.
const CHANGES: usize = 256;

/// The current report, and who makes it.
#[derive(Debug)]
pub struct Watch {
    report: watch::Sender<Arc<Report>>,
    changes: broadcast::Sender<HealthChange>,
    host: OnceLock<Arc<dyn Host>>,
    wake: Notify,
    /// Held by the one who gathers.
    memory: Mutex<Option<Memory>>,
    /// Held for a moment only, never while a server is asked.
    clients: Mutex<Clients>,
}

impl Default for Watch {
    fn default() -> Self {
        let nothing = Report { severity: Severity::Unknown, ..Report::default() };
        Self {
            report: watch::Sender::new(Arc::new(nothing)),
            changes: broadcast::Sender::new(CHANGES),
            host: OnceLock::new(),
            wake: Notify::new(),
            memory: Mutex::default(),
            clients: Mutex::default(),
        }
    }
}

impl Watch {
    /// The report as it was made last; of no time and `Unknown` before the first.
    #[must_use]
    pub fn current(&self) -> Arc<Report> {
        self.report.borrow().clone()
    }

    /// The reports from now on, also those in which nothing changed.
    #[must_use]
    pub fn reports(&self) -> watch::Receiver<Arc<Report>> {
        self.report.subscribe()
    }

    /// What changes from now on: findings that come, get better or worse, and go.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<HealthChange> {
        self.changes.subscribe()
    }

    /// What is known of client programs; asks servers only where that is wanted.
    fn clients(&self, engine: &Engine, ask: bool) -> Clients {
        let lock = || self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let mut clients = lock().clone();
        if ask {
            clients.refresh(engine);
            lock().clone_from(&clients);
        }
        clients
    }

    /// States what systemd is asked through. Later calls change nothing.
    pub fn ask(&self, host: Arc<dyn Host>) {
        let _ = self.host.set(host);
        self.wake.notify_one();
    }
}

/// Looks after health for as long as the engine lives, in the background.
pub(super) fn begin(engine: &Arc<Engine>) {
    let weak = Arc::downgrade(engine);
    let runtime = engine.runtime().clone();
    let mut events = engine.jobs().subscribe();
    let mut overview = engine.changes().subscribe();
    runtime.clone().spawn(async move {
        let Some(engine) = weak.upgrade() else { return };
        let _ = tokio::time::timeout(OPENING_PATIENCE, engine.opened()).await;
        drop(engine);
        loop {
            let Some(engine) = weak.upgrade() else { return };
            let watch = engine.health_watch().clone();
            overview.mark_unchanged();
            let looked = runtime.spawn_blocking(move || look(&engine, true)).await;
            if let Err(defect) = looked {
                tracing::error!("health could not be looked at: {defect}");
            }
            let something = async {
                loop {
                    tokio::select! {
                        event = events.recv() => match event {
                            Ok(JobEvent::Finished(_)) | Err(broadcast::error::RecvError::Lagged(_)) => return true,
                            Ok(_) => {}
                            Err(broadcast::error::RecvError::Closed) => return false,
                        },
                        changed = overview.changed() => return changed.is_ok(),
                        () = watch.wake.notified() => return true,
                    }
                }
            };
            match tokio::time::timeout(INTERVAL, something).await {
                Ok(false) => return,
                Ok(true) => tokio::time::sleep(SETTLE).await,
                Err(_) => {}
            }
        }
    });
}

/// The report, made anew unless the last one is fresh. Blocks.
pub(super) fn report(engine: &Engine) -> Arc<Report> {
    look(engine, false)
}

fn look(engine: &Engine, always: bool) -> Arc<Report> {
    let watch = engine.health_watch();
    let clients = watch.clients(engine, always);
    let mut memory = watch.memory.lock().unwrap_or_else(PoisonError::into_inner);
    let current = watch.current();
    if !always && current.at.abs_diff(now_micros()) < FRESH {
        return current;
    }
    let state = &engine.folders().state;
    let memory = memory.get_or_insert_with(|| Memory::open(state));
    let host = watch.host.get().map(|host| &**host);
    let facts = gather::gather(engine, memory, &clients, host);
    let report = Arc::new(assess(&facts));
    let partial = report.findings.iter().any(|finding| finding.code == Code::RepositoryOpening);
    if !partial {
        let changes = change::changes(memory.report(), &report);
        memory.remember(&report, facts.repository.free);
        for change in changes {
            tell(&change);
            // Nobody has to listen.
            let _ = watch.changes.send(change);
        }
    }
    let before = watch.report.send_replace(report.clone());
    if before.severity != report.severity {
        engine.changes_noted();
    }
    report
}

/// Writes a change into the journal.
fn tell(change: &HealthChange) {
    let Finding { code, severity, source, message, advice } = &change.finding;
    let (code, source) = (code.name(), source.as_deref());
    let now = if change.is_over() { Severity::Ok } else { *severity };
    macro_rules! event {
        ($level:ident, $($text:tt)*) => {
            tracing::$level!(
                MESSAGE_ID = message_id::HEALTH_CHANGED,
                BACKUPD_SOURCE = source,
                BACKUPD_FINDING = code,
                BACKUPD_HEALTH = now.as_str(),
                $($text)*
            )
        };
    }
    match now {
        Severity::Critical => event!(error, "health: {message}. {advice}"),
        Severity::Warning | Severity::Unknown => event!(warn, "health: {message}. {advice}"),
        Severity::Ok => event!(info, "health: over: {message}"),
    }
}
