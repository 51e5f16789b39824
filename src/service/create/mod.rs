//! `create`: checks, then one job that dumps a source into a new backup.

mod taking;

use std::sync::Arc;

use super::{
    engine::Engine,
    error::ServiceError,
    jobs::{JobHandle, JobOutcome, JobRequest},
    operations::{Caller, CreateOptions},
};
use crate::{
    clock::now_micros,
    config::{Config, SourceConfig},
    model::{
        ErrorCode, SourceKey, SourceName,
        job::{JobNumber, JobType, Phase},
        message_id,
    },
    repository::{BeginBackup, ManifestFacts},
};
use taking::{Preflight, Taking};

/// Two backups of one source never run at once.
pub(super) fn exclusive_key(source: &SourceName) -> String {
    format!("create {source}")
}

/// Makes the early checks and submits the job.
pub(super) fn submit(
    engine: &Arc<Engine>,
    caller: Caller,
    source: &str,
    options: CreateOptions,
) -> Result<JobNumber, ServiceError> {
    let (name, source) = engine.enabled_source(source)?;
    engine.repository()?;
    let key = exclusive_key(&name);
    if let Some(number) = engine.jobs().holder(&key) {
        return Err(ServiceError::new(
            ErrorCode::SourceBusy,
            format!("source {name} is being backed up by job {number}; wait for it or cancel it"),
        ));
    }
    let taking = Taking::of(&source.kind, &options.selection)?;
    taking.preflight(engine.early_checks()?.context())?;

    let job = JobRequest {
        job_type: JobType::Create,
        source: name.to_string(),
        exclusive: Some(key),
        backup: String::new(),
        uid: caller.uid,
        timeout: source.timeout,
    };
    let engine_of_job = engine.clone();
    let config = engine.config();
    engine.jobs().submit(
        job,
        Box::new(move |handle| {
            let backup =
                Creation { engine: &engine_of_job, config: &config, name: &name, source: &source, options: &options };
            backup.run(&taking, handle)
        }),
    )
}

/// One backup in the making.
struct Creation<'a> {
    engine: &'a Arc<Engine>,
    config: &'a Config,
    name: &'a SourceName,
    source: &'a SourceConfig,
    options: &'a CreateOptions,
}

impl Creation<'_> {
    fn run(&self, taking: &Taking, job: &JobHandle) -> Result<JobOutcome, ServiceError> {
        let context = &job.context;
        context.progress.enter(Phase::Checking);
        let opened = self.engine.repository()?;
        let started_at = now_micros();
        // A job that waited finds another world than the one that was checked when it was asked for.
        let preflight = taking.preflight(context)?;
        let key = SourceKey::single(self.name.clone());
        self.check_space(&key, &preflight)?;

        let mut writer = opened.owned().begin_backup(BeginBackup {
            source: key,
            run_id: job.run_id,
            started_at,
            level: self.config.repository.codec.level,
            chunker: preflight.chunker,
            threads: compression_threads(self.config),
            max_size: self.source.max_size,
            scratch: context.scratch.clone(),
            cancel: context.cancel.clone(),
            progress: context.progress.clone(),
            verify_members: self.config.repository.compare,
        })?;
        let facts = taking.take(&mut writer, context)?;
        context.progress.enter(Phase::Committing);
        context.cancel.check()?;
        let committed = writer.commit(ManifestFacts {
            description: self.options.description.clone(),
            tags: self.options.tags.clone(),
            ..facts
        })?;
        for missing in &committed.manifest.incomplete {
            tracing::warn!(MESSAGE_ID = message_id::BACKUP_INCOMPLETE, BACKUPD_BACKUP = %committed.id, "backup of {} is without {}: {}", self.name, missing.what, missing.message);
        }
        opened.refresh()?;
        Ok(JobOutcome::new(Some(committed.id), committed.manifest.statistics))
    }

    /// Refuses to begin what will not fit: the reserve of the repository's file system, and what this backup is likely
    /// to add. The last backup tells how much; for a first one an eighth of the database is taken, which compressed
    /// dumps without their indexes seldom stay below.
    fn check_space(&self, key: &SourceKey, preflight: &Preflight) -> Result<(), ServiceError> {
        let opened = self.engine.repository()?;
        let Some(free) = opened.free_bytes()? else { return Ok(()) };
        let backups = opened.backups();
        let likely = match backups.iter().find(|backup| backup.source == *key) {
            Some(last) => last.new_bytes,
            None => preflight.database_bytes / 8,
        };
        let reserve = self.config.repository.reserve;
        if free < reserve.saturating_add(likely) {
            return Err(ServiceError::new(
                ErrorCode::NoSpace,
                format!(
                    "cannot back up {}: the file system of {} has {free} bytes free, of which {reserve} are reserved, and \
                      the backup will likely add {likely}; free some space or lower [repository] reserve",
                    self.name,
                    self.config.repository.path.display()
                ),
            ));
        }
        Ok(())
    }
}

/// Threads that compress. One more than there are processors would only take time from the server on the same host.
fn compression_threads(config: &Config) -> usize {
    match config.limits.compression_threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads as usize,
    }
}
