//! One run of a backup: its session, and the clean-up when it is given up.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    OwnedRepository, RepositoryError,
    layout::{BackupFolder, CHUNK_INDEX, EXTENTS, MANIFEST},
    session::SessionWriter,
};
use crate::{
    fail_point,
    model::{RunId, manifest::Pack},
};

/// A run that is not committed yet. Dropping it removes what it stored, as far as the storage allows; what remains is
/// a session that died and packs that no manifest names, which freeing space removes.
pub(crate) struct Run {
    pub(super) owned: OwnedRepository,
    id: RunId,
    /// Set as soon as its head is stored.
    pub(super) session: Option<Arc<Mutex<SessionWriter>>>,
    /// Packs that were stored, or may have been.
    pub(super) written: Arc<Mutex<Vec<Pack>>>,
    /// The folder into which the commit has begun to write.
    pub(super) folder: Option<BackupFolder>,
    committed: bool,
}

impl Run {
    pub(crate) fn new(owned: OwnedRepository, id: RunId) -> Self {
        owned.running().insert(id);
        Self { owned, id, session: None, written: Arc::default(), folder: None, committed: false }
    }

    /// The packs that were stored.
    pub(crate) fn written(&self) -> Vec<Pack> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The manifest is there: nothing of the run is removed any more but its session. That a session stays is no
    /// failure of the backup; freeing space removes it.
    pub(crate) fn commit(&mut self) -> Result<(), RepositoryError> {
        self.committed = true;
        if let Some(session) = &self.session
            && session.lock().unwrap_or_else(PoisonError::into_inner).remove().is_ok()
        {
            fail_point::hit("session-dropped").map_err(RepositoryError::Stream)?;
        }
        Ok(())
    }

    /// Removes what was stored; the session goes last, so that what could not be removed is still explained by it.
    fn give_up(&self) -> Result<(), RepositoryError> {
        let storage = self.owned.storage();
        if let Some(folder) = &self.folder {
            match storage.size(&folder.key(MANIFEST)) {
                Err(error) if error.is_not_found() => {
                    storage.delete(&folder.key(CHUNK_INDEX))?;
                    storage.delete(&folder.key(EXTENTS))?;
                }
                // The call that stored it said otherwise: the backup exists.
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let packs: HashSet<_> = self.written().iter().map(|pack| pack.id).collect();
        if !packs.is_empty() {
            self.owned.free_packs(&packs, self.id)?;
        }
        match &self.session {
            Some(session) => session.lock().unwrap_or_else(PoisonError::into_inner).remove(),
            None => Ok(()),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.committed
            && let Err(error) = self.give_up()
        {
            tracing::warn!(run = %self.id, "what a failed backup stored could not be removed, freeing space will: {error}");
        }
        self.owned.running().remove(&self.id);
    }
}
