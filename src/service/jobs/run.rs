//! The thread of one job, from its scratch folder to its result.
//!
//! Invariant: whatever the work does (an error, a panic, a cancel), the scratch folder is removed and the job gets a
//! result; both before the job leaves the table.

use std::{
    any::Any,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::Duration,
};

use super::{JobHandle, JobOutcome, Work, history::io_error};
use crate::{
    model::{
        ErrorCode,
        job::{JobError, JobResult, Phase},
    },
    service::ServiceError,
    stream::{Cancel, CancelReason},
};

/// How a job ended.
#[derive(Debug)]
pub(super) struct End {
    pub(super) result: JobResult,
    pub(super) error: Option<JobError>,
    pub(super) outcome: JobOutcome,
}

impl End {
    fn done(mut outcome: JobOutcome) -> Self {
        match outcome.failure.take() {
            None => Self { result: JobResult::Done, error: None, outcome },
            Some(failure) => Self { outcome, ..Self::failed(&failure, None) },
        }
    }

    /// The end of a job whose work gave this error. A raised cancel flag is the reason of whatever came after it.
    pub(super) fn failed(error: &ServiceError, reason: Option<CancelReason>) -> Self {
        let code = reason.map_or(error.code(), |reason| ServiceError::from(reason).code());
        let message = match reason {
            Some(reason) if code != error.code() => format!("{reason}: {error}"),
            _ => error.to_string(),
        };
        let result = match code {
            ErrorCode::Canceled => JobResult::Canceled,
            ErrorCode::ShuttingDown => JobResult::Interrupted,
            _ => JobResult::Failed,
        };
        Self { result, error: Some(JobError::new(code, message)), outcome: JobOutcome::default() }
    }

    /// The end of a job that never ran.
    pub(super) fn canceled_in_queue(reason: CancelReason) -> Self {
        Self::failed(&ServiceError::from(reason).context("while it waited for its turn"), Some(reason))
    }
}

/// Runs the work on the calling thread.
pub(super) fn run(handle: &JobHandle, timeout: Option<Duration>, work: Work) -> End {
    let cancel = &handle.context.cancel;
    handle.context.progress.enter(Phase::Checking);
    let watch = timeout.map(|timeout| TimeOut::start(handle, timeout));
    let result =
        cancel.check().map_err(ServiceError::from).and_then(|()| make_scratch(&handle.context.scratch)).and_then(
            |()| {
                catch_unwind(AssertUnwindSafe(|| work(handle))).unwrap_or_else(|panic| Err(panic_error(panic.as_ref())))
            },
        );
    drop(watch);
    remove_scratch(&handle.context.scratch);
    match result {
        Ok(outcome) => End::done(outcome),
        Err(error) => End::failed(&error, after_the_flag(&error, cancel)),
    }
}

/// The reason of a cancel, unless the error is a defect of the program, which a cancel must not hide.
fn after_the_flag(error: &ServiceError, cancel: &Cancel) -> Option<CancelReason> {
    cancel.reason().filter(|_| error.code() != ErrorCode::Internal)
}

fn panic_error(panic: &(dyn Any + Send)) -> ServiceError {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    ServiceError::new(ErrorCode::Internal, format!("the job stopped at a defect of the program: {text}"))
}

/// Raises the cancel flag when the time is over; dropped when the job ends before.
struct TimeOut(tokio::task::JoinHandle<()>);

impl TimeOut {
    fn start(handle: &JobHandle, timeout: Duration) -> Self {
        let cancel = handle.context.cancel.clone();
        Self(handle.context.runtime.spawn(async move {
            tokio::time::sleep(timeout).await;
            cancel.cancel(CancelReason::TimedOut);
        }))
    }
}

impl Drop for TimeOut {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn make_scratch(folder: &Path) -> Result<(), ServiceError> {
    DirBuilder::new().mode(0o700).create(folder).map_err(|error| io_error("make the scratch folder", folder, &error))
}

fn remove_scratch(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), %error, "cannot remove the scratch folder; the next start will");
        }
        _ => {}
    }
}

/// Makes the folder of the scratch folders, and empties it of what a daemon that died left.
pub(super) fn sweep_scratch(folder: &Path) -> Result<(), ServiceError> {
    let failed = |error: io::Error| io_error("empty the scratch folder", folder, &error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_folder = entry.file_type().map_err(failed)?.is_dir();
        let removed = if is_folder { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        removed.map_err(failed)?;
    }
    Ok(())
}
