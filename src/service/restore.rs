//! `restore`: a plan, then one job that carries it out, and what is left to do after a crash.

use std::sync::Arc;

use super::{
    engine::Engine,
    error::ServiceError,
    jobs::{JobHandle, JobOutcome, JobRequest},
    operations::{Caller, RestoreOptions},
    reading::open_reader,
    restore_journal::{Entry, RestoreJournal},
};
use crate::{
    config::{ConnectionSpec, PostgresConfig, SourceKind},
    model::{
        ErrorCode, Name, RunId,
        job::{JobNumber, JobType, Phase},
        summary::BackupSummary,
    },
    source::{
        JobContext, SetReader, SourceError,
        postgres::restore::{self as postgres_restore, RestoreChoices, RestoreReport, RestoreRequest},
    },
};

/// Where a restore goes.
#[derive(Debug, Clone)]
pub struct Target {
    /// The privileged connection.
    pub connection: ConnectionSpec,
    /// Where the client programs are; found by themselves when absent.
    pub client_bin_dir: Option<std::path::PathBuf>,
}

impl Target {
    /// The `[restore]` connection of a source, or its reading one where it has none.
    #[must_use]
    pub fn of(postgres: &PostgresConfig) -> Self {
        Self {
            connection: postgres.restore.clone().unwrap_or_else(|| postgres.connection.clone()),
            client_bin_dir: postgres.client_bin_dir.clone(),
        }
    }

    /// The target of the source that a backup came from.
    fn of_source(engine: &Engine, backup: &BackupSummary) -> Result<Self, ServiceError> {
        let config = engine.config();
        let source = config.sources.get(&backup.source.source).ok_or_else(|| {
            ServiceError::new(
                ErrorCode::NoSuchSource,
                format!(
                    "source {} of backup {} is not configured, so there is no connection to restore to",
                    backup.source,
                    backup.id.short()
                ),
            )
        })?;
        let SourceKind::Postgres(postgres) = &source.kind;
        Ok(Self::of(postgres))
    }

    fn request<'a>(
        &self,
        options: &RestoreOptions,
        run_id: RunId,
        on_temporary_name: &'a (dyn Fn(Option<&Name>) -> Result<(), SourceError> + Sync),
    ) -> RestoreRequest<'a> {
        RestoreRequest {
            connection: self.connection.clone(),
            options: RestoreChoices {
                to: (!options.to.is_empty()).then(|| Name::from(options.to.as_str())),
                create_roles: options.create_roles,
                no_owner: options.no_owner,
                no_privileges: options.no_privileges,
                tables: options.tables.clone(),
                jobs: options.jobs,
            },
            client_bin_dir: self.client_bin_dir.clone(),
            run_id,
            on_temporary_name,
        }
    }

    /// What a restore would do and what stands in its way. Touches nothing.
    ///
    /// # Errors
    /// When the backup cannot be read or the server does not answer; obstacles are part of the plan.
    pub fn plan(
        &self,
        reader: &dyn SetReader,
        options: &RestoreOptions,
        context: &JobContext,
    ) -> Result<postgres_restore::RestorePlan, ServiceError> {
        let request = self.request(options, RunId::new(), &|_| Ok(()));
        Ok(postgres_restore::plan(&request, reader, context)?)
    }

    /// Plans, and restores if nothing stands in the way.
    ///
    /// # Errors
    /// `RestoreRefused` or `TargetExists` with the obstacles, before anything was touched; what the restore meets,
    /// after the half-built database was dropped.
    pub fn restore(
        &self,
        reader: &dyn SetReader,
        options: &RestoreOptions,
        run_id: RunId,
        context: &JobContext,
        on_temporary_name: &(dyn Fn(Option<&Name>) -> Result<(), SourceError> + Sync),
    ) -> Result<RestoreReport, ServiceError> {
        context.progress.enter(Phase::Checking);
        let request = self.request(options, run_id, on_temporary_name);
        let plan = postgres_restore::plan(&request, reader, context)?;
        Ok(postgres_restore::carry_out(&plan, &request, reader, context)?)
    }
}

/// The plan, as JSON.
pub(super) fn plan(
    engine: &Arc<Engine>,
    backup: &str,
    options: &RestoreOptions,
) -> Result<serde_json::Value, ServiceError> {
    let (opened, summary) = engine.find(backup)?;
    let target = Target::of_source(engine, &summary)?;
    let checks = engine.early_checks()?;
    let reader = open_reader(opened.reading(), &summary, checks.context())?;
    let plan = target.plan(&reader, options, checks.context());
    serde_json::to_value(plan?).map_err(|error| ServiceError::new(ErrorCode::Internal, error.to_string()))
}

/// Submits the job.
pub(super) fn submit(
    engine: &Arc<Engine>,
    caller: Caller,
    backup: &str,
    options: RestoreOptions,
) -> Result<JobNumber, ServiceError> {
    let (_, summary) = engine.find(backup)?;
    let target = Target::of_source(engine, &summary)?;
    let job = JobRequest {
        job_type: JobType::Restore,
        source: summary.source.to_string(),
        exclusive: Some(format!("restore {} {}", summary.source, options.to)),
        backup: summary.id.to_string(),
        uid: caller.uid,
        timeout: None,
    };
    let engine_of_job = engine.clone();
    engine.jobs().submit(job, Box::new(move |handle| run(&engine_of_job, &summary, &target, &options, handle)))
}

fn run(
    engine: &Arc<Engine>,
    summary: &BackupSummary,
    target: &Target,
    options: &RestoreOptions,
    job: &JobHandle,
) -> Result<JobOutcome, ServiceError> {
    let opened = engine.repository()?;
    let reader = open_reader(opened.reading(), summary, &job.context)?;
    let journal = RestoreJournal::new(&engine.folders().state);
    let source = summary.source.source.to_string();
    let keep_journal = |name: Option<&Name>| {
        let kept = match name {
            Some(name) => journal.add(&Entry { run_id: job.run_id, source: source.clone(), database: name.clone() }),
            None => journal.remove(job.run_id),
        };
        kept.map_err(|error| SourceError::new(error.code(), error.to_string()))
    };
    let report = target.restore(&reader, options, job.run_id, &job.context, &keep_journal)?;
    Ok(JobOutcome::new(Some(summary.id), report))
}

/// Drops the half-built databases that an earlier run of the daemon left, in the background. A server that does not
/// answer now is asked again at the next start; the entry stays until then.
pub(super) fn sweep_after_crash(engine: &Arc<Engine>) {
    let journal = RestoreJournal::new(&engine.folders().state);
    let entries = match journal.entries() {
        Ok(entries) if entries.is_empty() => return,
        Ok(entries) => entries,
        Err(error) => {
            tracing::error!("{error}; databases that a crash left half restored stay, named *__restore_*");
            return;
        }
    };
    let engine = engine.clone();
    let runtime = engine.runtime().clone();
    runtime.clone().spawn_blocking(move || {
        for entry in entries {
            match sweep_one(&engine, &entry) {
                Ok(()) => {
                    tracing::info!("dropped {}, which an interrupted restore left", entry.database);
                    if let Err(error) = journal.remove(entry.run_id) {
                        tracing::warn!("{error}");
                    }
                }
                Err(error) => tracing::error!(
                    "cannot drop {}, which an interrupted restore of {} left: {error}; it is tried again at the next start",
                    entry.database,
                    entry.source
                ),
            }
        }
    });
}

fn sweep_one(engine: &Engine, entry: &Entry) -> Result<(), ServiceError> {
    let config = engine.config();
    let source = entry.source.parse().ok().and_then(|name| config.sources.get(&name)).ok_or_else(|| {
        ServiceError::new(ErrorCode::NoSuchSource, format!("source {} is not configured any more", entry.source))
    })?;
    let SourceKind::Postgres(postgres) = &source.kind;
    let checks = engine.early_checks()?;
    let names = std::slice::from_ref(&entry.database);
    Ok(postgres_restore::sweep(&Target::of(postgres).connection, names, checks.context())?)
}
