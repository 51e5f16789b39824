//! What goes wrong in the middle of a dump: each gives a clear error and leaves nothing behind.

use std::{fs, io::BufRead as _, os::unix::fs::PermissionsExt as _, time::Instant};

use nix::sys::signal::{Signal, kill};

use super::*;

/// A folder of client programs whose pg_dump is a script; `$REAL` in it is the folder of the real ones.
fn fake_programs(fixture: &Fixture, script: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let real = fixture.server.bin();
    for program in ["pg_dumpall", "pg_restore", "psql"] {
        std::os::unix::fs::symlink(real.join(program), folder.path().join(program)).unwrap();
    }
    let text =
        format!("#!/bin/sh\nREAL={}\ncase \"$*\" in\n{script}\nesac\nexec $REAL/pg_dump \"$@\"\n", real.display());
    let new = folder.path().join("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(new, folder.path().join("pg_dump")).unwrap();
    folder
}

#[test]
fn a_killed_pg_dump_is_an_error() {
    let fixture = Fixture::new("");
    let request = fixture.big_database();
    let folder = fixture.server.folder().to_owned();
    let killing = move |name: &str| {
        if name == "data-001.sql" {
            clients_of(&folder).into_iter().for_each(|pid| kill(pid, Signal::SIGKILL).unwrap());
        }
    };
    let error = fixture.dump_with(&request, killing).unwrap_err();
    assert_eq!(error.code(), ErrorCode::DumpFailed);
    assert!(error.to_string().contains("data-001.sql") && error.to_string().contains("killed by SIGKILL"), "{error}");
    fixture.assert_clean();
}

#[test]
fn a_server_that_dies_is_an_error() {
    let fixture = std::rc::Rc::new(Fixture::new(""));
    let request = fixture.big_database();
    let server = std::rc::Rc::clone(&fixture);
    let crash = move |name: &str| {
        if name == "data-001.sql" {
            server.server.crash();
        }
    };
    let error = fixture.dump_with(&request, crash).unwrap_err();
    assert!(matches!(error.code(), ErrorCode::DatabaseUnreachable | ErrorCode::DumpFailed), "{error}");
    fixture.assert_clean();
}

#[test]
fn a_database_that_is_dropped_is_an_error() {
    let fixture = std::rc::Rc::new(Fixture::new(""));
    let request = fixture.big_database();
    let server = std::rc::Rc::clone(&fixture);
    let drop = move |name: &str| {
        if name == "data-001.sql" {
            server.server.sql("postgres", "DROP DATABASE big WITH (FORCE)");
        }
    };
    let error = fixture.dump_with(&request, drop).unwrap_err();
    assert!(matches!(error.code(), ErrorCode::DatabaseUnreachable | ErrorCode::DumpFailed), "{error}");
    fixture.assert_clean();
}

#[test]
fn a_dump_that_is_cut_short_is_incomplete_although_it_succeeds() {
    let fixture = Fixture::new("");
    let request = fixture.big_database();
    let programs =
        fake_programs(&fixture, "*--section=data*) $REAL/pg_dump \"$@\" 2>/dev/null | head -c 3000000; exit 0;;");
    let request = DumpRequest { client_bin_dir: Some(programs.path().to_owned()), ..request };
    let error = fixture.dump(&request).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::DumpIncomplete);
    assert!(error.to_string().contains("data-001.sql") && error.to_string().contains("3000000 bytes"), "{error}");
    fixture.assert_clean();
}

#[test]
fn a_million_lines_of_stderr_do_not_stop_a_dump() {
    let fixture = Fixture::new("");
    let request = fixture.big_database();
    let programs = fake_programs(&fixture, "*--section=data*) yes 'pg_dump: warning: x' | head -n 1000000 >&2;;");
    let request = DumpRequest { client_bin_dir: Some(programs.path().to_owned()), ..request };
    assert_eq!(fixture.dump(&request).unwrap().0.rows, 100_000);
    fixture.assert_clean();
}

#[test]
fn a_full_sink_ends_the_dump_with_its_own_error() {
    let fixture = Fixture::new("");
    let request = fixture.big_database();
    let mut sink = MemorySink { fail_after: Some(2_000_000), ..MemorySink::default() };
    let error = dump(&request, &mut sink, &fixture.context()).unwrap_err();
    assert!(matches!(&error, SourceError::Sink(inner) if inner.kind() == io::ErrorKind::StorageFull), "{error}");
    assert_eq!(error.code(), ErrorCode::NoSpace);
    fixture.assert_clean();
}

#[test]
fn cancel_ends_a_dump_wherever_it_is() {
    let mut fixture = Fixture::new("");
    let request = fixture.big_database();
    for file in ["globals.sql", "database.sql", "schema.dump", "pre-data.sql", "data-001.sql", "post-data.sql"] {
        fixture.cancel = Cancel::new();
        let cancel = fixture.cancel.clone();
        let before = Instant::now();
        let canceling = move |name: &str| {
            if name == file {
                cancel.cancel(CancelReason::Shutdown);
            }
        };
        let error = fixture.dump_with(&request, canceling).unwrap_err();
        assert_eq!(error.code(), ErrorCode::ShuttingDown, "{file}: {error}");
        assert!(before.elapsed() < Duration::from_secs(10), "{file}");
        fixture.assert_clean();
    }
    // The sessions end with their sockets; the server needs a moment to see it.
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'backupd'";
    while fixture.server.sql("postgres", sessions) != "0" {}
}

/// A psql that holds a table's lock until it is dropped.
struct Locker(std::process::Child);

impl Locker {
    fn lock(server: &TestServer, database: &str, table: &str) -> Self {
        let mut child = server.psql_command(database).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let sql = format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;\n\\echo locked\n");
        io::Write::write_all(child.stdin.as_mut().unwrap(), sql.as_bytes()).unwrap();
        let mut line = String::new();
        io::BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "locked\n");
        Self(child)
    }
}

impl Drop for Locker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_table_that_stays_locked_is_named() {
    let fixture = Fixture::new("");
    fixture.server.sql("postgres", "CREATE DATABASE shop");
    fixture.server.sql("shop", "CREATE TABLE a (x int); CREATE TABLE \"b\nc\" (x int); CREATE TABLE d (x int)");
    let locker = Locker::lock(&fixture.server, "shop", "\"b\nc\"");
    let request = DumpRequest { lock_timeout: Duration::from_millis(200), ..fixture.request("postgres", "shop") };
    let error = fixture.dump(&request).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::LockTimeout);
    assert!(error.to_string().contains("table public.b\\nc (locked by process"), "{error}");

    // A cancel while it waits ends the wait on the server too.
    let request = DumpRequest { lock_timeout: Duration::from_secs(1000), ..request };
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'backupd' AND wait_event_type = 'Lock'";
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            while fixture.server.sql("postgres", waiting) == "0" {}
            fixture.cancel.cancel(CancelReason::Requested);
        });
        fixture.dump(&request).map(|_| ()).unwrap_err()
    });
    assert_eq!(error.code(), ErrorCode::Canceled);
    while fixture.server.sql("postgres", waiting) != "0" {}
    drop(locker);
}

#[test]
fn early_checks_say_what_is_wrong() {
    let fixture = Fixture::new("max_locks_per_transaction = 10\nmax_connections = 10\n");
    fixture.server.sql("postgres", "CREATE DATABASE shop");
    let tables = "SELECT format('CREATE TABLE t%s (x int)', i) FROM generate_series(1, 200) i \\gexec\n";
    fixture.server.sql("shop", tables);
    let error = preflight(&fixture.request("postgres", "shop"), &fixture.context()).unwrap_err();
    assert!(error.to_string().contains("set max_locks_per_transaction ="), "{error}");
    let error = preflight(&fixture.request("postgres", "gone"), &fixture.context()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::NoSuchDatabase);
    let empty = tempfile::tempdir().unwrap();
    let request =
        DumpRequest { client_bin_dir: Some(empty.path().to_owned()), ..fixture.request("postgres", "postgres") };
    assert_eq!(preflight(&request, &fixture.context()).unwrap_err().code(), ErrorCode::ClientProgramMissing);
}
