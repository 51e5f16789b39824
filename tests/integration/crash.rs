//! The daemon is killed at every named place of writing. Afterwards every listed backup restores byte for byte, and the
//! next backup works.
//!
//! One repository goes through all places of a test, so that each also meets what the kills before it left.

use std::{collections::HashMap, os::unix::process::ExitStatusExt};

use backupd::repository::FAIL_POINTS;
use nix::sys::signal::Signal;

use crate::common::{Daemon, Server, World, dump_of, run};

/// The places that only deleting passes; `create` passes the others.
const DELETE: &[&str] = &["record-written", "manifest-removed", "folder-removed", "pack-removed"];

/// Adds a few rows of a size that does not grow from place to place.
const CHANGE: &str = "INSERT INTO shop.event SELECT session, at + interval '1 year', what FROM shop.event LIMIT 1000";

/// The plain script of every backup, as it was when it was first seen.
#[derive(Default)]
struct Known(HashMap<String, Vec<u8>>);

impl Known {
    /// Every listed backup verifies down to its rows, and its script is the one that was noted.
    fn check(&mut self, daemon: &Daemon) -> Vec<String> {
        daemon.ctl(&["verify", "--level=data"]).ok();
        let ids = daemon.ids();
        for id in &ids {
            let script = run(daemon.ctl_command().args(["export", id])).ok().stdout;
            let before = self.0.entry(id.clone()).or_insert_with(|| script.clone());
            assert!(*before == script, "backup {id} changed");
        }
        ids
    }
}

fn killed_at(places: impl Iterator<Item = &'static str>, verb: &[&str]) {
    let server = Server::with_sample();
    let mut world = World::new(&server);
    let mut known = Known::default();
    {
        let daemon = world.start();
        daemon.create("shop", &[]);
        server.sql("shop", CHANGE);
        daemon.create("shop", &[]);
        known.check(&daemon);
    }
    for place in places {
        server.sql("shop", CHANGE);
        world.set_env("BACKUPD_FAIL_POINT", format!("{place}=kill"));
        let mut daemon = world.start();
        // The client waits for the daemon to come back, and tells then that the job was interrupted.
        let client = daemon.ctl_in_background(verb);
        assert_eq!(daemon.wait().signal(), Some(Signal::SIGKILL as i32), "at {place}");
        drop(daemon);
        world.unset_env("BACKUPD_FAIL_POINT");

        let daemon = world.start();
        let failed = client.join().expect("client");
        assert!(!failed.status.success(), "the job was killed at {place}: {failed}");
        let before = known.check(&daemon);
        assert!(!before.is_empty(), "no backup is left after {place}");
        let next = daemon.create("shop", &[])["id"].as_str().expect("id").to_owned();
        daemon.ctl(&["restore", &next, "--to", "copy", "--yes"]).ok();
        assert_eq!(dump_of(&server, "shop", &[]), dump_of(&server, "copy", &[]), "after {place}");
        server.sql("postgres", "DROP DATABASE copy");
        assert_eq!(world.leftovers(), Vec::<std::path::PathBuf>::new(), "after {place}");
        // The two newest stay for the next place, as bases and as what can be lost.
        for old in &before[1..] {
            daemon.ctl(&["delete", old, "--yes", "--no-undelete"]).ok();
        }
        assert_eq!(known.check(&daemon), [next.as_str(), &before[0]], "after {place}");
    }
}

#[test]
fn during_a_create() {
    killed_at(FAIL_POINTS.iter().copied().filter(|place| !DELETE.contains(place)), &["create", "shop"]);
}

#[test]
fn during_a_delete() {
    killed_at(DELETE.iter().copied(), &["delete", "shop@latest", "--yes", "--no-undelete"]);
}
