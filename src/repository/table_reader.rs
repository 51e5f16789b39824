//! Reading a chunk table back: `chunks.idx`, the segments that it lists, the entries in them.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{
    Repository, RepositoryError,
    layout::{BackupFolder, CHUNK_INDEX, pack_key},
    table,
};
use crate::{
    model::{
        ids::Sha256Hash,
        manifest::{File, Manifest, Pack},
    },
    stream::{Entry, Location, codec::Decoder},
};

/// The chunk table of one backup. Only the list of its segments is held in memory.
#[derive(Debug, Clone)]
pub(crate) struct ChunkTable {
    repository: Repository,
    folder: BackupFolder,
    manifest: Arc<Manifest>,
    segments: Arc<[Entry]>,
}

impl ChunkTable {
    /// Reads and verifies the list of segments.
    pub(crate) fn open(
        repository: &Repository,
        folder: &BackupFolder,
        manifest: &Arc<Manifest>,
    ) -> Result<Self, RepositoryError> {
        let damaged = |reason: &str| RepositoryError::BackupDamaged { id: folder.id, reason: reason.to_owned() };
        let bytes = repository
            .storage()
            .get(&folder.key(CHUNK_INDEX))
            .map_err(|error| if error.is_not_found() { damaged("its chunks.idx is missing") } else { error.into() })?;
        if Sha256Hash(Sha256::digest(&bytes).into()) != manifest.chunk_table.index_sha256 {
            return Err(damaged("the SHA-256 of its chunks.idx is not the one in its manifest"));
        }
        let segments: Arc<[Entry]> = table::entries(&bytes).ok_or_else(|| damaged("its chunks.idx is cut"))?.collect();
        let entries: u64 = segments.iter().map(entry_count).sum();
        let reference = &manifest.chunk_table;
        let in_files: u64 = manifest.files.iter().map(|file| file.chunk_count).sum();
        if segments.len() as u64 != reference.segments || entries != reference.entries || entries != in_files {
            return Err(damaged("its chunks.idx and its manifest do not agree on the number of chunks"));
        }
        Ok(Self { repository: repository.clone(), folder: folder.clone(), manifest: manifest.clone(), segments })
    }

    /// The segments, which are chunks in packs too.
    pub(crate) fn segments(&self) -> &[Entry] {
        &self.segments
    }

    /// The entries of a file, in order.
    pub(crate) fn of_file(&self, file: &File) -> Entries {
        let mut before = 0;
        let segment = self.segments.iter().position(|segment| {
            let here = before == file.first_chunk;
            if !here {
                before += entry_count(segment);
            }
            here
        });
        Entries {
            table: self.clone(),
            // A file's entries begin a segment; a file without chunks needs none.
            segment: segment.unwrap_or(self.segments.len()),
            bytes: Vec::new(),
            position: 0,
            remaining: file.chunk_count,
            decoder: None,
        }
    }

    /// The bytes of one member, as stored.
    pub(crate) fn read_member(&self, entry: &Entry) -> Result<Vec<u8>, RepositoryError> {
        self.read_location(&entry.location)
    }

    /// The bytes at a place in a pack.
    pub(crate) fn read_location(&self, location: &Location) -> Result<Vec<u8>, RepositoryError> {
        let key = pack_key(self.pack(location)?.id, self.repository.codec());
        let read = self.repository.storage().get_range(&key, location.offset, location.stored_length as usize);
        read.map_err(|error| {
            if error.is_not_found() { self.damaged(format!("its pack {key} is missing or cut")) } else { error.into() }
        })
    }

    /// The pack of a place.
    pub(crate) fn pack(&self, location: &Location) -> Result<Pack, RepositoryError> {
        let pack = self.manifest.packs.get(location.pack as usize).copied().flatten();
        let inside = |pack: &Pack| {
            location.offset.checked_add(location.stored_length.into()).is_some_and(|end| end <= pack.size)
        };
        pack.filter(inside).ok_or_else(|| self.damaged("its chunk table points outside its packs".to_owned()))
    }

    /// Replaces the content of `plain` by the verified plaintext of a member.
    pub(crate) fn decode(
        &self,
        entry: &Entry,
        member: &[u8],
        decoder: &mut Decoder,
        plain: &mut Vec<u8>,
    ) -> Result<(), RepositoryError> {
        let reason = match decoder.decode(member, entry.raw_length, plain) {
            Ok(_) if *blake3::hash(plain).as_bytes() == entry.id.0 => return Ok(()),
            Ok(_) => "its hash does not match".to_owned(),
            Err(error) => error.to_string(),
        };
        let pack = self.pack(&entry.location)?.id;
        Err(self.damaged(format!("chunk {} in pack {pack} at {}: {reason}", entry.id, entry.location.offset)))
    }

    /// The entries of one segment, verified.
    pub(crate) fn read_segment(&self, segment: &Entry, decoder: &mut Decoder) -> Result<Vec<u8>, RepositoryError> {
        let length = segment.raw_length as usize;
        if length == 0 || length > table::SEGMENT_MAXIMUM * Entry::LENGTH || !length.is_multiple_of(Entry::LENGTH) {
            return Err(self.damaged("a segment of its chunk table has an impossible length".to_owned()));
        }
        let mut bytes = Vec::new();
        self.decode(segment, &self.read_member(segment)?, decoder, &mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn damaged(&self, reason: String) -> RepositoryError {
        RepositoryError::BackupDamaged { id: self.folder.id, reason }
    }
}

fn entry_count(segment: &Entry) -> u64 {
    u64::from(segment.raw_length) / Entry::LENGTH as u64
}

/// The entries of one file, read a segment at a time.
pub(crate) struct Entries {
    table: ChunkTable,
    segment: usize,
    bytes: Vec<u8>,
    position: usize,
    remaining: u64,
    decoder: Option<Decoder>,
}

impl Entries {
    /// The table that they come from.
    pub(crate) fn table(&self) -> &ChunkTable {
        &self.table
    }

    fn next_entry(&mut self) -> Result<Entry, RepositoryError> {
        if self.position >= self.bytes.len() {
            let table = self.table.clone();
            let segment = table.segments.get(self.segment);
            let segment = segment.ok_or_else(|| table.damaged("its chunk table ends too early".to_owned()))?;
            let decoder = match &mut self.decoder {
                Some(decoder) => decoder,
                none => {
                    none.insert(Decoder::new(table.repository.codec()).map_err(|e| RepositoryError::Stream(e.into()))?)
                }
            };
            self.bytes = table.read_segment(segment, decoder)?;
            self.position = 0;
            self.segment += 1;
        }
        let raw = self.bytes[self.position..].first_chunk().map(Entry::from_bytes);
        self.position += Entry::LENGTH;
        self.remaining -= 1;
        raw.ok_or_else(|| self.table.damaged("its chunk table is cut".to_owned()))
    }
}

impl Iterator for Entries {
    type Item = Result<Entry, RepositoryError>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining == 0 {
            return None;
        }
        let next = self.next_entry();
        if next.is_err() {
            self.remaining = 0;
        }
        Some(next)
    }
}
