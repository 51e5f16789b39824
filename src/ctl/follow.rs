//! Starting a job and waiting for its end.
//!
//! Invariants: the signals are subscribed to before the job is started, so its end cannot be missed; the outcome is
//! always read from the daemon's record of the job, never guessed from a connection that broke.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use zbus::OwnedObjectPath;

use super::{
    client::Client,
    error::CtlError,
    manager::Manager,
    output::{Output, say},
    progress::{JobView, Progress},
};
use crate::{
    bus::proxy::JobRemovedStream,
    model::{ErrorCode, job::JobNumber},
};

/// How long to wait for a daemon that went away while its job ran: a restart takes less.
const COMEBACK: Duration = Duration::from_secs(30);
const COMEBACK_INTERVAL: Duration = Duration::from_millis(500);

/// What the first Control-C does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnInterrupt {
    /// Lets the job go on without this program.
    Detach,
    /// Cancels the job: it writes to a file of this program, which is useless half full.
    Cancel,
}

/// A job that ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Everything that the daemon says about it.
    pub(crate) json: serde_json::Value,
    /// The same, as far as this program uses it.
    pub(crate) view: JobView,
}

impl Finished {
    /// The failure of the job, if it failed.
    ///
    /// # Errors
    /// The job's own error.
    pub(crate) fn check(&self) -> Result<(), CtlError> {
        let message =
            |default: &str| self.view.error.as_ref().map_or_else(|| default.to_owned(), |e| e.message.clone());
        match self.view.result.as_deref() {
            Some("done") => Ok(()),
            Some("canceled") => Err(CtlError::new(ErrorCode::Canceled, message("the job was cancelled"))),
            Some("interrupted") if self.view.error.is_none() => {
                Err(CtlError::new(ErrorCode::Interrupted, "the daemon stopped or died while the job ran"))
            }
            _ => match &self.view.error {
                Some(error) => Err(CtlError::of_job(&error.name, &error.message)),
                None => Err(CtlError::new(ErrorCode::Failed, "the job failed, and the daemon does not say why")),
            },
        }
    }
}

/// A job as a method answers with it.
pub(crate) type Started = (JobNumber, OwnedObjectPath);

/// Starts a job with `start` and waits for its end.
///
/// # Errors
/// Those of starting it, and [`CtlError::detached`]. How the job itself ended is in [`Finished`].
pub(crate) async fn run<F>(
    client: &mut Client,
    output: &Output,
    title: &str,
    on_interrupt: OnInterrupt,
    start: impl FnOnce(Manager) -> F,
) -> Result<Finished, CtlError>
where
    F: Future<Output = zbus::Result<Started>>,
{
    let interrupts = signal(SignalKind::interrupt());
    let interrupts = interrupts.map_err(|error| CtlError::io("cannot listen to Control-C", &error))?;
    let removed = client.manager().receive_job_removed().await?;
    let (number, _) = start(client.manager().clone()).await?;
    let progress = Progress::new(format!("Job {number}, {title}"), output.is_quiet());
    let mut following = Following { client, number, progress, on_interrupt, interrupts };
    if on_interrupt == OnInterrupt::Detach && !matches!(following.progress, Progress::Quiet) {
        following.progress.say(&format!("Started job {number}. Press Control-C to let it go on in the background."));
    }
    following.follow(removed).await
}

struct Following<'c> {
    client: &'c mut Client,
    number: JobNumber,
    progress: Progress,
    on_interrupt: OnInterrupt,
    /// Listens from before the start of the job on, so that no Control-C is lost between two waits.
    interrupts: Signal,
}

impl Following<'_> {
    async fn follow(&mut self, mut removed: JobRemovedStream) -> Result<Finished, CtlError> {
        let mut times = 0_u32;
        loop {
            match self.look().await {
                Ok(job) if job.view.is_over() => return Ok(job),
                Ok(job) => self.progress.update(&job.view),
                Err(error) if error.is_unreachable() => removed = self.wait_for_comeback(error).await?,
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = tokio::time::sleep(self.progress.interval()) => {}
                ended = ended(&mut removed, self.number) => if !ended {
                    let gone = CtlError::new(ErrorCode::DaemonUnreachable, "the daemon closed the connection");
                    removed = self.wait_for_comeback(gone).await?;
                },
                _ = self.interrupts.recv() => {
                    times += 1;
                    self.interrupted(times).await?;
                }
            }
        }
    }

    /// The job as it is now.
    async fn look(&self) -> Result<Finished, CtlError> {
        describe(self.client.manager(), self.number).await
    }

    async fn interrupted(&self, times: u32) -> Result<(), CtlError> {
        let number = self.number;
        if self.on_interrupt == OnInterrupt::Detach || times > 1 {
            self.progress.finish();
            return Err(CtlError::detached(format!(
                "job {number} goes on in the background; `backupctl jobs {number}` shows it, `backupctl cancel {number}` ends it"
            )));
        }
        self.progress.say(&format!("Cancelling job {number}."));
        match self.client.manager().cancel_job(number, 0).await.map_err(CtlError::from) {
            // A job that ended meanwhile cannot be cancelled; its outcome is read next.
            Err(error) if error.is_unreachable() => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Waits until the daemon answers again, and subscribes to its signals.
    async fn wait_for_comeback(&mut self, error: CtlError) -> Result<JobRemovedStream, CtlError> {
        self.progress.say(&format!("The daemon went away ({error}); waiting for it to come back."));
        let end = tokio::time::Instant::now() + COMEBACK;
        loop {
            tokio::select! {
                () = tokio::time::sleep(COMEBACK_INTERVAL) => {}
                _ = self.interrupts.recv() => return Err(self.unknown()),
            }
            if self.client.reconnect().await.is_ok()
                && let Ok(removed) = self.client.manager().receive_job_removed().await
                && self.look().await.is_ok()
            {
                return Ok(removed);
            }
            if tokio::time::Instant::now() >= end {
                return Err(self.unknown());
            }
        }
    }

    fn unknown(&self) -> CtlError {
        let number = self.number;
        let message = format!(
            "the daemon went away while job {number} ran, and how it ended is not known; \
             `backupctl jobs {number}` tells when the daemon is back"
        );
        CtlError::new(ErrorCode::DaemonUnreachable, message)
    }
}

/// Waits for the signal that a job ended; `false` if the connection ended instead.
async fn ended(removed: &mut JobRemovedStream, number: JobNumber) -> bool {
    while let Some(signal) = removed.next().await {
        if signal.args().is_ok_and(|args| args.id == number) {
            return true;
        }
    }
    false
}

/// Everything that the daemon says about a job.
///
/// # Errors
/// `NoSuchJob`; `DaemonUnreachable`.
pub(crate) async fn describe(manager: &Manager, number: JobNumber) -> Result<Finished, CtlError> {
    let text = manager.describe_job(number, 0).await?;
    let odd = |error| {
        CtlError::new(ErrorCode::NotSupported, format!("cannot read what the daemon says of job {number}: {error}"))
    };
    let mut json: serde_json::Value = serde_json::from_str(&text).map_err(odd)?;
    let view: JobView = serde_json::from_value(json.clone()).map_err(odd)?;
    if let serde_json::Value::Object(fields) = &mut json {
        fields.insert("state".to_owned(), view.state().into());
    }
    Ok(Finished { json, view })
}

/// Starts a job without waiting, and prints its number.
///
/// # Errors
/// Those of starting it.
pub(crate) async fn start_only<F>(
    client: &Client,
    output: &Output,
    start: impl FnOnce(Manager) -> F,
) -> Result<(), CtlError>
where
    F: Future<Output = zbus::Result<Started>>,
{
    let (number, _) = start(client.manager().clone()).await?;
    if output.is_json() {
        return output.json(&serde_json::json!({ "job": number }));
    }
    if !output.is_quiet() {
        say(format_args!("Started job {number}; `backupctl jobs {number}` shows it."));
    }
    output.line(number)
}
