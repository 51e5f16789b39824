//! The entries of a backup's chunk table while it is written: in an unlinked temporary file, not in memory.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use super::RepositoryError;
use crate::stream::{Entry, encode::EntrySink};

/// What the file is for, in messages.
const PURPOSE: &str = "the chunk table";

/// Takes entries in order.
pub(crate) struct EntrySpool {
    output: BufWriter<File>,
}

impl EntrySpool {
    pub(crate) fn new(scratch: &Path) -> Result<Self, RepositoryError> {
        let file = tempfile::tempfile_in(scratch).map_err(RepositoryError::scratch(PURPOSE))?;
        Ok(Self { output: BufWriter::new(file) })
    }

    /// The entries, to be read as often as needed.
    pub(crate) fn finish(self) -> Result<SpooledEntries, RepositoryError> {
        let file = self.output.into_inner().map_err(io::IntoInnerError::into_error);
        Ok(SpooledEntries { file: file.map_err(RepositoryError::scratch(PURPOSE))? })
    }
}

impl EntrySink for EntrySpool {
    fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.output.write_all(&entry.to_bytes()).map_err(|error| RepositoryError::scratch(PURPOSE)(error).into())
    }
}

/// All entries of a backup.
pub(crate) struct SpooledEntries {
    file: File,
}

impl SpooledEntries {
    /// The entries from the first.
    pub(crate) fn read(&mut self) -> Result<SpoolReader<'_>, RepositoryError> {
        self.file.seek(SeekFrom::Start(0)).map_err(RepositoryError::scratch(PURPOSE))?;
        Ok(SpoolReader { input: BufReader::with_capacity(64 << 10, &self.file) })
    }
}

/// Gives entries one after the other.
pub(crate) struct SpoolReader<'a> {
    input: BufReader<&'a File>,
}

impl SpoolReader<'_> {
    /// The next one. There must be one.
    pub(crate) fn next(&mut self) -> Result<Entry, RepositoryError> {
        let mut raw = [0; Entry::LENGTH];
        self.input.read_exact(&mut raw).map_err(RepositoryError::scratch(PURPOSE))?;
        Ok(Entry::from_bytes(&raw))
    }
}
