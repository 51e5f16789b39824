//! Backups are taken, listed, restored, exported and deleted, and what comes back is what went in.

use backupd::model::error_code::ErrorCode;

use crate::common::{
    MORE_EVENTS, Server, World, assert_same_database, assert_same_globals, dump_of, postgres_source, run, run_within,
};

#[test]
fn the_sample_database_comes_back_equal() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let daemon = world.start();
    let backup = daemon.create("shop", &["--tag", "first", "--description", "Größe \"S\"\nzweite Zeile"]);
    assert_eq!(backup["tags"], serde_json::json!(["first"]));
    // The rows of the foreign table are elsewhere.
    assert_eq!(backup["incomplete"], 1);
    assert_eq!(backup["description"], "Größe \"S\"\nzweite Zeile");
    let id = backup["id"].as_str().expect("id");

    daemon.ctl(&["verify", id, "--level=data"]).ok();
    assert_eq!(daemon.list()[0]["proof"], "checked");
    daemon.ctl(&["restore", id, "--to", "copy", "--yes"]).ok();
    assert_same_database((&server, "shop"), (&server, "copy"));
    assert_eq!(world.leftovers(), Vec::<std::path::PathBuf>::new());

    let rows = "SELECT sum((xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM ONLY %s', c.oid::regclass),
        false, true, '')))[1]::text::bigint) FROM pg_class c LEFT JOIN pg_depend d ON d.objid = c.oid AND d.deptype = 'e'
        WHERE c.relkind = 'r' AND c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)' AND d.objid IS NULL";
    let counted: u64 = server.sql("shop", rows).parse().expect("a number");
    // Two rows of the extension's table are the user's; the third comes with the extension.
    assert_eq!(backup["rows"].as_u64(), Some(counted + 2), "rows of the manifest against rows of the database");
}

#[test]
fn an_ordinary_role_reads_and_a_privileged_one_restores() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let reader =
        postgres_source(&server, "shop").replace("\"postgres\"\n", "\"backupd\"\n\n[restore]\nuser = \"postgres\"\n");
    assert!(reader.contains("user = \"backupd\""));
    world.source("shop", &reader);
    let daemon = world.start();
    let backup = daemon.create("shop", &[]);
    // It cannot read password hashes, and says so.
    assert!(backup["incomplete"].as_u64() > Some(0), "{backup}");
    server.sql("postgres", "ALTER DATABASE shop RENAME TO original");
    daemon.ctl(&["restore", "shop@latest", "--yes"]).ok();
    assert_same_database((&server, "original"), (&server, "shop"));
}

#[test]
fn hostile_names_of_databases_and_tags() {
    let server = Server::start();
    let world = World::new(&server);
    let names = [
        "we \"ird'; --",
        "../../etc",
        "$(touch x)`id`",
        "new\nline",
        "äääääääääääääääääääääääääääääääx",
        "a=b host=/x",
    ];
    for (number, name) in names.iter().enumerate() {
        let quoted = name.replace('"', "\"\"");
        server.sql("postgres", &format!("CREATE DATABASE \"{quoted}\""));
        run_within(
            crate::common::LIMIT,
            server.client("psql").args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"]).env("PGDATABASE", name),
            b"CREATE TABLE \"a\nb\" (x text); INSERT INTO \"a\nb\" VALUES (E'\\\\.')",
        )
        .ok();
        world.source(&format!("s{number}"), &postgres_source(&server, name));
    }
    let daemon = world.start();
    for (number, name) in names.iter().enumerate() {
        let source = format!("s{number}");
        let backup = daemon.create(&source, &["--tag", name, "--description", name]);
        assert_eq!(backup["tags"], serde_json::json!([name]));
        assert_eq!(backup["description"], serde_json::json!(name));
        // As hostile and as long as the name of the original.
        let target = format!("{}~", &name[..name.len() - 1]);
        let id = backup["id"].as_str().expect("id");
        daemon.ctl(&["restore", id, "--to", &target, "--yes"]).ok();
        // A hostile pattern for tables is a pattern, and matches nothing here.
        let none = daemon.ctl(&["create", &source, "--table", name]);
        assert!(!none.status.success() && !none.stderr.contains("panicked"), "{none}");
        let dump = |database: &str| {
            let done = run(server.client("pg_dump").env("PGDATABASE", database)).ok();
            done.text().lines().filter(|l| !l.contains("restrict ")).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(dump(name), dump(&target));
    }
    let long = format!("{}y", names[4]);
    daemon.ctl(&["restore", "s0@latest", "--to", &long, "--yes"]).fails_with(ErrorCode::RestoreRefused);
    assert_eq!(daemon.list().len(), names.len());
    assert_eq!(world.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn parts_of_a_database() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let daemon = world.start();

    let schema = daemon.create("shop", &["--schema-only"]);
    assert_eq!(schema["rows"], 0);
    daemon.ctl(&["restore", schema["id"].as_str().expect("id"), "--to", "hollow", "--yes"]).ok();
    assert_eq!(server.sql("hollow", "SELECT count(*) FROM shop.item"), "0");

    let without = daemon.create("shop", &["--exclude-table", "shop.no_columns"]);
    daemon.ctl(&["restore", without["id"].as_str().expect("id"), "--to", "without", "--yes"]).ok();
    assert_eq!(server.sql("without", "SELECT to_regclass('shop.no_columns') IS NULL"), "t");

    let whole = daemon.create("shop", &[]);
    daemon
        .ctl(&["restore", whole["id"].as_str().expect("id"), "--to", "one_table", "--table", "shop.item", "--yes"])
        .ok();
    let data = |database: &str| dump_of(&server, database, &["--data-only", "-t", "shop.item"]);
    assert_eq!(data("shop"), data("one_table"));
    assert_eq!(server.sql("one_table", "SELECT to_regclass('shop.line') IS NULL"), "t");
}

#[test]
fn an_unchanged_database_adds_almost_nothing() {
    let server = Server::start();
    server.load_sample("shop", 5);
    let world = World::new(&server);
    let daemon = world.start();
    let first = daemon.create("shop", &[])["new_bytes"].as_u64().expect("number");
    let second = daemon.create("shop", &[])["new_bytes"].as_u64().expect("number");
    assert!(second * 50 < first, "{second} new bytes after {first}");
}

#[test]
fn an_empty_server_gets_roles_and_database() {
    let (server, empty) = (Server::with_sample(), Server::start());
    let world = World::new(&server);
    let daemon = world.start();
    let id = daemon.create("shop", &[])["id"].as_str().expect("id").to_owned();
    drop(daemon);
    world.source("shop", &postgres_source(&empty, "shop"));
    let daemon = world.start();
    let refused = daemon.ctl(&["restore", &id, "--yes"]);
    refused.fails_with(ErrorCode::RestoreRefused);
    refused.says(&["shop_owner"]);
    assert!(!empty.has_database("shop"));
    daemon.ctl(&["restore", &id, "--create-roles", "--yes"]).ok();
    assert_same_database((&server, "shop"), (&empty, "shop"));
    assert_same_globals(&server, &empty);
}

#[test]
fn restore_and_delete_want_a_yes_and_a_free_name() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let daemon = world.start();
    let id = daemon.create("shop", &[])["id"].as_str().expect("id").to_owned();
    let before = dump_of(&server, "shop", &[]);
    daemon.ctl(&["restore", &id, "--no-replace", "--yes"]).fails_with(ErrorCode::TargetExists);
    daemon.ctl(&["restore", &id, "--to", "shop", "--yes"]).fails_with(ErrorCode::TargetExists);
    assert!(!daemon.ctl(&["restore", &id, "--to", "copy"]).status.success(), "restored without --yes");
    assert!(!daemon.ctl(&["delete", &id]).status.success(), "deleted without --yes");
    daemon.ctl(&["restore", &id, "--to", "copy", "--dry-run"]).ok();
    assert!(!server.has_database("copy"));
    assert_eq!(daemon.ids(), [id]);
    assert_eq!(before, dump_of(&server, "shop", &[]));
}

#[test]
fn deleting_one_backup_leaves_the_others_whole() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let daemon = world.start();
    let first = daemon.create("shop", &[])["id"].as_str().expect("id").to_owned();
    server.sql("shop", MORE_EVENTS);
    let second = daemon.create("shop", &[])["id"].as_str().expect("id").to_owned();
    daemon.ctl(&["delete", &first, "--yes", "--no-undelete"]).ok();
    assert_eq!(daemon.ids(), [second.as_str()]);
    daemon.ctl(&["show", &first]).fails_with(ErrorCode::NoSuchBackup);
    daemon.ctl(&["verify", &second, "--level=data"]).ok();
    daemon.ctl(&["restore", &second, "--to", "copy", "--yes"]).ok();
    assert_same_database((&server, "shop"), (&server, "copy"));
    daemon.ctl(&["delete", &second, "--yes", "--no-undelete"]).ok();
    let packs = run(std::process::Command::new("find").arg(world.repository().join("packs")).args(["-type", "f"])).ok();
    assert_eq!(packs.text(), "", "packs that nothing needs");
}

#[test]
fn an_export_is_one_script_for_psql() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let daemon = world.start();
    daemon.create("shop", &[]);
    let file = world.path().join("shop.sql.gz");
    daemon.ctl(&["export", "shop@latest", "--output", file.to_str().expect("UTF-8")]).ok();
    let script = run(std::process::Command::new("gunzip").arg("-c").arg(&file)).ok();
    server.sql("postgres", "CREATE DATABASE copy TEMPLATE template0");
    server.sql("copy", script.text());
    assert_eq!(dump_of(&server, "shop", &[]), dump_of(&server, "copy", &[]));
}

#[test]
fn zstd_as_codec() {
    let server = Server::with_sample();
    let world = World::new(&server);
    world.configure(&format!("[repository]\npath = \"{}\"\ncodec = \"zstd\"\n", world.repository().display()));
    let daemon = world.start();
    let id = daemon.create("shop", &[])["id"].as_str().expect("id").to_owned();
    daemon.ctl(&["restore", &id, "--to", "copy", "--yes"]).ok();
    assert_same_database((&server, "shop"), (&server, "copy"));
}

#[test]
fn jobs_stay_in_history_across_a_restart() {
    let server = Server::start();
    server.sql("postgres", "CREATE DATABASE shop");
    let world = World::new(&server);
    let daemon = world.start();
    daemon.create("shop", &[]);
    assert!(daemon.stop().success());
    let daemon = world.start();
    let jobs = daemon.ctl(&["jobs", "--json=short"]).ok().json();
    assert!(jobs.as_array().is_some_and(|jobs| jobs.len() == 1), "{jobs}");
    daemon.create("shop", &[]);
    let jobs = daemon.ctl(&["jobs", "--json=short"]).ok().json();
    let numbers: std::collections::BTreeSet<_> =
        jobs.as_array().expect("an array").iter().map(|job| job["number"].as_u64()).collect();
    assert_eq!(numbers.len(), 2, "a job's number was used again: {jobs}");
}
