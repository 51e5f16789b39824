//! Ten thousand backups in one repository: how long until the daemon is ready, and how long a listing takes.
//!
//! One real backup is copied ten thousand times under manifests of their own. Prints rows of a Markdown table.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    unused_imports,
    reason = "a benchmark, with the tests' harness"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use common::{Server, World};
use sha2::{Digest, Sha256};

const BACKUPS: u64 = 10_000;
const ROUNDS: usize = 5;

fn main() -> io::Result<()> {
    let server = Server::start();
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS n");
    let world = World::new(&server);
    drop(world.start().create("shop", &[]));
    multiply(&only_backup(&world)?)?;

    // The first start fills the index.
    let (daemon, first) = world.start_timed();
    assert_eq!(daemon.list().len() as u64, BACKUPS);
    drop(daemon);
    let (mut ready, mut lists) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (daemon, took) = world.start_timed();
        ready.push(took);
        daemon.ctl(&["list", "--json=short"]).ok();
        let begin = Instant::now();
        daemon.ctl(&["list", "--json=short"]).ok();
        lists.push(begin.elapsed());
    }
    println!("| 10,000 backups: `list` below 100 ms | {} ms |", median(&mut lists).as_millis());
    println!(
        "| 10,000 backups: READY below 1 s | {} ms ({} ms with an empty cache) |",
        median(&mut ready).as_millis(),
        first.as_millis()
    );
    Ok(())
}

fn median(values: &mut [Duration]) -> Duration {
    values.sort_unstable();
    values[values.len() / 2]
}

/// The folder of the one backup in the repository: `backups/SOURCE/DATABASE/UTC-ID`.
fn only_backup(world: &World) -> io::Result<PathBuf> {
    let mut folder = world.repository().join("backups");
    for _ in 0..3 {
        folder = fs::read_dir(folder)?.next().expect("a backup")?.path();
    }
    Ok(folder)
}

/// Copies a backup under later sequences and times until there are [`BACKUPS`].
fn multiply(original: &Path) -> io::Result<()> {
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(original.join("manifest.json"))?)?;
    let name = original.file_name().expect("a name").to_string_lossy().into_owned();
    let utc = name.split('-').next().expect("a time");
    for number in 1..BACKUPS {
        let mut copy = manifest.clone();
        copy["sequence"] = (manifest["sequence"].as_u64().expect("a number") + number).into();
        copy["snapshot_at"] = (manifest["snapshot_at"].as_u64().expect("a number") + number).into();
        let bytes = serde_json::to_vec(&copy)?;
        let id: String = Sha256::digest(&bytes)[..16].iter().map(|b| format!("{b:02x}")).collect();
        let folder = original.with_file_name(format!("{utc}-{id}"));
        fs::create_dir(&folder)?;
        for entry in fs::read_dir(original)? {
            let entry = entry?;
            if entry.file_name() != "manifest.json" {
                fs::hard_link(entry.path(), folder.join(entry.file_name()))?;
            }
        }
        fs::write(folder.join("manifest.json"), bytes)?;
    }
    Ok(())
}
