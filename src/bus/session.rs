//! One connection, to the bus or to a client of the daemon's own socket: the jobs that it sees, its signals, its calls.
//!
//! Invariants:
//! - For each job, on each connection: InterfacesAdded, JobNew, the answer to the call that started it; PropertiesChanged
//!   at most four times a second and only with what changed; Finished, JobRemoved, InterfacesRemoved. Every job that
//!   was announced is also removed. BackupAdded and BackupRemoved of what a job did come before its Finished.
//! - A client that does not read costs only its own connection: what cannot be sent within [`SEND_LIMIT`] ends it.
//! - No timer runs while there is no job.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{Mutex, Semaphore, broadcast, watch};
use tokio_util::sync::CancellationToken;
use zbus::{Connection, ObjectPath, OwnedObjectPath, Variant, fdo, message::Header, object_server::SignalEmitter};

use super::{
    MANAGER_PATH,
    action::{About, Action},
    audit::{Entry, Grant, Refusals, is_recorded},
    authority::{Authority, Patience},
    error::ApiError,
    identity::{Identity, is_trusted},
    job::{JobObject, error_of, properties, statistics},
    job_path,
    manager::Manager,
    pinned::{Pinned, names_a_source},
    shown::Shown,
    source_path,
};
use crate::{
    model::{
        ErrorCode,
        job::{JobNumber, JobRecord, JobResult},
    },
    service::{
        ServiceError,
        jobs::{JobEvent, JobState},
        operations::{Caller, ListFilter, Operations, SourceSummary},
    },
};

/// Properties of an object, by name.
pub(super) type Properties = BTreeMap<&'static str, Variant<'static>>;

/// How long a signal may take to go out.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// How long a method may take; clients wait 25 seconds by default.
const CALL_LIMIT: Duration = Duration::from_secs(20);
/// How often the progress of jobs is looked at.
const TICK: Duration = Duration::from_millis(250);
/// Numbers of removed jobs that are kept, so that a late answer does not announce one again.
const RETIRED: usize = 4096;

/// What a connection shares between its objects.
pub(super) struct Session {
    pub(super) operations: Arc<dyn Operations>,
    identity: Box<dyn Identity>,
    authority: Box<dyn Authority>,
    refusals: Refusals,
    calls: Semaphore,
    announced: Mutex<Announced>,
    pub(super) shown: Mutex<Shown>,
}

/// What the other end was told of jobs.
#[derive(Default)]
struct Announced {
    jobs: BTreeMap<JobNumber, Properties>,
    retired: BTreeSet<JobNumber>,
}

impl Session {
    /// `calls` methods may be under way at once.
    pub(super) fn new(
        operations: Arc<dyn Operations>,
        identity: Box<dyn Identity>,
        authority: Box<dyn Authority>,
        calls: usize,
    ) -> Arc<Self> {
        let (announced, shown, refusals) = (Mutex::default(), Mutex::default(), Refusals::default());
        Arc::new(Self { operations, identity, authority, refusals, calls: Semaphore::new(calls), announced, shown })
    }

    /// Lets a call through that may do what it is about. Nothing was changed before.
    pub(super) async fn authorise(
        &self,
        connection: &Connection,
        call: &Header<'_>,
        about: About,
    ) -> Result<Grant, ApiError> {
        let caller = self.identity.caller(connection, call).await?;
        self.admit(connection, call, caller, about, Patience::Call).await
    }

    /// Lets a call through that may do this with a backup, or with all backups of a run. What the caller named is looked
    /// up first, so that it is allowed or refused for that very backup, and done with it: gives its id, or the run's, in
    /// place of the name.
    pub(super) async fn authorise_backup(
        &self,
        connection: &Connection,
        call: &Header<'_>,
        about: About,
        backup: String,
    ) -> Result<(Grant, String), ApiError> {
        let caller = self.identity.caller(connection, call).await?;
        if is_trusted(caller) {
            return Ok((self.admit(connection, call, caller, about, Patience::Call).await?, backup));
        }
        let filter = ListFilter { backup: backup.clone(), ..ListFilter::default() };
        let found = self.look(move |operations| operations.list(&filter, 2, "")).await.and_then(|page| {
            match page.backups.as_slice() {
                [] => Err(ApiError::new(ErrorCode::NoSuchBackup, format!("{backup:?} names no backup"))),
                // A run may have taken a single database, and is a run all the same.
                [one] if !(one.whole_run && names_a_source(&backup)) => Ok(Pinned::one(one)),
                [first, ..] => Pinned::run(first),
            }
        });
        let about = match &found {
            Ok(found) => found.tell(about),
            Err(_) => about,
        };
        let grant = self.admit(connection, call, caller, about, Patience::Call).await?;
        // Only who may is told that there is none.
        match found {
            Ok(found) => Ok((grant, found.selector)),
            Err(error) => grant.conclude(Err(error)),
        }
    }

    /// Lets a call through that may do this with what a job keeps for an undo.
    pub(super) async fn authorise_undo(
        &self,
        connection: &Connection,
        call: &Header<'_>,
        action: Action,
        restored: JobNumber,
    ) -> Result<Grant, ApiError> {
        let source = self.call(move |operations| operations.undo_source(restored)).await;
        let about = About::source(action, source.as_deref().unwrap_or_default()).with("job", restored.to_string());
        let grant = self.authorise(connection, call, about).await?;
        // Only who may is told that there is none.
        match source {
            Ok(_) => Ok(grant),
            Err(error) => grant.conclude(Err(error)),
        }
    }

    /// What a plan is about: its backup, where the caller names no other, and what is to be allowed.
    pub(super) async fn planned(
        &self,
        connection: &Connection,
        call: &Header<'_>,
        backup: String,
        plan: &str,
    ) -> Result<(String, About), ApiError> {
        let plan = plan.to_owned();
        match self.call(move |operations| operations.planned(&plan)).await {
            Ok((planned, options)) => {
                let backup = if backup.is_empty() { planned } else { backup };
                let about = About::restore(Action::Restore, &backup, &options);
                Ok((backup, about))
            }
            // Only who may is told that there is none.
            Err(error) => {
                self.authorise(connection, call, About::backup(Action::Restore, &backup)).await?.conclude(Err(error))
            }
        }
    }

    /// Whether the properties of an object may be read. Nobody is asked for a password then.
    pub(super) async fn may_read(
        &self,
        connection: &Connection,
        call: &Header<'_>,
        about: About,
    ) -> Result<(), ApiError> {
        let caller = self.identity.caller(connection, call).await?;
        self.admit(connection, call, caller, about, Patience::Read).await?.conclude(Ok(()))
    }

    /// Whether a property may be set; as [`Session::may_read`], but what is set is written down.
    pub(super) async fn may_set(
        &self,
        connection: &Connection,
        call: &Header<'_>,
        about: About,
    ) -> Result<Grant, ApiError> {
        let caller = self.identity.caller(connection, call).await?;
        self.admit(connection, call, caller, about, Patience::Set).await
    }

    async fn admit(
        &self,
        connection: &Connection,
        call: &Header<'_>,
        caller: Caller,
        about: About,
        patience: Patience,
    ) -> Result<Grant, ApiError> {
        let allowed = match is_trusted(caller) || about.is_free_for(caller) {
            true => Ok(()),
            false => self.authority.check(connection, call, caller, &about, patience).await,
        };
        let entry = async |about| {
            let member = call.member().map_or_else(String::new, ToString::to_string);
            Entry { caller, origin: self.identity.origin(connection, call).await, member, about }
        };
        match allowed {
            Ok(()) if is_recorded(about.action) => Ok(Grant { caller, entry: Some(Box::new(entry(about).await)) }),
            Ok(()) => Ok(Grant { caller, entry: None }),
            Err(error) => {
                if let Some(before) = self.refusals.count(caller.uid, Instant::now()) {
                    entry(about).await.refused(&error, before);
                }
                Err(error)
            }
        }
    }

    /// Runs a verb that looks at what is in memory: here, where it answers at once, which costs a fraction of what it
    /// costs to wake another thread.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&dyn Operations) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ApiError> {
        if self.operations.answers_at_once() { Ok(verb(self.operations.as_ref())?) } else { self.call(verb).await }
    }

    /// Runs a verb on a blocking thread.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&dyn Operations) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let _permit = self.calls.try_acquire().map_err(|_| {
            ApiError::new(ErrorCode::LimitsExceeded, "too many calls are under way; wait for their answers")
        })?;
        let operations = Arc::clone(&self.operations);
        let verb = tokio::task::spawn_blocking(move || verb(operations.as_ref()));
        match tokio::time::timeout(CALL_LIMIT, verb).await {
            Ok(Ok(result)) => Ok(result?),
            Ok(Err(defect)) => {
                Err(ApiError::new(ErrorCode::Internal, format!("the call stopped at a defect: {defect}")))
            }
            Err(_) => {
                let message = format!(
                    "there was no answer within {} seconds; if the call starts a job it may still do so",
                    CALL_LIMIT.as_secs()
                );
                Err(ApiError::new(ErrorCode::TimedOut, message))
            }
        }
    }

    /// Runs a verb that starts a job, announces the job before the answer goes out, and writes down who started it.
    pub(super) async fn start_job(
        self: &Arc<Self>,
        connection: &Connection,
        grant: Grant,
        verb: impl FnOnce(&dyn Operations, Caller) -> Result<JobNumber, ServiceError> + Send + 'static,
    ) -> Result<(u64, OwnedObjectPath), ApiError> {
        let caller = grant.caller;
        let started = self.announce_new(connection, move |operations| verb(operations, caller)).await;
        grant.conclude_job(started, |number| self.operations.jobs().get(number).map(|job| job.record))
    }

    async fn announce_new(
        self: &Arc<Self>,
        connection: &Connection,
        verb: impl FnOnce(&dyn Operations) -> Result<JobNumber, ServiceError> + Send + 'static,
    ) -> Result<(u64, OwnedObjectPath), ApiError> {
        let (number, state) =
            self.call(move |operations| verb(operations).map(|n| (n, operations.jobs().get(n)))).await?;
        if let Some(state) = state {
            self.announce(connection, &state, &mut *self.announced.lock().await).await?;
        }
        Ok((number, object_path(number)))
    }

    /// The jobs that are objects on this connection, with their properties.
    pub(super) async fn objects(&self) -> BTreeMap<JobNumber, Properties> {
        self.announced.lock().await.jobs.clone()
    }

    /// Cancels a job, as whom its kind of job is allowed or who started it.
    pub(super) async fn cancel(
        &self,
        connection: &Connection,
        call: &Header<'_>,
        number: JobNumber,
    ) -> Result<(), ApiError> {
        let about = match self.operations.jobs().get(number) {
            Some(job) => About::cancel(&job.record),
            None => About::daemon(Action::Inspect).with("job", number.to_string()),
        };
        let grant = self.authorise(connection, call, about).await?;
        grant.conclude(self.call(move |operations| operations.jobs().cancel(number)).await)
    }

    /// A job that is an object on this connection.
    pub(super) fn job(&self, number: JobNumber) -> Result<JobState, ApiError> {
        let job = self.operations.jobs().get(number);
        job.ok_or_else(|| ApiError::new(ErrorCode::NoSuchJob, format!("there is no job {number}")))
    }

    /// A source.
    pub(super) fn source(&self, name: &str) -> Option<SourceSummary> {
        self.operations.source(name)
    }

    /// The jobs that are there when the connection begins. zbus announces what is served from the beginning by
    /// InterfacesAdded, before anything else (and may announce the nodes between, which have no interfaces); there is
    /// no JobNew for them.
    pub(super) async fn adopt(self: &Arc<Self>) -> Vec<(OwnedObjectPath, JobObject)> {
        let mut announced = self.announced.lock().await;
        let jobs = self.operations.jobs().active();
        announced.jobs = jobs.iter().map(|job| (job.record.number, properties(job))).collect();
        jobs.iter()
            .map(|job| (object_path(job.record.number), JobObject::new(Arc::clone(self), job.record.number)))
            .collect()
    }

    /// Sends signals until the connection or the daemon ends. `events` and `changes` must be older than the calls of
    /// `adopt` and `adopt_sources`.
    pub(super) async fn run(
        self: Arc<Self>,
        connection: Connection,
        mut events: broadcast::Receiver<JobEvent>,
        mut changes: watch::Receiver<()>,
        stop: CancellationToken,
    ) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stopping = false;
        while !stopping {
            let ticking = !self.announced.lock().await.jobs.is_empty();
            let step = async {
                tokio::select! {
                    biased;
                    () = connection.closed() => Step::End,
                    event = events.recv() => Step::Event(event),
                    Ok(()) = changes.changed() => Step::Change,
                    _ = ticks.tick(), if ticking => Step::Tick,
                    () = stop.cancelled() => Step::End,
                }
            };
            let sent = match step.await {
                Step::End => {
                    stopping = true;
                    Ok(Ok(()))
                }
                Step::Tick => tokio::time::timeout(SEND_LIMIT, self.tick(&connection)).await,
                Step::Change => tokio::time::timeout(SEND_LIMIT, self.show(&connection)).await,
                Step::Event(event) => tokio::time::timeout(SEND_LIMIT, self.handle(&connection, event)).await,
            };
            match sent {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(?error, "cannot send a signal");
                    stopping = connection.is_closed();
                }
                Err(_) => {
                    tracing::warn!("a client does not read what it is sent; closing its connection");
                    stopping = true;
                }
            }
        }
        // Whatever ended it: the objects hold this session, and the connection holds the objects.
        let _ = connection.close().await;
    }

    async fn handle(
        self: &Arc<Self>,
        connection: &Connection,
        event: Result<JobEvent, broadcast::error::RecvError>,
    ) -> Result<(), ApiError> {
        let mut announced = self.announced.lock().await;
        match event {
            Ok(JobEvent::Added(number)) => match self.operations.jobs().get(number) {
                Some(job) if job.record.result.is_none() => self.announce(connection, &job, &mut announced).await?,
                _ => {} // Its end is on its way and announces it.
            },
            Ok(JobEvent::Started(_)) => return Ok(()),
            Ok(JobEvent::Finished(record)) => self.retire(connection, &record, &mut announced).await?,
            Ok(JobEvent::BackupAdded { id, source }) => {
                Manager::backup_added(&manager(connection)?, &id.to_string(), &source).await?;
            }
            Ok(JobEvent::BackupRemoved { id, source }) => {
                Manager::backup_removed(&manager(connection)?, &id.to_string(), &source).await?;
            }
            Err(broadcast::error::RecvError::Lagged(_)) => self.catch_up(connection, &mut announced).await?,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
        drop(announced);
        // Which job runs for a source.
        self.show(connection).await
    }

    /// Announces what was missed; the next tick removes what is over.
    async fn catch_up(self: &Arc<Self>, connection: &Connection, announced: &mut Announced) -> Result<(), ApiError> {
        for job in self.operations.jobs().active() {
            self.announce(connection, &job, announced).await?;
        }
        Ok(())
    }

    async fn announce(
        self: &Arc<Self>,
        connection: &Connection,
        job: &JobState,
        announced: &mut Announced,
    ) -> Result<(), ApiError> {
        let number = job.record.number;
        if announced.jobs.contains_key(&number) || announced.retired.contains(&number) {
            return Ok(());
        }
        announced.jobs.insert(number, properties(job));
        let path = object_path(number);
        connection.object_server().at(&path, JobObject::new(Arc::clone(self), number)).await?;
        Manager::job_new(&manager(connection)?, number, path.as_ref()).await?;
        Ok(())
    }

    async fn retire(
        self: &Arc<Self>,
        connection: &Connection,
        record: &JobRecord,
        announced: &mut Announced,
    ) -> Result<(), ApiError> {
        let number = record.number;
        if announced.retired.contains(&number) {
            return Ok(());
        }
        self.announce(connection, &JobState::past(record.clone()), announced).await?;
        let before = announced.jobs.remove(&number).unwrap_or_default();
        announced.retired.insert(number);
        if announced.retired.len() > RETIRED {
            announced.retired.pop_first();
        }
        let path = object_path(number);
        let mut last = properties(&JobState::past(record.clone()));
        last.retain(|name, _| ["Backup", "Phase", "Result", "Cancelable"].contains(name));
        send_changes(connection, &path, JOB, &before, &last).await?;
        let emitter = SignalEmitter::new(connection, &path)?;
        let result = record.result.map_or("", JobResult::as_str);
        let (error_name, message) = error_of(record);
        JobObject::finished(&emitter, result, error_name, &message, statistics(record)).await?;
        Manager::job_removed(&manager(connection)?, number, path.as_ref(), result).await?;
        connection.object_server().remove::<JobObject, _>(&path).await?;
        Ok(())
    }

    /// Sends what changed. Also removes jobs whose end was missed: removing is idempotent, so it may come first.
    async fn tick(self: &Arc<Self>, connection: &Connection) -> Result<(), ApiError> {
        let mut announced = self.announced.lock().await;
        for number in announced.jobs.keys().copied().collect::<Vec<_>>() {
            let Some(job) = self.operations.jobs().get(number) else { continue };
            if job.record.end_time != 0 {
                self.retire(connection, &job.record, &mut announced).await?;
            } else if let Some(before) = announced.jobs.get_mut(&number) {
                let now = properties(&job);
                send_changes(connection, &object_path(number), JOB, before, &now).await?;
                *before = now;
            }
        }
        Ok(())
    }
}

/// The interface of jobs.
const JOB: &str = "org.backupd1.Job";

enum Step {
    End,
    Tick,
    Change,
    Event(Result<JobEvent, broadcast::error::RecvError>),
}

fn manager(connection: &Connection) -> zbus::Result<SignalEmitter<'_>> {
    SignalEmitter::new(connection, MANAGER_PATH)
}

/// Sends PropertiesChanged with what is not as it was before, if anything.
pub(super) async fn send_changes(
    connection: &Connection,
    path: &str,
    interface: &'static str,
    before: &Properties,
    now: &Properties,
) -> Result<(), ApiError> {
    let changed: HashMap<_, _> = now
        .iter()
        .filter(|(name, value)| before.get(*name) != Some(*value))
        .map(|(name, value)| (*name, value.clone()))
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    let emitter = SignalEmitter::new(connection, path)?;
    let interface = zbus::names::InterfaceName::from_static_str_unchecked(interface);
    fdo::Properties::properties_changed(&emitter, interface, changed, (&[]).into()).await?;
    Ok(())
}

/// The path of a source's object.
pub(super) fn source_object_path(name: &str) -> OwnedObjectPath {
    ObjectPath::from_string_unchecked(source_path(name)).into()
}

/// The path of a job's object.
pub(super) fn object_path(number: JobNumber) -> OwnedObjectPath {
    ObjectPath::from_string_unchecked(job_path(number)).into()
}
