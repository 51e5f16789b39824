//! `extents.tsv`: the same places as the chunk table's, for a shell.
//!
//! Per file a line `file`, name, plaintext length, plaintext SHA-256, codec; then a line per range: pack, offset, length.
//! Fields are separated by one tab. Ranges that adjoin are one line. The ranges in order, concatenated, are a valid
//! `.gz` (`.zst`) file. Names hold no control characters, so a line is a line.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

use super::{
    RepositoryError,
    storage::{ObjectReader, Storage, Upload},
};
use crate::{
    model::{
        PackId,
        ids::Sha256Hash,
        manifest::{CodecName, File},
    },
    stream::Entry,
};

/// Writes the lines of one file after the other.
pub(crate) struct ExtentsWriter<W> {
    output: W,
    pending: Option<Range>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    pack: PackId,
    offset: u64,
    length: u64,
}

impl<W: Write> ExtentsWriter<W> {
    pub(crate) fn new(output: W) -> Self {
        Self { output, pending: None }
    }

    /// Begins a file's lines.
    pub(crate) fn file(&mut self, file: &File, codec: CodecName) -> io::Result<()> {
        self.flush()?;
        let File { name, raw_length, raw_sha256, .. } = file;
        writeln!(self.output, "file\t{name}\t{raw_length}\t{raw_sha256}\t{}", codec.as_str())
    }

    /// The next chunk of the file, in the pack that its entry's position stands for.
    pub(crate) fn chunk(&mut self, entry: &Entry, pack: PackId) -> io::Result<()> {
        let length = u64::from(entry.location.stored_length);
        match &mut self.pending {
            Some(range) if range.pack == pack && range.offset + range.length == entry.location.offset => {
                range.length += length
            }
            _ => {
                self.flush()?;
                self.pending = Some(Range { pack, offset: entry.location.offset, length });
            }
        }
        Ok(())
    }

    /// Ends the last file.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.pending.take() {
            Some(Range { pack, offset, length }) => writeln!(self.output, "{pack}\t{offset}\t{length}"),
            None => Ok(()),
        }
    }
}

/// Bytes that are given to the storage, or read from it, at once.
const PIECE: usize = 64 << 10;

/// The file on its way into the storage, for it may be long: hashed as it is written, and not visible before it is
/// published.
pub(crate) struct ExtentsUpload {
    upload: Box<dyn Upload>,
    buffer: Vec<u8>,
    hash: Sha256,
    length: u64,
}

impl ExtentsUpload {
    pub(crate) fn begin(storage: &dyn Storage) -> Result<Self, RepositoryError> {
        Ok(Self { upload: storage.upload()?, buffer: Vec::with_capacity(PIECE), hash: Sha256::new(), length: 0 })
    }

    /// Bytes of it.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The hash of what was flushed.
    pub(crate) fn sha256(&self) -> Sha256Hash {
        Sha256Hash(self.hash.clone().finalize().into())
    }

    /// Makes it durable and visible.
    pub(crate) fn publish(self, key: &str) -> Result<(), RepositoryError> {
        Ok(self.upload.publish(key)?)
    }
}

impl Write for ExtentsUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > PIECE {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hash.update(&self.buffer);
        self.upload.write(&self.buffer).map_err(RepositoryError::from)?;
        self.buffer.clear();
        Ok(())
    }
}

/// The hash of a stored file of extents.
pub(crate) fn stored_hash(storage: &dyn Storage, key: &str) -> Result<Sha256Hash, RepositoryError> {
    let mut reader = ObjectReader::new(storage, key)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; PIECE];
    loop {
        match reader.read(&mut buffer).map_err(RepositoryError::from_io)? {
            0 => return Ok(Sha256Hash(hash.finalize().into())),
            length => hash.update(&buffer[..length]),
        }
    }
}

/// Whether a file of a set may have this name: one visible path component that a line of `extents.tsv`, and a shell,
/// can hold.
pub(crate) fn is_valid_file_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 200
        && !name.starts_with(['.', '-'])
        && !name.chars().any(|c| c == '/' || c.is_control())
}
