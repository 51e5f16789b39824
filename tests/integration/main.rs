//! The built programs against a real PostgreSQL server: one module per topic.

#![allow(unreachable_pub, reason = "the harness has an interface, although no other crate sees it")]
#![allow(clippy::expect_used, reason = "a broken expectation is what a test reports")]

#[path = "../common/mod.rs"]
mod common;

mod by_hand;
mod canceled;
mod crash;
mod create_restore;
mod drill;
mod drill_failures;
mod export;
mod failures;
mod harness;
mod health;
mod in_place;
mod in_place_load;
mod killed_restore;
mod no_daemon;
mod notices;
mod notices_mail;
mod notified;
mod odd_backups;
mod regression;
mod retention;
mod source_verbs;
mod sqlite;
mod sqlite_damage;
mod sqlite_in_place;
mod sqlite_kill;
mod sqlite_rights;
mod statistics;
mod suspect;
mod watch;
mod watching;
mod whole_server;
