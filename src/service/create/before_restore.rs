//! The backup that is taken of what a restore is about to replace, within the restore's own job.

use std::sync::Arc;

use super::{one::Creation, taking::Taking};
use crate::{
    config::SourceKind,
    model::{BackupId, manifest::Selection, summary::BackupSummary},
    service::{ServiceError, engine::Engine, jobs::JobHandle, operations::CreateOptions},
    source::postgres::dump::SharedGlobals,
};

/// The tag of such a backup.
pub(in crate::service) const TAG: &str = "pre-restore";

/// Takes it, with the selection of the source. `None` where what is replaced is not what the source backs up, or where
/// the source takes only parts of it: then no backup would bring it back whole. The job holds the source's key.
///
/// # Errors
/// As those of a backup.
pub(in crate::service) fn before_restore(
    engine: &Arc<Engine>,
    restored: &BackupSummary,
    to: &str,
    job: &JobHandle,
) -> Result<Option<BackupId>, ServiceError> {
    let config = engine.config();
    let key = restored.source.clone();
    let Some(source) = config.sources.get(&key.source) else { return Ok(None) };
    let (taking, is_original) = match (&source.kind, &key.child) {
        (SourceKind::Postgres(postgres), child) => {
            let database = child.as_ref().unwrap_or(&postgres.connection.database);
            let globals = SharedGlobals::default();
            let whole = postgres.selection == Selection::default();
            let taking = Taking::of_database(postgres, database, &Selection::default(), &globals)?;
            (taking, whole && (to.is_empty() || database.as_str() == Some(to)))
        }
        (SourceKind::Sqlite(sqlite), _) => {
            let real = |path: &std::path::Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            let is_original = to.is_empty() || real(&sqlite.path) == real(to.as_ref());
            (Taking::of(&source.kind, &Selection::default())?, is_original)
        }
    };
    if !is_original {
        return Ok(None);
    }
    let creation = Creation {
        engine,
        config: &config,
        source,
        options: &CreateOptions {
            description: format!("before #{} was restored by job {}", restored.sequence, job.number),
            tags: vec![TAG.to_owned()],
            selection: Selection::default(),
        },
        key,
        run_id: job.run_id,
        whole_run: false,
    };
    let committed = creation.run(&taking, &job.context)?;
    engine.repository()?.refresh(engine.jobs())?;
    Ok(Some(committed.id))
}
