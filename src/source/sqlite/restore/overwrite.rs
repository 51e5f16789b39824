//! New contents for a database that is in use, by SQLite's own backup interface (<https://sqlite.org/c3ref/backup_finish.html>):
//! the file stays the one that it was, with its owner, mode and label, and connections of its application find the new
//! contents with their next transaction.
//!
//! The old contents are kept and the new ones written within one write transaction, so no commit can fall between: the
//! first step of the backup, of no page, takes the lock. In rollback-journal mode it is the exclusive one, and what
//! others must not read is read through a connection that takes no locks; it shares SQLite's record of this process's
//! locks on the file, so closing it drops none (unixClose in os_unix.c). In WAL mode readers go on, and another
//! connection of ours is one of them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    time::{Duration, Instant},
};

use rusqlite::{
    Connection, OpenFlags,
    backup::{Backup, StepResult},
    ffi,
};

use super::{hit, present::page_size, swap::FileSwap, sync_folder};
use crate::{
    model::ErrorCode,
    source::{
        SourceError,
        sqlite::{
            access::Place,
            connection::{Limits, open_copy, open_live, open_to_write},
            pages::{self, CopyError},
            problem::explain,
        },
    },
    stream::{ByteSink, Cancel, Cut},
};

/// Pages that are written at once; between them the job can be cancelled.
const STEP: i32 = 64;
/// How long is waited between two attempts to have a database alone.
const AGAIN: Duration = Duration::from_millis(20);
/// Where a database says whether it is in WAL mode: 2 and 2, or 1 and 1 (<https://sqlite.org/fileformat2.html>).
const VERSIONS_AT: u64 = 18;

/// A database whose contents are replaced.
struct Overwriting<'a> {
    swap: &'a FileSwap,
    place: Place,
    limits: &'a Limits,
}

/// Keeps the contents of the file, and replaces them by those of the incoming one.
///
/// # Errors
/// See [`super::swap::exchange`].
pub(super) fn overwrite(swap: &FileSwap, limits: &Limits) -> Result<(), SourceError> {
    let place = Place::look_up(&swap.path)?;
    place.check_sidecars()?;
    Overwriting { swap, place, limits }.run()
}

impl Overwriting<'_> {
    fn explain(&self, error: &rusqlite::Error) -> SourceError {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => SourceError::new(
                ErrorCode::NoSpace,
                format!("cannot replace {}: its file system is full", self.place.path().display()),
            ),
            Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => self.busy(),
            _ => explain(error, "replace", &self.place, &self.limits.cancel),
        }
    }

    fn busy(&self) -> SourceError {
        if let Err(reason) = self.limits.cancel.check() {
            return reason.into();
        }
        SourceError::new(
            ErrorCode::DatabaseBusy,
            format!(
                "cannot replace {}: another process was reading or writing it for the whole lock_timeout of {} s, so nothing \
                 was changed; try again when it is done, or raise lock_timeout",
                self.place.path().display(),
                self.limits.lock_timeout.as_secs_f64()
            ),
        )
    }

    fn run(&self) -> Result<(), SourceError> {
        let failed = |error: rusqlite::Error| self.explain(&error);
        let mut live = open_to_write(&self.place, self.limits)?;
        let was_wal = is_wal(&live).map_err(failed)?;
        self.prepare_incoming(was_wal)?;
        let incoming = self.incoming()?;
        let mut is_wal = was_wal;
        if was_wal && page_size(&live).map_err(failed)? != page_size(&incoming).map_err(failed)? {
            // SQLite changes the size of pages in no other mode. The new contents say WAL, so it comes back with them.
            self.leave_wal(&live)?;
            is_wal = false;
        }
        {
            let backup = Backup::new(&incoming, &mut live).map_err(failed)?;
            match backup.step(0).map_err(failed)? {
                StepResult::More => {}
                _ => return Err(self.busy()),
            }
            hit("file-locked")?;
            self.keep(is_wal)?;
            self.write(&backup)?;
        }
        hit("file-written")?;
        // What readers of old contents still hold back is done by the next checkpoint of the application.
        let _ = live.query_row("PRAGMA main.wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        Ok(())
    }

    /// The incoming database says the mode of the live one, which stays as it is; and it has a page, without which
    /// SQLite would copy at the step that only locks.
    fn prepare_incoming(&self, was_wal: bool) -> Result<(), SourceError> {
        let path = &self.swap.incoming;
        let failed = |error: io::Error| SourceError::io(format_args!("prepare {}", path.display()), &error);
        let is_empty = fs::metadata(path).map_err(failed)?.len() == 0;
        if is_empty {
            let made = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
                .and_then(|connection| connection.execute_batch("PRAGMA user_version = 0"));
            made.map_err(|error| self.explain(&error))?;
        }
        let version = if was_wal { 2 } else { 1 };
        let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
        file.write_all_at(&[version, version], VERSIONS_AT).map_err(failed)
    }

    fn incoming(&self) -> Result<Connection, SourceError> {
        let opened = open_copy(&self.swap.incoming, &self.limits.cancel);
        // What is brought back may be damaged: it is what was there.
        opened
            .and_then(|connection| connection.execute_batch("PRAGMA writable_schema = ON").map(|()| connection))
            .map_err(|error| self.explain(&error))
    }

    /// Needs everybody else to have closed the database.
    fn leave_wal(&self, live: &Connection) -> Result<(), SourceError> {
        if leave_wal(live, self.limits).map_err(|error| self.explain(&error))? {
            return Ok(());
        }
        self.limits.cancel.check()?;
        Err(SourceError::new(
            ErrorCode::DatabaseBusy,
            format!(
                "cannot replace {}: the pages of the backup have another size, which SQLite gives a database in WAL mode only \
                 when nobody has it open, and somebody had it for the whole lock_timeout of {} s; stop its application, then \
                 restore",
                self.place.path().display(),
                self.limits.lock_timeout.as_secs_f64()
            ),
        ))
    }

    /// Writes what is there now, which the lock keeps as it is, to the kept file.
    fn keep(&self, is_wal: bool) -> Result<(), SourceError> {
        let half = self.swap.half_kept();
        let failed = |error: io::Error| SourceError::io(format_args!("write {}", half.display()), &error);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half).map_err(failed)?;
        let mut sink = FileSink(file);
        let old = self.old(is_wal)?;
        let facts = || -> rusqlite::Result<(u64, u32)> {
            let size = page_size(&old)?;
            Ok((old.query_row("PRAGMA main.page_count", [], |row| row.get(0))?, size))
        };
        let (pages, size) = facts().map_err(|error| self.explain(&error))?;
        pages::copy(&old, pages, size, &mut sink, &self.limits.cancel, None).map_err(|error| match error {
            CopyError::Sqlite(error) => self.explain(&error),
            CopyError::Sink(error) if error.get_ref().is_some() => SourceError::from_sink(error),
            CopyError::Sink(error) => failed(error),
            CopyError::Incomplete { expected, pages } => SourceError::new(
                ErrorCode::DumpIncomplete,
                format!("cannot keep {}: page {expected} of {pages} did not come", self.place.path().display()),
            ),
        })?;
        sink.0.sync_all().map_err(failed)?;
        hit("file-copied")?;
        fs::rename(&half, &self.swap.kept).map_err(failed)?;
        sync_folder(&self.swap.kept)?;
        hit("file-kept")
    }

    /// A connection that reads what the lock keeps.
    fn old(&self, is_wal: bool) -> Result<Connection, SourceError> {
        let failed = |error: rusqlite::Error| self.explain(&error);
        let without_waiting = Limits { cancel: self.limits.cancel.clone(), lock_timeout: Duration::ZERO };
        let beside = open_live(&self.place, &without_waiting)?;
        beside.execute_batch("PRAGMA writable_schema = ON").map_err(failed)?;
        match (begin_at_all(&beside), is_wal) {
            (Ok(true), true) => Ok(beside),
            // Locked by us: nobody else can be at it.
            (Err(error), false) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
                let alone = open_copy(self.place.path(), &self.limits.cancel).map_err(failed)?;
                alone.execute_batch("PRAGMA writable_schema = ON").map_err(failed)?;
                Ok(alone)
            }
            (Err(error), true) => Err(failed(error)),
            _ => Err(SourceError::new(
                ErrorCode::DatabaseBusy,
                format!(
                    "cannot replace {}: its journal mode was changed meanwhile; try again",
                    self.place.path().display()
                ),
            )),
        }
    }

    /// Writes the new contents and commits.
    fn write(&self, backup: &Backup<'_, '_>) -> Result<(), SourceError> {
        loop {
            self.limits.cancel.check()?;
            match backup.step(STEP).map_err(|error| self.explain(&error))? {
                StepResult::Done => return Ok(()),
                StepResult::More => hit("file-half-written")?,
                _ => return Err(self.busy()),
            }
        }
    }
}

/// Lets nobody have the file open as a database before it gets another name's contents. What is no database is left.
pub(super) fn close(swap: &FileSwap, limits: &Limits) -> Result<(), SourceError> {
    let place = Place::look_up(&swap.path)?;
    let closed = open_to_write(&place, limits).and_then(|live| {
        let alone = is_wal(&live).and_then(|is_wal| if is_wal { leave_wal(&live, limits) } else { Ok(true) });
        match alone.and_then(|alone| live.execute_batch("BEGIN EXCLUSIVE; COMMIT").map(|()| alone)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(SourceError::new(
                ErrorCode::DatabaseBusy,
                format!("cannot replace {}: somebody has it open; stop its application first", place.path().display()),
            )),
            Err(error) => Err(explain(&error, "replace", &place, &limits.cancel)),
        }
    });
    match closed {
        Err(error) if matches!(error.code(), ErrorCode::NotADatabase | ErrorCode::DatabaseEncrypted) => Ok(()),
        other => other,
    }
}

/// Sets a database that was taken out of WAL mode to it again, unless its application has done so.
pub(super) fn back_to_wal(swap: &FileSwap, lock_timeout: Duration) -> Result<(), SourceError> {
    let place = Place::look_up(&swap.path)?;
    let limits = Limits { cancel: Cancel::new(), lock_timeout };
    let live = open_to_write(&place, &limits)?;
    let set = is_wal(&live).and_then(|is_wal| match is_wal {
        true => Ok(()),
        false => live.query_row("PRAGMA main.journal_mode = WAL", [], |_| Ok(())),
    });
    set.map_err(|error| explain(&error, "set the journal mode of", &place, &limits.cancel))
}

/// Whether a database is in WAL mode.
fn is_wal(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA main.schema_version", [], |_| Ok(()))?;
    connection.query_row("PRAGMA main.journal_mode", [], |row| Ok(row.get_ref(0)?.as_bytes()? == b"wal"))
}

/// Begins a read transaction also of a database whose schema cannot be read.
fn begin_at_all(connection: &Connection) -> rusqlite::Result<bool> {
    connection.execute_batch("BEGIN")?;
    is_wal(connection)
}

/// Leaves WAL mode; `false` when others had the database open all the time. SQLite does not wait for them itself.
fn leave_wal(live: &Connection, limits: &Limits) -> rusqlite::Result<bool> {
    let began = Instant::now();
    loop {
        let mode = live.query_row("PRAGMA main.journal_mode = DELETE", [], |row| row.get::<_, String>(0));
        match mode {
            Ok(mode) if mode == "wal" => {}
            Ok(_) => return Ok(true),
            Err(error) if error.sqlite_error().is_some_and(|error| error.extended_code & 0xff == ffi::SQLITE_BUSY) => {}
            Err(error) => return Err(error),
        }
        if limits.cancel.reason().is_some() || began.elapsed() >= limits.lock_timeout {
            return Ok(false);
        }
        std::thread::sleep(AGAIN);
    }
}

/// Takes pages into a file.
struct FileSink(File);

impl ByteSink for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn cut(&mut self, _: Cut) -> io::Result<()> {
        Ok(())
    }
}
