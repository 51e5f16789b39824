//! Notices on their way out of the host. Knows the model and the configuration, no jobs and no bus.
//!
//! - [`routing`]: what a notifier is told.

pub mod routing;
#[cfg(test)]
mod tests;
