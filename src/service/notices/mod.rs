//! Notices of this daemon: what of its jobs is told, to whom, and until when it is tried.
//!
//! - `from_jobs`, `from_health`: what is to be told of a job, of a change of health. `worker`: the task of one notifier.
//!
//! Invariants:
//! - nothing that tells is waited for: publishing puts a notice into a bounded channel, and a notifier has a task of its own.
//! - the end of every job is told once it was remembered, also if the daemon died in between: what ended after the last one
//!   that was taken in is taken in at the start. It may be taken in twice then, which `repeat` hides.

mod from_health;
mod from_jobs;
mod worker;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::worker::Worker;
use super::{ServiceError, engine::Engine, health::HealthChange, jobs::JobEvent, selector::parse_source};
use crate::{
    clock::now_micros,
    config::{Config, NotifyConfig},
    model::{
        ErrorCode,
        notice::{Event, Notice, Severity},
    },
    notify, state_file,
};

/// Notices that may wait to be written down. A disk that hangs fills it; then the journal has them alone.
const CHANNEL: usize = 1024;
/// How long a test may take: less than a call.
const TEST_LIMIT: Duration = Duration::from_secs(15);
/// The file with the time until which ends of jobs were taken in.
const SEEN: &str = "seen";

/// The notices of a daemon.
#[derive(Debug)]
pub struct Notices {
    folder: PathBuf,
    sender: mpsc::Sender<Notice>,
    workers: Mutex<BTreeMap<String, Worker>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Notices {
    /// Nothing is told before [`begin`] was called with the second half.
    pub(super) fn new(state: &Path) -> (Self, mpsc::Receiver<Notice>) {
        let (sender, receiver) = mpsc::channel(CHANNEL);
        let folder = state.join("notices");
        let (workers, stop, tasks) = (Mutex::default(), CancellationToken::new(), TaskTracker::new());
        (Self { folder, sender, workers, stop, tasks }, receiver)
    }

    /// Tells what is to be told, without waiting for anything.
    pub fn publish(&self, notice: Notice) {
        if let Err(error) = self.sender.try_send(notice) {
            let (mpsc::error::TrySendError::Full(notice) | mpsc::error::TrySendError::Closed(notice)) = error;
            tracing::error!("too many notices wait to be written down; this one is not told: {}", notice.text);
        }
    }

    /// Ends what tells, within a time. What was not told yet is on disk.
    pub async fn finish(&self, limit: Duration) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(limit, self.tasks.wait()).await.is_err() {
            tracing::warn!("the notices did not end in {} seconds", limit.as_secs());
        }
    }

    fn workers(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Worker>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins to tell: of what was missed, of jobs, and of what is published, for as long as the engine lives.
pub(super) fn begin(engine: &Arc<Engine>, receiver: mpsc::Receiver<Notice>) {
    let events = engine.jobs().subscribe();
    let health = engine.health_watch().changes();
    let collector = Collector { engine: Arc::downgrade(engine), receiver, events, health, seen: 0 };
    engine.notices().tasks.spawn_on(collector.run(), engine.runtime());
}

/// Tells that a backup was refused by something that is wrong, before there was a job.
pub(super) fn refused(engine: &Engine, source: &str, error: &ServiceError) {
    let callers = matches!(
        error.code(),
        ErrorCode::NoSuchSource
            | ErrorCode::InvalidArgs
            | ErrorCode::SourceBusy
            | ErrorCode::LimitsExceeded
            | ErrorCode::ShuttingDown
    );
    // A source that is disabled on purpose is as it should be; one whose file is broken is not.
    let meant = error.code() == ErrorCode::SourceDisabled && !engine.config().broken.contains_key(source);
    if !callers && !meant && parse_source(source).is_ok() {
        engine.notices().publish(from_jobs::refused(source, error.code(), &error.to_string(), now_micros()));
    }
}

/// Tries one notifier, or all: tells each at once, and says of each how it went.
///
/// # Errors
/// `InvalidArgs` where no notifier has this name, or there is none.
pub(super) fn test(engine: &Engine, name: &str) -> Result<Value, ServiceError> {
    let config = engine.config();
    let chosen: Vec<_> = config.notify.iter().filter(|(known, _)| name.is_empty() || *known == name).collect();
    if chosen.is_empty() {
        let message = match name {
            "" => "no notifier is configured; [notify.NAME] in backupd.toml makes one".to_owned(),
            name => format!("there is no notifier {name:?} in backupd.toml"),
        };
        return Err(ServiceError::new(ErrorCode::InvalidArgs, message));
    }
    let try_one = |(name, config): (&String, &NotifyConfig)| {
        let text = format!("This is a test of the notifier {name}. Nothing is wrong.");
        let notice = Notice::new(Event::Test, Severity::Info, "", &text, now_micros());
        // The caller waits.
        let config = NotifyConfig { timeout: config.timeout.min(TEST_LIMIT), ..config.clone() };
        let name = name.clone();
        async move {
            let result = notify::send_now(&config, notice).await;
            let error = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
            json!({ "name": name, "type": config.transport.as_str(), "ok": result.is_ok(), "error": error })
        }
    };
    let results = engine.runtime().block_on(join_all(chosen.into_iter().map(try_one)));
    Ok(json!({ "notifiers": results }))
}

/// What waits, for each notifier.
pub(super) fn list(engine: &Engine) -> Value {
    let config = engine.config();
    let workers = engine.notices().workers();
    let notifiers: Vec<Value> = config
        .notify
        .iter()
        .map(|(name, config)| {
            let mut value = workers.get(name).map_or_else(|| json!({}), |worker| json!(worker.shown()));
            value["name"] = name.as_str().into();
            value["type"] = config.transport.as_str().into();
            value
        })
        .collect();
    json!({ "notifiers": notifiers })
}

/// Takes in what happens and hands it to the notifiers.
struct Collector {
    engine: Weak<Engine>,
    receiver: mpsc::Receiver<Notice>,
    events: tokio::sync::broadcast::Receiver<JobEvent>,
    health: tokio::sync::broadcast::Receiver<HealthChange>,
    /// Ends of jobs until this time were taken in, microseconds since the epoch.
    seen: u64,
}

impl Collector {
    async fn run(mut self) {
        let Some(mut changes) = self.engine.upgrade().map(|engine| engine.changes_subscribed()) else { return };
        let Some(stop) = self.engine.upgrade().map(|engine| engine.notices().stop.clone()) else { return };
        self.with_engine(|engine, seen| {
            *seen = read_seen(&engine.notices().folder);
            tend(engine);
            catch_up(engine, seen);
        })
        .await;
        loop {
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Ok(event) => self.take_in(event).await,
                    Err(RecvError::Lagged(_)) => self.with_engine(catch_up).await,
                    Err(RecvError::Closed) => return,
                },
                change = self.health.recv() => match change {
                    Ok(change) => {
                        let notice = from_health::changed(&change);
                        self.with_engine(move |engine, _| hand_out(engine, notice.as_slice())).await;
                    }
                    Err(RecvError::Lagged(missed)) => tracing::warn!("{missed} changes of health were not told"),
                    Err(RecvError::Closed) => return,
                },
                notice = self.receiver.recv() => match notice {
                    Some(notice) => self.with_engine(move |engine, _| hand_out(engine, &[notice])).await,
                    None => return,
                },
                // All that was there is written down by now.
                () = stop.cancelled() => return,
                change = changes.changed() => match change {
                    Ok(()) => self.with_engine(|engine, _| tend(engine)).await,
                    Err(_) => return,
                },
            }
        }
    }

    async fn take_in(&mut self, event: JobEvent) {
        match event {
            JobEvent::Started(number) => {
                self.with_engine(move |engine, _| {
                    let job = engine.jobs().get(number);
                    hand_out(engine, job.and_then(|job| from_jobs::started(&job.record)).as_slice());
                })
                .await;
            }
            JobEvent::Finished(record) => {
                self.with_engine(move |engine, seen| {
                    hand_out(engine, &from_jobs::ended(&record, &engine.listed_backups()));
                    *seen = record.end_time.max(*seen);
                    write_seen(&engine.notices().folder, *seen);
                })
                .await;
            }
            JobEvent::Added(_) | JobEvent::BackupAdded { .. } | JobEvent::BackupRemoved { .. } => {}
        }
    }

    /// Does what may wait for the disk, away from the reactor.
    async fn with_engine(&mut self, work: impl FnOnce(&Arc<Engine>, &mut u64) + Send + 'static) {
        let Some(engine) = self.engine.upgrade() else { return };
        let mut seen = self.seen;
        let work = move || {
            work(&engine, &mut seen);
            seen
        };
        if let Ok(seen) = tokio::task::spawn_blocking(work).await {
            self.seen = seen;
        }
    }
}

/// Tells of the jobs that ended and were not taken in.
fn catch_up(engine: &Arc<Engine>, seen: &mut u64) {
    // Whether backups are suspect is known once the repository is open. Where it cannot be opened, the jobs are told all the same.
    let _ = engine.repository();
    let listed = engine.listed_backups();
    let mut missed: Vec<_> = engine.jobs().list().into_iter().map(|job| job.record).collect();
    missed.retain(|record| record.result.is_some() && record.end_time > *seen);
    missed.sort_by_key(|record| record.end_time);
    for record in &missed {
        hand_out(engine, &from_jobs::ended(record, &listed));
        *seen = record.end_time.max(*seen);
    }
    write_seen(&engine.notices().folder, *seen);
}

/// Puts notices into the queues of the notifiers.
fn hand_out(engine: &Arc<Engine>, notices: &[Notice]) {
    if notices.is_empty() {
        return;
    }
    let config = engine.config();
    let workers = engine.notices().workers();
    for (name, notifier) in &config.notify {
        let Some(worker) = workers.get(name) else { continue };
        notices.iter().for_each(|notice| worker.push(name, notifier, notice));
    }
}

/// Lets there be a worker for each notifier that is configured, and for no other.
fn tend(engine: &Arc<Engine>) {
    let config = engine.config();
    let notices = engine.notices();
    let mut workers = notices.workers();
    workers.retain(|name, worker| {
        let stays = config.notify.contains_key(name);
        if !stays {
            worker.end();
        }
        stays
    });
    forget_others(&notices.folder, &config);
    for name in config.notify.keys() {
        match workers.get(name) {
            Some(worker) => worker.wake(),
            None => {
                let begun = Worker::begin(engine, name, &notices.folder.join(name), &notices.stop, &notices.tasks);
                match begun {
                    Ok(worker) => drop(workers.insert(name.clone(), worker)),
                    Err(error) => {
                        tracing::error!("nothing can be told through {name}: its queue cannot be opened: {error}")
                    }
                }
            }
        }
    }
}

/// Removes what waits for notifiers that are configured no more: nobody will ever send it.
fn forget_others(folder: &Path, config: &Config) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let known = entry.file_name().to_str().is_some_and(|name| config.notify.contains_key(name));
        if is_folder
            && !known
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::warn!("cannot remove {}: {error}", entry.path().display());
        }
    }
}

/// Until when ends of jobs were taken in; now, where nothing is remembered, so that no old history is told.
fn read_seen(folder: &Path) -> u64 {
    let read = fs::read_to_string(folder.join(SEEN));
    read.ok().and_then(|text| text.trim().parse().ok()).unwrap_or_else(now_micros)
}

fn write_seen(folder: &Path, seen: u64) {
    let made = match fs::create_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => state_file::replace(&folder.join(SEEN), format!("{seen}\n").as_bytes()),
    };
    if let Err(error) = made {
        tracing::warn!("cannot write down until when jobs were told of: {error}");
    }
}
