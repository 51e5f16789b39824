//! One flag that ends a job, seen by plain threads (`check`) and by async code (`cancelled`) alike.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

/// Why a job is to end early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub enum CancelReason {
    /// Somebody asked for it.
    #[error("the job was cancelled")]
    Requested = 1,
    /// The daemon stops.
    #[error("the daemon is stopping")]
    Shutdown = 2,
    /// The source's `timeout` is over.
    #[error("the time-out of the job is over")]
    TimedOut = 3,
}

/// A cancel flag; clones share it. The first reason given stays.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    token: CancellationToken,
    reason: Arc<AtomicU8>,
}

impl Cancel {
    /// A flag that is not raised.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the flag. Later calls change nothing.
    pub fn cancel(&self, reason: CancelReason) {
        let _ = self.reason.compare_exchange(0, reason as u8, Ordering::AcqRel, Ordering::Acquire);
        self.token.cancel();
    }

    /// Why the flag was raised, if it was.
    #[must_use]
    pub fn reason(&self) -> Option<CancelReason> {
        match self.reason.load(Ordering::Acquire) {
            0 => None,
            2 => Some(CancelReason::Shutdown),
            3 => Some(CancelReason::TimedOut),
            _ => Some(CancelReason::Requested),
        }
    }

    /// Gives an error when the flag is raised.
    ///
    /// # Errors
    /// The reason.
    pub fn check(&self) -> Result<(), CancelReason> {
        self.reason().map_or(Ok(()), Err)
    }

    /// [`Cancel::check`] for code whose errors are `io::Error`; the reason can be downcast from it.
    ///
    /// # Errors
    /// The reason, as [`io::ErrorKind::Other`] (never `Interrupted`, which `read` loops retry).
    pub fn check_io(&self) -> io::Result<()> {
        self.check().map_err(io::Error::other)
    }

    /// Waits until the flag is raised.
    pub async fn cancelled(&self) -> CancelReason {
        self.token.cancelled().await;
        self.reason().unwrap_or(CancelReason::Requested)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays() {
        let cancel = Cancel::new();
        assert!(cancel.check().is_ok());
        cancel.clone().cancel(CancelReason::Shutdown);
        cancel.cancel(CancelReason::Requested);
        assert_eq!(cancel.check(), Err(CancelReason::Shutdown));
        let error = cancel.check_io().unwrap_err();
        assert_eq!(error.downcast::<CancelReason>().unwrap(), CancelReason::Shutdown);
    }
}
