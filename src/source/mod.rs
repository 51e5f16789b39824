//! What is backed up and restored to: PostgreSQL databases and SQLite files.
//!
//! A source writes the files of its set into a [`SetSink`] and restores them from a [`SetReader`]; it knows neither
//! packs nor jobs. Its functions block and are run in a thread of their own; SQL and child processes run on the tokio
//! runtime whose handle is in the [`JobContext`].

mod changed_table;
mod drill;
pub mod error;
pub mod postgres;
pub(crate) mod shell;
pub(crate) mod space;
pub mod sqlite;

pub use changed_table::ChangedTable;
pub use error::{SourceError, WhileDoing};

use std::{
    io::{self, Read},
    path::PathBuf,
    sync::Arc,
};

use crate::{
    model::manifest::{FileRole, Manifest, Range, Table},
    stream::{ByteSink, Cancel, Progress},
};

/// What every operation of a job gets.
#[derive(Debug, Clone)]
pub struct JobContext {
    /// Ends the operation early. Every wait watches it.
    pub cancel: Cancel,
    /// Where the operation says how far it is.
    pub progress: Arc<Progress>,
    /// A private, empty folder (mode 0700) of this job, removed with the job by its owner.
    pub scratch: PathBuf,
    /// Runs SQL and child processes.
    pub runtime: tokio::runtime::Handle,
}

/// Where a restore in place, or its undo, stands after whatever happened to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The restored database is in the place of the other, which is kept.
    Swapped,
    /// Everything is as before, and in use again.
    NotSwapped,
}

/// Takes the files of a set, one after the other.
pub trait SetSink {
    /// Begins the next file; the one before must be finished. `name` is one plain path component.
    ///
    /// # Errors
    /// As [`ByteSink::write`].
    fn begin_file(&mut self, name: &str, role: FileRole) -> io::Result<()>;

    /// Where the bytes of the file that was begun go.
    fn bytes(&mut self) -> &mut dyn ByteSink;

    /// Ends the file, and states which tables' rows it holds. Blocks until all its bytes are on their way to storage;
    /// an error that a worker met meanwhile comes out here at the latest.
    ///
    /// # Errors
    /// As [`ByteSink::write`].
    fn end_file(&mut self, tables: Vec<Table>) -> io::Result<()>;
}

/// Gives the files of a set back.
pub trait SetReader: Send + Sync {
    /// The backup's manifest.
    fn manifest(&self) -> &Manifest;

    /// The plaintext of a file. Each chunk is verified before its bytes are given, and the file's length and hash
    /// before its end is: a reader that sees `Ok(0)` has had exactly the file's bytes.
    ///
    /// # Errors
    /// When there is no such file; later, from `read`, damage as an `io::Error` whose inner error is the repository's.
    fn open(&self, file: &str) -> io::Result<Box<dyn Read + Send>>;

    /// The plaintext of some ranges of a file, one after the other. Each chunk is verified before its bytes are given.
    ///
    /// # Errors
    /// As [`SetReader::open`], and when a range exceeds the file.
    fn open_ranges(&self, file: &str, ranges: &[Range]) -> io::Result<Box<dyn Read + Send>>;
}
