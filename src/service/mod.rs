//! The operations, without a bus: create, list, restore, verify, delete, export, and the jobs that carry them.
//!
//! [`operations::Operations`] is what the bus (and a test) sees of this layer.

pub mod error;
pub mod jobs;
pub mod listing;
pub mod operations;
pub mod selector;

pub use error::ServiceError;
