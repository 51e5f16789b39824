//! Giving a backup back: verified plaintext of whole files and of ranges, and the members as they are stored.
//!
//! Invariants: nothing is given before the manifest was verified by its id, the chunk index by the manifest, the
//! segments by the index, and each chunk by its own id; the end of a whole file is not reported before its length and
//! SHA-256 were verified. Memory does not grow with the file.

use std::{
    collections::VecDeque,
    io::{self, Read},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};

use super::{
    BackupFolder, Repository, RepositoryError, extents,
    layout::EXTENTS,
    table_reader::{ChunkTable, Entries},
};
use crate::{
    model::{
        BackupId,
        ids::Sha256Hash,
        manifest::{File, Manifest, Range},
    },
    source::SetReader,
    stream::{
        Cancel, Entry, Location, StreamError,
        codec::Decoder,
        decode::{ChunkReader, DecodeOptions, MemberSource},
    },
};

/// Reads one backup. Clones share it.
#[derive(Debug, Clone)]
pub struct BackupReader {
    repository: Repository,
    folder: BackupFolder,
    manifest: Arc<Manifest>,
    raw_manifest: Arc<[u8]>,
    table: ChunkTable,
    threads: usize,
    cancel: Cancel,
}

impl Repository {
    /// Opens a backup. `threads` decode at once; `cancel` ends reading.
    ///
    /// # Errors
    /// `NoSuchBackup`, `BackupDamaged`, `UnsupportedFormat`, and what the storage meets.
    pub fn reader(
        &self,
        folder: &BackupFolder,
        threads: usize,
        cancel: Cancel,
    ) -> Result<BackupReader, RepositoryError> {
        let (manifest, raw_manifest) = self.manifest(folder)?;
        let manifest = Arc::new(manifest);
        let table = ChunkTable::open(self, folder, &manifest)?;
        let (repository, folder, raw_manifest) = (self.clone(), folder.clone(), raw_manifest.into());
        Ok(BackupReader { repository, folder, manifest, raw_manifest, table, threads, cancel })
    }
}

impl BackupReader {
    /// The backup's id.
    #[must_use]
    pub fn id(&self) -> BackupId {
        self.folder.id
    }

    /// The backup's folder.
    #[must_use]
    pub fn folder(&self) -> &BackupFolder {
        &self.folder
    }

    /// The bytes of the manifest, as stored.
    #[must_use]
    pub fn raw_manifest(&self) -> &[u8] {
        &self.raw_manifest
    }

    /// Verifies `extents.tsv`, which only the shell needs.
    ///
    /// # Errors
    /// `BackupDamaged`, and what the storage meets.
    pub fn check_extents(&self) -> Result<(), RepositoryError> {
        match extents::stored_hash(self.repository.storage(), &self.folder.key(EXTENTS)) {
            Err(RepositoryError::Storage(error)) if error.is_not_found() => {
                return Err(self.damaged("its extents.tsv is missing"));
            }
            Err(error) => return Err(error),
            Ok(hash) if hash == self.manifest.extents_sha256 => return Ok(()),
            Ok(_) => {}
        }
        Err(self.damaged("the SHA-256 of its extents.tsv is not the one in its manifest"))
    }

    /// The members of a file as they are stored: one after the other they are a valid `.gz` (`.zst`) of it. Each is
    /// decoded and verified before it is given, and the whole file before the end is.
    ///
    /// # Errors
    /// When there is no such file, or no decoder.
    pub fn members(&self, file: &str) -> Result<Members, RepositoryError> {
        let file = self.file(file)?;
        Ok(Members {
            entries: Some(self.table.of_file(file)),
            decoder: new_decoder(&self.repository)?,
            sha256: Sha256::new(),
            length: 0,
            expected: (file.raw_length, file.raw_sha256),
            plain: Vec::new(),
            cancel: self.cancel.clone(),
        })
    }

    fn file(&self, name: &str) -> Result<&File, RepositoryError> {
        let missing = || RepositoryError::Misuse(format!("backup {} has no file {name}", self.folder.id));
        self.manifest.file(name).ok_or_else(missing)
    }

    fn damaged(&self, reason: &str) -> RepositoryError {
        RepositoryError::BackupDamaged { id: self.folder.id, reason: reason.to_owned() }
    }
}

impl SetReader for BackupReader {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn open(&self, file: &str) -> io::Result<Box<dyn Read + Send>> {
        let file = self.file(file)?;
        let options = DecodeOptions {
            codec: self.repository.codec(),
            threads: self.threads,
            raw_length: file.raw_length,
            raw_sha256: file.raw_sha256,
        };
        let entries = self.table.of_file(file).map(|entry| entry.map_err(io::Error::from));
        let reader = ChunkReader::start(options, entries, PackMembers(self.table.clone()), self.cancel.clone())?;
        Ok(Box::new(Named { reader, id: self.folder.id }))
    }

    fn open_ranges(&self, file: &str, ranges: &[Range]) -> io::Result<Box<dyn Read + Send>> {
        let file = self.file(file)?;
        let inside = |range: &Range| range.offset.checked_add(range.length).is_some_and(|end| end <= file.raw_length);
        if !ranges.iter().all(inside) {
            return Err(RepositoryError::Misuse(format!("a range exceeds file {}", file.name)).into());
        }
        Ok(Box::new(RangeReader {
            table: self.table.clone(),
            file: file.clone(),
            ranges: ranges.iter().copied().collect(),
            remaining: Range { offset: 0, length: 0 },
            entries: self.table.of_file(file),
            start: 0,
            plain: Vec::new(),
            decoder: new_decoder(&self.repository)?,
            cancel: self.cancel.clone(),
        }))
    }
}

fn new_decoder(repository: &Repository) -> Result<Decoder, RepositoryError> {
    Decoder::new(repository.codec()).map_err(|error| RepositoryError::Stream(error.into()))
}

/// Gives the decoding threads their members.
struct PackMembers(ChunkTable);

impl MemberSource for PackMembers {
    fn read(&mut self, location: &Location, member: &mut Vec<u8>) -> io::Result<()> {
        member.extend_from_slice(&self.0.read_location(location)?);
        Ok(())
    }
}

/// Says in the errors of the way of the bytes which backup is damaged.
struct Named<R> {
    reader: R,
    id: BackupId,
}

impl<R: Read> Read for Named<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.reader.read(out).map_err(|error| name_damage(error, self.id))
    }
}

fn name_damage(error: io::Error, id: BackupId) -> io::Error {
    let damaged = error.get_ref().and_then(|inner| inner.downcast_ref::<StreamError>());
    match damaged {
        Some(inner @ (StreamError::Damaged { .. } | StreamError::WrongFile { .. })) => {
            RepositoryError::BackupDamaged { id, reason: inner.to_string() }.into()
        }
        _ => error,
    }
}

/// See [`BackupReader::members`].
pub struct Members {
    entries: Option<Entries>,
    decoder: Decoder,
    sha256: Sha256,
    length: u64,
    expected: (u64, Sha256Hash),
    plain: Vec<u8>,
    cancel: Cancel,
}

impl Members {
    fn read(&mut self) -> Result<Option<Vec<u8>>, RepositoryError> {
        self.cancel.check()?;
        let Some(entries) = &mut self.entries else { return Ok(None) };
        let Some(entry) = entries.next().transpose()? else {
            let found = (self.length, Sha256Hash(std::mem::take(&mut self.sha256).finalize().into()));
            let table = entries.table().clone();
            self.entries = None;
            if found == self.expected {
                return Ok(None);
            }
            return Err(table.damaged("the chunks of a file are not together what was backed up".to_owned()));
        };
        let member = entries.table().read_member(&entry)?;
        entries.table().decode(&entry, &member, &mut self.decoder, &mut self.plain)?;
        self.sha256.update(&self.plain);
        self.length += self.plain.len() as u64;
        Ok(Some(member))
    }
}

impl Iterator for Members {
    type Item = Result<Vec<u8>, RepositoryError>;
    fn next(&mut self) -> Option<Self::Item> {
        let next = self.read().transpose();
        if matches!(next, Some(Err(_))) {
            self.entries = None;
        }
        next
    }
}

/// Reads ranges of a file, in the order in which they are given.
struct RangeReader {
    table: ChunkTable,
    file: File,
    ranges: VecDeque<Range>,
    /// What is still to be given of the present range.
    remaining: Range,
    entries: Entries,
    /// Where the chunk in `plain` begins in the file.
    start: u64,
    plain: Vec<u8>,
    decoder: Decoder,
    cancel: Cancel,
}

impl RangeReader {
    /// Decodes the chunk that holds the byte at `offset`; chunks before it are not read.
    fn seek(&mut self, offset: u64) -> Result<(), RepositoryError> {
        if offset < self.start {
            self.entries = self.table.of_file(&self.file);
            self.start = 0;
            self.plain.clear();
        }
        while offset >= self.start + self.plain.len() as u64 {
            self.cancel.check()?;
            self.start += self.plain.len() as u64;
            self.plain.clear();
            let early = || self.table.damaged("the chunks of a file end too early".to_owned());
            let entry: Entry = self.entries.next().ok_or_else(early)??;
            if offset < self.start + u64::from(entry.raw_length) {
                let member = self.table.read_member(&entry)?;
                self.table.decode(&entry, &member, &mut self.decoder, &mut self.plain)?;
            } else {
                self.start += u64::from(entry.raw_length);
            }
        }
        Ok(())
    }
}

impl Read for RangeReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.remaining.length == 0 {
            match self.ranges.pop_front() {
                Some(range) => self.remaining = range,
                None => return Ok(0),
            }
        }
        self.seek(self.remaining.offset)?;
        let at = usize::try_from(self.remaining.offset - self.start).unwrap_or(usize::MAX);
        let rest = &self.plain[at..];
        let length = rest.len().min(out.len()).min(usize::try_from(self.remaining.length).unwrap_or(usize::MAX));
        out[..length].copy_from_slice(&rest[..length]);
        self.remaining.offset += length as u64;
        self.remaining.length -= length as u64;
        Ok(length)
    }
}
