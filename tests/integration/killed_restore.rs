//! The daemon is killed at every named place of a restore. The next start takes the half-built database away, and the
//! database that was backed up was never touched.

use std::{fs, os::unix::process::ExitStatusExt};

use nix::sys::signal::Signal;

use crate::common::{Server, World, dump_of, wait_until};

/// Where the restore is not yet published.
const UNFINISHED: &[&str] =
    &["restore-created", "restore-predata", "restore-data", "restore-compared", "restore-postdata"];

/// How many databases have a temporary name.
fn half_built(server: &Server) -> String {
    server.sql("postgres", r"SELECT count(*) FROM pg_database WHERE datname LIKE '%\_\_restore\_%'")
}

fn journal_entries(world: &World) -> usize {
    fs::read_dir(world.path().join("state/restores")).map_or(0, Iterator::count)
}

#[test]
fn at_every_place() {
    let server = Server::with_sample();
    let mut world = World::new(&server);
    let id = world.start().create("shop", &[])["id"].as_str().expect("id").to_owned();
    let original = dump_of(&server, "shop", &[]);
    for place in UNFINISHED.iter().chain(&["restore-renamed"]) {
        world.set_env("BACKUPD_FAIL_POINT", format!("{place}=kill"));
        let mut daemon = world.start();
        let client = daemon.ctl_in_background(&["restore", &id, "--to", "copy", "--yes"]);
        assert_eq!(daemon.wait().signal(), Some(Signal::SIGKILL as i32), "at {place}");
        drop(daemon);
        let unfinished = UNFINISHED.contains(place);
        assert_eq!(half_built(&server), if unfinished { "1" } else { "0" }, "at {place}");
        assert_eq!(server.has_database("copy"), !unfinished, "at {place}");

        world.unset_env("BACKUPD_FAIL_POINT");
        let daemon = world.start();
        let failed = client.join().expect("client");
        assert!(!failed.status.success(), "the job was killed at {place}: {failed}");
        wait_until("the half-built database is dropped", || half_built(&server) == "0" && journal_entries(&world) == 0);
        assert_eq!(original, dump_of(&server, "shop", &[]), "at {place}");
        if unfinished {
            daemon.ctl(&["restore", &id, "--to", "copy", "--yes"]).ok();
        }
        assert_eq!(original, dump_of(&server, "copy", &[]), "after {place}");
        server.sql("postgres", "DROP DATABASE copy");
        assert!(daemon.stop().success());
        assert_eq!(world.leftovers(), Vec::<std::path::PathBuf>::new(), "after {place}");
    }
}
