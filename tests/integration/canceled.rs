//! A cancel at any named place of a backup or a restore ends in nothing, or comes too late and the work is whole.

use std::{fs, path::PathBuf};

use backupd::{model::error_code::ErrorCode, repository::FAIL_POINTS};

use crate::common::{Finished, Server, World, assert_same_database, wait_until};

/// Of these places of writing, the manifest is there: a cancel is too late.
const COMMITTED: &[&str] = &["manifest-renamed", "session-dropped"];
/// These places only a delete passes.
const DELETE: &[&str] = &["record-written", "manifest-removed", "folder-removed", "pack-removed"];

/// Starts a daemon that is held at `place`, cancels the job of `verb` there, and lets it go on.
fn canceled_at(world: &mut World, place: &str, verb: &[&str]) -> (crate::common::Daemon, Finished) {
    let folder = world.path().to_owned();
    world.set_env("BACKUPD_FAIL_POINT", format!("{place}=hold:{}", folder.display()));
    let daemon = world.start();
    let client = daemon.ctl_in_background(verb);
    wait_until(&format!("{place} is reached"), || folder.join(format!("{place}.reached")).exists());
    daemon.ctl(&["cancel", &daemon.running_job()]).ok();
    fs::write(folder.join(format!("{place}.go")), b"").expect("let it go on");
    let finished = client.join().expect("client");
    (daemon, finished)
}

#[test]
fn at_every_place_of_a_create() {
    let server = Server::with_sample();
    for place in FAIL_POINTS.iter().filter(|place| !DELETE.contains(place)) {
        let mut world = World::new(&server);
        let (daemon, finished) = canceled_at(&mut world, place, &["create", "shop"]);
        let backups = daemon.list().len();
        if finished.status.success() {
            assert_eq!(backups, 1, "at {place}: {finished}");
            daemon.ctl(&["verify", "--level=data"]).ok();
        } else {
            finished.fails_with(ErrorCode::Canceled);
            assert_eq!(backups, 0, "at {place}");
        }
        assert!(finished.status.success() || !COMMITTED.contains(place), "a backup that is there failed: {finished}");
        assert_eq!(world.leftovers(), Vec::<PathBuf>::new(), "at {place}");
        assert!(daemon.stop().success());
    }
}

#[test]
fn at_every_place_of_a_restore() {
    let server = Server::with_sample();
    let mut world = World::new(&server);
    world.start().create("shop", &[]);
    let places = [
        "restore-created",
        "restore-predata",
        "restore-data",
        "restore-compared",
        "restore-postdata",
        "restore-renamed",
    ];
    for place in places {
        let verb = ["restore", "shop@latest", "--to", "copy", "--yes"];
        let (daemon, finished) = canceled_at(&mut world, place, &verb);
        if place == "restore-renamed" {
            assert_same_database((&server, "shop"), (&server, "copy"));
        } else {
            finished.fails_with(ErrorCode::Canceled);
            let names = server.sql("postgres", "SELECT datname FROM pg_database");
            assert!(!names.contains("__restore_") && !names.contains("copy"), "at {place}: {names}");
        }
        assert_eq!(fs::read_dir(world.path().join("state/restores")).map_or(0, Iterator::count), 0, "at {place}");
        assert_eq!(world.leftovers(), Vec::<PathBuf>::new(), "at {place}");
        assert!(daemon.stop().success());
    }
}
