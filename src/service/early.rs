//! The checks that are made before a job is accepted: all of one call share ten seconds and a scratch folder.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{runtime::Handle, task::JoinHandle};

use super::error::ServiceError;
use crate::{
    model::ErrorCode,
    source::JobContext,
    stream::{Cancel, CancelReason},
};

/// What all early checks of one call may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The surroundings of early checks. Dropping it ends the timer and removes the folder.
#[derive(Debug)]
pub(super) struct EarlyChecks {
    context: JobContext,
    timer: JoinHandle<()>,
    _scratch: tempfile::TempDir,
}

impl EarlyChecks {
    /// Begins the ten seconds. The folder lies among the jobs', so that a start after a crash sweeps it too.
    pub(super) fn begin(state: &Path, runtime: &Handle) -> Result<Self, ServiceError> {
        Self::within(TIMEOUT, state, runtime)
    }

    /// As [`EarlyChecks::begin`], with another limit.
    pub(super) fn within(limit: Duration, state: &Path, runtime: &Handle) -> Result<Self, ServiceError> {
        let scratch = tempfile::tempdir_in(state.join("scratch")).map_err(|error| {
            ServiceError::new(ErrorCode::Io, format!("cannot make a folder below {}: {error}", state.display()))
        })?;
        let cancel = Cancel::new();
        let context = JobContext {
            cancel: cancel.clone(),
            progress: Arc::default(),
            scratch: scratch.path().to_owned(),
            runtime: runtime.clone(),
        };
        let timer = runtime.spawn(async move {
            tokio::time::sleep(limit).await;
            cancel.cancel(CancelReason::TimedOut);
        });
        Ok(Self { context, timer, _scratch: scratch })
    }

    /// What the checks get.
    pub(super) fn context(&self) -> &JobContext {
        &self.context
    }
}

impl Drop for EarlyChecks {
    fn drop(&mut self) {
        self.timer.abort();
    }
}
