//! What an interrupted restore left is taken away at the next start.

use std::sync::Arc;

use super::{
    journal::{Entry, RestoreJournal, Temporary},
    target::PostgresTarget,
};
use crate::{
    config::SourceKind,
    model::{ErrorCode, message_id},
    service::{ServiceError, engine::Engine},
    source::{postgres::restore as postgres, sqlite::restore as sqlite},
};

/// Drops the half-built databases that an earlier run of the daemon left, in the background. A server that does not
/// answer now is asked again at the next start; the entry stays until then.
pub(in crate::service) fn sweep_after_crash(engine: &Arc<Engine>) {
    let journal = RestoreJournal::new(&engine.folders().state);
    let entries = match journal.entries() {
        Ok(entries) if entries.is_empty() => return,
        Ok(entries) => entries,
        Err(error) => {
            tracing::error!(
                MESSAGE_ID = message_id::LEFTOVERS_STAY,
                "{error}; databases that a crash left half restored stay, named *__restore_*"
            );
            return;
        }
    };
    let engine = engine.clone();
    let runtime = engine.runtime().clone();
    runtime.clone().spawn_blocking(move || {
        for entry in entries {
            match sweep_one(&engine, &entry) {
                Ok(()) => {
                    tracing::info!(
                        MESSAGE_ID = message_id::LEFTOVERS_REMOVED,
                        BACKUPD_JOB = %entry.run_id,
                        BACKUPD_SOURCE = entry.source,
                        "removed {}, which an interrupted restore left",
                        entry.temporary
                    );
                    if let Err(error) = journal.remove(entry.run_id) {
                        tracing::warn!("{error}");
                    }
                }
                Err(error) => tracing::error!(
                    MESSAGE_ID = message_id::LEFTOVERS_STAY,
                    BACKUPD_JOB = %entry.run_id,
                    BACKUPD_SOURCE = entry.source,
                    BACKUPD_ERROR = error.code().name(),
                    "cannot remove {}, which an interrupted restore of {} left: {error}; it is tried again at the next start",
                    entry.temporary,
                    entry.source
                ),
            }
        }
    });
}

fn sweep_one(engine: &Engine, entry: &Entry) -> Result<(), ServiceError> {
    let database = match &entry.temporary {
        Temporary::File(path) => return Ok(sqlite::sweep(path)?),
        Temporary::Database(database) => database,
    };
    let config = engine.config();
    let source = entry.source.parse().ok().and_then(|name| config.sources.get(&name)).ok_or_else(|| {
        ServiceError::new(ErrorCode::NoSuchSource, format!("source {} is not configured any more", entry.source))
    })?;
    let SourceKind::Postgres(source) = &source.kind else {
        return Err(ServiceError::new(
            ErrorCode::NoSuchSource,
            format!("source {} is no PostgreSQL server any more", entry.source),
        ));
    };
    let checks = engine.early_checks()?;
    let names = std::slice::from_ref(database);
    Ok(postgres::sweep(&PostgresTarget::of(source).connection, names, checks.context())?)
}
