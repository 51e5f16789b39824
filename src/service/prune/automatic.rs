//! After each backup of a source, what its retention does not keep any more goes.

use std::sync::{Arc, Weak};

use tokio::sync::broadcast::error::RecvError;

use super::{plan::Planner, submit};
use crate::{
    clock::now_micros,
    model::{
        ErrorCode, SourceName,
        job::{JobRecord, JobType},
    },
    repository::DeletedBackup,
    service::{
        engine::Engine,
        error::ServiceError,
        jobs::JobEvent,
        opening::Opened,
        operations::{Caller, PruneOptions},
    },
    stream::Cancel,
};

/// Prunes after backups until the engine goes away.
pub(in crate::service) fn begin(engine: &Arc<Engine>) {
    let mut events = engine.jobs().subscribe();
    let weak: Weak<Engine> = Arc::downgrade(engine);
    engine.runtime().spawn(async move {
        loop {
            let record = match events.recv().await {
                Ok(JobEvent::Finished(record)) if record.job_type == JobType::Create => record,
                Ok(_) => continue,
                // What was missed, the next backup or the timer makes good.
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            let Some(engine) = weak.upgrade() else { return };
            let after = tokio::task::spawn_blocking(move || after(&engine, &record));
            match after.await {
                Ok(Err(error)) if error.code() != ErrorCode::ShuttingDown => {
                    tracing::warn!(BACKUPD_ERROR = error.code().name(), "cannot prune after a backup: {error}");
                }
                Ok(_) => {}
                Err(defect) => tracing::error!("pruning after a backup stopped at a defect: {defect}"),
            }
        }
    });
}

/// Starts a prune, if something is to go and nothing speaks against it. That is looked at here, so that the list of jobs
/// does not fill with prunes of nothing.
fn after(engine: &Arc<Engine>, record: &JobRecord) -> Result<(), ServiceError> {
    let source = record.source.split('/').next().unwrap_or_default();
    let Ok(name) = source.parse::<SourceName>() else { return Ok(()) };
    let config = engine.config();
    if !config.pruning.automatic || record.backup.is_empty() && record.statistics.is_empty() {
        return Ok(());
    }
    let opened = engine.repository()?;
    let planner = Planner::for_prune(engine, &opened, std::slice::from_ref(&name), false, &Cancel::new())?;
    let Some(plan) = planner.plan(&name) else { return Ok(()) };
    if plan.held.is_some() {
        return Ok(()); // The timer's prune says so once a day.
    }
    if plan.going().next().is_none() {
        engine.accepted_policies().accept(&plan.source, &plan.policy);
        if !frees_something(engine, &opened)? {
            return Ok(());
        }
    }
    let own = Caller { uid: nix::unistd::geteuid().as_raw() };
    let options = PruneOptions { source: source.to_owned(), ..PruneOptions::default() };
    match submit(engine, own, options) {
        // One that runs looks at all that there is, or the next backup does.
        Err(error) if error.code() == ErrorCode::SourceBusy => Ok(()),
        other => other.map(drop),
    }
}

/// Whether something was deleted that cannot be brought back any more, so that its space can be freed.
fn frees_something(engine: &Engine, opened: &Opened) -> Result<bool, ServiceError> {
    let options = engine.gc_options(now_micros());
    let over =
        |deleted: &DeletedBackup| deleted.at_once || deleted.at.saturating_add(options.undelete_window) <= options.now;
    Ok(opened.reading().deleted()?.iter().any(over))
}
