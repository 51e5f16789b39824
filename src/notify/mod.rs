//! Notices on their way out of the host. Knows the model and the configuration, no jobs and no bus.
//!
//! - [`routing`]: what a notifier is told; [`queue`]: what waits until it was.
//! - [`message`]: what is said. [`send()`]: one try; `mail`, `web` (over `http`), `command`: the ways. [`error`]: why it failed.

mod command;
pub mod error;
mod http;
mod mail;
pub mod message;
pub mod queue;
pub mod routing;
mod send;
#[cfg(test)]
mod tests;
mod web;

pub use error::SendError;
pub use send::{send, send_now};
