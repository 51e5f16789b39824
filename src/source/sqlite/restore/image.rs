//! The restored database under a temporary name beside its place: written, then checked.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use super::{check_of, hit, owner::Owner};
use crate::{
    model::{
        ErrorCode,
        job::Phase,
        manifest::{SqliteFacts, Table},
    },
    source::{
        JobContext, SetReader, SourceError,
        sqlite::{
            IMAGE,
            connection::open_copy,
            contents::{self, Facts, Soundness},
        },
    },
};

/// Bytes that are read and written at once.
const BUFFER: usize = 256 << 10;

/// An image that is made.
pub(super) struct Image<'a> {
    /// Its temporary name.
    pub(super) path: &'a Path,
    /// The file that it is for.
    pub(super) to: &'a Path,
    pub(super) reader: &'a dyn SetReader,
    pub(super) context: &'a JobContext,
}

impl Image<'_> {
    /// Writes and checks it. Without an error it is whole and on disk; gives the number of tables and of their rows.
    ///
    /// # Errors
    /// `RestoreMismatch`, `NoSpace`, the reader's.
    pub(super) fn make(&self, owner: &Owner, facts: &SqliteFacts, bytes: u64) -> Result<(u64, u64), SourceError> {
        self.context.progress.enter(Phase::Data);
        self.context.progress.expect_bytes(bytes);
        let file = self.write()?;
        self.context.progress.enter(Phase::Comparing);
        let counted = self.compare(facts)?;
        let failed = |attempted: &str, error: &io::Error| {
            SourceError::io(format_args!("{attempted} {}", self.to.display()), error)
        };
        owner.give(&file).map_err(|error| failed("set the owner of", &error))?;
        file.sync_all().map_err(|error| failed("write", &error))?;
        drop(file);
        self.context.cancel.check()?;
        self.context.progress.enter(Phase::Committing);
        hit("image-checked")?;
        Ok(counted)
    }

    fn write(&self) -> Result<File, SourceError> {
        let path = self.path;
        let failed = |error: io::Error| SourceError::io(format_args!("write {}", path.display()), &error);
        let mut file =
            fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        hit("image-created")?;
        let mut image = self.reader.open(IMAGE).map_err(SourceError::from_sink)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            self.context.cancel.check()?;
            let length = match image.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(SourceError::from_sink(error)),
            };
            file.write_all(&buffer[..length]).map_err(failed)?;
            self.context.progress.add_bytes(length as u64);
        }
        file.sync_all().map_err(failed)?;
        hit("image-written")?;
        Ok(file)
    }

    /// Lets SQLite look at the new file, and compares its tables with what was counted when the backup was taken.
    fn compare(&self, facts: &SqliteFacts) -> Result<(u64, u64), SourceError> {
        let mismatch = |message: String| {
            let message =
                format!("the database restored for {} is not the one that was backed up: {message}", self.to.display());
            SourceError::new(ErrorCode::RestoreMismatch, message)
        };
        let found = self.look(facts).map_err(|error| match self.context.cancel.check() {
            Err(reason) => reason.into(),
            Ok(()) => mismatch(format!("SQLite says: {error}")),
        })?;
        let (restored, soundness, tables) = found;
        if let Soundness::Damaged(lines) = soundness {
            return Err(mismatch(format!("{} says: {lines}", check_of(facts).as_str())));
        }
        if (restored.pages, restored.page_size) != (facts.pages, facts.page_size) || restored.schema != facts.schema {
            return Err(mismatch("its header or schema differs".to_owned()));
        }
        let (mut count, mut rows) = (0, 0);
        for expected in self.reader.manifest().tables() {
            let found = tables.iter().find(|table| table.name == expected.name).map(|table| table.rows);
            if found != Some(expected.rows) {
                let found = found.map_or_else(|| "none".to_owned(), |rows| rows.to_string());
                return Err(mismatch(format!("table {} had {} rows and has {found}", expected.name, expected.rows)));
            }
            count += 1;
            rows += expected.rows;
        }
        Ok((count, rows))
    }

    fn look(&self, facts: &SqliteFacts) -> rusqlite::Result<(Facts, Soundness, Vec<Table>)> {
        let connection = open_copy(self.path, &self.context.cancel)?;
        let restored = Facts::read(&connection)?;
        let soundness = contents::check(&connection, check_of(facts))?;
        let (tables, _) = contents::count_rows(&connection)?;
        Ok((restored, soundness, tables))
    }
}
