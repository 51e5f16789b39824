//! Numbers about backups: pure functions over manifests and plain rows. Nothing is read or written here, and no clock is
//! looked at: what depends on the time takes `now`.
//!
//! - [`diff`]: what one backup holds that another does not.
//! - [`rows`]: what is remembered of jobs and backups, for years; [`report`]: what that comes to.

pub mod diff;
pub mod report;
pub mod rows;
