//! The table of jobs: who may start, who waits, who is told.
//!
//! Invariants: at most `concurrency` jobs run and at most `queue` wait; no two jobs in the table have the same
//! exclusive key; waiting jobs start in the order they came; a job leaves the table only when its end is in history;
//! `Added` of a job comes before its other events, `Finished` last. No lock is held while a file is synced.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::fcntl::{Flock, FlockArg};
use tokio::{runtime::Handle, sync::broadcast};
use tracing::Span;

use super::{
    JobEvent, JobHandle, JobLimits, JobRequest, JobState, Work,
    history::{History, io_error},
    numbers::Numbers,
    run::{End, run, sweep_scratch},
    state::RateMeter,
};
use crate::{
    clock::now_micros,
    model::{
        ErrorCode, RunId,
        job::{JobNumber, JobRecord, JobResult, Phase},
        message_id,
    },
    service::ServiceError,
    source::JobContext,
    stream::{Cancel, CancelReason, Progress},
};

/// Events that a slow listener may be behind before it misses some (and is told so).
const EVENTS: usize = 1024;

/// The table of jobs. Clones share it.
#[derive(Debug, Clone)]
pub struct Jobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    scratch: PathBuf,
    runtime: Handle,
    numbers: Numbers,
    history: History,
    table: Mutex<Table>,
    ended: Condvar,
    events: broadcast::Sender<JobEvent>,
    /// Keeps a second daemon away from the state folder.
    _lock: Flock<std::fs::File>,
}

struct Table {
    active: BTreeMap<JobNumber, Entry>,
    queue: VecDeque<(JobNumber, Work)>,
    running: usize,
    limits: JobLimits,
    closed: bool,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting: Vec<_> = self.queue.iter().map(|(number, _)| number).collect();
        f.debug_struct("Table").field("active", &self.active).field("waiting", &waiting).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Entry {
    record: JobRecord,
    exclusive: Vec<String>,
    timeout: Option<Duration>,
    running: bool,
    cancel: Cancel,
    progress: Arc<Progress>,
    meter: RateMeter,
    span: Span,
}

impl Jobs {
    /// Opens the state folder: reads history, closes the jobs that a dead daemon left, empties the scratch folder.
    ///
    /// # Errors
    /// `RepositoryLocked` when another daemon uses the folder; `Io`, `NoSpace`.
    pub fn open(state_dir: &Path, limits: JobLimits, runtime: Handle) -> Result<Self, ServiceError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(|error| io_error("make the state folder", state_dir, &error))?;
        let lock = lock(&state_dir.join("lock"))?;
        let scratch = state_dir.join("scratch");
        sweep_scratch(&scratch)?;
        let history = History::open(state_dir.join("jobs.jsonl"), limits.history)?;
        let numbers = Numbers::open(state_dir.join("next-job"), history.highest())?;
        let table = Table { active: BTreeMap::new(), queue: VecDeque::new(), running: 0, limits, closed: false };
        Ok(Self {
            inner: Arc::new(Inner {
                scratch,
                runtime,
                numbers,
                history,
                table: Mutex::new(table),
                ended: Condvar::new(),
                events: broadcast::Sender::new(EVENTS),
                _lock: lock,
            }),
        })
    }

    /// Accepts a job: it starts now or waits for its turn.
    ///
    /// # Errors
    /// `SourceBusy` naming the job that has the key; `LimitsExceeded` when the queue is full; `ShuttingDown`; `Io` or
    /// `NoSpace` when no number can be reserved in the state folder.
    pub fn submit(&self, request: JobRequest, work: Work) -> Result<JobNumber, ServiceError> {
        self.inner.table().admits(&request)?;
        let number = self.inner.numbers.next()?;
        let entry = Entry::new(number, &request);
        let record = entry.record.clone();
        {
            let mut table = self.inner.table();
            table.admits(&request)?;
            table.active.insert(number, entry);
            let _ = self.inner.events.send(JobEvent::Added(number));
        }
        self.inner.history.record(&record);
        self.inner.enqueue(number, work);
        Ok(number)
    }

    /// Asks a job to end. It may still take a while, and may still be done.
    ///
    /// # Errors
    /// `NoSuchJob`, also for one that is over.
    pub fn cancel(&self, number: JobNumber) -> Result<(), ServiceError> {
        if self.inner.cancel(number, CancelReason::Requested) {
            return Ok(());
        }
        let message = match self.get(number).and_then(|job| job.record.result) {
            Some(result) => format!("job {number} cannot be cancelled: it is over ({result})"),
            None => format!("there is no job {number}"),
        };
        Err(ServiceError::new(ErrorCode::NoSuchJob, message))
    }

    /// A job, past ones too.
    #[must_use]
    pub fn get(&self, number: JobNumber) -> Option<JobState> {
        let live = self.inner.table().active.get_mut(&number).map(Entry::state);
        live.or_else(|| self.inner.history.get(number).map(JobState::past))
    }

    /// The jobs that run or wait, in order of their numbers.
    #[must_use]
    pub fn active(&self) -> Vec<JobState> {
        self.inner.table().active.values_mut().map(Entry::state).collect()
    }

    /// All jobs that are known, in order of their numbers.
    #[must_use]
    pub fn list(&self) -> Vec<JobState> {
        // Active ones first: a job that ends in between is then seen twice rather than not at all.
        let mut jobs: BTreeMap<_, _> = self.active().into_iter().map(|job| (job.record.number, job)).collect();
        jobs.extend(self.inner.history.finished().into_iter().map(|record| (record.number, JobState::past(record))));
        jobs.into_values().collect()
    }

    /// The jobs that ended, in order of their numbers.
    #[must_use]
    pub fn past(&self) -> Vec<JobRecord> {
        self.inner.history.finished()
    }

    /// The job in the table that has this exclusive key.
    #[must_use]
    pub fn holder(&self, exclusive: &str) -> Option<JobNumber> {
        self.inner.table().holder(exclusive).map(|entry| entry.record.number)
    }

    /// Events from now on. A listener that falls behind by 1024 of them is told so and looks at [`Jobs::list`].
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<JobEvent> {
        self.inner.events.subscribe()
    }

    /// Tells the listeners of something that is no state of a job.
    pub fn tell(&self, event: JobEvent) {
        // Nobody has to listen.
        let _ = self.inner.events.send(event);
    }

    /// Other limits, for what is submitted from now on. More concurrency starts waiting jobs.
    pub fn set_limits(&self, limits: JobLimits) {
        self.inner.history.set_limit(limits.history);
        self.inner.table().limits = limits;
        self.inner.start_waiting();
    }

    /// Accepts nothing more if no job runs or waits; says whether that is so.
    #[must_use]
    pub fn close_if_idle(&self) -> bool {
        let mut table = self.inner.table();
        table.closed |= table.active.is_empty();
        table.closed
    }

    /// Accepts nothing more, ends all jobs, and waits until they have cleaned up, at most for `grace`. Gives the jobs
    /// that did not end.
    #[must_use]
    pub fn shutdown(&self, grace: Duration) -> Vec<JobNumber> {
        let numbers: Vec<_> = {
            let mut table = self.inner.table();
            table.closed = true;
            table.active.keys().copied().collect()
        };
        for number in numbers {
            self.inner.cancel(number, CancelReason::Shutdown);
        }
        let table = self.inner.table();
        let (table, _) = self
            .inner
            .ended
            .wait_timeout_while(table, grace, |table| !table.active.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        let left: Vec<_> = table.active.keys().copied().collect();
        drop(table);
        self.inner.numbers.settle();
        left
    }
}

impl Inner {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(self: &Arc<Self>, number: JobNumber, work: Work) {
        let canceled = {
            let mut table = self.table();
            let reason = table.active.get(&number).and_then(|entry| entry.cancel.reason());
            if reason.is_none() {
                table.queue.push_back((number, work));
            }
            reason
        };
        match canceled {
            Some(reason) => self.finish(number, End::canceled_in_queue(reason)),
            None => self.start_waiting(),
        }
    }

    /// Raises the flag of a job in the table; one that waits ends at once.
    fn cancel(self: &Arc<Self>, number: JobNumber, reason: CancelReason) -> bool {
        // The work is dropped after the lock is free: it may own anything.
        let waited = {
            let mut table = self.table();
            let Some(entry) = table.active.get(&number) else { return false };
            entry.cancel.cancel(reason);
            let position = table.queue.iter().position(|(waiting, _)| *waiting == number);
            position.and_then(|position| table.queue.remove(position))
        };
        if waited.is_some() {
            self.finish(number, End::canceled_in_queue(reason));
        }
        true
    }

    /// Starts jobs while there is room. Threads that cannot be had fail their job.
    fn start_waiting(self: &Arc<Self>) {
        loop {
            let (number, spawned) = {
                let mut table = self.table();
                if table.running >= table.limits.concurrency {
                    return;
                }
                let Some((number, work)) = table.queue.pop_front() else { return };
                let Some(entry) = table.active.get_mut(&number) else { continue };
                entry.running = true;
                entry.meter = RateMeter::new(Instant::now());
                let (handle, timeout, span) = (self.handle(entry), entry.timeout, entry.span.clone());
                table.running += 1;
                let inner = Arc::clone(self);
                let spawned = thread::Builder::new().name(format!("job-{number}")).spawn(move || {
                    let _inside = span.enter();
                    inner.begin(number);
                    let end = run(&handle, timeout, work);
                    inner.finish(number, end);
                });
                (number, spawned)
            };
            if let Err(error) = spawned {
                let error = ServiceError::new(ErrorCode::LimitsExceeded, format!("cannot start a thread: {error}"));
                self.finish(number, End::failed(&error, None));
            }
        }
    }

    fn handle(&self, entry: &Entry) -> JobHandle {
        let record = &entry.record;
        JobHandle {
            context: JobContext {
                cancel: entry.cancel.clone(),
                progress: Arc::clone(&entry.progress),
                scratch: self.scratch.join(record.number.to_string()),
                runtime: self.runtime.clone(),
            },
            number: record.number,
            run_id: record.run_id,
            uid: record.started_by_uid,
        }
    }

    fn begin(&self, number: JobNumber) {
        let table = self.table();
        if let Some(entry) = table.active.get(&number) {
            tracing::info!(
                MESSAGE_ID = message_id::JOB_STARTED,
                BACKUPD_CALLER_UID = entry.record.started_by_uid,
                "{} started",
                entry.title()
            );
        }
        let _ = self.events.send(JobEvent::Started(number));
    }

    /// Writes the end into history, then takes the job out of the table and starts the next.
    fn finish(self: &Arc<Self>, number: JobNumber, end: End) {
        let (record, span, title) = {
            let mut table = self.table();
            let Some(entry) = table.active.get_mut(&number) else { return };
            entry.close(end);
            (entry.record.clone(), entry.span.clone(), entry.title())
        };
        span.in_scope(|| log_end(&title, &record));
        self.history.record(&record);
        {
            let mut table = self.table();
            if table.active.remove(&number).is_some_and(|entry| entry.running) {
                table.running -= 1;
            }
            let _ = self.events.send(JobEvent::Finished(Box::new(record)));
        }
        self.ended.notify_all();
        self.start_waiting();
    }
}

impl Table {
    fn holder(&self, exclusive: &str) -> Option<&Entry> {
        self.active.values().find(|entry| entry.exclusive.iter().any(|key| key == exclusive))
    }

    fn admits(&self, request: &JobRequest) -> Result<(), ServiceError> {
        if self.closed {
            return Err(ServiceError::new(ErrorCode::ShuttingDown, "the daemon is stopping and takes no new jobs"));
        }
        if let Some(entry) = request.exclusive.iter().find_map(|key| self.holder(key)) {
            let state = if entry.running { "runs" } else { "waits" };
            let message = format!(
                "cannot start to {} {}: {} {state}; wait for it or cancel it",
                request.job_type,
                request.source,
                entry.title()
            );
            return Err(ServiceError::new(ErrorCode::SourceBusy, message));
        }
        let waiting = self.active.values().filter(|entry| !entry.running).count();
        let room = self.limits.concurrency.saturating_sub(self.running);
        if waiting >= self.limits.queue.saturating_add(room) {
            let message =
                format!("{} jobs run and {waiting} wait, which is the limit; try again when one is done", self.running);
            return Err(ServiceError::new(ErrorCode::LimitsExceeded, message));
        }
        Ok(())
    }
}

impl Entry {
    fn new(number: JobNumber, request: &JobRequest) -> Self {
        let record = JobRecord {
            number,
            run_id: RunId::new(),
            job_type: request.job_type,
            source: request.source.clone(),
            backup: request.backup.clone(),
            started_by_uid: request.uid,
            start_time: now_micros(),
            end_time: 0,
            phase: Phase::Queued,
            result: None,
            error: None,
            statistics: serde_json::Map::new(),
        };
        // Of the highest level, so that its fields are there whatever is logged.
        let span = tracing::error_span!(
            parent: None, "job", BACKUPD_JOB = %record.run_id,
            BACKUPD_SOURCE = record.source,
            BACKUPD_JOB_NUMBER = number, BACKUPD_JOB_TYPE = record.job_type.as_str()
        );
        Self {
            record,
            exclusive: request.exclusive.clone(),
            timeout: request.timeout,
            running: false,
            cancel: Cancel::new(),
            progress: Arc::new(Progress::default()),
            meter: RateMeter::new(Instant::now()),
            span,
        }
    }

    /// `job 12 (create shop)`.
    fn title(&self) -> String {
        let record = &self.record;
        let space = if record.source.is_empty() { "" } else { " " };
        format!("job {} ({}{space}{})", record.number, record.job_type, record.source)
    }

    fn state(&mut self) -> JobState {
        JobState::live(&self.record, &self.progress, &self.cancel, &mut self.meter)
    }

    fn close(&mut self, end: End) {
        let record = &mut self.record;
        record.phase = self.progress.phase();
        record.result = Some(end.result);
        record.error = end.error;
        record.statistics = end.outcome.statistics;
        if let Some(backup) = end.outcome.backup {
            record.backup = backup.to_string();
        }
        // The clock may have been set back meanwhile.
        record.end_time = now_micros().max(record.start_time);
    }
}

fn log_end(title: &str, record: &JobRecord) {
    let error = record.error.as_ref();
    let (name, message) = error.map_or(("", ""), |error| (error.name.as_str(), error.message.as_str()));
    let micros = record.end_time - record.start_time;
    let result = record.result.map_or("", JobResult::as_str);
    match record.result {
        Some(JobResult::Done) => tracing::info!(
            MESSAGE_ID = message_id::JOB_SUCCEEDED,
            BACKUPD_RESULT = result,
            BACKUPD_BACKUP = Some(record.backup.as_str()).filter(|backup| !backup.is_empty()),
            BACKUPD_DURATION_USEC = micros,
            "{title} is done"
        ),
        Some(JobResult::Canceled) => tracing::warn!(
            MESSAGE_ID = message_id::JOB_CANCELED,
            BACKUPD_RESULT = result,
            BACKUPD_ERROR = name,
            BACKUPD_DURATION_USEC = micros,
            "{title} was cancelled: {message}"
        ),
        Some(JobResult::Interrupted) => tracing::warn!(
            MESSAGE_ID = message_id::JOB_INTERRUPTED,
            BACKUPD_RESULT = result,
            BACKUPD_ERROR = name,
            BACKUPD_DURATION_USEC = micros,
            "{title} was interrupted: {message}"
        ),
        Some(JobResult::Failed) | None => tracing::error!(
            MESSAGE_ID = message_id::JOB_FAILED,
            BACKUPD_RESULT = result,
            BACKUPD_ERROR = name,
            BACKUPD_DURATION_USEC = micros,
            "{title} failed: {message}"
        ),
    }
}

fn lock(path: &Path) -> Result<Flock<std::fs::File>, ServiceError> {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| io_error("open the lock", path, &error))?;
    let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(file, errno)| {
        if errno != nix::errno::Errno::EWOULDBLOCK {
            return io_error("lock", path, &errno.into());
        }
        // Only for the message: what holds the lock is the open file, not the number in it.
        let mut owner = String::new();
        let _ = file.take(20).read_to_string(&mut owner);
        let message = format!(
            "the state folder is in use by another daemon, process {}, which holds {}. Stop that one first",
            owner.trim().parse().map_or_else(|_| "unknown".to_owned(), |process: u32| process.to_string()),
            path.display()
        );
        ServiceError::new(ErrorCode::RepositoryLocked, message)
    })?;
    let written = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
    written.map_err(|error| io_error("write the lock", path, &error))?;
    Ok(lock)
}
