//! A backup is restored by the shell script of its repository, with no program of ours on the path.

use std::{ffi::OsString, fs, os::unix::fs::PermissionsExt, process::Command};

use crate::common::{Finished, MORE_EVENTS, Server, World, client_bin_dir, dump_of, run};

/// `restore.sh` in its repository, with nothing on the path but the system's folders and PostgreSQL's.
fn restore_sh(world: &World, command: &str, server: &Server) -> Finished {
    let mut path = OsString::from(client_bin_dir());
    path.push(":/usr/bin:/bin");
    run(Command::new("bash")
        .args(["-o", "pipefail", "-c", &format!("! command -v backupd backupctl && {command}")])
        .current_dir(world.repository())
        .env_clear()
        .env("PATH", path)
        .env("PGHOST", server.host())
        .env("PGUSER", "postgres"))
}

fn by_hand(codec: &str) {
    let server = Server::with_sample();
    let world = World::new(&server);
    world.configure(&format!("[repository]\npath = \"{}\"\ncodec = \"{codec}\"\n", world.repository().display()));
    let daemon = world.start();
    let id = daemon.create("shop", &[])["id"].as_str().expect("id").to_owned();
    assert!(daemon.stop().success());

    let list = restore_sh(&world, "sh restore.sh list", &server).ok();
    assert!(list.text().contains(&id[..8]), "{list}");
    let files = restore_sh(&world, &format!("sh restore.sh files {id}"), &server).ok();
    for name in ["globals.sql", "database.sql", "pre-data.sql", "post-data.sql"] {
        assert!(files.text().contains(name), "{name}: {files}");
    }

    server.sql("postgres", "CREATE DATABASE copy TEMPLATE template0");
    let command = format!("sh restore.sh sql {} | psql -X -q -v ON_ERROR_STOP=1 -d copy", &id[..8]);
    restore_sh(&world, &command, &server).ok();
    assert_eq!(dump_of(&server, "shop", &[]), dump_of(&server, "copy", &[]));
}

#[test]
fn a_gzip_repository() {
    by_hand("gzip");
}

#[test]
fn a_zstd_repository() {
    by_hand("zstd");
}

#[test]
fn a_damaged_pack_is_found_before_the_first_byte() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let daemon = world.start();
    let id = daemon.create("shop", &[])["id"].as_str().expect("id").to_owned();
    assert!(daemon.stop().success());
    let packs = run(Command::new("find").arg(world.repository().join("packs")).args(["-type", "f"])).ok();
    let pack = packs.text().lines().next().expect("a pack");
    let mut bytes = fs::read(pack).expect("read the pack");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    run(Command::new("chmod").args(["u+w", pack])).ok();
    fs::write(pack, bytes).expect("write the pack");
    let done = restore_sh(&world, &format!("sh restore.sh sql {id}"), &server);
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(done.stdout.is_empty(), "{done}");
}

/// The pieces of packs that a backup of `shop` consists of.
fn extents(world: &World, id: &str) -> String {
    let folders = fs::read_dir(world.repository().join("backups/shop/_")).expect("the backups of the source");
    let mut folders = folders.map(|entry| entry.expect("an entry").path());
    let folder = folders.find(|path| path.to_string_lossy().ends_with(id)).expect("the backup's folder");
    fs::read_to_string(folder.join("extents.tsv")).expect("extents.tsv")
}

/// A pack vanishes after `restore.sh` checked all of them: a `mkfifo` in front of the real one, which it calls then,
/// takes the pack away.
#[test]
fn a_pack_that_vanishes_halfway_fails_psql_too() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let daemon = world.start();
    daemon.create("shop", &[]);
    server.sql("shop", MORE_EVENTS);
    daemon.create("shop", &[]);
    // This one takes the changed rows from the pack of the second, and its schema, which is another, from elsewhere.
    server.sql("shop", "CREATE TABLE later (a int)");
    let id = daemon.create("shop", &[])["id"].as_str().expect("id").to_owned();
    assert!(daemon.stop().success());

    let extents = extents(&world, &id);
    let (before, data) = extents.split_once("file\tdata-").expect("the data file");
    let packs = data.lines().skip(1).filter_map(|line| line.split('\t').next()).filter(|word| word.len() == 64);
    let pack = packs.into_iter().find(|pack| !before.contains(pack)).expect("a pack with nothing but rows");
    let victim = world.repository().join(format!("packs/{}/{pack}.gz", &pack[..2]));
    assert!(victim.exists(), "{}", victim.display());
    let tools = world.path().join("tools");
    fs::create_dir(&tools).expect("make a folder");
    let wrapper = format!("#!/bin/sh\nrm -f -- '{}'\nexec /usr/bin/mkfifo \"$@\"\n", victim.display());
    fs::write(tools.join("mkfifo"), wrapper).expect("write the wrapper");
    fs::set_permissions(tools.join("mkfifo"), fs::Permissions::from_mode(0o755)).expect("make it executable");

    server.sql("postgres", "CREATE DATABASE copy TEMPLATE template0");
    let command = format!(
        "PATH='{}':$PATH; sh restore.sh sql {id} | psql -X -q -v ON_ERROR_STOP=1 -d copy; echo \"${{PIPESTATUS[*]}}\" >&2; \
         exit 0",
        tools.display()
    );
    let done = restore_sh(&world, &command, &server).ok();
    assert!(!victim.exists(), "mkfifo was not called");
    done.says(&["vanished"]);
    assert_eq!(done.stderr.lines().last(), Some("1 3"), "restore.sh and psql: {done}");
    // Unchanged data came before the missing piece; of the table that it cut nothing is there.
    assert_eq!(server.sql("copy", "SELECT count(*) FROM shop.event"), "0");
}
