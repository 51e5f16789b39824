//! What all threads of a pipeline share: the cancel flag and the first error.

use std::{
    any::Any,
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use crate::stream::{Cancel, error::StreamError};

#[derive(Debug)]
pub(super) struct Shared {
    cancel: Cancel,
    stopped: AtomicBool,
    error: Mutex<Option<io::Error>>,
}

impl Shared {
    pub(super) fn new(cancel: Cancel) -> Self {
        Self { cancel, stopped: AtomicBool::new(false), error: Mutex::new(None) }
    }

    /// Ends the work with this error, unless another was first.
    pub(super) fn fail(&self, error: io::Error) {
        let mut slot = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.stopped.swap(true, Ordering::AcqRel) {
            *slot = Some(error);
        }
    }

    /// Ends the work; whoever does this tells its caller why.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Whether threads should only pass batches on.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Gives the first error to the first who asks, and an error to everybody else once the work has ended.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.is_stopped() {
            let error = self.error.lock().unwrap_or_else(PoisonError::into_inner).take();
            return Err(error.unwrap_or_else(|| StreamError::Misuse("it has failed before").into()));
        }
        self.cancel.check_io()
    }

    /// Runs a thread's part for one batch, unless the work has ended; an error or a panic ends it.
    pub(super) fn run(&self, part: impl FnOnce() -> io::Result<()>) {
        if self.is_stopped() {
            return;
        }
        // What a panic leaves half done is not looked at again: the work has ended.
        let part = std::panic::AssertUnwindSafe(|| self.cancel.check_io().and_then(|()| part()));
        match std::panic::catch_unwind(part) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.fail(error),
            Err(panic) => self.fail(panicked(&*panic).into()),
        }
    }
}

/// The error for a panic of the current thread.
fn panicked(panic: &(dyn Any + Send)) -> StreamError {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "(no message)".to_owned());
    StreamError::Panicked { thread: thread::current().name().unwrap_or("(unnamed)").to_owned(), message }
}
