//! SQLite databases: one file each.
//!
//! The set of a backup is one file, [`IMAGE`]: the pages of the database as one read transaction saw them, which is
//! what a checkpointed copy of the file would hold.
//!
//! - [`dump`](mod@dump): the early checks, and taking the image;
//! - [`restore`]: giving it back as a new file.

pub mod dump;
pub mod restore;

pub use dump::{DumpRequest, Dumped, Preflight, dump, preflight};

/// The name of the one file of the set.
pub const IMAGE: &str = "database.sqlite";
