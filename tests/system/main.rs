//! The package on booted Debian systems with a real systemd, bus, journal and PostgreSQL: the newest release and the oldest
//! that is supported. One module per topic; every test has a system of its own (`tests/scripts/boot-system`).
//!
//! A machine that cannot boot systems (no root, no mmdebstrap) skips these tests and says so; with `CI` set that is a failure.

#![allow(unreachable_pub, reason = "the harness has an interface, although no other crate sees it")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a broken expectation is what a test reports")]
#![allow(dead_code, unused_imports, reason = "the common harness has more than this program uses")]

#[path = "../common/mod.rs"]
mod common;

/// The same tests on each of the systems.
macro_rules! on_each_system {
    ($($test:ident),* $(,)?) => {
        mod trixie {
            $( #[test] fn $test() { if let Some(system) = crate::machine::System::boot("trixie") { super::$test(&system) } } )*
        }
        mod bookworm {
            $( #[test] fn $test() { if let Some(system) = crate::machine::System::boot("bookworm") { super::$test(&system) } } )*
        }
    };
}

mod authorisation;
mod credentials;
mod database;
mod disks;
mod drills;
mod failing;
mod first_run;
mod journal;
mod machine;
mod memory;
mod package;
mod reloading;
mod retention;
mod rpm;
mod sandbox;
mod sources;
mod upgrading;
mod watch;
