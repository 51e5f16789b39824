//! Health turns red for what is wrong, and green again when it is mended: by the built programs, on real files.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use serde_json::Value;

use crate::{
    common::{Daemon, Finished, Server, World, postgres_source, run, sqlite_source, wait_until},
    odd_backups::{copy_with, folder_of},
    suspect::largest_file,
};

/// A world whose source `shop` is an SQLite database with these many rows.
fn world(rows: u32) -> (World, PathBuf) {
    let world = World::without_sources();
    let database = world.path().join("shop.db");
    fill(&database, rows);
    world.source("shop", &sqlite_source(&database));
    (world, database)
}

fn fill(database: &std::path::Path, rows: u32) {
    let sql = format!(
        "DROP TABLE IF EXISTS t; CREATE TABLE t (n INTEGER, s TEXT);
         WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {rows})
         INSERT INTO t SELECT n, hex(randomblob(50)) FROM c; VACUUM;"
    );
    run(Command::new("sqlite3").arg(database).arg(sql)).ok();
}

fn health(daemon: &Daemon) -> (Finished, Value) {
    let finished = daemon.ctl(&["health", "--json"]);
    let report = finished.json();
    (finished, report)
}

/// Waits until these are found, and no others; gives the exit code.
#[track_caller]
fn finds(daemon: &Daemon, expected: &[&str]) -> i32 {
    let mut code = None;
    let mut seen = Value::Null;
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    wait_until(&format!("health finds {expected:?}"), || {
        let (finished, report) = health(daemon);
        let findings = report["findings"].as_array().cloned().unwrap_or_default();
        let bad = findings.iter().filter(|finding| finding["severity"] != "ok");
        let mut codes: Vec<String> =
            bad.map(|finding| finding["code"].as_str().unwrap_or_default().to_owned()).collect();
        codes.sort();
        codes.dedup();
        code = finished.status.code();
        let same = codes == expected;
        if seen != report["findings"] {
            eprintln!("{}", report["findings"]);
            seen = report["findings"].clone();
        }
        same
    });
    code.expect("an exit code")
}

#[test]
fn no_backup_then_one_then_one_that_is_too_old() {
    let (world, database) = world(10);
    let daemon = world.start();
    assert_eq!(finds(&daemon, &["NoBackup"]), 1);
    daemon.create("shop", &[]);
    assert_eq!(finds(&daemon, &[]), 0);
    let source = sqlite_source(&database);
    world.source("shop", &format!("{source}rpo = \"1s\"\n"));
    daemon.ctl(&["reload"]).ok();
    assert_eq!(finds(&daemon, &["BackupOverdue"]), 2);
    let said = daemon.ctl(&["health", "shop"]);
    let first = said.text().lines().next().unwrap_or_default().to_owned();
    assert!(
        first.starts_with("BACKUPD CRITICAL - shop has no good backup for ") && first.contains("|'shop age'="),
        "{first}"
    );
    assert!(said.text().contains("BackupOverdue") && said.text().contains("backupctl create shop"), "{said}");
    world.source("shop", &format!("{source}rpo = \"1h\"\n"));
    daemon.ctl(&["reload"]).ok();
    assert_eq!(finds(&daemon, &[]), 0);
    // Two are wanted.
    world.source("shop", &format!("{source}[health]\nmin_backups = 2\n"));
    daemon.ctl(&["reload"]).ok();
    assert_eq!(finds(&daemon, &["TooFewBackups"]), 1);
    daemon.create("shop", &[]);
    assert_eq!(finds(&daemon, &[]), 0);
    assert!(world.log().contains("health: shop has no good backup for"), "{}", world.log());
    assert!(world.log().contains("health: over: shop has no good backup for"), "{}", world.log());
}

#[test]
fn proofs_that_are_too_old() {
    let (world, database) = world(10);
    let source = sqlite_source(&database);
    world.source("shop", &format!("{source}[health]\nverified_within = \"1s\"\n"));
    let daemon = world.start();
    daemon.create("shop", &[]);
    finds(&daemon, &["NotVerified"]);
    world.source("shop", &format!("{source}[health]\nverified_within = \"1h\"\n"));
    daemon.ctl(&["verify", "shop@latest"]).ok();
    daemon.ctl(&["reload"]).ok();
    assert_eq!(finds(&daemon, &[]), 0);
}

#[test]
fn backups_that_fail_and_succeed_again() {
    let (world, database) = world(1000);
    let daemon = world.start();
    daemon.create("shop", &[]);
    let source = sqlite_source(&database);
    world.source("shop", &format!("{source}max_size = \"100B\"\n"));
    daemon.ctl(&["reload"]).ok();
    let create = || assert!(!daemon.ctl(&["create", "shop"]).status.success());
    create();
    assert_eq!(finds(&daemon, &["BackupFailed"]), 1);
    create();
    wait_until("twice in a row is more than a bad moment", || finds(&daemon, &["BackupFailed"]) == 2);
    world.source("shop", &source);
    daemon.ctl(&["reload"]).ok();
    daemon.create("shop", &[]);
    assert_eq!(finds(&daemon, &[]), 0);
}

#[test]
fn a_backup_that_is_interrupted() {
    let (world, _) = world(10);
    let daemon = world.start();
    daemon.create("shop", &[]);
    assert!(daemon.stop().success());
    // What a daemon that was killed in the middle leaves in its history.
    let history = world.path().join("state/jobs.jsonl");
    let text = fs::read_to_string(&history).expect("the history");
    let mut job: Value = serde_json::from_str(text.lines().last().expect("a job")).expect("JSON");
    job["number"] = (job["number"].as_u64().expect("a number") + 1).into();
    job["result"] = Value::Null;
    job["end_time"] = 0.into();
    fs::write(&history, format!("{text}{job}\n")).expect("write the history");
    let daemon = world.start();
    assert_eq!(finds(&daemon, &["BackupFailed"]), 1);
    daemon.create("shop", &[]);
    assert_eq!(finds(&daemon, &[]), 0);
}

#[test]
fn suspects_and_damage() {
    let (world, database) = world(20_000);
    let daemon = world.start();
    let first = daemon.create("shop", &[])["id"].as_str().expect("id").to_owned();
    fill(&database, 200);
    let small = daemon.create("shop", &[])["id"].as_str().expect("id").to_owned();
    assert_eq!(finds(&daemon, &["BackupSuspect"]), 1);
    daemon.ctl(&["delete", &small, "--yes"]).ok();
    assert_eq!(finds(&daemon, &[]), 0);

    let pack = largest_file(&world.repository().join("packs"));
    let mut bytes = fs::read(&pack).expect("a pack");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).expect("chmod");
    fs::write(&pack, &bytes).expect("damage");
    assert!(!daemon.ctl(&["verify"]).status.success());
    assert_eq!(finds(&daemon, &["BackupDamaged", "NoBackup"]), 2);
    fill(&database, 20_000);
    daemon.create("shop", &[]);
    daemon.ctl(&["delete", &first, "--yes"]).ok();
    assert_eq!(finds(&daemon, &[]), 0);
}

#[test]
fn a_repository_that_is_gone_and_comes_back() {
    let (world, _) = world(10);
    let daemon = world.start();
    daemon.create("shop", &[]);
    assert_eq!(finds(&daemon, &[]), 0);
    let away = world.path().join("away");
    fs::rename(world.repository(), &away).expect("take it away");
    assert_eq!(finds(&daemon, &["RepositoryUnavailable"]), 2);
    fs::rename(&away, world.repository()).expect("bring it back");
    assert_eq!(finds(&daemon, &[]), 0);
}

#[test]
fn a_daemon_that_is_not_there_is_unknown() {
    let (world, _) = world(10);
    let daemon = world.start();
    let mut command = daemon.ctl_command();
    drop(daemon);
    let said = run(command.arg("health"));
    assert_eq!(said.status.code(), Some(3), "{said}");
    assert!(said.text().starts_with("BACKUPD UNKNOWN - "), "{said}");
}

#[test]
fn a_file_with_errors_and_a_password_that_is_not_there() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let daemon = world.start();
    daemon.create("shop", &[]);
    assert_eq!(finds(&daemon, &[]), 0);
    world.source("shop", "type = 7\n");
    daemon.ctl(&["reload"]).ok();
    assert_eq!(finds(&daemon, &["SourceBroken"]), 2);
    let password = world.path().join("password");
    fs::write(&password, "*:*:*:*:secret\n").expect("the password file");
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).expect("chmod");
    let source = format!("{}password_file = \"{}\"\n", postgres_source(&server, "shop"), password.display());
    world.source("shop", &source);
    daemon.ctl(&["reload"]).ok();
    assert_eq!(finds(&daemon, &[]), 0);
    fs::remove_file(&password).expect("take the password away");
    assert_eq!(finds(&daemon, &["CredentialUnreadable"]), 2);
    world.source("shop", &postgres_source(&server, "shop"));
    daemon.ctl(&["reload"]).ok();
    assert_eq!(finds(&daemon, &[]), 0);
}

#[test]
fn client_programs_that_do_not_fit() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let daemon = world.start();
    daemon.create("shop", &[]);
    assert_eq!(finds(&daemon, &[]), 0);
    let empty = world.path().join("empty");
    fs::create_dir(&empty).expect("a folder");
    let source = format!("{}client_bin_dir = \"{}\"\n", postgres_source(&server, "shop"), empty.display());
    world.source("shop", &source);
    assert!(daemon.stop().success());
    let daemon = world.start();
    assert_eq!(finds(&daemon, &["ClientProgramMissing"]), 2);
    world.source("shop", &postgres_source(&server, "shop"));
    daemon.ctl(&["reload"]).ok();
    assert_eq!(finds(&daemon, &[]), 0);
}

#[test]
fn clocks_that_jumped() {
    let (world, _) = world(10);
    let daemon = world.start();
    let first = daemon.create("shop", &[])["id"].as_str().expect("id").to_owned();
    daemon.create("shop", &[]);
    assert!(daemon.stop().success());
    let folder = folder_of(&world, &first);
    let ahead = copy_with(&folder, "20990101T000000Z", |manifest| {
        let at = manifest.find("\"snapshot_at\":").expect("the time") + "\"snapshot_at\":".len();
        let end = at + manifest[at..].find(',').expect("its end");
        format!("{}4070908800000000{}", &manifest[..at], &manifest[end..])
    });
    let daemon = world.start();
    assert_eq!(finds(&daemon, &["BackupInFuture"]), 1);
    daemon.ctl(&["delete", &ahead, "--yes"]).ok();
    assert_eq!(finds(&daemon, &[]), 0);
    assert!(daemon.stop().success());

    // A job that ended in 2099, by the clock of then.
    let history = world.path().join("state/jobs.jsonl");
    let text = fs::read_to_string(&history).expect("the history");
    let mut job: Value = serde_json::from_str(text.lines().last().expect("a job")).expect("JSON");
    job["number"] = (job["number"].as_u64().expect("a number") + 1).into();
    job["end_time"] = 4_070_908_800_000_000_u64.into();
    fs::write(&history, format!("{text}{job}\n")).expect("write the history");
    let daemon = world.start();
    assert_eq!(finds(&daemon, &["ClockWentBack"]), 1);
    daemon.create("shop", &[]);
    assert_eq!(finds(&daemon, &[]), 0);
}

#[test]
fn undo_copies_that_take_space() {
    let (world, database) = world(1000);
    let main = |more: &str| format!("[repository]\npath = \"{}\"\n{more}", world.repository().display());
    let daemon = world.start();
    daemon.create("shop", &[]);
    daemon.ctl(&["restore", "shop@latest", "--replace", "--no-backup", "--yes"]).ok();
    assert!(database.is_file());
    assert_eq!(finds(&daemon, &[]), 0);
    world.configure(&main("[health]\nmax_undo = \"1kB\"\n"));
    daemon.ctl(&["reload"]).ok();
    assert_eq!(finds(&daemon, &["UndoSpace"]), 1);
    world.configure(&main(""));
    daemon.ctl(&["reload"]).ok();
    assert_eq!(finds(&daemon, &[]), 0);
}

#[test]
fn too_little_space() {
    let (world, _) = world(10);
    let main = |more: &str| format!("[repository]\npath = \"{}\"\n{more}", world.repository().display());
    let daemon = world.start();
    daemon.create("shop", &[]);
    world.configure(&main("reserve = \"900TiB\"\n"));
    daemon.ctl(&["reload"]).ok();
    assert_eq!(finds(&daemon, &["RepositoryFull"]), 2);
    world.configure(&main("reserve = \"1MiB\"\n"));
    daemon.ctl(&["reload"]).ok();
    assert_eq!(finds(&daemon, &[]), 0);
}

#[test]
fn figures_for_prometheus_follow_what_happens() {
    let (world, _) = world(10);
    let file = world.path().join("backupd.prom");
    let main = format!("[repository]\npath = \"{}\"\n[metrics]\n", world.repository().display());
    world.configure(&format!("{main}textfile = \"{}\"\n", file.display()));
    let daemon = world.start();
    daemon.create("shop", &[]);
    let text = || fs::read_to_string(&file).unwrap_or_default();
    wait_until("the backup is in the figures", || {
        text().contains("backupd_jobs_total{source=\"shop\",type=\"create\",result=\"done\"} 1\n")
            && text().contains("backupd_last_backup_rows{source=\"shop\"} 10\n")
            && text().contains("backupd_last_success_timestamp_seconds{source=\"shop\"} ")
            && text().contains("backupd_source_health_status{source=\"shop\"} 0\n")
    });
    assert_eq!(fs::metadata(&file).expect("the file").permissions().mode() & 0o777, 0o644);
    run(Command::new("sh").arg("-c").arg(format!("promtool check metrics < '{}'", file.display()))).ok();
}
