//! The built programs against a real PostgreSQL server: one module per topic.

#![allow(unreachable_pub, reason = "the harness has an interface, although no other crate sees it")]

#[path = "../common/mod.rs"]
mod common;

mod by_hand;
mod create_restore;
mod harness;
mod no_daemon;
