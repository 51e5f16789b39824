//! The `MESSAGE_ID` of what happens to jobs, for `journalctl MESSAGE_ID=…` and the message catalog.
//!
//! Invariant: an id, once released, keeps its meaning.

/// A job began to run.
pub const JOB_STARTED: &str = "27560c6cb5d342f88aca109abe16b531";
/// A job did what was asked.
pub const JOB_SUCCEEDED: &str = "28ba96f5f95546f1bdf0a736923235e4";
/// A job failed.
pub const JOB_FAILED: &str = "9c3def784c0740758d04bdb675839076";
/// A job was cancelled by somebody.
pub const JOB_CANCELED: &str = "758121301d1d4edc85f1d5e6feeed382";
/// A job was ended because the daemon stops, or was found unfinished after the daemon had died.
pub const JOB_INTERRUPTED: &str = "bb4e8c8a4fe8486dbee6f8762fc6d59e";
