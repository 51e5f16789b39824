//! Drills without systemd: the daemon is root, and its workers are another user.

use std::{fs, path::Path, path::PathBuf};

use backupd::model::error_code::ErrorCode;
use serde_json::Value;

use crate::common::{Daemon, Server, World, postgres_source, wait_until};

/// Whether this test program may become another user; a daemon that may not refuses.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The source of the sample database, drilled by a server that has its extension, with these assertions.
pub(crate) fn with_drills(server: &Server, database: &str, assertions: Option<&Path>) -> String {
    let mut text = postgres_source(server, database);
    text += &format!("\n[drill]\nserver_bin_dir = \"{}\"\n", server.server_bin_dir().display());
    if let Some(path) = assertions {
        text += &format!("assertions = \"{}\"\n", path.display());
    }
    text
}

/// Writes assertions into a file of a world.
pub(crate) fn assertions(world: &World, sql: &str) -> PathBuf {
    let path = world.path().join("drill.sql");
    fs::write(&path, sql).expect("write the assertions");
    path
}

/// Lets scratch databases of this world be below its own folder, so that what is left of them is seen.
pub(crate) fn scratch_in(world: &World) -> PathBuf {
    let scratch = world.path().join("drills");
    fs::create_dir_all(&scratch).expect("make a folder");
    let repository = world.repository();
    world.configure(&format!(
        "[repository]\npath = \"{}\"\n[drill]\nscratch = \"{}\"\nuser = \"nobody\"\n",
        repository.display(),
        scratch.display()
    ));
    scratch
}

/// Makes sure that no server, no program and no file of a drill is left.
#[track_caller]
pub(crate) fn nothing_is_left(world: &World, scratch: &Path) {
    wait_until("the folder of the drill is gone", || fs::read_dir(scratch).expect("the folder").count() == 0);
    wait_until("the notes are gone", || {
        fs::read_dir(world.path().join("state/drills")).map_or(0, Iterator::count) == 0
    });
    let needle = scratch.to_str().expect("UTF-8").as_bytes().to_vec();
    wait_until("the processes of the drill are gone", || {
        fs::read_dir("/proc").expect("/proc").flatten().all(|entry| {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            !command.windows(needle.len()).any(|window| window == needle)
        })
    });
}

fn backup(daemon: &Daemon) -> Value {
    daemon.list().remove(0)
}

#[test]
fn a_good_backup_of_the_sample_database_is_proved() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let scratch = scratch_in(&world);
    let sql = assertions(
        &world,
        "-- What must be there.\nSELECT count(*) > 0, 'customers' FROM shop.customer;\nSELECT max(price) > 0 FROM shop.item;\n",
    );
    world.source("shop", &with_drills(&server, "shop", Some(&sql)));
    let daemon = world.start();
    let taken = daemon.create("shop", &[]);
    if !is_root() {
        daemon.ctl(&["drill", "shop"]).fails_with(ErrorCode::DrillUnavailable);
        return;
    }
    let drilled = daemon.ctl(&["drill", "shop"]).ok();
    let said = drilled.text();
    for words in [
        "Restored in ",
        "with PostgreSQL ",
        "restore: ok",
        "schema: ok",
        "indexes: ok",
        "heaps: ok",
        "assertions: ok, 2 assertions hold",
    ] {
        assert!(said.contains(words), "{words}: {drilled}");
    }
    let listed = backup(&daemon);
    assert_eq!(listed["proof"], "drilled");
    assert!(listed["recovery"].as_u64() > Some(10_000), "{listed}");
    assert!(listed["drilled_at"].as_u64() > taken["finished_at"].as_u64(), "{listed}");
    assert!(daemon.ctl(&["list"]).ok().text().contains("drilled "), "the table");
    let id = taken["id"].as_str().expect("id");
    let shown = daemon.ctl(&["show", id]).ok();
    assert!(shown.text().contains("restored in") && shown.text().contains("indexes: ok"), "{shown}");
    let records = daemon.ctl(&["show", id, "--json=short"]).ok().json()["records"].clone();
    assert_eq!((&records[0]["record"], &records[0]["rows"]), (&"drilled".into(), &taken["rows"]), "{records}");
    assert!(daemon.ctl(&["status"]).ok().text().contains("Drills: "), "status");
    nothing_is_left(&world, &scratch);

    // What is known stays known; a second drill is one more record, by id and by the timer's way.
    daemon.ctl(&["drill", id]).ok();
    daemon.ctl(&["drill", "--all"]).ok();
    let records = daemon.ctl(&["show", id, "--json=short"]).ok().json()["records"].clone();
    assert_eq!(records.as_array().map(Vec::len), Some(3), "{records}");
    assert!(daemon.stop().success());
    let daemon = world.start();
    assert_eq!(backup(&daemon)["proof"], "drilled");
    assert_eq!(world.leftovers(), Vec::<PathBuf>::new());
}
