//! Exports whose reader does not read, or not to the end.

use std::{
    io::Read as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use backupd::model::error_code::ErrorCode;
use serde_json::Value;

use crate::common::{Daemon, Server, World, run_within};

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
