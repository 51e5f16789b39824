//! TRUNCATE and a rewriting ALTER, fired between any two steps of a dump: what the dump holds is one state.
//!
//! The dump runs in a process of its own, this test program started again, because fail points come from the
//! environment.
#![cfg(feature = "failpoints")]

use std::{fs, process::Command, time::Instant};

use super::*;

const FOLDER: &str = "BACKUPD_TEST_FOLDER";
const ROWS: u64 = 500;

/// Runs in the child: dumps, and writes what the tables held.
#[test]
#[ignore = "started by the test below"]
fn dump_in_a_process_of_its_own() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let bin = PathBuf::from(std::env::var_os("BACKUPD_TEST_BIN").unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let context = JobContext {
        cancel: Cancel::new(),
        progress: Arc::new(Progress::default()),
        scratch: scratch.path().to_owned(),
        runtime: runtime.handle().clone(),
    };
    let request = DumpRequest {
        connection: ConnectionSpec {
            host: folder.to_str().unwrap().to_owned(),
            port: 5432,
            user: "postgres".to_owned(),
            database: "shop".into(),
            password: crate::config::PasswordSource::None,
            sslmode: crate::config::SslMode::Prefer,
            sslrootcert: None,
            connect_timeout: 10,
        },
        selection: Selection::default(),
        lock_timeout: Duration::from_secs(60),
        client_bin_dir: Some(bin),
        globals: SharedGlobals::default(),
    };
    let mut sink = MemorySink::default();
    dump(&request, &mut sink, &context).unwrap();
    let rows = ["truncated", "rewritten", "truncations", "rewrites"].map(|table| sink.rows("public", table).unwrap());
    let tables = sink.tables().len();
    fs::write(std::env::var_os("BACKUPD_TEST_RESULT").unwrap(), format!("{rows:?} {tables}")).unwrap();
}

fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Dumps with a hold at `place`, where `sql` is fired; gives what the dump held, and whether `sql` had to wait.
fn fire_at(server: &TestServer, place: &str, sql: &str) -> (String, bool) {
    let folder = tempfile::tempdir().unwrap();
    let result = folder.path().join("result");
    let mut dumping = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--nocapture",
            "--exact",
            "source::postgres::dump::tests::snapshot::dump_in_a_process_of_its_own",
        ])
        .env(FOLDER, server.folder())
        .env("BACKUPD_TEST_BIN", server.bin())
        .env("BACKUPD_TEST_RESULT", &result)
        .env("BACKUPD_FAIL_POINT", format!("{place}=hold:{}", folder.path().display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(place, || folder.path().join(format!("{place}.reached")).exists());
    let mut firing = server.psql_command("shop").arg("-c").arg(sql).env("PGAPPNAME", "firing").spawn().unwrap();
    let mut waits = false;
    wait_for("the statement to end or to wait", || {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'firing' AND wait_event_type = 'Lock'";
        waits = server.sql("postgres", sql) != "0";
        waits || firing.try_wait().unwrap().is_some()
    });
    fs::write(folder.path().join(format!("{place}.go")), b"").unwrap();
    assert!(dumping.wait().unwrap().success(), "the dump failed at {place}");
    assert!(firing.wait().unwrap().success());
    (fs::read_to_string(result).unwrap(), waits)
}

#[test]
fn no_truncate_and_no_rewrite_reaches_into_a_dump() {
    let server = TestServer::start("");
    server.sql("postgres", "CREATE DATABASE shop");
    for place in ["listed", "locked", "relisted", "snapshot-exported", "schema-dumped", "data-begun"] {
        server.sql(
            "shop",
            format!(
                "DROP TABLE IF EXISTS truncated, rewritten, truncations, rewrites, added;
                 CREATE TABLE truncated AS SELECT generate_series(1, {ROWS}) a;
                 CREATE TABLE rewritten AS SELECT generate_series(1, {ROWS}) a;
                 CREATE TABLE truncations (a int); CREATE TABLE rewrites (a int);"
            ),
        );
        let truncate = "BEGIN; TRUNCATE truncated; INSERT INTO truncations VALUES (1); COMMIT";
        let (held, waited) = fire_at(&server, place, truncate);
        // Either nothing of the transaction or all of it: a truncated table without its record is what must not be.
        let before = format!("[{ROWS}, {ROWS}, 0, 0] 4");
        let after = format!("[0, {ROWS}, 1, 0] 4");
        assert!(held == after || (held == before && waited), "TRUNCATE at {place}: {held}");
        if place == "data-begun" {
            assert_eq!(held, before);
        }

        server.sql(
            "shop",
            format!("TRUNCATE truncated, truncations; INSERT INTO truncated SELECT generate_series(1, {ROWS})"),
        );
        let alter = "BEGIN; ALTER TABLE rewritten ALTER a TYPE bigint; INSERT INTO rewrites VALUES (1); COMMIT";
        let (held, waited) = fire_at(&server, place, alter);
        let after = format!("[{ROWS}, {ROWS}, 0, 1] 4");
        assert!(held == after || (held == before && waited), "ALTER at {place}: {held}");

        // A table that is born while the others are locked is locked too before the snapshot.
        let (held, _) = fire_at(&server, place, "CREATE TABLE added AS SELECT 1 AS a");
        let born = matches!(place, "listed" | "locked" | "relisted");
        assert!(held.ends_with(if born { " 5" } else { " 4" }), "{held} at {place}");
    }
}
