//! Undo: what a restore replaced is kept for a while, and comes back on request.
//!
//! Invariants: a copy is written down before the job that made it counts as done, and for as long as it exists; undoing
//! makes a copy of what it takes away, so that an undo can be undone; nothing is dropped before its time but by name.

use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    exclusive_key,
    journal::{Entry, Journal},
    kept::Kept,
    store::Record,
    tend,
};
use crate::{
    clock::now_micros,
    fail_point,
    model::{
        ErrorCode, Name, RunId,
        job::{JobNumber, JobType, Phase},
    },
    service::{
        ServiceError,
        engine::Engine,
        jobs::{JobHandle, JobOutcome, JobRequest},
        operations::{Caller, UndoOptions, UndoSummary},
    },
    source::Settled,
};

/// One thing that an undo can bring back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UndoCopy {
    /// The run of the job that replaced it.
    pub(super) run_id: RunId,
    /// That job's number.
    pub(super) job: JobNumber,
    /// The source of the backup that was restored.
    pub(super) source: String,
    /// That backup, in hex.
    pub(super) backup: String,
    /// The target that was asked for; empty for the original.
    pub(super) to: String,
    /// Whether that job was itself an undo.
    pub(super) undid: bool,
    /// When, microseconds since the epoch.
    pub(super) made_at: u64,
    /// When it is dropped.
    pub(super) until: u64,
    /// Its size, bytes; 0 where it was not measured.
    #[serde(default)]
    pub(super) bytes: u64,
    /// What.
    pub(super) kept: Kept,
}

impl Record for UndoCopy {
    const WHAT: &'static str = "the undo record";
    const FOLDER: &'static str = "undo";

    fn run_id(&self) -> RunId {
        self.run_id
    }
}

impl UndoCopy {
    /// A job about it, which no other about its target runs beside.
    fn request(&self, job_type: JobType, caller: Caller) -> JobRequest {
        JobRequest {
            job_type,
            source: self.source.clone(),
            exclusive: vec![exclusive_key(&self.source, &self.to)],
            backup: self.backup.clone(),
            uid: caller.uid,
            timeout: None,
        }
    }

    fn summary(&self) -> UndoSummary {
        UndoSummary {
            job: self.job,
            run_id: self.run_id,
            source: self.source.clone(),
            backup: self.backup.clone(),
            target: self.kept.target(),
            kept: self.kept.place(),
            undid: self.undid,
            made_at: self.made_at,
            until: self.until,
            bytes: self.bytes,
        }
    }
}

/// Notes how large what a run keeps is, for people: where that cannot be told, nothing else suffers.
pub(super) fn measure(engine: &Engine, run_id: RunId) {
    let measured = || -> Result<(), ServiceError> {
        let journal = Journal::of(engine);
        let Some(copy) = journal.copies.get(run_id)? else { return Ok(()) };
        match copy.kept.size(engine, &copy.source)? {
            Some(bytes) => journal.copies.add(&UndoCopy { bytes, ..copy }),
            None => Ok(()),
        }
    };
    if let Err(error) = measured() {
        tracing::debug!(%error, "the size of an undo copy is not known");
    }
}

/// What can be undone, the oldest first.
pub(in crate::service) fn list(engine: &Engine) -> Result<Vec<UndoSummary>, ServiceError> {
    Ok(Journal::of(engine).copies.all()?.iter().map(UndoCopy::summary).collect())
}

/// The copy that a job made. The job's number is never reused, so it says which.
fn find(journal: &Journal, job: JobNumber) -> Result<UndoCopy, ServiceError> {
    let copies = journal.copies.all()?;
    copies.iter().find(|copy| copy.job == job).cloned().ok_or_else(|| {
        let known: Vec<String> = copies.iter().map(|copy| copy.job.to_string()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let message = format!(
            "job {job} left nothing that can be undone: it replaced nothing, was undone already, or its time is over; \
             jobs that can be undone: {known}"
        );
        ServiceError::new(ErrorCode::NoSuchJob, message)
    })
}

/// The source that the undo of a job is about.
pub(in crate::service) fn source_of(engine: &Engine, job: JobNumber) -> Result<String, ServiceError> {
    Ok(find(&Journal::of(engine), job)?.source)
}

/// What an undo would do, as JSON. Touches nothing.
pub(in crate::service) fn plan(engine: &Engine, job: JobNumber) -> Result<serde_json::Value, ServiceError> {
    let copy = find(&Journal::of(engine), job)?;
    let size = copy.kept.size(engine, &copy.source)?;
    Ok(json!({
        "job": copy.job,
        "source": copy.source,
        "target": copy.kept.target(),
        "kept": copy.kept.place(),
        "kept_since": copy.made_at,
        "until": copy.until,
        "bytes": size,
        "steps": copy.kept.steps(copy.made_at),
        "obstacles": Vec::from_iter(copy.kept.objection(size)),
    }))
}

/// Submits the undo of a job.
pub(in crate::service) fn submit(
    engine: &Arc<Engine>,
    caller: Caller,
    job: JobNumber,
    options: UndoOptions,
) -> Result<JobNumber, ServiceError> {
    let copy = find(&Journal::of(engine), job)?;
    copy.kept.check_reachable(engine, &copy.source)?;
    let request = copy.request(JobType::Undo, caller);
    let engine_of_job = engine.clone();
    engine.jobs().submit(request, Box::new(move |handle| run(&engine_of_job, job, &options, handle)))
}

fn run(
    engine: &Arc<Engine>,
    undone: JobNumber,
    options: &UndoOptions,
    job: &JobHandle,
) -> Result<JobOutcome, ServiceError> {
    job.context.progress.enter(Phase::Checking);
    let journal = Journal::of(engine);
    let copy = find(&journal, undone)?;
    tend::clear(engine, &copy.source);
    if let Some(why) = copy.kept.objection(copy.kept.size(engine, &copy.source)?) {
        return Err(ServiceError::new(ErrorCode::RestoreRefused, format!("cannot undo job {undone}: {why}")));
    }
    let swap = copy.kept.reversed(job.run_id);
    let entry = Entry {
        run_id: job.run_id,
        job: job.number,
        source: copy.source.clone(),
        backup: copy.backup.clone(),
        to: copy.to.clone(),
        temporary: None,
        swap: Some(swap.clone()),
        undoes: Some(copy.run_id),
    };
    journal.entries.add(&entry)?;
    hit("undo-planned")?;
    job.context.progress.enter(Phase::Committing);
    if let Err(error) = swap.exchange(engine, &copy.source, options, &job.context)
        && swap.settle(engine, &copy.source)? == Settled::NotSwapped
    {
        journal.entries.remove(job.run_id)?;
        return Err(error);
    }
    hit("undo-swapped")?;
    journal.swapped(&entry, &swap, engine.config().undo.keep)?;
    hit("undo-noted")?;
    swap.finish()?;
    journal.entries.remove(job.run_id)?;
    measure(engine, job.run_id);
    engine.tending().wake();
    engine.changes_noted();
    Ok(JobOutcome::new(None, Undone::new(&swap, undone)))
}

/// Passes a fail point.
fn hit(name: &'static str) -> Result<(), ServiceError> {
    fail_point::hit(name).map_err(|error| ServiceError::new(ErrorCode::Io, format!("cannot pass {name}: {error}")))
}

/// What an undo did.
#[derive(Debug, Serialize)]
struct Undone {
    /// The database that is as it was before the restore.
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<Name>,
    /// Or the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    /// What was taken away, kept for an undo of the undo.
    kept: Name,
    /// The job that was undone.
    undone: JobNumber,
}

impl Undone {
    fn new(swap: &Kept, undone: JobNumber) -> Self {
        let (database, path, kept) = match swap {
            Kept::Database(swap) => (Some(swap.name.clone()), None, swap.kept.clone()),
            Kept::File(swap) => (None, Some(swap.path.clone()), Name::from(swap.kept.to_string_lossy().into_owned())),
        };
        Self { database, path, kept, undone }
    }
}

/// Submits the dropping of what a job keeps, before its time.
pub(in crate::service) fn submit_forget(
    engine: &Arc<Engine>,
    caller: Caller,
    job: JobNumber,
) -> Result<JobNumber, ServiceError> {
    let copy = find(&Journal::of(engine), job)?;
    let request = copy.request(JobType::Forget, caller);
    let engine_of_job = engine.clone();
    let work = move |handle: &JobHandle| {
        handle.context.progress.enter(Phase::Deleting);
        let journal = Journal::of(&engine_of_job);
        let copy = find(&journal, job)?;
        drop_copy(&engine_of_job, &journal, &copy)?;
        engine_of_job.tending().wake();
        Ok(JobOutcome::new(None, json!({ "forgotten": job, "kept": copy.summary().kept })))
    };
    engine.jobs().submit(request, Box::new(work))
}

/// Drops what a job of this moment has kept.
pub(super) fn forget_now(engine: &Engine, job: JobNumber) -> Result<(), ServiceError> {
    let journal = Journal::of(engine);
    match find(&journal, job) {
        Ok(copy) => drop_copy(engine, &journal, &copy),
        // It replaced nothing.
        Err(error) if error.code() == ErrorCode::NoSuchJob => Ok(()),
        Err(error) => Err(error),
    }
}

/// Drops a copy, then its record.
pub(super) fn drop_copy(engine: &Engine, journal: &Journal, copy: &UndoCopy) -> Result<(), ServiceError> {
    copy.kept.drop(engine, &copy.source)?;
    journal.copies.remove(copy.run_id)?;
    tracing::info!(
        MESSAGE_ID = crate::model::message_id::LEFTOVERS_REMOVED,
        BACKUPD_JOB = %copy.run_id,
        BACKUPD_SOURCE = copy.source,
        "dropped {}, which job {} had kept for an undo{}",
        copy.kept,
        copy.job,
        if copy.until <= now_micros() { " until now" } else { "" }
    );
    engine.changes_noted();
    Ok(())
}
