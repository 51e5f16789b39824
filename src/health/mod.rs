//! Whether the backups are as they should be: decisions over plain facts, without any I/O.
//!
//! - [`age`]: how old the newest good backup of a source may get.

pub mod age;

pub use age::{AgeLimit, Basis, age_limit};
