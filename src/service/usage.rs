//! How much space backups and sources need, as JSON.

use serde_json::{Value, json};

use super::{engine::Engine, error::ServiceError};
use crate::{
    model::{BackupId, SourceKey},
    repository::{
        Usage,
        usage::{BackupUsage, SourceUsage},
    },
    stream::Cancel,
};

/// The repository's space, by backup and source; sizes in bytes.
///
/// # Errors
/// `RepositoryUnavailable`, `Io`.
pub(super) fn describe(engine: &Engine) -> Result<Value, ServiceError> {
    let opened = engine.repository()?;
    let usage = opened.reading().usage(&Cancel::new())?;
    Ok(shown(&usage))
}

fn shown(usage: &Usage) -> Value {
    let source = |(source, of): (&SourceKey, &SourceUsage)| {
        json!({
            "source": source.to_string(), "own_bytes": of.own, "unique_bytes": of.unique, "shared_bytes": of.shared,
        })
    };
    let backup = |(id, of): (&BackupId, &BackupUsage)| {
        json!({
            "id": id, "own_bytes": of.own, "unique_bytes": of.unique, "shared_bytes": of.shared,
            "frees_bytes": of.freed_if_deleted(),
        })
    };
    json!({
        "total_bytes": usage.total(),
        "own_bytes": usage.own,
        "unique_bytes": usage.unique,
        "shared_bytes": usage.shared,
        "deleted_bytes": usage.deleted,
        "unreferenced_bytes": usage.unreferenced,
        "other_bytes": usage.other,
        "packs": usage.pack_count,
        "sources": usage.sources.iter().map(source).collect::<Vec<_>>(),
        "backups": usage.backups.iter().map(backup).collect::<Vec<_>>(),
    })
}
