//! What stays and what goes, with a real daemon: automatically, by hand, back again, and how much space that is.

use std::{fs, path::Path};

use backupd::model::ErrorCode;

use crate::{
    common::{Daemon, World, sqlite_source, wait_until},
    sqlite::sqlite3,
};

const KEEP_TWO: &str =
    "[retention]\nkeep_last = 2\nkeep_within = \"off\"\nkeep_daily = 0\nkeep_weekly = 0\nkeep_monthly = 0\n";

fn source(database: &Path, retention: &str) -> String {
    format!("{}{retention}", sqlite_source(database))
}

/// The sequences of the backups that are listed, the newest first.
fn sequences(daemon: &Daemon) -> Vec<u64> {
    daemon.list().iter().map(|row| row["sequence"].as_u64().expect("sequence")).collect()
}

fn explained(daemon: &Daemon) -> serde_json::Value {
    daemon.ctl(&["retention", "explain", "shop", "--json"]).ok().json()["sources"][0].clone()
}

/// Bytes of all files of a folder.
fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let size = |entry: fs::DirEntry| match entry.file_type().expect("a type").is_dir() {
        true => bytes_below(&entry.path()),
        false => entry.metadata().expect("metadata").len(),
    };
    entries.map(size).sum()
}

#[test]
fn after_each_backup_what_no_rule_keeps_goes_and_comes_back_if_it_must() {
    let world = World::without_sources();
    let file = world.path().join("shop.db");
    sqlite3(&file, "CREATE TABLE t (n); INSERT INTO t VALUES (1)");
    world.source("shop", &source(&file, KEEP_TWO));
    let daemon = world.start();
    daemon.create("shop", &[]);
    let first = daemon.list()[0]["id"].as_str().expect("id").to_owned();
    sqlite3(&file, "INSERT INTO t VALUES (2)");
    daemon.create("shop", &[]);
    assert_eq!(sequences(&daemon), [2, 1], "nothing is to go yet");
    daemon.create("shop", &[]);
    wait_until("the first backup goes", || sequences(&daemon) == [3, 2]);

    let deleted = daemon.ctl(&["undelete", "--json"]).ok().json();
    assert_eq!((deleted[0]["id"].as_str(), deleted[0]["by_name"].as_bool()), (Some(first.as_str()), Some(false)));
    let back = daemon.ctl(&["undelete", &first[..10]]).ok();
    assert!(back.text().contains("is back, and pinned for a week"), "{back}");
    assert_eq!(sequences(&daemon), [3, 2, 1]);
    // Retention leaves it: it is pinned.
    daemon.create("shop", &[]);
    wait_until("the second backup goes", || sequences(&daemon) == [4, 3, 1]);
    let of_first = explained(&daemon)["backups"][2].clone();
    assert!(of_first["why"][0].as_str().expect("a reason").starts_with("pinned until"), "{of_first}");
    daemon.ctl(&["restore", &first, "--to", world.path().join("back.db").to_str().expect("a path"), "--yes"]).ok();
    daemon.ctl(&["unpin", &first]).ok();
    let pruned = daemon.ctl(&["prune", "shop", "--yes"]).ok();
    assert!(pruned.text().contains("1 backup deleted"), "{pruned}");
    assert_eq!(sequences(&daemon), [4, 3]);
    daemon.ctl(&["undelete", "ffffffff"]).fails_with(ErrorCode::NoSuchBackup);
}

#[test]
fn a_changed_retention_that_would_delete_much_waits_for_a_word() {
    let world = World::without_sources();
    let file = world.path().join("shop.db");
    sqlite3(&file, "CREATE TABLE t (n)");
    world.source("shop", &source(&file, ""));
    let daemon = world.start();
    for _ in 0..5 {
        daemon.create("shop", &[]);
    }
    assert_eq!(sequences(&daemon).len(), 5, "all of a day stay");
    world.source("shop", &source(&file, KEEP_TWO));
    daemon.ctl(&["reload"]).ok();
    daemon.create("shop", &[]);
    let plan = explained(&daemon);
    assert!(plan["held"].as_str().expect("held").contains("would delete 4 of its 6 backups"), "{plan}");
    daemon.ctl(&["prune", "--yes"]).fails_with(ErrorCode::PruneHeld);
    let held = || daemon.ctl(&["health", "--json"]).text().contains("RetentionHeld");
    wait_until("health says so", held);
    assert_eq!(sequences(&daemon).len(), 6);
    let dry = daemon.ctl(&["prune", "--dry-run"]).ok();
    assert!(dry.text().contains("4 backups listed") && dry.text().contains("no rule keeps it"), "{dry}");
    assert_eq!(sequences(&daemon).len(), 6, "a dry run deletes nothing");
    // Nobody can answer.
    daemon.ctl(&["prune"]).fails_with(ErrorCode::InvalidArgs);
    daemon.ctl(&["prune", "shop", "--yes", "--force"]).ok();
    assert_eq!(sequences(&daemon), [6, 5]);
    wait_until("health says so no more", || !held());
    // From then on it is the policy, also for a daemon that starts again.
    drop(daemon);
    let daemon = world.start();
    daemon.create("shop", &[]);
    wait_until("the policy is applied", || sequences(&daemon) == [7, 6]);
}

#[test]
fn what_is_kept_is_explained_and_pins_hold() {
    let world = World::without_sources();
    let file = world.path().join("shop.db");
    sqlite3(&file, "CREATE TABLE t (n)");
    world.source("shop", &source(&file, KEEP_TWO));
    let daemon = world.start();
    daemon.create("shop", &[]);
    daemon.ctl(&["pin", "shop@latest", "--reason", "audit"]).ok();
    daemon.create("shop", &[]);
    daemon.ctl(&["verify", "shop@latest"]).ok();
    for _ in 0..3 {
        daemon.create("shop", &[]);
    }
    wait_until("one goes", || sequences(&daemon) == [5, 4, 2, 1]);
    let said = daemon.ctl(&["retention", "explain"]).ok();
    for words in ["last 1 of 2", "last 2 of 2", "newest verified", "pinned (audit)", "shop: keeps 2 last"] {
        assert!(said.text().contains(words), "{words}: {said}");
    }
    let pinned = daemon.list().last().expect("a backup")["id"].as_str().expect("id").to_owned();
    let shown = daemon.ctl(&["show", &pinned]).ok();
    assert!(shown.text().contains("Pinned: without an end: audit"), "{shown}");
    daemon.ctl(&["pin", "shop@latest", "--until", "2020-01-01"]).fails_with(ErrorCode::InvalidArgs);
    daemon.ctl(&["retention", "explain", "other"]).fails_with(ErrorCode::NoSuchSource);
    // A source that is not configured any more keeps everything.
    fs::remove_file(world.path().join("config/sources.d/shop.toml")).expect("the file of the source");
    daemon.ctl(&["reload"]).ok();
    daemon.ctl(&["prune", "--yes"]).ok();
    assert_eq!(sequences(&daemon), [5, 4, 2, 1]);
    let said = daemon.ctl(&["retention", "explain"]).ok();
    assert!(said.text().contains("shop: not configured, so all of its backups stay."), "{said}");
}

#[test]
fn space_adds_up_to_the_files_and_deleting_frees_what_was_said() {
    let world = World::without_sources();
    let file = world.path().join("shop.db");
    sqlite3(
        &file,
        "CREATE TABLE t (n, x); INSERT INTO t SELECT value, hex(randomblob(40)) FROM generate_series(1, 9000)",
    );
    world.source("shop", &source(&file, ""));
    let daemon = world.start();
    daemon.create("shop", &[]);
    sqlite3(&file, "INSERT INTO t SELECT value, hex(randomblob(40)) FROM generate_series(1, 9000)");
    daemon.create("shop", &[]);
    let space = || daemon.ctl(&["space", "--json"]).ok().json();
    let number = |value: &serde_json::Value, name: &str| value[name].as_u64().expect(name);
    let repository = world.repository();
    // The lock has the name of its owner, and is no object of the repository.
    let owner = fs::metadata(repository.join("LOCK")).expect("the lock").len();
    let before = space();
    assert_eq!(number(&before, "total_bytes"), bytes_below(&repository) - owner);
    let parts = ["own_bytes", "unique_bytes", "shared_bytes", "deleted_bytes", "unreferenced_bytes", "other_bytes"];
    assert_eq!(parts.iter().map(|part| number(&before, part)).sum::<u64>(), number(&before, "total_bytes"));
    assert!(number(&before, "unique_bytes") > 0 && number(&before, "shared_bytes") > 0, "{before}");
    let newest = daemon.list()[0]["id"].as_str().expect("id").to_owned();
    let backups = before["backups"].as_array().expect("backups").clone();
    let said =
        backups.iter().find(|backup| backup["id"] == newest.as_str()).map(|backup| number(backup, "frees_bytes"));
    daemon.ctl(&["delete", &newest, "--yes"]).ok();
    let kept = number(&space(), "deleted_bytes");
    assert!(kept > 0, "it can be brought back");
    daemon.ctl(&["undelete", &newest]).ok();
    assert_eq!(number(&space(), "deleted_bytes"), 0);
    daemon.ctl(&["delete", &newest, "--yes", "--no-undelete"]).ok();
    let after = space();
    // Its deletion record stays, so that its number is not used again; the pin came by bringing it back.
    let freed = number(&before, "total_bytes") - number(&after, "total_bytes");
    let said = said.expect("the newest backup");
    assert!(freed <= said && said - freed < 500, "{freed} were freed, {said} were said");
    let text = daemon.ctl(&["space"]).ok();
    assert!(text.text().contains("data that several backups share"), "{text}");
}
