//! Opening databases: those of somebody else, which are in use, and copies of our own.
//!
//! Invariants: a wait for a lock and every statement end when the job is cancelled or its time is over; nothing is
//! written into a database that is opened here, but by [`open_to_write`].

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags};

use super::{
    access::{Access, Place},
    problem::explain,
};
use crate::{source::SourceError, stream::Cancel};

/// How long SQLite's busy handler waits between two attempts to get a lock.
const BUSY_STEP: Duration = Duration::from_millis(20);
/// After how many instructions of its virtual machine SQLite asks whether to go on: some ten times a second at least.
const PROGRESS_STEP: i32 = 10_000;

/// What ends the work on a database early.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// The job's flag.
    pub(super) cancel: Cancel,
    /// How long to wait for a lock that somebody else holds.
    pub(super) lock_timeout: Duration,
}

/// Opens a live database. Nothing is read yet.
///
/// # Errors
/// As [`explain`].
pub(super) fn open_live(place: &Place, limits: &Limits) -> Result<Connection, SourceError> {
    let mode = match place.access() {
        Access::ReadOnly => OpenFlags::SQLITE_OPEN_READ_ONLY,
        Access::ReadWrite => OpenFlags::SQLITE_OPEN_READ_WRITE,
    };
    let opened = Connection::open_with_flags(place.path(), mode | OpenFlags::SQLITE_OPEN_NO_MUTEX);
    opened
        .and_then(|connection| prepare(connection, limits))
        .map_err(|error| explain(&error, "open", place, &limits.cancel))
}

/// Opens a live database to replace its contents: unlike all others, this connection may write, also what is damaged.
///
/// # Errors
/// As [`explain`].
pub(super) fn open_to_write(place: &Place, limits: &Limits) -> Result<Connection, SourceError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(place.path(), flags).and_then(|connection| prepare(connection, limits));
    // EXTRA: once a change is reported, no crash takes it back.
    opened
        .and_then(|connection| {
            connection
                .execute_batch("PRAGMA writable_schema = ON; PRAGMA query_only = OFF; PRAGMA synchronous = EXTRA;")?;
            Ok(connection)
        })
        .map_err(|error| explain(&error, "open", place, &limits.cancel))
}

/// Opens a complete copy that only this process knows of: without locks, and without files beside it.
///
/// # Errors
/// Those of SQLite.
pub(super) fn open_copy(path: &Path, cancel: &Cancel) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // A path that is not absolute would be taken for a host.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let connection = Connection::open_with_flags(immutable_uri(&path), flags)?;
    prepare(connection, &Limits { cancel: cancel.clone(), lock_timeout: Duration::ZERO })
}

/// Ends statements and waits when `limits` say so, and trusts nothing that the schema says.
fn prepare(mut connection: Connection, limits: &Limits) -> rusqlite::Result<Connection> {
    let (cancel, lock_timeout) = (limits.cancel.clone(), limits.lock_timeout);
    let mut began = Instant::now();
    connection.busy_handler(Some(move |attempts| {
        if attempts == 0 {
            began = Instant::now();
        }
        if cancel.reason().is_some() || began.elapsed() >= lock_timeout {
            return false;
        }
        std::thread::sleep(BUSY_STEP);
        true
    }))?;
    interrupt_when(&mut connection, limits.cancel.clone(), None)?;
    // The functions and virtual tables that views, triggers and expressions of a hostile schema could call.
    connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA query_only = ON; PRAGMA cell_size_check = ON;")?;
    Ok(connection)
}

/// Interrupts the statements of a connection when the job is cancelled or the time is over.
///
/// # Errors
/// Those of SQLite.
pub(super) fn interrupt_when(
    connection: &mut Connection,
    cancel: Cancel,
    until: Option<Instant>,
) -> rusqlite::Result<()> {
    connection.progress_handler(
        PROGRESS_STEP,
        Some(move || cancel.reason().is_some() || until.is_some_and(|until| Instant::now() >= until)),
    )
}

/// <https://sqlite.org/uri.html>
fn immutable_uri(path: &Path) -> String {
    let mut uri = String::from("file://");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => uri.push(char::from(*byte)),
            byte => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri + "?immutable=1"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_is_built_with_the_table_of_pages() {
        let connection = Connection::open_in_memory().unwrap();
        let built_with: bool = connection
            .query_row("SELECT sqlite_compileoption_used('ENABLE_DBPAGE_VTAB')", [], |row| row.get(0))
            .unwrap();
        assert!(built_with, "LIBSQLITE3_FLAGS of .cargo/config.toml did not reach the bundled SQLite");
    }

    #[test]
    fn any_path_is_a_uri() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b?c#d%é.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t(x)").unwrap();
        let copy = open_copy(&path, &Cancel::new()).unwrap();
        assert_eq!(copy.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)), Ok(1));
        assert!(copy.execute_batch("CREATE TABLE u(x)").is_err());
    }

    #[test]
    fn a_relative_path_is_found_from_here() {
        let folder = tempfile::tempdir_in(".").unwrap();
        let path = Path::new(folder.path().file_name().unwrap()).join("x.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t(x)").unwrap();
        assert!(path.is_relative() && open_copy(&path, &Cancel::new()).is_ok());
    }

    #[test]
    fn a_cancel_ends_a_statement_and_a_wait_for_a_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let holder = Connection::open(&path).unwrap();
        holder.execute_batch("CREATE TABLE t(x)").unwrap();
        let cancel = Cancel::new();
        let limits = Limits { cancel: cancel.clone(), lock_timeout: Duration::from_secs(3600) };
        let place = Place::look_up(&path).unwrap();
        let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
        for (locked, sql) in [(false, endless), (true, "SELECT count(*) FROM t")] {
            let cancel = Cancel::new();
            let connection = open_live(&place, &Limits { cancel: cancel.clone(), ..limits.clone() }).unwrap();
            if locked {
                holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
            }
            let waiting = std::thread::spawn(move || connection.query_row(sql, [], |_| Ok(())));
            cancel.cancel(crate::stream::CancelReason::Requested);
            assert!(waiting.join().unwrap().is_err());
        }
    }
}
