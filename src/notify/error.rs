//! Why a try to tell something failed.

use super::queue::Failure;

/// Why a try failed. The message never has a secret: of a URL at most scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SendError {
    /// Whether it can go better later.
    pub failure: Failure,
    message: String,
}

impl SendError {
    /// It may go better later.
    pub(super) fn passing(message: impl Into<String>) -> Self {
        Self { failure: Failure::Passing, message: message.into() }
    }

    /// It will not go better with the same notices.
    pub(super) fn last(message: impl Into<String>) -> Self {
        Self { failure: Failure::Final, message: message.into() }
    }
}
