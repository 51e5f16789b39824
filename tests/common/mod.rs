//! What integration tests stand on: a throwaway PostgreSQL server, a daemon of the built `backupd` with folders of its
//! own, the built `backupctl`, and the comparison of two databases.
//!
//! Invariants: everything lives in folders under the system's temporary directory, sockets included, and goes away when
//! its value is dropped, panicking or not; nothing waits without a limit; nothing sleeps where it can wait for an event.
//! A test that fails keeps its folder and prints the path.

mod compare;
mod daemon;
mod fake_clients;
mod postgres;
mod process;
mod scratch;

pub use compare::{assert_same_database, assert_same_globals, database_difference, dump_of};
pub use daemon::{Daemon, World, postgres_source, sqlite_source};
pub use fake_clients::{HELD_IN_THE_MIDDLE, fake_pg_dump, release, wait_until_held};
pub use postgres::{MORE_EVENTS, Server, client_bin_dir};
pub use process::{Finished, LIMIT, run, run_within};
pub use scratch::Scratch;

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// A file of this project's tree.
pub fn project_file(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// Waits for something that another process does, and that can only be asked for.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < end, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
