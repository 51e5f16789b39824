//! Exports whose reader does not read, or not to the end.

use std::{
    io::Read as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use backupd::{
    bus::{
        proxy::{ManagerProxy, connect_peer},
        types::Options,
    },
    model::error_code::ErrorCode,
};
use serde_json::Value;

use crate::common::{Daemon, Server, World, run_within, wait_until};

fn running_export(daemon: &Daemon) -> u64 {
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        let jobs = daemon.ctl(&["jobs", "--json=short"]).ok().json();
        let job = jobs.as_array().and_then(|jobs| jobs.last()).expect("a job").clone();
        if job["type"] == "export" && job["state"] == "running" && job["bytes_done"].as_u64() > Some(0) {
            return job["number"].as_u64().expect("a number");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the export does not run");
}

#[test]
fn an_export_that_nobody_reads_can_be_cancelled_and_is_no_whole_script() {
    let server = Server::start();
    server.sql("postgres", "CREATE DATABASE shop");
    // More than the pipe and all buffers hold, and not compressible.
    server.sql("shop", "CREATE TABLE t AS SELECT md5(n::text) AS x FROM generate_series(1, 100000) AS n");
    let world = World::new(&server);
    let daemon = world.start();
    daemon.create("shop", &[]);

    let mut client =
        daemon.ctl_command().args(["export", "shop@latest"]).stdout(Stdio::piped()).spawn().expect("start backupctl");
    let job = running_export(&daemon).to_string();
    daemon.ctl(&["cancel", &job]).ok();
    let status = client.wait().expect("wait for backupctl");
    assert_eq!(status.code(), Some(i32::from(ErrorCode::Canceled.row().exit_code)));
    let record: Value = daemon.ctl(&["jobs", &job, "--json=short"]).ok().json();
    assert_eq!(record["state"], "canceled", "{record}");

    let mut part = Vec::new();
    client.stdout.take().expect("a pipe").read_to_end(&mut part).expect("read what was written");
    let unpacked = run_within(Duration::from_secs(60), Command::new("gunzip").arg("-c"), &part);
    assert!(!unpacked.status.success(), "gunzip took a part for the whole");
}

#[test]
fn an_export_that_is_cancelled_while_it_is_read_makes_psql_fail() {
    let server = Server::start();
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", "CREATE TABLE t AS SELECT md5(n::text) AS x FROM generate_series(1, 100000) AS n");
    let world = World::new(&server);
    let daemon = world.start();
    daemon.create("shop", &[]);

    let mut client =
        daemon.ctl_command().args(["export", "shop@latest"]).stdout(Stdio::piped()).spawn().expect("start backupctl");
    let mut output = client.stdout.take().expect("a pipe");
    let job = running_export(&daemon).to_string();
    daemon.ctl(&["cancel", &job]).ok();
    let mut part = Vec::new();
    output.read_to_end(&mut part).expect("read to the end");
    assert!(!client.wait().expect("wait for backupctl").success());
    let unpacked = run_within(Duration::from_secs(60), Command::new("gunzip").arg("-c"), &part);
    assert!(!unpacked.status.success(), "gunzip took a part for the whole");
    assert!(String::from_utf8_lossy(&unpacked.stdout).ends_with("BACKUPD_INCOMPLETE_SCRIPT;\n"), "no poison");
}

/// A runtime for a client on the daemon's socket, and that client.
fn client(world: &World) -> (tokio::runtime::Runtime, zbus::Connection) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
    let address = format!("unix:path={}", world.socket().display());
    let connection = runtime.block_on(connect_peer(&address)).expect("connect");
    (runtime, connection)
}

/// Calls OpenBackup for the newest backup of the shop.
fn open_backup(runtime: &tokio::runtime::Runtime, client: &zbus::Connection) -> (String, std::fs::File) {
    let (number, _, output) = runtime
        .block_on(async { ManagerProxy::new(client).await?.open_backup("shop@latest", &Options::new(), 0).await })
        .expect("open the backup");
    (number.to_string(), std::os::fd::OwnedFd::from(output).into())
}

/// The record of a job, once it ended.
fn ended(daemon: &Daemon, job: &str) -> Value {
    let mut record = Value::Null;
    wait_until("the job ends", || {
        record = daemon.ctl(&["jobs", job, "--json=short"]).ok().json();
        !["queued", "running"].contains(&record["state"].as_str().expect("a state"))
    });
    record
}

#[test]
fn a_received_descriptor_gives_the_export_to_a_slow_reader_and_ends_with_it() {
    let server = Server::start();
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", "CREATE TABLE t AS SELECT md5(n::text) AS x FROM generate_series(1, 100000) AS n");
    let world = World::new(&server);
    let daemon = world.start();
    daemon.create("shop", &[]);
    let expected = world.path().join("expected.gz");
    daemon.ctl(&["export", "shop@latest", "--output", expected.to_str().expect("UTF-8")]).ok();
    let expected = std::fs::read(expected).expect("the export");

    // Slow: the pipe is full long before anything is read, and every read makes room for a little.
    let (runtime, connection) = client(&world);
    let (job, mut output) = open_backup(&runtime, &connection);
    running_export(&daemon);
    let mut bytes = Vec::new();
    let mut part = [0; 1000];
    loop {
        match output.read(&mut part).expect("read") {
            0 => break,
            count => bytes.extend(&part[..count]),
        }
    }
    assert!(bytes == expected, "{} bytes instead of {}", bytes.len(), expected.len());
    assert_eq!(ended(&daemon, &job)["state"], "done");

    // A cancel ends it also while nothing is read.
    let (job, mut output) = open_backup(&runtime, &connection);
    running_export(&daemon);
    daemon.ctl(&["cancel", &job]).ok();
    assert_eq!(ended(&daemon, &job)["state"], "canceled");
    bytes.clear();
    output.read_to_end(&mut bytes).expect("read what was written");
    assert!(bytes.len() < expected.len());

    // A reader that goes away ends it.
    let (job, output) = open_backup(&runtime, &connection);
    running_export(&daemon);
    drop(output);
    let record = ended(&daemon, &job);
    assert_eq!(record["state"], "failed", "{record}");
    assert!(record["error"]["message"].to_string().contains("the reader went away"), "{record}");
}

#[test]
fn a_vanished_client_ends_its_exports_but_no_backup() {
    let server = Server::start();
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", "CREATE TABLE t AS SELECT md5(n::text) AS x FROM generate_series(1, 100000) AS n");
    let mut world = World::new(&server);
    let daemon = world.start();
    daemon.create("shop", &[]);
    drop(daemon);
    let place = "data-begun";
    world.set_env("BACKUPD_FAIL_POINT", format!("{place}=hold:{}", world.path().display()));
    let daemon = world.start();

    let (runtime, connection) = client(&world);
    let started = runtime
        .block_on(async { ManagerProxy::new(&connection).await?.create_backup("shop", &Options::new(), 0).await });
    let backup = started.expect("start a backup").0.to_string();
    let (export, output) = open_backup(&runtime, &connection);
    running_export(&daemon);
    drop((output, connection, runtime));
    assert_eq!(ended(&daemon, &export)["state"], "failed");
    wait_until("the backup is held", || world.path().join(format!("{place}.reached")).exists());
    std::fs::write(world.path().join(format!("{place}.go")), b"").expect("let it go on");
    assert_eq!(ended(&daemon, &backup)["state"], "done");
    assert_eq!(daemon.list().len(), 2);
}
