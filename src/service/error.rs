//! The error of the operations: a stable code and a message that stands alone.

use std::io;

use crate::{
    config::ConfigErrors,
    model::ErrorCode,
    repository::RepositoryError,
    source::{SourceError, WhileDoing},
    stream::{CancelReason, StreamError},
};

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

impl From<ConfigErrors> for ServiceError {
    fn from(errors: ConfigErrors) -> Self {
        Self::new(errors.code(), errors.to_string())
    }
}

impl From<RepositoryError> for ServiceError {
    fn from(error: RepositoryError) -> Self {
        match error {
            RepositoryError::Stream(inner) => inner.into(),
            other => Self::new(other.code(), other.to_string()),
        }
    }
}

impl From<SourceError> for ServiceError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Sink(inner) => inner.into(),
            other => Self::new(other.code(), other.to_string()),
        }
    }
}

/// The error of the layer that knows it best: what travelled as the inner error of an `io::Error` comes out as itself.
impl From<io::Error> for ServiceError {
    fn from(error: io::Error) -> Self {
        let error = match error.downcast::<RepositoryError>() {
            Ok(inner) => return inner.into(),
            Err(error) => error,
        };
        let error = match error.downcast::<SourceError>() {
            Ok(inner) => return inner.into(),
            Err(error) => error,
        };
        let error = match error.downcast::<WhileDoing>() {
            Ok(WhileDoing { attempted, error }) => {
                return Self::from(error).context(attempted);
            }
            Err(error) => error,
        };
        let error = match error.downcast::<StreamError>() {
            Ok(inner) => return Self::new(inner.code(), inner.to_string()),
            Err(error) => error,
        };
        match error.downcast::<CancelReason>() {
            Ok(reason) => reason.into(),
            Err(error) => {
                let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
                Self::new(if full { ErrorCode::NoSpace } else { ErrorCode::Io }, error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inner_error_comes_out_whatever_it_travelled_in() {
        let code = |error: io::Error| ServiceError::from(error).code();
        let limit = || io::Error::from(RepositoryError::SizeLimit { limit: 7 });
        assert_eq!(code(limit()), ErrorCode::SizeLimit);
        assert_eq!(ServiceError::from(SourceError::Sink(limit())).code(), ErrorCode::SizeLimit);
        assert_eq!(ServiceError::from(RepositoryError::Stream(limit())).code(), ErrorCode::SizeLimit);
        assert_eq!(code(io::Error::other(CancelReason::Shutdown)), ErrorCode::ShuttingDown);
        assert_eq!(code(io::Error::from_raw_os_error(nix::libc::ENOSPC)), ErrorCode::NoSpace);
        assert_eq!(code(io::Error::from_raw_os_error(nix::libc::EIO)), ErrorCode::Io);
    }
}
