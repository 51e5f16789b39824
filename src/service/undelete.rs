//! What was deleted and can still be brought back.

use super::{engine::Engine, error::ServiceError};
use crate::{
    clock::{micros, now_micros},
    model::{BackupId, ErrorCode},
    repository::{DeletedBackup, Record},
};

/// Fewer digits of an id are a slip.
const SHORTEST: usize = 4;

/// A backup that was brought back is kept for so long, microseconds, so that retention does not take it at once again.
const KEPT: u64 = 7 * 24 * 3_600_000_000;

/// A deleted backup, and when its space may be freed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undeletable {
    /// The backup.
    pub deleted: DeletedBackup,
    /// Until when it can be brought back, microseconds since the epoch.
    pub until: u64,
}

/// The deleted backups, those last that were deleted last.
pub(super) fn list(engine: &Engine) -> Result<Vec<Undeletable>, ServiceError> {
    let window = micros(engine.config().pruning.undelete);
    let mut all = engine.repository()?.reading().deleted()?;
    all.sort_by_key(|deleted| deleted.at);
    let until = |deleted: &DeletedBackup| if deleted.at_once { deleted.at } else { deleted.at.saturating_add(window) };
    Ok(all.into_iter().map(|deleted| Undeletable { until: until(&deleted), deleted }).collect())
}

/// Brings a deleted backup back, and pins it for a while unless it is pinned anyway.
///
/// # Errors
/// `NoSuchBackup`, `AmbiguousBackup`, `RepositoryUnavailable`, `Io`.
pub(super) fn undelete(engine: &Engine, backup: &str) -> Result<BackupId, ServiceError> {
    let opened = engine.repository()?;
    let deleted = opened.reading().deleted()?;
    let wanted = backup.to_ascii_lowercase();
    let found: Vec<&DeletedBackup> = deleted
        .iter()
        .filter(|deleted| wanted.len() >= SHORTEST && deleted.summary.id.to_string().starts_with(&wanted))
        .collect();
    let one = match found.as_slice() {
        [one] => *one,
        [] => {
            let message =
                format!("no deleted backup has an id that begins with {backup:?}, or its space is freed already");
            return Err(ServiceError::new(ErrorCode::NoSuchBackup, message));
        }
        several => {
            let message = format!("{} deleted backups have ids that begin with {backup:?}", several.len());
            return Err(ServiceError::new(ErrorCode::AmbiguousBackup, message));
        }
    };
    let (id, now) = (one.summary.id, now_micros());
    opened.owned().undelete(id)?;
    if one.summary.pin.as_ref().is_none_or(|pin| !pin.holds(now.saturating_add(KEPT))) {
        let record = Record::Pinned { at: now, until: Some(now.saturating_add(KEPT)), reason: "undeleted".to_owned() };
        opened.owned().record(id, &record)?;
    }
    opened.refresh(engine.jobs())?;
    Ok(id)
}
