//! The built daemon as programs in other languages see it: `busctl` (sd-bus), `gdbus` and Python (GLib), on a message bus
//! of the test's own and on the daemon's own socket. A client program that is missing is a failure.

#![allow(unreachable_pub, dead_code, unused_imports, reason = "the harness serves other tests, too")]
#![allow(clippy::expect_used, reason = "a broken expectation is what a test reports")]

#[path = "../common/mod.rs"]
mod common;

mod busctl;
mod completion;
mod gdbus;
mod journal;
mod log_control;
mod message_bus;
mod polkit;
mod python;
