//! The daemon is killed at every named place of backing up and restoring an SQLite database. Afterwards the database is
//! as it was, every listed backup gives the bytes that it gave, the next backup works, and nothing is left.

use std::{collections::HashMap, fs, os::unix::process::ExitStatusExt as _, path::PathBuf};

use backupd::repository::FAIL_POINTS;
use nix::sys::signal::Signal;

use super::sqlite::{make, sqlite3};
use crate::common::{Daemon, World, run, wait_until};

/// The places that only deleting passes.
const DELETE: &[&str] = &["record-written", "manifest-removed", "folder-removed", "pack-removed"];
/// The places of a restore, and whether the file has its name there.
const RESTORE: &[(&str, bool)] =
    &[("image-created", false), ("image-written", false), ("image-checked", false), ("image-named", true)];

/// The exported bytes of every backup, as they were when it was first seen.
#[derive(Default)]
struct Known(HashMap<String, Vec<u8>>);

impl Known {
    fn check(&mut self, daemon: &Daemon) {
        daemon.ctl(&["verify", "--level=data"]).ok();
        for id in daemon.ids() {
            let exported = run(daemon.ctl_command().args(["export", &id])).ok().stdout;
            let before = self.0.entry(id.clone()).or_insert_with(|| exported.clone());
            assert!(*before == exported, "backup {id} changed");
        }
    }
}

#[test]
fn during_a_create() {
    let mut world = World::without_sources();
    let path = make(&world, "wal");
    let mut known = Known::default();
    let daemon = world.start();
    daemon.create("wal", &[]);
    known.check(&daemon);
    drop(daemon);
    for place in FAIL_POINTS.iter().filter(|place| !DELETE.contains(place)) {
        sqlite3(&path, "INSERT INTO t(body, raw) SELECT hex(randomblob(50)), randomblob(500) FROM t LIMIT 100");
        world.set_env("BACKUPD_FAIL_POINT", format!("{place}=kill"));
        let mut daemon = world.start();
        let client = daemon.ctl_in_background(&["create", "wal"]);
        assert_eq!(daemon.wait().signal(), Some(Signal::SIGKILL as i32), "at {place}");
        drop(daemon);
        world.unset_env("BACKUPD_FAIL_POINT");
        let daemon = world.start();
        let failed = client.join().expect("client");
        assert!(!failed.status.success(), "the job was killed at {place}: {failed}");
        known.check(&daemon);
        let next = daemon.create("wal", &[])["id"].as_str().expect("id").to_owned();
        let to = world.path().join("copy.db");
        daemon.ctl(&["restore", &next, "--to", to.to_str().expect("path"), "--yes"]).ok();
        assert_eq!(sqlite3(&path, ".dump"), sqlite3(&to, ".dump"), "after {place}");
        fs::remove_file(&to).expect("remove");
        assert_eq!(world.leftovers(), Vec::<PathBuf>::new(), "after {place}");
    }
}

#[test]
fn during_a_restore() {
    let mut world = World::without_sources();
    let path = make(&world, "journal");
    let id = world.start().create("journal", &[])["id"].as_str().expect("id").to_owned();
    let original = sqlite3(&path, ".dump");
    let folder = world.path().join("restored");
    fs::create_dir(&folder).expect("make a folder");
    let to = folder.join("app.db");
    let restore = ["restore", &id, "--to", to.to_str().expect("path"), "--yes"];
    for (place, named) in RESTORE {
        world.set_env("BACKUPD_FAIL_POINT", format!("{place}=kill"));
        let mut daemon = world.start();
        let client = daemon.ctl_in_background(&restore);
        assert_eq!(daemon.wait().signal(), Some(Signal::SIGKILL as i32), "at {place}");
        drop(daemon);
        assert_eq!(fs::read_dir(&folder).expect("list").count(), 1, "at {place}");
        assert_eq!(to.exists(), *named, "at {place}");
        world.unset_env("BACKUPD_FAIL_POINT");
        let daemon = world.start();
        assert!(!client.join().expect("client").status.success(), "the job was killed at {place}");
        let entries = || fs::read_dir(world.path().join("state/restores")).map_or(0, Iterator::count);
        wait_until("the half-restored file is removed", || entries() == 0);
        assert_eq!(fs::read_dir(&folder).expect("list").count(), usize::from(*named), "after {place}");
        if !named {
            daemon.ctl(&restore).ok();
        }
        assert_eq!(sqlite3(&to, ".dump"), original, "after {place}");
        fs::remove_file(&to).expect("remove");
        assert_eq!(world.leftovers(), Vec::<PathBuf>::new(), "after {place}");
    }
}

#[test]
fn a_full_disk_leaves_the_last_backup_and_no_half_file() {
    let mut world = World::without_sources();
    let path = make(&world, "journal");
    let id = world.start().create("journal", &[])["id"].as_str().expect("id").to_owned();
    let to = world.path().join("new.db");
    for (place, verb) in [
        ("pack-written", vec!["create", "journal"]),
        ("image-written", vec!["restore", &id, "--to", to.to_str().expect("path"), "--yes"]),
    ] {
        sqlite3(&path, "UPDATE t SET body = hex(randomblob(30))");
        world.set_env("BACKUPD_FAIL_POINT", format!("{place}=full"));
        let daemon = world.start();
        daemon.ctl(&verb).fails_with(backupd::model::error_code::ErrorCode::NoSpace);
        assert!(!to.exists());
        assert_eq!(daemon.ids(), [id.as_str()]);
        daemon.ctl(&["verify", "--level=data"]).ok();
        assert_eq!(world.leftovers(), Vec::<PathBuf>::new(), "after {place}");
    }
}
