//! SQLite databases: one file each.
//!
//! The set of a backup is one file, [`IMAGE`]: the pages of the database as one read transaction saw them, which is
//! what a checkpointed copy of the file would hold.
//!
//! - [`dump`](mod@dump): the early checks, and taking the image; `stepped_copy` is its way for databases whose writers
//!   a long read transaction would block;
//! - [`restore`]: giving it back as a new file, or into the live one; [`drill`]: giving it back to look at it;
//!   [`by_hand`]: the same by a person with a shell;
//! - `connection`: opening a database of somebody else without harm; `access`: the rights that this needs;
//! - `pages`, `contents`: what a dump and a restore read of a database: its pages; its facts, tables, rows, and whether
//!   SQLite finds it sound;
//! - `problem`: SQLite's errors as ours.
//!
//! Invariants: a live database is opened by SQLite only, never as a plain file: closing such a file would drop every
//! lock that this process has on it (<https://sqlite.org/howtocorrupt.html>, 2.2). `immutable=1` is for copies that
//! nobody else knows of.

mod access;
pub mod by_hand;
mod connection;
mod contents;
pub mod drill;
pub mod dump;
mod pages;
mod problem;
pub mod restore;
mod stepped_copy;
#[cfg(test)]
mod test_database;

pub use dump::{DumpRequest, Dumped, Preflight, dump, preflight};

/// The name of the one file of the set.
pub const IMAGE: &str = "database.sqlite";
