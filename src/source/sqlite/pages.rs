//! The pages of a database, as one read transaction sees them (<https://sqlite.org/dbpage.html>).

use std::time::Instant;

use rusqlite::{Connection, types::ValueRef};

use crate::stream::{ByteSink, Cancel, CancelReason};

/// Bytes that are handed on at once.
const BUFFER: usize = 256 << 10;

/// Why pages could not be copied.
#[derive(Debug)]
pub(super) enum CopyError {
    /// SQLite failed.
    Sqlite(rusqlite::Error),
    /// The sink failed, or the job was cancelled.
    Sink(std::io::Error),
    /// SQLite gave something else than the pages that there are.
    Incomplete {
        /// The page that was due, from 1.
        expected: u64,
        /// How many there are.
        pages: u64,
    },
}

impl From<rusqlite::Error> for CopyError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Writes all pages of the main database, in order. The page with the lock bytes, which no database uses, is zeros
/// (<https://sqlite.org/fileformat2.html#the_lock_byte_page>). Needs an open read transaction.
pub(super) fn copy(
    connection: &Connection,
    pages: u64,
    page_size: u32,
    sink: &mut dyn ByteSink,
    cancel: &Cancel,
    until: Option<Instant>,
) -> Result<(), CopyError> {
    let mut statement = connection.prepare("SELECT pgno, data FROM sqlite_dbpage('main')")?;
    let mut rows = statement.query([])?;
    let mut buffer = Vec::with_capacity(BUFFER + page_size as usize);
    let mut expected = 1;
    while let Some(row) = rows.next()? {
        let number: u64 = row.get(0)?;
        match row.get_ref(1)? {
            ValueRef::Blob(page) if number == expected && page.len() == page_size as usize => {
                buffer.extend_from_slice(page);
            }
            _ => return Err(CopyError::Incomplete { expected, pages }),
        }
        expected += 1;
        if buffer.len() >= BUFFER {
            cancel.check_io().map_err(CopyError::Sink)?;
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(CopyError::Sink(std::io::Error::other(CancelReason::TimedOut)));
            }
            sink.write(&buffer).map_err(CopyError::Sink)?;
            buffer.clear();
        }
    }
    if expected != pages + 1 {
        return Err(CopyError::Incomplete { expected, pages });
    }
    sink.write(&buffer).map_err(CopyError::Sink)
}
