//! The error of the sources.

use std::io;

use crate::{model::ErrorCode, stream::CancelReason};

/// Why a source could not be read or restored to.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The source, its server or a client program failed. The message says what was attempted, on which object, why it
    /// failed and what to do.
    #[error("{message}")]
    Failed {
        /// The stable code.
        code: ErrorCode,
        /// For people.
        message: String,
    },
    /// The job was to end early.
    #[error("{0}")]
    Canceled(CancelReason),
    /// The sink or the reader of the set failed. Its inner error is the layer's own and can be downcast.
    #[error("{0}")]
    Sink(io::Error),
}

impl SourceError {
    /// An error with this code and message.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Failed { code, message: message.into() }
    }

    /// A failure of the operating system while `attempted` was done, such as `"create /a/b"`.
    #[must_use]
    pub fn io(attempted: impl std::fmt::Display, error: &io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::NoSpace,
            _ => ErrorCode::Io,
        };
        Self::new(code, format!("cannot {attempted}: {error}"))
    }

    /// What a sink, a reader or a cancel check gave: a cancel is told from a failure.
    #[must_use]
    pub fn from_sink(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<CancelReason>()) {
            Some(reason) => Self::Canceled(*reason),
            None => Self::Sink(error),
        }
    }

    /// The stable code. For [`SourceError::Sink`] the inner error knows better.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Failed { code, .. } => *code,
            Self::Canceled(CancelReason::Requested) => ErrorCode::Canceled,
            Self::Canceled(CancelReason::Shutdown) => ErrorCode::ShuttingDown,
            Self::Canceled(CancelReason::TimedOut) => ErrorCode::TimedOut,
            Self::Sink(error) if error.kind() == io::ErrorKind::StorageFull => ErrorCode::NoSpace,
            Self::Sink(_) => ErrorCode::Io,
        }
    }

    /// Puts what was attempted before the message.
    #[must_use]
    pub fn context(self, attempted: impl std::fmt::Display) -> Self {
        match self {
            Self::Failed { code, message } => Self::Failed { code, message: format!("{attempted}: {message}") },
            other => other,
        }
    }
}

/// The error of a sink or a reader, with what was being done when it came: the inner error of a [`SourceError::Sink`].
#[derive(Debug, thiserror::Error)]
#[error("{attempted}: {error}")]
pub struct WhileDoing {
    /// The beginning of the message.
    pub attempted: String,
    /// What the sink or the reader gave.
    #[source]
    pub error: io::Error,
}

impl From<CancelReason> for SourceError {
    fn from(reason: CancelReason) -> Self {
        Self::Canceled(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancel_is_told_from_a_failure_of_the_sink() {
        let canceled = SourceError::from_sink(io::Error::other(CancelReason::TimedOut));
        assert_eq!(canceled.code(), ErrorCode::TimedOut);
        let full = SourceError::from_sink(io::Error::from_raw_os_error(nix::libc::ENOSPC));
        assert!(matches!(full, SourceError::Sink(_)));
        assert_eq!(full.code(), ErrorCode::NoSpace);
    }
}
