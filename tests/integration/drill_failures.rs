//! Drills that must not pass: each fails with a message of its own, and what is in a backup gets at nothing of the daemon's.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use backupd::model::error_code::ErrorCode;
use nix::sys::signal::Signal;

use crate::{
    common::{Daemon, Finished, Server, World, postgres_source, run, wait_until},
    drill::{assertions, is_root, nothing_is_left, scratch_in, with_drills},
};

/// A server with a small database `shop`, in which this SQL was run.
fn with_small(sql: &str) -> Server {
    let server = Server::start();
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", sql);
    server
}

const ORDERS: &str = "CREATE TABLE orders AS SELECT n AS id, 'order ' || n AS text FROM generate_series(1, 1000) n;
    ALTER TABLE orders ADD PRIMARY KEY (id);";

/// A world whose drills leave their traces in its own folder, and a daemon that has taken a backup.
fn drilled_world(server: &Server) -> (World, PathBuf, Daemon) {
    let world = World::new(server);
    let scratch = scratch_in(&world);
    let daemon = world.start();
    daemon.create("shop", &[]);
    (world, scratch, daemon)
}

/// What the drill of the newest backup says, which must fail with this code.
#[track_caller]
fn fails(daemon: &Daemon, code: ErrorCode, words: &[&str]) -> Finished {
    let failed = daemon.ctl(&["drill", "shop"]);
    failed.fails_with(code);
    failed.says(words);
    failed
}

#[test]
fn a_row_that_is_gone_when_it_is_restored() {
    if !is_root() {
        return;
    }
    // Nothing in a dump drops a row on its way in (rules and triggers come after the rows), so the backup itself is made
    // to differ, by who has the repository and keeps all hashes right: the count is all that tells.
    let server = with_small(ORDERS);
    let (world, scratch, daemon) = drilled_world(&server);
    let id = daemon.ids().remove(0);
    assert!(daemon.stop().success());
    let edited = one_row_more_in_the_manifest(&world, &id);
    let daemon = world.start();
    assert_eq!(daemon.ids(), [edited]);
    fails(&daemon, ErrorCode::DrillFailed, &["public.orders has 1000 rows, the backup counted 1001"]);
    let listed = daemon.list().remove(0);
    assert_eq!((&listed["proof"], listed["drill_failed_at"].is_u64()), (&"stored".into(), true), "{listed}");
    assert!(daemon.ctl(&["list"]).ok().text().contains("DRILL FAILED"));
    assert!(daemon.ctl(&["show", "shop@latest"]).ok().text().contains("the backup counted 1001"));
    assert!(daemon.ctl(&["status"]).ok().text().contains("shop FAILED"));
    nothing_is_left(&world, &scratch);

    // A drill of a good backup later is not touched by that, and says of the other nothing.
    daemon.create("shop", &[]);
    daemon.ctl(&["drill", "shop"]).ok();
    let proofs: Vec<_> = daemon.list().iter().map(|backup| backup["proof"].clone()).collect();
    assert_eq!(proofs, ["drilled", "stored"]);
}

/// As if a row had been counted that the data does not have: the count is one more, and the backup has the id of that text.
fn one_row_more_in_the_manifest(world: &World, id: &str) -> String {
    let folders = fs::read_dir(world.repository().join("backups/shop/_")).expect("the backups");
    let folder = folders.map(|entry| entry.expect("an entry").path()).find(|path| path.to_string_lossy().ends_with(id));
    let folder = folder.expect("the folder");
    let file = folder.join("manifest.json");
    run(Command::new("chmod").args(["-R", "u+w"]).arg(&folder)).ok();
    let text = fs::read_to_string(&file).expect("the manifest");
    let edited = text.replace("\"rows\":1000,", "\"rows\":1001,");
    assert_ne!(text, edited);
    fs::write(&file, edited).expect("write the manifest");
    let sum = run(Command::new("sha256sum").arg(&file)).ok();
    let new = sum.text()[..32].to_owned();
    fs::rename(&folder, folder.to_string_lossy().replace(id, &new)).expect("name it");
    new
}

#[test]
fn an_extension_that_this_host_does_not_have_says_nothing_about_the_backup() {
    if !is_root() {
        return;
    }
    let server = Server::with_sample();
    // Without `server_bin_dir` the system's own server is taken, which lacks the sample's extension.
    let (world, scratch, daemon) = drilled_world(&server);
    fails(&daemon, ErrorCode::DrillUnavailable, &["extension \"sample_settings\" is not installed", "was not drilled"]);
    let listed = daemon.list().remove(0);
    assert_eq!((&listed["proof"], listed["drill_failed_at"].is_null()), (&"stored".into(), true), "{listed}");
    nothing_is_left(&world, &scratch);
    // Nor does a server that is not there.
    let nowhere = format!("{}\n[drill]\nserver_bin_dir = \"/nonexistent\"\n", postgres_source(&server, "shop"));
    world.source("shop", &nowhere);
    daemon.ctl(&["reload"]).ok();
    fails(&daemon, ErrorCode::DrillUnavailable, &["there is no /nonexistent/initdb"]);
    assert_eq!(daemon.list()[0]["proof"], "stored");
}

#[test]
fn a_byte_that_flipped_is_damage_of_the_backup() {
    if !is_root() {
        return;
    }
    let server = with_small(ORDERS);
    let (world, scratch, daemon) = drilled_world(&server);
    let packs =
        run(Command::new("find").arg(world.repository().join("packs")).args(["-name", "*.gz", "-size", "+1k"])).ok();
    let pack = PathBuf::from(packs.text().lines().next().expect("a pack"));
    let mut bytes = fs::read(&pack).expect("read the pack");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).expect("chmod");
    fs::write(&pack, bytes).expect("flip a byte");
    let failed = daemon.ctl(&["drill", "shop"]);
    assert_eq!(failed.status.code(), Some(12), "damaged: {failed}");
    assert!(daemon.ctl(&["list"]).ok().text().contains("DAMAGED"));
    nothing_is_left(&world, &scratch);
}

#[test]
fn assertions_that_do_not_hold_or_break() {
    if !is_root() {
        return;
    }
    let server = with_small(ORDERS);
    let (world, scratch, daemon) = drilled_world(&server);
    let drill_with = |sql: &str| {
        let file = assertions(&world, sql);
        world.source("shop", &with_drills(&server, "shop", Some(&file)));
        daemon.ctl(&["reload"]).ok();
    };
    drill_with("SELECT true, 'fine'; SELECT count(*) > 5000, 'enough orders' FROM orders;");
    fails(
        &daemon,
        ErrorCode::DrillFailed,
        &["an assertion does not hold: row 2 of the answers is \"f | enough orders\""],
    );
    drill_with("SELECT max(id) > 1 FROM orders WHERE id < 0;");
    fails(&daemon, ErrorCode::DrillFailed, &["an assertion does not hold: row 1 of the answers is \"NULL\""]);
    drill_with("SELECT true FROM nowhere;");
    fails(&daemon, ErrorCode::DrillFailed, &["the assertions failed", "\"nowhere\" does not exist"]);
    drill_with("-- nothing\n");
    fails(&daemon, ErrorCode::DrillFailed, &["nothing was asserted"]);
    fs::remove_file(world.path().join("drill.sql")).expect("remove the assertions");
    fails(&daemon, ErrorCode::ConfigInvalid, &["drill.sql, does not exist"]);
    nothing_is_left(&world, &scratch);
    // What the server was started with, and what the database's own settings give its sessions.
    server.sql("shop", "ALTER DATABASE shop SET search_path = later, public");
    daemon.create("shop", &[]);
    drill_with(
        "SELECT count(*) = 1000 FROM orders;
         SELECT current_setting(name) = value, name FROM (VALUES ('listen_addresses', ''), ('jit', 'off'), ('fsync', 'off'),
             ('max_logical_replication_workers', '0'), ('autovacuum', 'off'), ('shared_preload_libraries', 'auto_explain'),
             ('search_path', 'later, public')) AS wanted (name, value);
         SELECT count(*) = 0, 'no background job' FROM pg_stat_activity
             WHERE backend_type NOT IN ('client backend', 'checkpointer', 'background writer', 'walwriter', 'io worker');",
    );
    let file = world.path().join("config/sources.d/shop.toml");
    let text = fs::read_to_string(&file).expect("read the source's file");
    fs::write(&file, text + "preload_libraries = [\"auto_explain\"]\n").expect("write the source's file");
    daemon.ctl(&["reload"]).ok();
    daemon.ctl(&["drill", "shop"]).ok();
    assert_eq!(daemon.list()[0]["proof"], "drilled");
}

/// A function in an index expression and one in a materialized view run programs while they are restored.
#[test]
fn what_a_function_of_the_backup_does_stays_in_the_drill() {
    if !is_root() {
        return;
    }
    let secrets = tempfile::tempdir().expect("a folder");
    fs::set_permissions(secrets.path(), fs::Permissions::from_mode(0o777)).expect("chmod");
    let witness = |name: &str| secrets.path().join(name);
    let server = with_small("CREATE TABLE t (n int); INSERT INTO t VALUES (1);");
    let world = World::new(&server);
    let scratch = scratch_in(&world);
    let look = |file: &Path| {
        format!(
            "{{ id -u; echo began; cat {0}/REPOSITORY.json; ls {0} {1}/state; cat /proc/*/environ; \
             cat /proc/net/dev; }} >{2} 2>&1; chmod 666 {2}",
            world.repository().display(),
            world.path().display(),
            file.display()
        )
    };
    // Both run when they are restored, as the superuser of the server: one builds an index, the other fills a view. Here,
    // where they are made, there is nothing to run.
    server.sql(
        "shop",
        &format!(
            "CREATE FUNCTION here() RETURNS bool LANGUAGE sql STABLE AS
                 $$ SELECT current_setting('data_directory') LIKE '%/backupd-drill-%' $$;
             CREATE FUNCTION run_peek() RETURNS void LANGUAGE plpgsql AS
                 $f$ BEGIN COPY (SELECT 1) TO PROGRAM $c${}$c$; END $f$;
             CREATE FUNCTION run_pry() RETURNS void LANGUAGE plpgsql AS
                 $f$ BEGIN COPY (SELECT 1) TO PROGRAM $c${}$c$; END $f$;
             CREATE FUNCTION peek(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
                 $f$ BEGIN IF public.here() THEN PERFORM public.run_peek(); END IF; RETURN n; END $f$;
             CREATE FUNCTION pry(n int) RETURNS int LANGUAGE plpgsql STABLE AS
                 $f$ BEGIN IF public.here() THEN PERFORM public.run_pry(); END IF; RETURN n; END $f$;
             CREATE INDEX by_peek ON t (public.peek(n));
             CREATE MATERIALIZED VIEW pried AS SELECT public.pry(n) FROM t;",
            look(&witness("index")),
            look(&witness("view"))
        ),
    );
    let daemon = world.start();
    daemon.create("shop", &[]);
    assert!(!witness("index").exists() && !witness("view").exists(), "they ran at the source");
    let drilled = daemon.ctl(&["drill", "shop"]);
    let nobody = run(Command::new("id").args(["-u", "nobody"])).ok().text().to_owned();
    let repository = fs::read_to_string(world.repository().join("REPOSITORY.json")).expect("the repository");
    for name in ["index", "view"] {
        let seen =
            fs::read_to_string(witness(name)).unwrap_or_else(|error| panic!("{name} did not run: {error}\n{drilled}"));
        assert!(seen.starts_with(&format!("{nobody}began\n")), "as whom? {seen}");
        assert!(seen.matches("Permission denied").count() >= 2, "{seen}");
        assert!(!seen.contains(repository.trim()), "{name} read the repository: {seen}");
        assert!(!seen.contains("packs") && !seen.contains("jobs"), "{name} listed what it should not: {seen}");
        assert!(!seen.contains("eth0"), "{name} has a network: {seen}");
    }
    drilled.ok();
    assert_eq!(daemon.list()[0]["proof"], "drilled", "the daemon lives");
    nothing_is_left(&world, &scratch);
}

/// A drill that is held at a place of its worker, and what ends it.
fn held(server: &Server, place: &str) -> (World, PathBuf, Daemon) {
    let mut world = World::new(server);
    let scratch = scratch_in(&world);
    world.start().create("shop", &[]);
    fs::set_permissions(world.path(), fs::Permissions::from_mode(0o777)).expect("let the worker write there");
    world.set_env("BACKUPD_FAIL_POINT", format!("{place}=hold:{}", world.path().display()));
    let daemon = world.start();
    daemon.ctl(&["drill", "--no-block", "shop"]).ok();
    wait_until(&format!("{place} is reached"), || world.path().join(format!("{place}.reached")).exists());
    assert_eq!(fs::read_dir(&scratch).expect("the folder").count(), 1);
    (world, scratch, daemon)
}

/// Places of a worker: before anything is there, with a server and half a database, with a whole one.
const PLACES: [&str; 3] = ["drill-began", "restore-data", "restore-renamed"];

#[test]
fn a_cancel_leaves_nothing() {
    if !is_root() {
        return;
    }
    let server = with_small(ORDERS);
    for place in PLACES {
        let (world, scratch, daemon) = held(&server, place);
        let job = daemon.running_job();
        daemon.ctl(&["cancel", &job]).ok();
        wait_until("the job has ended", || daemon.ctl(&["jobs", &job]).text().contains("canceled"));
        nothing_is_left(&world, &scratch);
        let listed = daemon.list().remove(0);
        assert_eq!(
            (&listed["proof"], listed["drill_failed_at"].is_null()),
            (&"stored".into(), true),
            "{place}: {listed}"
        );
        assert!(daemon.stop().success());
    }
}

#[test]
fn a_daemon_that_is_killed_leaves_no_server_and_the_next_start_no_file() {
    if !is_root() {
        return;
    }
    let server = with_small(ORDERS);
    for place in PLACES {
        let (mut world, scratch, mut daemon) = held(&server, place);
        daemon.signal(Signal::SIGKILL);
        daemon.wait();
        drop(daemon);
        let needle = scratch.to_str().expect("UTF-8").to_owned();
        wait_until("its server and its worker are gone", || {
            fs::read_dir("/proc").expect("/proc").flatten().all(|entry| {
                let of = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
                !String::from_utf8_lossy(&[of("cmdline"), of("environ")].concat()).contains(&needle)
            })
        });
        world.unset_env("BACKUPD_FAIL_POINT");
        let daemon = world.start();
        nothing_is_left(&world, &scratch);
        daemon.ctl(&["drill", "shop"]).ok();
        assert!(daemon.stop().success());
    }
}

#[test]
fn a_schema_that_differs_and_an_index_that_does_not_fit_its_table() {
    if !is_root() {
        return;
    }
    let server = with_small(&format!(
        "{ORDERS} CREATE FUNCTION key(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n % 7';
         CREATE INDEX by_key ON orders (public.key(id));"
    ));
    let (world, scratch, daemon) = held(&server, "restore-renamed");
    // Into the scratch database, when it is restored: as if that had gone wrong. Root may open its private folder.
    let found = run(Command::new("find").arg(&scratch).args(["-type", "d", "-name", "s"])).ok();
    let mut psql = Command::new(crate::common::client_bin_dir().join("psql"));
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "shop", "-h"]).arg(found.text().trim());
    run(psql.args([
        "-c",
        "ALTER TABLE orders ADD COLUMN extra int",
        "-c",
        "CREATE OR REPLACE FUNCTION key(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT -n'",
    ]))
    .ok();
    let job = daemon.running_job();
    fs::write(world.path().join("restore-renamed.go"), b"").expect("let it go on");
    wait_until("the job has ended", || daemon.ctl(&["jobs", &job]).text().contains("failed"));
    let shown = daemon.ctl(&["show", "shop@latest"]).ok();
    for words in [
        "schema: FAILED",
        "the restored schema differs from the backup's: it lacks",
        "it has besides",
        "extra integer",
        "indexes: FAILED",
        "amcheck finds damage in the restored database: index public.by_key",
        "heaps: ok",
    ] {
        assert!(shown.text().contains(words), "{words}: {shown}");
    }
    assert!(daemon.list()[0]["drill_failed_at"].is_u64());
    nothing_is_left(&world, &scratch);
}

#[test]
fn a_daemon_that_can_become_nobody_else_refuses() {
    let server = with_small(ORDERS);
    let mut world = World::new(&server);
    if is_root() {
        let id = |option: &str| -> u32 {
            run(Command::new("id").args([option, "nobody"])).ok().text().trim().parse().expect("a number")
        };
        let user = (id("-u"), id("-g"));
        std::os::unix::fs::chown(world.path(), Some(user.0), Some(user.1)).expect("chown");
        run(Command::new("chown").args(["-R", &format!("{}:{}", user.0, user.1)]).arg(world.path())).ok();
        world.run_as(user);
    }
    let daemon = world.start();
    daemon.create("shop", &[]);
    fails(&daemon, ErrorCode::DrillUnavailable, &["it is neither root nor on the system bus"]);
    assert_eq!(daemon.list()[0]["proof"], "stored");
}
