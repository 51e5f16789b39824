//! The operations, without a bus: create, list, restore, verify, delete, export, and the jobs that carry them.
//!
//! [`operations::Operations`] is what the bus (and a test) sees of this layer.

pub mod changes;
mod create;
mod delete;
pub mod drill;
mod early;
pub mod engine;
pub mod error;
pub mod export;
mod export_output;
pub mod health;
pub mod jobs;
mod known_repository;
pub mod listing;
mod metrics;
pub mod notices;
mod opening;
pub mod operations;
mod pins;
mod prune;
pub mod reading;
pub mod restore;
mod runs;
pub mod selector;
mod several;
pub mod statistics;
mod steady_clock;
mod tally;
mod undelete;
mod usage;
pub mod verify;

pub use create::examination;
pub use error::ServiceError;
pub use undelete::Undeletable;

use crate::state_file;
