//! What a backup may reuse: the chunks of the source's last backup, and those that a crashed run has stored already.

use std::{collections::HashMap, path::Path, sync::Arc};

use super::{
    OwnedRepository, RepositoryError,
    layout::{BackupFolder, PACKS, pack_key, parse_pack_key},
    listing::FolderState,
    lookup::{Lookup, LookupBuilder, PackState},
    session::Session,
    table,
    table_reader::ChunkTable,
};
use crate::{
    model::{
        PackId, SourceKey,
        manifest::{CodecName, Manifest, Pack},
    },
    stream::{
        Cancel, Entry, Location,
        codec::{Decoder, MemberHeader, read_member_header},
    },
};

/// How many of the newest backups are looked at for a base.
const LOOKED_AT: usize = 8;

/// The newest backup of a source that can be read, or an older one that is more than twice as large: one of the schema
/// or of some tables would leave all the rest of the next whole backup to be stored again.
pub(crate) struct Base {
    pub(crate) folder: BackupFolder,
    pub(crate) manifest: Arc<Manifest>,
}

/// Finds the base. Damaged backups are passed over: they are reported by whoever lists or verifies them.
pub(crate) fn find(owned: &OwnedRepository, source: &SourceKey) -> Result<Option<Base>, RepositoryError> {
    let mut backups = Vec::new();
    for backup in owned.folders(Some(source))? {
        if backup.state() == FolderState::Backup {
            match owned.sequence_of(&backup) {
                Ok(sequence) => backups.push((sequence, backup.folder)),
                Err(RepositoryError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    backups.sort_by_key(|(sequence, _)| *sequence);
    let mut readable = Vec::new();
    while let Some((_, folder)) = backups.pop()
        && readable.len() < LOOKED_AT
    {
        match owned.manifest(&folder) {
            Ok((manifest, _)) => readable.push(Base { folder, manifest: manifest.into() }),
            Err(RepositoryError::BackupDamaged { .. } | RepositoryError::TooNew { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let size = |base: &Base| base.manifest.statistics.raw_bytes;
    let enough = readable.iter().map(size).max().unwrap_or_default() / 2;
    Ok(readable.into_iter().find(|base| size(base) >= enough))
}

/// The next sequence of a source: one more than the highest that its backups and deletion records show.
pub(crate) fn next_sequence(owned: &OwnedRepository, source: &SourceKey) -> Result<u64, RepositoryError> {
    owned.check_present()?;
    let mut highest = 0;
    for folder in owned.folders(Some(source))? {
        if folder.state() != FolderState::Stray {
            highest = owned.sequence_of(&folder)?.max(highest);
        }
    }
    Ok(highest + 1)
}

/// The packs of the base's list, and those of crashed sessions behind them.
pub(crate) fn pack_list(base: Option<&Base>, adopted: &[Pack]) -> Vec<Option<Pack>> {
    let mut packs = base.map(|base| base.manifest.packs.clone()).unwrap_or_default();
    packs.extend(adopted.iter().copied().map(Some));
    packs
}

/// The packs of crashed sessions of the source that are not the base's already.
pub(crate) fn adopted_packs(sessions: &[Session], base: Option<&Base>) -> Vec<Pack> {
    let mut adopted: Vec<Pack> = sessions.iter().flat_map(|session| session.packs.iter().copied()).collect();
    adopted.sort_by_key(|pack| pack.id);
    adopted.dedup_by_key(|pack| pack.id);
    if let Some(base) = base {
        adopted.retain(|pack| !base.manifest.packs.iter().flatten().any(|known| known.id == pack.id));
    }
    adopted
}

/// Builds the lookup. What cannot be read of the base is unknown, and so is stored afresh.
pub(crate) fn build_lookup(
    owned: &OwnedRepository,
    base: Option<&Base>,
    packs: &[Option<Pack>],
    scratch: &Path,
    cancel: &Cancel,
) -> Result<Lookup, RepositoryError> {
    let scratch_error = RepositoryError::scratch("the chunks that are stored already");
    let mut builder = LookupBuilder::new(scratch);
    if packs.is_empty() {
        return builder.finish(&[]).map_err(scratch_error);
    }
    let states = pack_states(owned, packs)?;
    let mut decoder = Decoder::new(owned.codec()).map_err(|error| RepositoryError::Stream(error.into()))?;
    let own = base.map_or(0, |base| base.manifest.packs.len());
    if let Some(base) = base {
        collect_base(owned, base, &mut decoder, cancel, &mut |entry| builder.push(entry).map_err(&scratch_error))?;
    }
    for (position, pack) in packs.iter().enumerate().skip(own) {
        if let (Some(pack), true) = (pack, states[position].is_some_and(|state| state.present)) {
            cancel.check()?;
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            walk_pack(owned, *pack, position, &mut decoder, &mut |entry| builder.push(entry).map_err(&scratch_error))?;
        }
    }
    builder.finish(&states).map_err(scratch_error)
}

/// Which packs of a list are there.
pub(crate) fn pack_states(
    owned: &OwnedRepository,
    packs: &[Option<Pack>],
) -> Result<Vec<Option<PackState>>, RepositoryError> {
    // A few packs are looked at one by one; for many, one listing is cheaper.
    let codec = owned.codec();
    let listed: Option<HashMap<PackId, u64>> = if packs.len() > 1000 {
        let objects = owned.storage().list(PACKS)?;
        Some(objects.into_iter().filter_map(|o| Some((parse_pack_key(&o.key, codec)?, o.size))).collect())
    } else {
        None
    };
    let size_of = |id: PackId| match &listed {
        Some(listed) => Ok(listed.get(&id).copied()),
        None => match owned.storage().size(&pack_key(id, codec)) {
            Ok(size) => Ok(Some(size)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(RepositoryError::from(error)),
        },
    };
    packs
        .iter()
        .map(|pack| match pack {
            Some(pack) => Ok(Some(PackState { size: pack.size, present: size_of(pack.id)? == Some(pack.size) })),
            None => Ok(None),
        })
        .collect()
}

type Each<'a> = &'a mut dyn FnMut(&Entry) -> Result<(), RepositoryError>;

fn collect_base(
    owned: &OwnedRepository,
    base: &Base,
    decoder: &mut Decoder,
    cancel: &Cancel,
    each: Each<'_>,
) -> Result<(), RepositoryError> {
    let chunks = match ChunkTable::open(owned, &base.folder, &base.manifest) {
        Ok(chunks) => chunks,
        Err(RepositoryError::BackupDamaged { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    for segment in chunks.segments() {
        cancel.check()?;
        let bytes = match chunks.read_segment(segment, decoder) {
            Ok(bytes) => bytes,
            Err(RepositoryError::BackupDamaged { .. }) => continue,
            Err(error) => return Err(error),
        };
        each(segment)?;
        for entry in table::entries(&bytes).into_iter().flatten().filter(|entry| chunks.pack(&entry.location).is_ok()) {
            each(&entry)?;
        }
    }
    Ok(())
}

/// The chunks of a pack that no table describes yet, by walking its members and decoding them.
fn walk_pack(
    owned: &OwnedRepository,
    pack: Pack,
    position: u32,
    decoder: &mut Decoder,
    each: Each<'_>,
) -> Result<(), RepositoryError> {
    let bytes = owned.storage().get(&pack_key(pack.id, owned.codec()))?;
    if super::pack::id_of(&bytes) != pack.id {
        return Ok(());
    }
    let mut offset = 0;
    let mut plain = Vec::new();
    while let Some(header) = bytes.get(offset..).and_then(read_member_header) {
        let MemberHeader { id, stored_length } = header;
        let member = bytes.get(offset..offset + stored_length as usize);
        let Some((member, raw_length)) = member.and_then(|m| Some((m, raw_length(m, owned.codec())?))) else { break };
        if decoder.decode(member, raw_length, &mut plain).is_err() || *blake3::hash(&plain).as_bytes() != id.0 {
            break;
        }
        each(&Entry { id, location: Location { pack: position, offset: offset as u64, stored_length }, raw_length })?;
        offset += member.len();
    }
    Ok(())
}

/// The length of the plaintext as a member itself states it: gzip at its end (ISIZE), zstd in the frame that follows
/// the one that names the chunk.
fn raw_length(member: &[u8], codec: CodecName) -> Option<u32> {
    match codec {
        CodecName::Gzip => member.last_chunk().map(|bytes| u32::from_le_bytes(*bytes)),
        CodecName::Zstd => {
            let skipped = u32::from_le_bytes(*member.get(4..8)?.first_chunk()?) as usize + 8;
            let size = zstd::zstd_safe::get_frame_content_size(member.get(skipped..)?).ok()??;
            u32::try_from(size).ok()
        }
    }
}
