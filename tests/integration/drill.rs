//! Drills without systemd: the daemon is root, and its workers are another user.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use backupd::model::error_code::ErrorCode;
use serde_json::Value;

use crate::{
    common::{Daemon, Server, World, postgres_source, run, sqlite_source, wait_until},
    sqlite::sqlite3,
};

/// Whether this test program may become another user; a daemon that may not refuses.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The source of the sample database, drilled by a server that has its extension, with these assertions.
pub(crate) fn with_drills(server: &Server, database: &str, assertions: Option<&Path>) -> String {
    let mut text = postgres_source(server, database);
    text += &format!("\n[drill]\nserver_bin_dir = \"{}\"\n", server.server_bin_dir().display());
    if let Some(path) = assertions {
        text += &format!("assertions = \"{}\"\n", path.display());
    }
    text
}

/// Writes assertions into a file of a world.
pub(crate) fn assertions(world: &World, sql: &str) -> PathBuf {
    let path = world.path().join("drill.sql");
    fs::write(&path, sql).expect("write the assertions");
    path
}

/// Lets scratch databases of this world be below its own folder, so that what is left of them is seen.
pub(crate) fn scratch_in(world: &World) -> PathBuf {
    let scratch = world.path().join("drills");
    fs::create_dir_all(&scratch).expect("make a folder");
    let repository = world.repository();
    world.configure(&format!(
        "[repository]\npath = \"{}\"\n[drill]\nscratch = \"{}\"\nuser = \"nobody\"\n",
        repository.display(),
        scratch.display()
    ));
    scratch
}

/// Makes sure that no server, no program and no file of a drill is left.
#[track_caller]
pub(crate) fn nothing_is_left(world: &World, scratch: &Path) {
    wait_until("the folder of the drill is gone", || fs::read_dir(scratch).expect("the folder").count() == 0);
    wait_until("the notes are gone", || {
        fs::read_dir(world.path().join("state/drills")).map_or(0, Iterator::count) == 0
    });
    let needle = scratch.to_str().expect("UTF-8").as_bytes().to_vec();
    wait_until("the processes of the drill are gone", || {
        fs::read_dir("/proc").expect("/proc").flatten().all(|entry| {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            !command.windows(needle.len()).any(|window| window == needle)
        })
    });
}

fn backup(daemon: &Daemon) -> Value {
    daemon.list().remove(0)
}

#[test]
fn a_good_backup_of_the_sample_database_is_proved() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let scratch = scratch_in(&world);
    let sql = assertions(
        &world,
        "-- What must be there.\nSELECT count(*) > 0, 'customers' FROM shop.customer;\nSELECT max(price) > 0 FROM shop.item;\n",
    );
    world.source("shop", &with_drills(&server, "shop", Some(&sql)));
    let daemon = world.start();
    let taken = daemon.create("shop", &[]);
    if !is_root() {
        daemon.ctl(&["drill", "shop"]).fails_with(ErrorCode::DrillUnavailable);
        return;
    }
    let drilled = daemon.ctl(&["drill", "shop"]).ok();
    let said = drilled.text();
    for words in [
        "Restored in ",
        "with PostgreSQL ",
        "restore: ok",
        "schema: ok",
        "indexes: ok",
        "heaps: ok",
        "assertions: ok, 2 assertions hold",
    ] {
        assert!(said.contains(words), "{words}: {drilled}");
    }
    let listed = backup(&daemon);
    assert_eq!(listed["proof"], "drilled");
    assert!(listed["recovery"].as_u64() > Some(10_000), "{listed}");
    assert!(listed["drilled_at"].as_u64() > taken["finished_at"].as_u64(), "{listed}");
    assert!(daemon.ctl(&["list"]).ok().text().contains("drilled "), "the table");
    let id = taken["id"].as_str().expect("id");
    let shown = daemon.ctl(&["show", id]).ok();
    assert!(shown.text().contains("restored in") && shown.text().contains("indexes: ok"), "{shown}");
    let records = daemon.ctl(&["show", id, "--json=short"]).ok().json()["records"].clone();
    assert_eq!((&records[0]["record"], &records[0]["rows"]), (&"drilled".into(), &taken["rows"]), "{records}");
    assert!(daemon.ctl(&["status"]).ok().text().contains("Drills: "), "status");
    nothing_is_left(&world, &scratch);

    // What is known stays known; a second drill is one more record, by id and by the timer's way.
    daemon.ctl(&["drill", id]).ok();
    daemon.ctl(&["drill", "--all"]).ok();
    let records = daemon.ctl(&["show", id, "--json=short"]).ok().json()["records"].clone();
    assert_eq!(records.as_array().map(Vec::len), Some(3), "{records}");
    assert!(daemon.stop().success());
    let daemon = world.start();
    assert_eq!(backup(&daemon)["proof"], "drilled");
    assert_eq!(world.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn every_database_of_a_server_and_what_every_server_has() {
    if !is_root() {
        return;
    }
    let server = Server::start();
    let hostile = "a/b@c=d \"q\" 'x' $(touch pwned)";
    let quoted = hostile.replace('"', "\"\"");
    server.sql("postgres", &format!("CREATE ROLE \"we ird\"; CREATE DATABASE \"{quoted}\" OWNER \"we ird\""));
    // `postgres` exists on the server of a drill, too; this one is read-only by its own settings.
    server.sql(
        "postgres",
        "CREATE TABLE kept AS SELECT n FROM generate_series(1, 10) n; CREATE INDEX ON kept (n);
         ALTER DATABASE postgres SET default_transaction_read_only = on",
    );
    let world = World::without_sources();
    let scratch = scratch_in(&world);
    let all = postgres_source(&server, "all") + "exclude_databases = []\n";
    world.source("all", &all);
    let daemon = world.start();
    daemon.ctl(&["create", "all"]).ok();
    let drilled = daemon.ctl(&["drill", "all"]).ok();
    assert!(drilled.text().contains("2 backups drilled"), "{drilled}");
    let listed = daemon.list();
    assert_eq!(listed.len(), 2);
    for backup in listed {
        assert_eq!(backup["proof"], "drilled", "{backup}");
    }
    let shown = daemon.ctl(&["show", "all/postgres@latest"]).ok();
    assert!(shown.text().contains("indexes: ok"), "{shown}");
    nothing_is_left(&world, &scratch);
}

#[test]
fn an_sqlite_database_is_written_and_looked_at() {
    if !is_root() {
        return;
    }
    let world = World::without_sources();
    let scratch = scratch_in(&world);
    let path = world.path().join("app.db");
    sqlite3(
        &path,
        "CREATE TABLE customer(id INTEGER PRIMARY KEY);
         CREATE TABLE invoice(id INTEGER PRIMARY KEY, customer INTEGER REFERENCES customer(id));
         INSERT INTO customer VALUES (1), (2); INSERT INTO invoice VALUES (10, 1), (11, 2), (12, 2)",
    );
    let file = assertions(&world, "SELECT count(*) = 3, 'invoices' FROM invoice; SELECT 1;");
    world.source("app", &format!("{}\n[drill]\nassertions = \"{}\"\n", sqlite_source(&path), file.display()));
    let daemon = world.start();
    daemon.create("app", &[]);
    let drilled = daemon.ctl(&["drill", "app"]).ok();
    for words in [
        "with SQLite 3",
        "5 rows of 2 tables",
        "5 in 2 tables",
        "integrity: ok",
        "foreign-keys: ok",
        "rows: ok",
        "2 assertions hold",
    ] {
        assert!(drilled.text().contains(words), "{words}: {drilled}");
    }
    assert_eq!(backup(&daemon)["proof"], "drilled");

    // A reference to nothing, which the application let in, and an assertion that does not hold.
    sqlite3(&path, "INSERT INTO invoice VALUES (13, 99)");
    daemon.create("app", &[]);
    let failed = daemon.ctl(&["drill", "app"]);
    failed.fails_with(ErrorCode::DrillFailed);
    failed.says(&[
        "foreign_key_check finds broken references: a row of invoice refers to none of customer",
        "an assertion does not hold: row 1 of the answers is \"0 | invoices\"",
    ]);
    // The older one is still what it was.
    let proofs: Vec<_> = daemon.list().iter().map(|backup| backup["proof"].clone()).collect();
    assert_eq!(proofs, ["stored", "drilled"]);
    fs::write(&file, "SELECT * FROM nowhere;").expect("write");
    daemon.ctl(&["drill", "app"]).says(&["the assertions failed: no such table: nowhere"]);
    nothing_is_left(&world, &scratch);
    assert!(run(Command::new("stat").arg(&path)).status.success(), "the database itself is untouched");
}
