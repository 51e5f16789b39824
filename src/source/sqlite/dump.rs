//! The early checks, and taking the image of a database.
//!
//! A database in WAL mode is read within one read transaction: writers go on meanwhile, but their log cannot be
//! checkpointed past the snapshot and grows; hence `read_timeout`, and the log's size is reported. In rollback-journal
//! mode a read transaction would block all writers; such a database is first copied in steps (`stepped_copy`).
//!
//! Invariant: the image is exactly the pages of one committed state, and SQLite found that state sound before the first
//! page was stored.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::{
    IMAGE,
    access::Place,
    connection::{Limits, interrupt_when, open_copy, open_live},
    contents::{self, Facts, Soundness},
    pages::{self, CopyError},
    problem::explain,
    stepped_copy,
};
use crate::{
    clock::now_micros,
    config::SqliteConfig,
    model::{
        ErrorCode, Name,
        job::Phase,
        manifest::{FileRole, Incomplete, SqliteFacts, Table},
    },
    source::{JobContext, SetSink, SourceError},
    stream::CancelReason,
};

/// How long the early checks wait for a lock: those who ask wait for their answer meanwhile.
const EARLY_LOCK_TIMEOUT: Duration = Duration::from_secs(3);
/// A log that grew beyond this while a backup held it back is worth a line in the journal.
const LARGE_LOG: u64 = 256 << 20;

/// What to take: the configuration of the source has it all.
pub type DumpRequest = SqliteConfig;

/// What the early checks found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preflight {
    /// Size of the database, bytes.
    pub database_bytes: u64,
}

/// What a dump gives besides the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dumped {
    /// For the manifest.
    pub facts: SqliteFacts,
    /// What could not be included.
    pub incomplete: Vec<Incomplete>,
    /// Size of the database, bytes.
    pub database_bytes: u64,
    /// When the snapshot was taken, microseconds since the epoch.
    pub snapshot_at: u64,
}

/// The early checks: the file, the rights on it and on its folder, that it is a database, its lock.
///
/// # Errors
/// `NoSuchDatabase`, `DatabasePermission` with the rights that are needed, `NotADatabase`, `DatabaseEncrypted`,
/// `DatabaseCorrupt`, `DatabaseBusy`.
pub fn preflight(request: &DumpRequest, context: &JobContext) -> Result<Preflight, SourceError> {
    let place = Place::look_up(&request.path)?;
    place.check_sidecars()?;
    let limits = Limits { cancel: context.cancel.clone(), lock_timeout: request.lock_timeout.min(EARLY_LOCK_TIMEOUT) };
    let connection = open_live(&place, &limits)?;
    let is_wal = begin(&connection).map_err(|error| explain(&error, "read", &place, &context.cancel))?;
    if !is_wal {
        stepped_copy::check_space(&place, &context.scratch)?;
    }
    Ok(Preflight { database_bytes: place.bytes })
}

/// Takes the image, and says which tables it has with how many rows.
///
/// # Errors
/// As [`preflight`], `TimedOut`, what the sink gives, and the cancel's reason.
pub fn dump(request: &DumpRequest, sink: &mut dyn SetSink, context: &JobContext) -> Result<Dumped, SourceError> {
    let place = Place::look_up(&request.path)?;
    place.check_sidecars()?;
    let limits = Limits { cancel: context.cancel.clone(), lock_timeout: request.lock_timeout };
    context.progress.enter(Phase::Snapshot);
    let mut connection = open_live(&place, &limits)?;
    let is_wal = begin(&connection).map_err(|error| explain(&error, "read", &place, &context.cancel))?;
    let taking = Taking { request, place: &place, context };
    if is_wal {
        taking.live(&mut connection, sink)
    } else {
        connection.execute_batch("COMMIT").map_err(|error| taking.explain(&error, "read"))?;
        taking.copied(&connection, sink)
    }
}

/// Begins a read transaction, whose snapshot is that of the first read, and says whether the mode is WAL.
pub(super) fn begin(connection: &Connection) -> rusqlite::Result<bool> {
    connection.execute_batch("BEGIN")?;
    connection.query_row("SELECT count(*) FROM main.sqlite_schema", [], |_| Ok(()))?;
    connection.query_row("PRAGMA main.journal_mode", [], |row| Ok(row.get_ref(0)?.as_bytes()? == b"wal"))
}

struct Taking<'a> {
    request: &'a DumpRequest,
    place: &'a Place,
    context: &'a JobContext,
}

/// What is known of a state before its pages are stored.
struct State {
    facts: Facts,
    tables: Vec<Table>,
    incomplete: Vec<Incomplete>,
    checked_by: &'static str,
}

impl Taking<'_> {
    fn explain(&self, error: &rusqlite::Error, attempted: &str) -> SourceError {
        explain(error, attempted, self.place, &self.context.cancel)
    }

    /// From the database itself, within the read transaction that is open.
    fn live(&self, connection: &mut Connection, sink: &mut dyn SetSink) -> Result<Dumped, SourceError> {
        let snapshot_at = now_micros();
        let log_before = self.place.sidecar_bytes("-wal");
        let until = Instant::now() + self.request.read_timeout;
        interrupt_when(connection, self.context.cancel.clone(), Some(until))
            .map_err(|error| self.explain(&error, "read"))?;
        let taken = self.take(connection, sink, Some(until));
        let log_after = self.place.sidecar_bytes("-wal");
        if log_after >= log_before.saturating_add(LARGE_LOG) {
            tracing::warn!(
                "the write-ahead log of {} grew by {} MiB while the backup held it back; the next checkpoint shortens it",
                self.place.path().display(),
                (log_after - log_before) >> 20
            );
        }
        let state = taken.map_err(|error| self.held_too_long(error, until))?;
        // The lock goes with the transaction, before the rest of the backup is made.
        connection.execute_batch("COMMIT").map_err(|error| self.explain(&error, "read"))?;
        Ok(self.dumped(state, snapshot_at, [log_before, log_after]))
    }

    /// From a copy in the job's scratch folder.
    fn copied(&self, connection: &Connection, sink: &mut dyn SetSink) -> Result<Dumped, SourceError> {
        let copy = self.context.scratch.join("copy.sqlite");
        let snapshot_at = stepped_copy::copy(connection, self.request, self.place, &copy, &self.context.cancel)?;
        let connection =
            open_copy(&copy, &self.context.cancel).map_err(|error| self.explain(&error, "read a copy of"))?;
        begin(&connection).map_err(|error| self.explain(&error, "read a copy of"))?;
        let state = self.take(&connection, sink, None)?;
        drop(connection);
        std::fs::remove_file(&copy).map_err(|error| SourceError::io("remove the copy of the database", &error))?;
        Ok(self.dumped(state, snapshot_at, [0, 0]))
    }

    /// Looks at the state within the open transaction, and stores its pages.
    fn take(
        &self,
        connection: &Connection,
        sink: &mut dyn SetSink,
        until: Option<Instant>,
    ) -> Result<State, SourceError> {
        let context = self.context;
        context.progress.enter(Phase::Checking);
        let mut state = self.examine(connection)?;
        context.progress.expect_bytes(state.facts.bytes());
        context.progress.enter(Phase::Data);
        sink.begin_file(IMAGE, FileRole::SqliteImage).map_err(SourceError::from_sink)?;
        let Facts { pages, page_size, .. } = state.facts;
        pages::copy(connection, pages, page_size, sink.bytes(), &context.cancel, until).map_err(
            |error| match error {
                CopyError::Sqlite(error) => self.explain(&error, "read"),
                CopyError::Sink(error) => SourceError::from_sink(error),
                CopyError::Incomplete { expected, pages } => SourceError::new(
                    ErrorCode::DumpIncomplete,
                    format!("cannot read {}: page {expected} of {pages} did not come", self.place.path().display()),
                ),
            },
        )?;
        sink.end_file(std::mem::take(&mut state.tables)).map_err(SourceError::from_sink)?;
        Ok(state)
    }

    fn examine(&self, connection: &Connection) -> Result<State, SourceError> {
        let examine = || {
            let facts = Facts::read(connection)?;
            let soundness = contents::check(connection, self.request.check)?;
            Ok((facts, soundness))
        };
        let (facts, soundness) = examine().map_err(|error| self.explain(&error, "read"))?;
        let mut checked_by = self.request.check.as_str();
        let mut incomplete = match soundness {
            Soundness::Sound(note) => Vec::from_iter(note),
            Soundness::Unchecked(why) => {
                checked_by = "";
                vec![why]
            }
            Soundness::Damaged(lines) => {
                let (path, check) = (self.place.path().display(), self.request.check.as_str());
                let message = format!("the database {path} is damaged, so it is not backed up; {check} says: {lines}");
                return Err(SourceError::new(ErrorCode::DatabaseCorrupt, message));
            }
        };
        let (tables, uncounted) = contents::count_rows(connection).map_err(|error| self.explain(&error, "read"))?;
        incomplete.extend(uncounted);
        Ok(State { facts, tables, incomplete, checked_by })
    }

    /// Tells the end of `read_timeout` from that of the job's own time.
    fn held_too_long(&self, error: SourceError, until: Instant) -> SourceError {
        let own = matches!(error, SourceError::Canceled(CancelReason::TimedOut)) && Instant::now() >= until;
        if !own || self.context.cancel.reason().is_some() {
            return error;
        }
        SourceError::new(
            ErrorCode::TimedOut,
            format!(
                "reading {} took longer than the read_timeout of {} s, for which checkpoints of its log may be held \
                 back; raise it, or back up when the disk is less busy",
                self.place.path().display(),
                self.request.read_timeout.as_secs()
            ),
        )
    }

    fn dumped(&self, state: State, snapshot_at: u64, wal_bytes: [u64; 2]) -> Dumped {
        let State { facts, tables: _, incomplete, checked_by } = state;
        Dumped {
            database_bytes: facts.bytes(),
            facts: SqliteFacts {
                sqlite_version: rusqlite::version().to_owned(),
                path: Name::from(self.request.path.as_os_str().as_encoded_bytes().to_vec()),
                page_size: facts.page_size,
                pages: facts.pages,
                free_pages: facts.free_pages,
                journal_mode: if facts.is_wal { "wal" } else { "rollback" }.to_owned(),
                encoding: facts.encoding,
                auto_vacuum: facts.auto_vacuum.to_owned(),
                user_version: facts.user_version,
                application_id: facts.application_id,
                checked_by: checked_by.to_owned(),
                mode: self.place.mode,
                wal_bytes,
                schema: facts.schema,
            },
            incomplete,
            snapshot_at,
        }
    }
}

#[cfg(test)]
mod tests;
