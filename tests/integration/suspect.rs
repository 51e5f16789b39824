//! A backup that holds suspiciously less than the one before is kept, and marked.

use backupd::model::ErrorCode;

use crate::common::{Daemon, Server, World, postgres_source};

fn create(daemon: &Daemon) -> (String, String) {
    let finished = daemon.ctl(&["create", "shop"]).ok();
    let newest = daemon.list()[0]["id"].as_str().expect("id").to_owned();
    (newest, format!("{finished}"))
}

fn suspects(daemon: &Daemon) -> Vec<String> {
    let list = daemon.ctl(&["list", "--suspect", "--json"]).ok().json();
    list.as_array().expect("a list").iter().map(|row| row["id"].as_str().expect("id").to_owned()).collect()
}

#[test]
fn losses_are_told_with_their_numbers_until_they_are_made_good() {
    let server = Server::start();
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", "CREATE TABLE orders AS SELECT n, repeat('x', 50) t FROM generate_series(1, 5000) n");
    let world = World::new(&server);
    let daemon = world.start();
    let (_, said) = create(&daemon);
    assert!(!said.contains("suspiciously"), "{said}");

    server.sql("shop", "DELETE FROM orders WHERE n > 1000");
    let (small, said) = create(&daemon);
    assert!(said.contains("holds suspiciously less than the one before"), "{said}");
    assert_eq!(suspects(&daemon), std::slice::from_ref(&small));
    let plan = daemon.ctl(&["restore", &small, "--to", "copy", "--dry-run"]).ok();
    assert!(plan.text().contains("holds suspiciously less than the one before"), "{plan}");
    let shown = daemon.ctl(&["show", &small]).ok();
    assert!(shown.text().contains("Suspect: public.orders had 5000 rows and has 1000"), "{shown}");
    assert!(daemon.ctl(&["list"]).ok().text().contains("SUSPECT"));
    let status = daemon.ctl(&["status"]).ok();
    assert!(status.text().contains("Suspect: 1 backup"), "{status}");
    // It is a backup all the same.
    daemon.ctl(&["restore", &small, "--to", "copy", "--yes"]).ok();
    assert_eq!(server.sql("copy", "SELECT count(*) FROM orders"), "1000");

    // The next is compared with the last good one, not with the suspect.
    let (same, _) = create(&daemon);
    assert_eq!(suspects(&daemon).len(), 2);
    server.sql("shop", "INSERT INTO orders SELECT n, repeat('x', 50) FROM generate_series(1001, 4500) n");
    let (whole, said) = create(&daemon);
    assert!(!said.contains("suspiciously") && !suspects(&daemon).contains(&whole), "{said}");
    // A backup of the schema alone is no backup of nothing.
    daemon.ctl(&["create", "shop", "--schema-only"]).ok();
    assert_eq!(suspects(&daemon).len(), 2);
    daemon.ctl(&["delete", &same, "--yes"]).ok();
    assert_eq!(suspects(&daemon), [small]);

    // What the source says is not suspicious, is not.
    world.source("shop", &format!("{}suspicious_loss = 100\n", postgres_source(&server, "shop")));
    daemon.ctl(&["reload"]).ok();
    server.sql("shop", "TRUNCATE orders");
    create(&daemon);
    assert_eq!(suspects(&daemon).len(), 1);
}

#[test]
fn a_subset_is_verified_of_what_was_not_for_longest() {
    let server = Server::start();
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", "CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 3000) n");
    let world = World::new(&server);
    let daemon = world.start();
    for _ in 0..3 {
        daemon.create("shop", &[]);
    }
    let verified = || {
        let list = daemon.list();
        list.iter().filter(|row| !row["verified_at"].is_null()).count()
    };
    for round in 1..=3 {
        daemon.ctl(&["verify", "--subset", "40%", "--level=data"]).ok();
        assert_eq!(verified(), round);
    }
    daemon.ctl(&["verify", "--subset", "much"]).fails_with(ErrorCode::InvalidArgs);
}

#[test]
fn damage_is_told_and_the_next_backup_stores_again_what_is_lost() {
    let server = Server::start();
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", "CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 20000) n");
    let world = World::new(&server);
    let daemon = world.start();
    let first = daemon.create("shop", &[])["id"].as_str().expect("id").to_owned();
    let packs = world.repository().join("packs");
    let pack = largest_file(&packs);
    let mut bytes = std::fs::read(&pack).expect("a pack");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&pack, &bytes).expect("damage");

    daemon.ctl(&["verify"]).fails_with(ErrorCode::BackupDamaged);
    let status = daemon.ctl(&["status"]).ok();
    assert!(status.text().contains("Damaged: 1 backup"), "{status}");
    assert!(daemon.ctl(&["list", "--damaged"]).ok().text().contains("DAMAGED"));
    daemon.ctl(&["restore", &first, "--to", "copy", "--dry-run"]).fails_with(ErrorCode::BackupDamaged);

    // Nothing of the database has changed, and yet its rows are stored again.
    let second = daemon.create("shop", &[])["id"].as_str().expect("id").to_owned();
    daemon.ctl(&["verify", &second, "--level=data"]).ok();
    daemon.ctl(&["restore", &second, "--to", "copy", "--yes"]).ok();
    assert_eq!(server.sql("copy", "SELECT count(*) FROM t"), "20000");
    daemon.ctl(&["restore", &first, "--to", "other", "--yes"]).fails_with(ErrorCode::BackupDamaged);
    daemon.ctl(&["delete", &first, "--yes"]).ok();
    assert!(!daemon.ctl(&["status"]).ok().text().contains("Damaged"));
    daemon.ctl(&["verify"]).ok();
}

pub(super) fn largest_file(folder: &std::path::Path) -> std::path::PathBuf {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            let metadata = entry.metadata().expect("metadata");
            if metadata.is_dir() { folders.push(entry.path()) } else { files.push((metadata.len(), entry.path())) }
        }
    }
    files.into_iter().max().expect("a file").1
}
