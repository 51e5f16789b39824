//! Numbers about backups: pure functions over manifests and plain rows. Nothing is read or written here, and no clock is
//! looked at: what depends on the time takes `now`.
//!
//! - [`diff`]: what one backup holds that another does not.

pub mod diff;
