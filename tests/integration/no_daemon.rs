//! Listing, verifying, exporting and restoring where no daemon runs, from the repository's folder alone.

use std::process::Command;

use backupd::model::error_code::ErrorCode;

use crate::common::{Server, World, assert_same_database, dump_of, run};

#[test]
fn everything_that_reads_works_without_a_daemon() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let daemon = world.start();
    let id = daemon.create("shop", &[])["id"].as_str().expect("id").to_owned();
    let listed = daemon.list();
    assert!(daemon.stop().success());
    daemon_is_gone(&world);

    let before = tree(&world);
    let offline = world.offline(&["list", "--json=short"]).ok().json();
    assert_eq!(offline.as_array(), Some(&listed));
    assert!(world.offline(&["show", &id]).ok().text().contains(&id[..8]));
    world.offline(&["verify", &id, "--level=data"]).ok();
    let file = world.path().join("shop.sql.gz");
    world.offline(&["export", &id, "--output", file.to_str().expect("UTF-8")]).ok();
    let script = run(Command::new("gunzip").arg("-c").arg(&file)).ok();
    server.sql("postgres", "CREATE DATABASE exported TEMPLATE template0");
    server.sql("exported", script.text());
    assert_eq!(dump_of(&server, "shop", &[]), dump_of(&server, "exported", &[]));

    let connection = format!("postgresql://postgres@/postgres?host={}", server.host().display());
    world.offline(&["restore", &id, "--to", "copy", "--connection", &connection, "--yes"]).ok();
    assert_same_database((&server, "shop"), (&server, "copy"));
    assert_eq!(before, tree(&world), "reading wrote into the repository");
}

#[test]
fn what_writes_needs_the_daemon() {
    let server = Server::start();
    let world = World::new(&server);
    for verb in [&["create", "shop"][..], &["delete", "shop@latest", "--yes"]] {
        assert!(!world.offline(verb).status.success(), "{verb:?}");
    }
}

#[test]
fn no_daemon_and_no_repository_are_clear_errors() {
    let server = Server::start();
    let world = World::new(&server);
    world.offline(&["list"]).fails_with(ErrorCode::RepositoryUnavailable);
    let daemon = world.start();
    let mut command = daemon.ctl_command();
    assert!(daemon.stop().success());
    run(command.arg("list")).fails_with(ErrorCode::DaemonUnreachable);
}

fn daemon_is_gone(world: &World) {
    assert!(!world.socket().exists(), "the daemon left its socket behind");
}

/// Every file of the repository with its size and time.
fn tree(world: &World) -> String {
    let find = run(Command::new("find").arg(world.repository()).args(["-type", "f", "-printf", "%P %s %T@\n"])).ok();
    let mut lines: Vec<&str> = find.text().lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}
