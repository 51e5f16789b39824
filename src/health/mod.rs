//! Whether the backups are as they should be: decisions over plain facts, without any I/O.
//!
//! - [`age`]: how old the newest good backup of a source may get.
//! - [`watch`]: what the dead-man's switch finds, which runs beside the daemon.

pub mod age;
pub mod watch;

pub use age::{AgeLimit, Basis, age_limit};
