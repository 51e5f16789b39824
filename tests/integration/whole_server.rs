//! All databases of a server in one run (`database = "all"`): a hundred of them, hostile names, failures, cancels, kills.

use std::{collections::BTreeSet, fs, os::unix::process::ExitStatusExt, path::PathBuf};

use backupd::model::error_code::ErrorCode;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::common::{Daemon, Server, World, assert_same_database, assert_same_globals, run, run_within, wait_until};

/// Everything that a name may not have, but NUL.
const HOSTILE: &str = "a/b@c=d \"q\" 'x' $(touch pwned) `id` \n\t%s \\ ü ; --";

/// A world whose source `all` is the whole server; `more` are further lines of its file.
fn world(server: &Server, more: &str) -> World {
    let world = World::new(server);
    let file = format!(
        "type = \"postgresql\"\nhost = \"{}\"\ndatabase = \"all\"\nuser = \"postgres\"\n{more}",
        server.host().display()
    );
    world.source("all", &file);
    world
}

/// Runs SQL in a database with any name.
#[track_caller]
fn sql_in(server: &Server, database: &str, sql: &str) -> String {
    let mut command = server.client("psql");
    command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"]).env("PGDATABASE", database);
    run_within(crate::common::LIMIT, &mut command, sql.as_bytes()).ok().text().trim_end().to_owned()
}

/// Makes databases with a few rows each.
fn make(server: &Server, names: impl IntoIterator<Item = String>) {
    server.sql("template1", "CREATE TABLE t (n int PRIMARY KEY, v text); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 100) i");
    let create = |name: String| format!("CREATE DATABASE \"{}\";\n", name.replace('"', "\"\""));
    let script: String = names.into_iter().map(create).collect();
    server.sql("postgres", &script);
    server.sql("template1", "DROP TABLE t");
}

/// Makes the source `all` be another server.
fn point_at(world: &World, server: &Server) {
    let file = world.path().join("config/sources.d/all.toml");
    let text = fs::read_to_string(&file).expect("read the source's file");
    let lines = text.lines().map(|line| match line.starts_with("host = ") {
        true => format!("host = \"{}\"\n", server.host().display()),
        false => format!("{line}\n"),
    });
    fs::write(&file, lines.collect::<String>()).expect("write the source's file");
}

/// A database with any name, as pg_dump writes it (which cannot write CREATE DATABASE for each name).
#[track_caller]
fn dump_in(server: &Server, database: &str) -> String {
    let dump = run(server.client("pg_dump").env("PGDATABASE", database)).ok();
    dump.text().lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n")
}

/// Databases that restores may have left.
fn temporary_databases(server: &Server) -> String {
    server.sql("template1", "SELECT datname FROM pg_database WHERE datname ~ '__(restore|before)_'")
}

/// The databases of a listing, each with the number of its backups.
fn children(backups: &[Value]) -> Vec<&str> {
    backups.iter().filter(|b| b["source"] == "all").map(|b| b["child"].as_str().expect("a database")).collect()
}

/// What the newest job says of itself.
fn last_job(daemon: &Daemon) -> Value {
    let jobs = daemon.ctl(&["jobs", "--json=short"]).ok().json();
    let number = jobs.as_array().expect("an array").last().expect("a job")["number"].to_string();
    daemon.ctl(&["jobs", &number, "--json=short"]).ok().json()
}

/// The ids of a listing.
fn ids(backups: &[Value]) -> BTreeSet<String> {
    backups.iter().map(|b| b["id"].as_str().expect("an id").to_owned()).collect()
}

/// Lists with these arguments.
#[track_caller]
fn list(daemon: &Daemon, arguments: &[&str]) -> Vec<Value> {
    let mut command = arguments.to_vec();
    command.push("--json=short");
    daemon.ctl(&command).ok().json().as_array().expect("an array").clone()
}

#[test]
fn a_hundred_databases_in_one_run() {
    let server = Server::start();
    let hundred = (0..98).map(|n| format!("db{n:02}")).chain([HOSTILE.to_owned(), "test_x".to_owned()]);
    make(&server, hundred);
    server.sql("postgres", "CREATE DATABASE closed ALLOW_CONNECTIONS false");
    let world = world(&server, "exclude_databases = [\"test_*\"]\n");
    let daemon = world.start();

    let first = daemon.ctl(&["create", "all", "--json=short", "--tag", "first"]).ok().json();
    let expected: BTreeSet<String> =
        (0..98).map(|n| format!("db{n:02}")).chain([HOSTILE.to_owned(), "postgres".to_owned()]).collect();
    let done = first["statistics"]["backups"].as_object().expect("ids by database");
    assert_eq!(done.keys().cloned().collect::<BTreeSet<_>>(), expected);
    assert_eq!((&first["statistics"]["done"], &first["statistics"]["rows"]), (&100.into(), &(99 * 100).into()));
    let listed = daemon.list();
    assert_eq!(children(&listed).into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), expected);

    // One comes, one goes. The job's own name for the run lists exactly what it took.
    server.sql("postgres", "DROP DATABASE db07; CREATE DATABASE fresh");
    let second = daemon.ctl(&["create", "all", "--json=short"]).ok().json();
    assert_eq!(second["statistics"]["new"], serde_json::json!(["fresh"]));
    assert_eq!(second["statistics"]["vanished"], serde_json::json!(["db07"]));
    assert!(world.log().contains("not on the server any more, their backups stay: db07"), "{}", world.log());
    for job in [&first, &second] {
        let run = format!("all@{}", job["run_id"].as_str().expect("a run"));
        let of_job: BTreeSet<String> = job["statistics"]["backups"]
            .as_object()
            .expect("ids")
            .values()
            .map(|id| id.as_str().expect("an id").to_owned())
            .collect();
        assert_eq!(ids(&list(&daemon, &["show", &run])), of_job);
    }
    assert_eq!(ids(&list(&daemon, &["show", "all@latest"])).len(), 100);
    assert_eq!(daemon.list().len(), 200);

    // One of them, by its name.
    let hostile = format!("all/{HOSTILE}");
    assert_eq!(list(&daemon, &["list", &hostile]).len(), 2);
    let shown = daemon.ctl(&["show", &format!("{hostile}@latest"), "--json=short"]).ok().json();
    assert_eq!(shown["manifest"]["source"], serde_json::json!({"source": "all", "child": HOSTILE}));
    assert_eq!(shown["manifest"]["run_id"], second["run_id"]);
    daemon.ctl(&["restore", &format!("{hostile}@latest"), "--to", "copy", "--yes"]).ok();
    assert_eq!(sql_in(&server, "copy", "SELECT count(*) FROM t"), "100");

    // All of them, onto an empty server.
    let other = Server::start();
    point_at(&world, &other);
    daemon.ctl(&["reload"]).ok();
    let restored = daemon.ctl(&["restore", "all", "--all", "--yes", "--json=short"]).ok().json();
    let of_run: BTreeSet<String> = second["statistics"]["backups"]
        .as_object()
        .expect("ids")
        .keys()
        .filter(|name| *name != "postgres")
        .cloned()
        .collect();
    let rows = restored["statistics"]["restored"].as_object().expect("rows by database");
    assert_eq!(rows.keys().filter(|name| *name != "postgres").cloned().collect::<BTreeSet<_>>(), of_run);
    for database in &of_run {
        assert_eq!(dump_in(&server, database), dump_in(&other, database), "{database:?}");
    }
    assert_same_globals(&server, &other);
    assert_eq!(temporary_databases(&other), "");
    point_at(&world, &server);
    daemon.ctl(&["reload"]).ok();

    // All of a run.
    let verified = daemon.ctl(&["verify", "all@latest", "--level=data", "--json=short"]).ok().json();
    assert_eq!(verified["statistics"]["good"], 100);
    daemon.ctl(&["export", "all@latest", "-o", "/nonexistent/x"]).fails_with(ErrorCode::Io);
    let output = world.path().join("x.sql.gz");
    let refused = daemon.ctl(&["export", "all@latest", "-o", output.to_str().expect("UTF-8")]);
    refused.says(&["whole run", "NAME/DATABASE@latest"]);
    refused.fails_with(ErrorCode::InvalidArgs);
    let deleted = daemon.ctl(&["delete", "all@latest", "--yes", "--no-undelete", "--json=short"]).ok().json();
    assert_eq!(deleted[0]["statistics"]["deleted"], 100);
    assert_eq!(ids(&daemon.list()), ids(&listed), "the first run is still there");
    daemon.ctl(&["verify", "--level=data"]).ok();
    assert_eq!(world.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn what_fails_is_named_and_stops_nothing_else() {
    let server = Server::start();
    make(&server, ["a", "forbidden", "locked", "z"].map(str::to_owned));
    server.sql("postgres", "CREATE ROLE reader LOGIN BYPASSRLS; GRANT pg_read_all_data TO reader; REVOKE CONNECT ON DATABASE forbidden FROM PUBLIC");
    let world = world(&server, "lock_timeout = \"300ms\"\n");
    let file = world.path().join("config/sources.d/all.toml");
    let text = fs::read_to_string(&file).expect("read").replace("user = \"postgres\"", "user = \"reader\"");
    fs::write(&file, text).expect("write");
    let daemon = world.start();

    let mut holder = server.psql_command("locked");
    let held = world.path().join("held");
    let script =
        format!("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE;\n\\! touch {}\nSELECT pg_sleep(600);", held.display());
    let holder =
        std::thread::spawn(move || run_within(crate::common::LIMIT, holder.args(["-f", "-"]), script.as_bytes()));
    wait_until("the table is locked", || held.exists());
    let failed = daemon.ctl(&["create", "all"]);
    failed.says(&["2 of 5 databases of all failed: forbidden: ", "; locked: ", "t"]);
    let text = failed.text().to_owned();
    failed.fails_with(ErrorCode::PartlyFailed);
    for line in ["of all/a.", "of all/z.", "of all/postgres.", "No backup of all/locked: ", "3 of 5 databases of all"] {
        assert!(text.contains(line), "{line} is missing in {text}");
    }
    let job = last_job(&daemon);
    assert_eq!(job["error"]["name"], "PartlyFailed");
    let codes: Vec<&str> = job["statistics"]["failures"]
        .as_array()
        .expect("failures")
        .iter()
        .map(|f| f["error"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(codes, ["DatabasePermission", "LockTimeout"], "{job}");
    assert_eq!(children(&daemon.list()), ["a", "postgres", "z"]);

    // The next run finds it free.
    server.sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'locked'; GRANT CONNECT ON DATABASE forbidden TO reader");
    assert!(!holder.join().expect("the holder").status.success());
    daemon.ctl(&["create", "all"]).ok();
    assert_eq!(children(&daemon.list()).len(), 3 + 5);
    assert_eq!(world.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn one_of_them_alone_is_a_backup_but_no_run() {
    let server = Server::start();
    make(&server, ["a", "b"].map(str::to_owned));
    let mut world = world(&server, "");
    let folder = world.path().to_owned();
    world.set_env("BACKUPD_FAIL_POINT", format!("data-begun=hold:{}", folder.display()));
    let daemon = world.start();
    daemon.ctl(&["create", "all/none"]).fails_with(ErrorCode::NoSuchDatabase);
    daemon.ctl(&["create", "shop/a"]).fails_with(ErrorCode::NoSuchSource);
    daemon.ctl(&["create", "all", "--table", "public.t"]).fails_with(ErrorCode::InvalidArgs);

    // Two jobs of one source never run together, whatever they are about.
    let whole = daemon.ctl_in_background(&["create", "all"]);
    wait_until("the run is under way", || folder.join("data-begun.reached").exists());
    daemon.ctl(&["create", "all/b"]).fails_with(ErrorCode::SourceBusy);
    fs::write(folder.join("data-begun.go"), b"").expect("let it go on");
    whole.join().expect("client").ok();
    let run = ids(&list(&daemon, &["show", "all@latest"]));
    assert_eq!(run.len(), 3);

    let alone = daemon.ctl(&["create", "all/b", "-q"]).ok().text().trim().to_owned();
    assert_eq!(list(&daemon, &["list", "all/b"])[0]["id"], alone.as_str());
    assert_eq!(daemon.ctl(&["show", "all/b@latest", "--json=short"]).ok().json()["summary"]["id"], alone.as_str());
    assert_eq!(ids(&list(&daemon, &["show", "all@latest"])), run, "it is not the newest state of all");
    let sources = daemon.ctl(&["sources", "--json=short"]).ok().json();
    let all = sources.as_array().expect("sources").iter().find(|source| source["name"] == "all").expect("all").clone();
    assert_eq!(all["last_backup"], alone.as_str());
}

#[test]
fn a_server_that_dies_in_the_middle_is_not_asked_for_each_that_is_left() {
    let mut server = Server::start();
    make(&server, (0..20).map(|n| format!("d{n:02}")));
    let mut world = world(&server, "");
    let folder = world.path().to_owned();
    world.set_env("BACKUPD_FAIL_POINT", format!("data-begun#4=hold:{}", folder.display()));
    let daemon = world.start();
    let client = daemon.ctl_in_background(&["create", "all"]);
    wait_until("the fourth is under way", || folder.join("data-begun.reached").exists());
    server.stop();
    fs::write(folder.join("data-begun.go"), b"").expect("let it go on");
    let failed = client.join().expect("client");
    failed.says(&["18 of 21 databases of all failed: d03: ", "d04: not tried: cannot connect to "]);
    failed.fails_with(ErrorCode::PartlyFailed);
    assert_eq!(children(&daemon.list()), ["d00", "d01", "d02"]);
    assert_eq!(last_job(&daemon)["statistics"]["failures"].as_array().map(Vec::len), Some(18));
    server.restart();
    daemon.ctl(&["create", "all"]).ok();
    assert_eq!(children(&daemon.list()).len(), 3 + 21);
}

#[test]
fn a_cancel_in_the_middle_keeps_what_was_committed() {
    let server = Server::start();
    make(&server, (0..8).map(|n| format!("d{n}")));
    let mut world = world(&server, "");
    let folder = world.path().to_owned();
    world.set_env("BACKUPD_FAIL_POINT", format!("data-begun#5=hold:{}", folder.display()));
    let daemon = world.start();
    let client = daemon.ctl_in_background(&["create", "all"]);
    wait_until("the fifth is under way", || folder.join("data-begun.reached").exists());
    // They are in the list before the run ends.
    assert_eq!(children(&daemon.list()), ["d0", "d1", "d2", "d3"]);
    daemon.ctl(&["cancel", &daemon.running_job()]).ok();
    fs::write(folder.join("data-begun.go"), b"").expect("let it go on");
    let canceled = client.join().expect("client");
    canceled.says(&["4 of 9 databases of all were backed up before"]);
    canceled.fails_with(ErrorCode::Canceled);
    let job = last_job(&daemon);
    assert_eq!(
        (&job["state"], &job["statistics"]["done"], &job["statistics"]["not_tried"]),
        (&"canceled".into(), &4.into(), &5.into())
    );
    assert_eq!(children(&daemon.list()), ["d0", "d1", "d2", "d3"]);
    daemon.ctl(&["verify", "all@latest", "--level=data"]).ok();
    assert_eq!(world.leftovers(), Vec::<PathBuf>::new());
    daemon.ctl(&["create", "all"]).ok();
    assert_eq!(children(&daemon.list()).len(), 4 + 9);
}

#[test]
fn a_killed_daemon_keeps_what_was_committed() {
    let server = Server::start();
    make(&server, (0..5).map(|n| format!("d{n}")));
    let mut world = world(&server, "");
    for (place, kept) in [("data-begun#3", 2), ("chunk-index-written#4", 3), ("manifest-renamed#2", 2)] {
        world.set_env("BACKUPD_FAIL_POINT", format!("{place}=kill"));
        let mut daemon = world.start();
        let before = daemon.list().len();
        let client = daemon.ctl_in_background(&["create", "all", "--no-block"]);
        assert_eq!(daemon.wait().signal(), Some(Signal::SIGKILL as i32), "at {place}");
        drop(daemon);
        let _ = client.join();
        world.unset_env("BACKUPD_FAIL_POINT");
        let daemon = world.start();
        assert_eq!(daemon.list().len(), before + kept, "after {place}");
        assert_eq!(ids(&list(&daemon, &["show", "all@latest"])).len(), kept);
        daemon.ctl(&["verify", "--level=data"]).ok();
        let next = daemon.ctl(&["create", "all", "--json=short"]).ok().json();
        assert_eq!(next["statistics"]["done"], 6, "after {place}");
        daemon.ctl(&["delete", "all@latest", "--yes", "--no-undelete"]).ok();
        assert_eq!(world.leftovers(), Vec::<PathBuf>::new(), "after {place}");
    }
}

#[test]
fn the_roles_are_dumped_once() {
    let server = Server::start();
    make(&server, ["a", "b", "c"].map(str::to_owned));
    let world = world(&server, "");
    let real = crate::common::client_bin_dir();
    let clients = world.path().join("clients");
    fs::create_dir(&clients).expect("make a folder");
    for program in ["psql", "pg_dump", "pg_restore"] {
        std::os::unix::fs::symlink(real.join(program), clients.join(program)).expect("link");
    }
    let counted = world.path().join("counted");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--globals-only*) echo once >> '{}';; esac\nexec '{}' \"$@\"\n",
        counted.display(),
        real.join("pg_dumpall").display()
    );
    fs::write(clients.join("pg_dumpall"), script).expect("write");
    run(std::process::Command::new("chmod").arg("755").arg(clients.join("pg_dumpall"))).ok();
    let file = world.path().join("config/sources.d/all.toml");
    let text = fs::read_to_string(&file).expect("read");
    fs::write(&file, format!("{text}client_bin_dir = \"{}\"\n", clients.display())).expect("write");
    let daemon = world.start();
    daemon.ctl(&["create", "all"]).ok();
    assert_eq!(fs::read_to_string(&counted).expect("read"), "once\n");
    for database in ["a", "b", "c", "postgres"] {
        let shown = daemon.ctl(&["show", &format!("all/{database}@latest"), "--json=short"]).ok().json();
        let files = shown["manifest"]["files"].as_array().expect("files");
        assert!(
            files.iter().any(|file| file["name"] == "globals.sql" && file["raw_length"].as_u64() > Some(100)),
            "{files:?}"
        );
    }
}

#[test]
fn without_a_daemon() {
    let server = Server::start();
    make(&server, ["a", HOSTILE].map(str::to_owned));
    let world = world(&server, "");
    let daemon = world.start();
    daemon.ctl(&["create", "all"]).ok();
    let online = list(&daemon, &["show", "all@latest"]);
    let listed = list(&daemon, &["list", "all"]);
    assert!(daemon.stop().success());
    assert_eq!(world.offline(&["show", "all@latest", "--json=short"]).ok().json(), Value::Array(online));
    assert_eq!(world.offline(&["list", "all", "--json=short"]).ok().json(), Value::Array(listed));
    assert_eq!(
        world.offline(&["list", &format!("all/{HOSTILE}"), "--json=short"]).ok().json().as_array().map(Vec::len),
        Some(1)
    );
    let verified = world.offline(&["verify", "all@latest", "--level=data", "--json=short"]).ok().json();
    assert_eq!(verified["good"], 3);
    world.offline(&["show", &format!("all/{HOSTILE}@latest")]).ok();
    world.offline(&["export", "all@latest", "-o", "/tmp/never"]).fails_with(ErrorCode::InvalidArgs);
}

/// A server with the sample database, one more, something in `postgres`, and roles of whom nothing is owned.
fn varied() -> Server {
    let server = Server::with_sample();
    make(&server, ["a", HOSTILE].map(str::to_owned));
    server.sql(
        "postgres",
        "CREATE TABLE noted (n int); INSERT INTO noted VALUES (1), (2); ALTER DATABASE postgres SET work_mem = '5MB';
         CREATE ROLE idle LOGIN PASSWORD 'x' VALID UNTIL '2099-01-01'; GRANT shop_staff TO idle;
         ALTER ROLE idle IN DATABASE a SET work_mem = '6MB'; ALTER DATABASE a OWNER TO idle",
    );
    server
}

#[track_caller]
fn assert_same_servers(left: &Server, right: &Server) {
    for database in ["shop", "a", "postgres"] {
        assert_same_database((left, database), (right, database));
    }
    assert_eq!(dump_in(left, HOSTILE), dump_in(right, HOSTILE));
    assert_same_globals(left, right);
    assert_eq!(temporary_databases(right), "");
    let names = |server: &Server| server.sql("template1", "SELECT datname FROM pg_database ORDER BY datname");
    assert_eq!(names(left), names(right));
}

#[test]
fn a_whole_server_moves_to_an_empty_one() {
    let server = varied();
    let world = world(&server, "");
    let daemon = world.start();
    daemon.ctl(&["create", "all"]).ok();
    // Where everything exists nothing is touched.
    let before = dump_in(&server, "postgres");
    let refused = daemon.ctl(&["restore", "all", "--all", "--yes"]);
    refused.says(&["shop: database \"shop\" exists", "a: database \"a\" exists", "it is not empty"]);
    refused.fails_with(ErrorCode::TargetExists);
    assert_eq!(before, dump_in(&server, "postgres"));
    daemon.ctl(&["restore", "all@latest", "--yes"]).fails_with(ErrorCode::InvalidArgs);
    daemon.ctl(&["restore", "all/a@latest", "--all", "--yes"]).fails_with(ErrorCode::InvalidArgs);

    let other = Server::start();
    point_at(&world, &other);
    daemon.ctl(&["reload"]).ok();
    let plan = daemon.ctl(&["restore", "all", "--all", "--dry-run"]).ok();
    for part in [
        "Backups: 4 of all, run ",
        "roles: ",
        "idle",
        "shop_owner",
        "3 new databases: ",
        "in place of what is empty: postgres",
    ] {
        assert!(plan.text().contains(part), "{part} is missing in {}", plan.text());
    }
    let done = daemon.ctl(&["restore", "all", "--all", "--yes"]).ok();
    for part in ["Restored shop: ", "Restored postgres: 2 rows", "4 of 4 databases restored in "] {
        assert!(done.text().contains(part), "{part} is missing in {}", done.text());
    }
    assert_same_servers(&server, &other);
    assert_eq!(fs::read_dir(world.path().join("state/restores")).map_or(0, Iterator::count), 0);
    assert_eq!(world.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn a_whole_server_moves_without_a_daemon() {
    let server = varied();
    let world = world(&server, "");
    let daemon = world.start();
    daemon.ctl(&["create", "all"]).ok();
    daemon.ctl(&["create", "all/a"]).ok();
    assert!(daemon.stop().success());
    let other = Server::start();
    let connection = format!("postgresql://postgres@/postgres?host={}", other.host().display());
    world.offline(&["restore", "all", "--all", "--yes"]).fails_with(ErrorCode::InvalidArgs);
    let plan =
        world.offline(&["restore", "all", "--all", "--dry-run", "--json=short", "--connection", &connection]).ok();
    assert_eq!(plan.json()["databases"].as_array().map(Vec::len), Some(4));
    let done = world.offline(&["restore", "all", "--all", "--yes", "--connection", &connection]).ok();
    assert!(done.text().contains("4 of 4 databases restored in "), "{}", done.text());
    assert_same_servers(&server, &other);
}

#[test]
fn a_restore_that_fails_for_one_database_goes_on_with_the_others() {
    let server = varied();
    let mut world = world(&server, "");
    world.start().ctl(&["create", "all"]).ok();
    let other = Server::start();
    point_at(&world, &other);
    // In the order of the names: a, the hostile one, postgres, shop.
    world.set_env("BACKUPD_FAIL_POINT", "restore-data#2=error");
    let daemon = world.start();
    let failed = daemon.ctl(&["restore", "all", "--all", "--yes"]);
    failed.says(&["1 of 4 databases of all failed: a/b@c=d "]);
    assert!(
        failed.text().contains("Restored shop: ") && failed.text().contains("3 of 4 databases restored"),
        "{failed}"
    );
    failed.fails_with(ErrorCode::PartlyFailed);
    assert_same_database((&server, "shop"), (&other, "shop"));
    assert_eq!(temporary_databases(&other), "");
    // What is there stands in the way now, so the one that failed is restored alone.
    daemon.ctl(&["restore", "all", "--all", "--yes"]).fails_with(ErrorCode::TargetExists);
    daemon.ctl(&["restore", &format!("all/{HOSTILE}@latest"), "--yes"]).ok();
    assert_same_servers(&server, &other);
    assert_eq!(world.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn a_restore_that_is_canceled_or_killed_keeps_what_was_done_and_leaves_no_half() {
    let server = varied();
    let mut world = world(&server, "");
    world.start().ctl(&["create", "all"]).ok();
    let folder = world.path().to_owned();

    let other = Server::start();
    point_at(&world, &other);
    world.set_env("BACKUPD_FAIL_POINT", format!("restore-data#2=hold:{}", folder.display()));
    let daemon = world.start();
    let client = daemon.ctl_in_background(&["restore", "all", "--all", "--yes"]);
    wait_until("the second is under way", || folder.join("restore-data.reached").exists());
    daemon.ctl(&["cancel", &daemon.running_job()]).ok();
    fs::write(folder.join("restore-data.go"), b"").expect("let it go on");
    let canceled = client.join().expect("client");
    canceled.says(&["1 of 4 databases of all were restored before"]);
    canceled.fails_with(ErrorCode::Canceled);
    assert_same_database((&server, "a"), (&other, "a"));
    assert!(!other.has_database("shop"));
    assert_eq!(temporary_databases(&other), "");
    drop(daemon);
    drop(other);

    // Killed right after `postgres` was replaced, before the empty one was dropped; and in the middle of the next.
    for (place, restored) in [("restore-published#3", true), ("restore-predata#3", false)] {
        let other = Server::start();
        point_at(&world, &other);
        world.set_env("BACKUPD_FAIL_POINT", format!("{place}=kill"));
        let mut daemon = world.start();
        daemon.ctl(&["restore", "all", "--all", "--yes", "--no-block"]);
        assert_eq!(daemon.wait().signal(), Some(Signal::SIGKILL as i32), "at {place}");
        drop(daemon);
        assert_ne!(temporary_databases(&other), "", "at {place}");
        world.unset_env("BACKUPD_FAIL_POINT");
        let daemon = world.start();
        wait_until("the sweep is over", || temporary_databases(&other).is_empty());
        assert_same_database((&server, "a"), (&other, "a"));
        let noted = other.sql("postgres", "SELECT to_regclass('noted') IS NOT NULL");
        assert_eq!(noted == "t", restored, "at {place}");
        assert!(!other.has_database("shop"));
        drop(daemon);
    }
    assert_eq!(world.leftovers(), Vec::<PathBuf>::new());
}
