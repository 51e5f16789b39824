//! The task of one notifier: waits until something is due, tells it, and tries again later what did not get through.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::now_micros,
    config::NotifyConfig,
    model::{message_id, notice::Notice},
    notify::{
        SendError,
        message::count,
        queue::{Batch, Queue, Shown},
        send,
    },
    service::engine::Engine,
};

/// A clock that is set forward makes something due that was not; it is looked at so often at least.
const LONGEST_SLEEP: Duration = Duration::from_secs(600);

/// The worker of a notifier, as others see it.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Notify,
    end: CancellationToken,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker {
    /// Opens the queue and starts the task.
    pub(super) fn begin(
        engine: &Arc<Engine>,
        name: &str,
        folder: &Path,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> io::Result<Self> {
        let queue = Mutex::new(Queue::open(folder)?);
        let shared = Arc::new(Shared { queue, wake: Notify::new(), end: stop.child_token() });
        let task = Task { engine: Arc::downgrade(engine), name: name.to_owned(), shared: Arc::clone(&shared) };
        tasks.spawn_on(task.run(), engine.runtime());
        Ok(Self { shared })
    }

    /// Puts a notice into the queue, if it is to be told.
    pub(super) fn push(&self, name: &str, config: &NotifyConfig, notice: &Notice) {
        if let Err(error) = self.shared.queue().push(config, notice, now_micros()) {
            tracing::error!("a notice for {name} cannot be written down, and is lost if the daemon ends now: {error}");
        }
        self.wake();
    }

    /// Lets it look again: at what waits, and at the configuration.
    pub(super) fn wake(&self) {
        self.shared.wake.notify_one();
    }

    /// Ends it, in the middle of a try if there is one.
    pub(super) fn end(&self) {
        self.shared.end.cancel();
    }

    /// What waits.
    pub(super) fn shown(&self) -> Shown {
        self.shared.queue().shown()
    }
}

struct Task {
    engine: Weak<Engine>,
    name: String,
    shared: Arc<Shared>,
}

impl Task {
    async fn run(self) {
        let end = self.shared.end.clone();
        // A try that is dropped here is on disk still.
        tokio::select! {
            () = end.cancelled() => {}
            () = self.work() => {}
        }
    }

    async fn work(&self) {
        while let Some(config) = self.config() {
            match self.look(&config).await {
                Ok(batch) => {
                    let result = send(&config, &batch).await;
                    self.conclude(config, batch, result).await;
                }
                Err(pause) => self.wait(pause).await,
            }
        }
    }

    /// What is due now, or how long nothing is; `None` while nothing waits. The lock is held while files are synced, so it is
    /// not waited for on the reactor.
    async fn look(&self, config: &NotifyConfig) -> Result<Batch, Option<Duration>> {
        let (shared, config) = (Arc::clone(&self.shared), config.clone());
        let look = move || {
            let (queue, now) = (shared.queue(), now_micros());
            let pause = || queue.due(&config, now).map(|due| Duration::from_micros(due.saturating_sub(now)));
            queue.batch(&config, now).ok_or_else(pause)
        };
        tokio::task::spawn_blocking(look).await.unwrap_or(Err(Some(LONGEST_SLEEP)))
    }

    fn config(&self) -> Option<NotifyConfig> {
        self.engine.upgrade()?.config().notify.get(&self.name).cloned()
    }

    async fn wait(&self, time: Option<Duration>) {
        tokio::select! {
            () = self.shared.wake.notified() => {}
            () = sleep(time.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)), if time.is_some() => {}
        }
    }

    /// Writes down how a try went, away from the reactor.
    async fn conclude(&self, config: NotifyConfig, batch: Batch, result: Result<(), SendError>) {
        let (shared, name) = (Arc::clone(&self.shared), self.name.clone());
        let write = move || {
            let mut queue = shared.queue();
            let written = match result {
                Ok(()) => queue.sent(&batch).inspect(|()| tracing::debug!("told through {name}")),
                Err(error) => report(&mut queue, &name, &config, &batch, &error),
            };
            if let Err(error) = written {
                tracing::error!(
                    "the queue of notices for {name} cannot be written, so some may be told twice: {error}"
                );
            }
        };
        let _ = tokio::task::spawn_blocking(write).await;
    }
}

/// Takes a failed try into account, and into the journal: the first of several, and whenever something is given up.
fn report(queue: &mut Queue, name: &str, config: &NotifyConfig, batch: &Batch, error: &SendError) -> io::Result<()> {
    let text = error.to_string();
    let first = queue.shown().tries == 0;
    let given_up = queue.failed(config, batch, error.failure, &text, now_micros())?;
    if given_up > 0 {
        tracing::error!(
            MESSAGE_ID = message_id::NOTICE_LOST,
            BACKUPD_NOTIFIER = name,
            "{} could not be told through {name} and will not be: {text}",
            count(u64::try_from(given_up).unwrap_or(u64::MAX))
        );
        for notice in &batch.notices {
            tracing::warn!("not told through {name}: {}", notice.text);
        }
    } else if first {
        tracing::warn!("a notice cannot be told through {name}, which is tried again: {text}");
    }
    Ok(())
}
