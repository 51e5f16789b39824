//! Writing packs: members are appended until a pack is full, then it is published under the SHA-256 of its bytes.
//!
//! Invariants: a pack is durable before the session names it, and the session names it before a manifest does; the
//! positions of packs that the base's list has stay, so that entries of the base are valid in the new table too.

use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use super::{OwnedRepository, RepositoryError, layout::pack_key, run::Run, session::SessionWriter, storage::Upload};
use crate::{
    fail_point,
    model::{PackId, manifest::Pack},
    stream::Location,
};

/// A pack closes before it would exceed this, bytes. A power failure costs at most one pack per backup, and one fsync
/// per pack is cheap.
pub(crate) const PACK_SIZE: u64 = 32 << 20;

/// Writes the packs of one backup.
pub(crate) struct PackWriter {
    owned: OwnedRepository,
    session: Arc<Mutex<SessionWriter>>,
    packs: Vec<Option<Pack>>,
    open: Option<OpenPack>,
    written: Arc<Mutex<Vec<Pack>>>,
}

struct OpenPack {
    position: u32,
    upload: Box<dyn Upload>,
    hash: Sha256,
    size: u64,
}

impl PackWriter {
    /// `packs` are the base's, and those of earlier sessions behind them.
    pub(crate) fn new(run: &Run, packs: Vec<Option<Pack>>) -> Result<Self, RepositoryError> {
        let session = run.session.clone().ok_or_else(|| RepositoryError::Misuse("there is no session".to_owned()))?;
        Ok(Self { owned: run.owned.clone(), session, packs, open: None, written: run.written.clone() })
    }

    /// Appends a member.
    pub(crate) fn append(&mut self, member: &[u8]) -> Result<Location, RepositoryError> {
        let stored_length = u32::try_from(member.len())
            .map_err(|_| RepositoryError::Misuse("a member is longer than 4 GiB".to_owned()))?;
        let length = u64::from(stored_length);
        if self.open.as_ref().is_some_and(|open| open.size + length > PACK_SIZE) {
            self.close()?;
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                let position = free_position(&mut self.packs)?;
                let upload = self.owned.storage().upload()?;
                none.insert(OpenPack { position, upload, hash: Sha256::new(), size: 0 })
            }
        };
        open.upload.write(member)?;
        open.hash.update(member);
        let place = Location { pack: open.position, offset: open.size, stored_length };
        open.size += length;
        Ok(place)
    }

    /// Publishes the open pack, if there is one.
    pub(crate) fn close(&mut self) -> Result<(), RepositoryError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let pack = Pack { id: PackId(open.hash.finalize().into()), size: open.size };
        // Before it is published: whatever happens, the clean-up knows its name.
        self.written.lock().unwrap_or_else(PoisonError::into_inner).push(pack);
        {
            let _gate = self.owned.enter();
            open.upload.publish(&pack_key(pack.id, self.owned.codec()))?;
            self.session.lock().unwrap_or_else(PoisonError::into_inner).add(&pack)?;
        }
        self.packs[open.position as usize] = Some(pack);
        fail_point::hit("pack-in-session").map_err(RepositoryError::Stream)
    }

    /// The packs by position. All entries that were given refer to it once the last pack is closed.
    pub(crate) fn packs(&self) -> &[Option<Pack>] {
        &self.packs
    }
}

/// The name of a pack with these bytes.
pub(crate) fn id_of(bytes: &[u8]) -> PackId {
    PackId(Sha256::digest(bytes).into())
}

/// The first free position; it stays free in the list until its pack is published, so only one pack is open at a time.
fn free_position(packs: &mut Vec<Option<Pack>>) -> Result<u32, RepositoryError> {
    let position = packs.iter().position(Option::is_none).unwrap_or(packs.len());
    if position == packs.len() {
        packs.push(None);
    }
    u32::try_from(position).map_err(|_| RepositoryError::Misuse("a backup cannot have more than 2^32 packs".to_owned()))
}
