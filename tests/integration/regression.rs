//! PostgreSQL's own regression database goes to a backup and back. A dump may order inherited columns anew, so the source
//! itself is no oracle: what is restored is compared with what plain `pg_dump | psql` gives.

use std::{os::unix::fs::PermissionsExt as _, process::Command, time::Duration};

use crate::common::{Scratch, Server, World, client_bin_dir, dump_of, postgres_source, run, run_within};

#[test]
#[ignore = "make test-long: fetches PostgreSQL's source and runs its tests"]
fn what_postgresql_tests_itself_with_is_restored_as_pg_dump_and_psql_do() {
    let scratch = Scratch::new();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::set_permissions(scratch.join(""), std::fs::Permissions::from_mode(0o755)).expect("a folder for others");
    let folder = scratch.join("regression");
    let minutes = Duration::from_secs(600);
    run_within(minutes, Command::new(root.join("tests/scripts/regression-database")).arg(&folder), b"").ok();

    let server = Server::start();
    let regress = client_bin_dir().join("../lib/pgxs/src/test/regress/pg_regress");
    let (tests, output) = (folder.join("regress"), folder.join("output"));
    let mut command = Command::new(regress);
    command.arg(format!("--bindir={}", client_bin_dir().display()));
    command.arg(format!("--dlpath={}", folder.join("lib").display()));
    command.arg(format!("--inputdir={}", tests.display())).arg(format!("--outputdir={}", output.display()));
    command.arg(format!("--schedule={}", tests.join("parallel_schedule").display()));
    command.arg(format!("--host={}", server.host().display()));
    command.args(["--user=postgres", "--dbname=regression", "--max-connections=6"]).env("LC_ALL", "C");
    // Whether PostgreSQL passes its tests is its own business; what they leave is ours.
    let tested = run_within(minutes, &mut command, b"");
    let tables = server.sql("regression", "SELECT count(*) FROM pg_class WHERE oid >= 16384");
    assert!(tables.parse::<u32>().expect("a number") > 1000, "{tables} relations only: {tested}");

    let world = World::new(&server);
    world.source("regression", &postgres_source(&server, "regression"));
    let daemon = world.start();
    daemon.ctl(&["create", "regression"]).ok();
    daemon.ctl(&["restore", "regression@latest", "--to", "copy", "--yes"]).ok();

    let dump = run_within(minutes, server.client("pg_dump").args(["-d", "regression"]), b"").ok();
    server.sql("postgres", "CREATE DATABASE plain TEMPLATE template0");
    run_within(minutes, server.psql_command("plain").args(["-f", "-"]), dump.text().as_bytes()).ok();
    let (copy, plain) = (dump_of(&server, "copy", &[]), dump_of(&server, "plain", &[]));
    for (number, (copy, plain)) in copy.lines().zip(plain.lines()).enumerate() {
        assert_eq!(copy, plain, "line {}", number + 1);
    }
    assert_eq!(copy.len(), plain.len());

    // In place and back.
    let before = dump_of(&server, "regression", &[]);
    daemon.ctl(&["restore", "regression@latest", "--yes"]).ok();
    let job = daemon.ctl(&["restore", "undo", "--json"]).ok().json()[0]["job"].to_string();
    daemon.ctl(&["restore", "undo", &job, "--yes"]).ok();
    assert_eq!(dump_of(&server, "regression", &[]), before);
    run(Command::new("rm").arg("-rf").arg(&folder)).ok();
}
