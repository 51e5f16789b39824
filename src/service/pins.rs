//! Pins: somebody's word that a backup is to be kept, whatever its source's retention says.

use super::{engine::Engine, error::ServiceError};
use crate::{clock::now_micros, model::ErrorCode, repository::Record};

pub(super) fn pin(engine: &Engine, backup: &str, until: u64, reason: &str) -> Result<(), ServiceError> {
    let now = now_micros();
    if until != 0 && until <= now {
        let message = format!("cannot pin {backup} until a time that is past; leave the end out for a pin without one");
        return Err(ServiceError::new(ErrorCode::InvalidArgs, message));
    }
    let until = (until != 0).then_some(until);
    let (opened, chosen) = engine.choose(backup)?;
    for backup in chosen.into_backups() {
        opened.owned().record(backup.id, &Record::Pinned { at: now, until, reason: reason.to_owned() })?;
    }
    opened.refresh(engine.jobs())
}

pub(super) fn unpin(engine: &Engine, backup: &str) -> Result<(), ServiceError> {
    let (opened, chosen) = engine.choose(backup)?;
    for backup in chosen.into_backups() {
        opened.owned().unpin(backup.id)?;
    }
    opened.refresh(engine.jobs())
}
