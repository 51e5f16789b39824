//! The error of the operations: a stable code and a message that stands alone.

use crate::{model::ErrorCode, stream::CancelReason};

/// Why an operation failed. The message says what was attempted, on which object, why it failed and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ServiceError {
    code: ErrorCode,
    message: String,
}

impl ServiceError {
    /// An error with this code and message.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// Puts what was attempted before the message.
    #[must_use]
    pub fn context(mut self, attempted: impl std::fmt::Display) -> Self {
        self.message = format!("{attempted}: {}", self.message);
        self
    }
}

impl From<CancelReason> for ServiceError {
    fn from(reason: CancelReason) -> Self {
        let code = match reason {
            CancelReason::Requested => ErrorCode::Canceled,
            CancelReason::Shutdown => ErrorCode::ShuttingDown,
            CancelReason::TimedOut => ErrorCode::TimedOut,
        };
        Self::new(code, reason.to_string())
    }
}
