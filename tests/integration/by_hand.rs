//! A backup is restored by the shell script of its repository, with no program of ours on the path.

use std::{ffi::OsString, fs, process::Command};

use crate::common::{Finished, Server, World, client_bin_dir, dump_of, run};

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
