//! The daemon without a real backup in it: the wire, a private message bus, the process and its signals.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod contract;
mod jobs;
mod limits;
mod listening;
mod private_bus;
mod process;
mod slow;
mod sources;
mod support;
mod users;
mod wire;
