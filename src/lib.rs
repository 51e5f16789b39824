//! backupd: backups of PostgreSQL and SQLite databases that restore.
//!
//! The layers, an arrow only points down (see `docs/architecture.md`):
//!
//! ```text
//! bin/*  ->  bus, ctl, systemd  ->  service  ->  drill, health, retention  ->  source, repository, notify  ->  stream  ->  model, config
//! ```
//!
//! [`statistics`] stands on [`model`] alone. Nothing below [`bus`] knows D-Bus; nothing below [`service`] knows jobs;
//! [`stream`] knows no database; [`model`] does no I/O.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod bus;
pub mod clock;
pub mod config;
pub mod ctl;
pub mod daemon;
pub mod drill;
pub mod fail_point;
pub mod health;
pub mod model;
pub mod notify;
pub mod repository;
pub mod retention;
pub mod service;
pub mod source;
mod state_file;
pub mod statistics;
pub mod stream;
pub mod systemd;
