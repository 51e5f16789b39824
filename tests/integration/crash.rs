//! The daemon is killed at every named place of writing. Afterwards every listed backup restores byte for byte, and the
//! next backup works.

use backupd::repository::FAIL_POINTS;

use crate::common::{MORE_EVENTS, Server, World, dump_of, run};

/// The places that only deleting passes; `create` passes the others.
const DELETE: &[&str] = &["record-written", "manifest-removed", "folder-removed", "pack-removed"];

/// Every listed backup verifies, and its plain script is the one that was noted when it was taken.
fn every_backup_is_whole(world: &World, known: &mut Vec<(String, Vec<u8>)>) {
    let daemon = world.start();
    for id in daemon.ids() {
        daemon.ctl(&["verify", &id, "--level=data"]).ok();
        let script = run(daemon.ctl_command().args(["export", &id])).ok().stdout;
        match known.iter().find(|(other, _)| *other == id) {
            Some((_, before)) => assert!(*before == script, "backup {id} changed"),
            None => known.push((id, script)),
        }
    }
}

fn killed_at(place: &str, verb: &[&str]) {
    let server = Server::with_sample();
    let mut world = World::new(&server);
    let mut known = Vec::new();
    {
        let daemon = world.start();
        daemon.create("shop", &[]);
        server.sql("shop", MORE_EVENTS);
        daemon.create("shop", &[]);
    }
    every_backup_is_whole(&world, &mut known);
    server.sql("shop", MORE_EVENTS);

    world.set_env("BACKUPD_FAIL_POINT", format!("{place}=kill"));
    let mut daemon = world.start();
    let failed = daemon.ctl(verb);
    assert!(!failed.status.success(), "`{place}` was never passed: {failed}");
    daemon.wait();
    drop(daemon);
    world.unset_env("BACKUPD_FAIL_POINT");

    every_backup_is_whole(&world, &mut known);
    let daemon = world.start();
    let next = daemon.create("shop", &[])["id"].as_str().expect("id").to_owned();
    daemon.ctl(&["restore", &next, "--to", "copy", "--yes"]).ok();
    assert_eq!(dump_of(&server, "shop", &[]), dump_of(&server, "copy", &[]));
    drop(daemon);
    every_backup_is_whole(&world, &mut known);
    assert_eq!(world.leftovers(), Vec::<std::path::PathBuf>::new(), "after {place}");
}

#[test]
fn during_a_create() {
    for place in FAIL_POINTS.iter().filter(|place| !DELETE.contains(place)) {
        killed_at(place, &["create", "shop"]);
    }
}

#[test]
fn during_a_delete() {
    for place in DELETE {
        killed_at(place, &["delete", "shop@latest", "--yes"]);
    }
}
