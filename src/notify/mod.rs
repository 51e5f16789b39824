//! Notices on their way out of the host. Knows the model and the configuration, no jobs and no bus.
//!
//! - [`routing`]: what a notifier is told; [`queue`]: what waits until it was.

pub mod queue;
pub mod routing;
#[cfg(test)]
mod tests;
