//! Backups that the clock, a newer program or a delete at the wrong moment made odd.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use backupd::model::error_code::ErrorCode;

use crate::common::{MORE_EVENTS, Server, World, assert_same_database, run, wait_until};

/// The folder of the backup `id` of the source `shop`.
pub(super) fn folder_of(world: &World, id: &str) -> PathBuf {
    let folders = fs::read_dir(world.repository().join("backups/shop/_")).expect("the backups of the source");
    let mut folders = folders.map(|entry| entry.expect("an entry").path());
    folders.find(|path| path.to_string_lossy().ends_with(id)).expect("the backup's folder")
}

/// Copies a backup under another time, with another text in its manifest; gives the copy's id, the hash of the new text.
pub(super) fn copy_with(folder: &Path, utc: &str, edit: impl Fn(String) -> String) -> String {
    let manifest = edit(fs::read_to_string(folder.join("manifest.json")).expect("the manifest"));
    let copy = folder.with_file_name("copy");
    run(Command::new("cp").arg("-r").arg(folder).arg(&copy)).ok();
    run(Command::new("chmod").args(["-R", "u+w"]).arg(&copy)).ok();
    fs::write(copy.join("manifest.json"), manifest).expect("write the manifest");
    let sum = run(Command::new("sha256sum").arg(copy.join("manifest.json"))).ok();
    let id = sum.text()[..32].to_owned();
    fs::rename(&copy, folder.with_file_name(format!("{utc}-{id}"))).expect("name the copy");
    id
}

fn create(daemon: &crate::common::Daemon) -> String {
    daemon.create("shop", &[])["id"].as_str().expect("id").to_owned()
}

#[test]
fn a_clock_that_was_set_back_does_not_make_an_old_backup_the_latest() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let daemon = world.start();
    let first = create(&daemon);
    assert!(daemon.stop().success());
    // As if the clock had been far ahead then.
    let folder = folder_of(&world, &first);
    let ahead = copy_with(&folder, "20990101T000000Z", |manifest| {
        let at = manifest.find("\"snapshot_at\":").expect("the time") + "\"snapshot_at\":".len();
        let end = at + manifest[at..].find(',').expect("its end");
        format!("{}4070908800000000{}", &manifest[..at], &manifest[end..])
    });
    fs::remove_dir_all(folder).expect("remove the original");

    server.sql("shop", MORE_EVENTS);
    let daemon = world.start();
    assert_eq!(daemon.ids(), [ahead.as_str()]);
    let next = daemon.create("shop", &[]);
    assert_eq!(next["sequence"], 2);
    assert!(next["new_bytes"].as_u64() < next["stored_bytes"].as_u64(), "nothing was reused: {next}");
    let next = next["id"].as_str().expect("id");
    assert_eq!(daemon.ids(), [next, &ahead]);
    daemon.ctl(&["verify", "--level=data"]).ok();
    daemon.ctl(&["restore", "shop@latest", "--to", "copy", "--yes"]).ok();
    assert_same_database((&server, "shop"), (&server, "copy"));
    assert!(daemon.stop().success());
    assert!(world.offline(&["show", "shop@latest"]).ok().text().contains(next));
}

#[test]
fn a_backup_of_a_newer_format_is_reported_and_hides_no_other() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let daemon = world.start();
    let old = create(&daemon);
    assert!(daemon.stop().success());
    let newer = copy_with(&folder_of(&world, &old), "20990101T000000Z", |manifest| {
        manifest.replacen("\"format\":1", "\"format\":2", 1).replacen("\"sequence\":1", "\"sequence\":7", 1)
    });

    for mentioned in [world.offline(&["list"]).ok(), world.start().ctl(&["list"]).ok()] {
        assert!(mentioned.text().contains(&old[..8]) && !mentioned.text().contains(&newer[..8]), "{mentioned}");
        mentioned.says(&["newer"]);
    }
    let daemon = world.start();
    for verb in [&["restore", &newer, "--to", "copy", "--yes"][..], &["show", &newer], &["verify", &newer]] {
        daemon.ctl(verb).fails_with(ErrorCode::UnsupportedFormat);
    }
    let next = daemon.create("shop", &[]);
    assert_eq!(next["sequence"], 8, "numbers of newer backups count");
    daemon.ctl(&["restore", &old, "--to", "copy", "--yes"]).ok();
    assert_same_database((&server, "shop"), (&server, "copy"));
    // What a newer backup needs is unknown here, so nothing may be freed.
    let packs = || run(Command::new("find").arg(world.repository().join("packs")).args(["-name", "*.gz"])).ok().stdout;
    let before = packs();
    let deleted = daemon.ctl(&["delete", &old, "--yes", "--no-undelete"]);
    assert!(before == packs(), "packs were freed: {deleted}");
    daemon.ctl(&["verify", next["id"].as_str().expect("id"), "--level=data"]).ok();
    assert!(daemon.stop().success());
    world.offline(&["show", &newer]).fails_with(ErrorCode::UnsupportedFormat);
}

#[test]
fn the_base_is_deleted_while_a_backup_that_reuses_it_runs() {
    let server = Server::with_sample();
    let mut world = World::new(&server);
    let base = create(&world.start());
    server.sql("shop", MORE_EVENTS);
    let folder = world.path().to_owned();
    world.set_env("BACKUPD_FAIL_POINT", format!("pack-created=hold:{}", folder.display()));
    let daemon = world.start();
    let client = daemon.ctl_in_background(&["create", "shop"]);
    wait_until("the backup is writing", || folder.join("pack-created.reached").exists());
    daemon.ctl(&["delete", &base, "--yes", "--no-undelete"]).ok();
    assert_eq!(daemon.ids(), Vec::<String>::new());
    fs::write(folder.join("pack-created.go"), b"").expect("let it go on");
    client.join().expect("client").ok();
    let backup = daemon.list().remove(0);
    assert!(backup["new_bytes"].as_u64() < backup["stored_bytes"].as_u64(), "nothing was reused: {backup}");
    daemon.ctl(&["verify", "--level=data"]).ok();
    let file = folder.join("shop.sql.gz");
    daemon.ctl(&["export", "shop@latest", "--output", file.to_str().expect("UTF-8")]).ok();
    let script = run(Command::new("gunzip").arg("-c").arg(&file)).ok();
    server.sql("postgres", "CREATE DATABASE exported TEMPLATE template0");
    server.sql("exported", script.text());
    assert_eq!(
        crate::common::dump_of(&server, "shop", &[]),
        crate::common::dump_of(&server, "exported", &[]),
        "the export differs"
    );
    daemon.ctl(&["restore", "shop@latest", "--to", "copy", "--yes"]).ok();
    assert_same_database((&server, "shop"), (&server, "copy"));
    assert_eq!(world.leftovers(), Vec::<PathBuf>::new());
}
