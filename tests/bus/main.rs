//! The daemon without a real backup in it: the wire, a private message bus, the process and its signals.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod contract;
#[path = "../dbus_api/contract.rs"]
#[allow(dead_code, reason = "it serves the documentation, too")]
mod documented;
mod jobs;
mod limits;
mod listening;
mod polkit;
mod private_bus;
mod process;
mod slow;
mod sources;
mod support;
mod users;
mod wire;
