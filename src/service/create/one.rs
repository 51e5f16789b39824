//! One backup of one database or file.

use super::{
    suspicion::{Holdings, suspicions},
    taking::{Preflight, Taking},
};
use crate::{
    clock::now_micros,
    config::{Config, SourceConfig},
    model::{ErrorCode, RunId, SourceKey, job::Phase, manifest::Manifest, message_id, summary::BackupSummary},
    repository::{BeginBackup, Committed, ManifestFacts, Record, Repository},
    service::{ServiceError, engine::Engine, operations::CreateOptions},
    source::JobContext,
};

/// Backups that are looked at for one of the same selection.
const COMPARED: usize = 8;

/// One backup in the making.
pub(super) struct Creation<'a> {
    pub(super) engine: &'a Engine,
    pub(super) config: &'a Config,
    pub(super) source: &'a SourceConfig,
    pub(super) options: &'a CreateOptions,
    pub(super) key: SourceKey,
    pub(super) run_id: RunId,
    /// Whether the run takes every database of the source.
    pub(super) whole_run: bool,
}

impl Creation<'_> {
    /// Checks, dumps, commits. The list of backups does not show it yet.
    pub(super) fn run(&self, taking: &Taking, context: &JobContext) -> Result<Committed, ServiceError> {
        context.progress.enter(Phase::Checking);
        let opened = self.engine.repository()?;
        let backups_before = opened.backups();
        let started_at = now_micros();
        // A job that waited finds another world than the one that was checked when it was asked for.
        let preflight = taking.preflight(context)?;
        self.check_space(&preflight)?;

        let mut writer = opened.owned().begin_backup(BeginBackup {
            source: self.key.clone(),
            run_id: self.run_id,
            whole_run: self.whole_run,
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
        if let Err(error) = self.look_for_losses(&committed, &backups_before) {
            // It is a backup all the same, and nothing that comes after it makes it none.
            tracing::error!(
                BACKUPD_ERROR = error.code().name(),
                "cannot look whether backup {} of {} is suspect: {error}",
                committed.id.short(),
                self.key
            );
        }
        for missing in &committed.manifest.incomplete {
            tracing::warn!(MESSAGE_ID = message_id::BACKUP_INCOMPLETE, BACKUPD_BACKUP = %committed.id, "backup of {} is without {}: {}", self.key, missing.what, missing.message);
        }
        Ok(committed)
    }

    /// Marks the backup as suspect if it holds suspiciously less than the last one that is not.
    fn look_for_losses(&self, committed: &Committed, before: &[BackupSummary]) -> Result<(), ServiceError> {
        let opened = self.engine.repository()?;
        let selection = |manifest: &Manifest| manifest.postgresql.as_ref().and_then(|facts| facts.selection.clone());
        let candidates = before.iter().filter(|b| b.source == self.key && b.is_good());
        for candidate in candidates.take(COMPARED) {
            // One that cannot be read is for a verification to find.
            let Ok((manifest, _)) = opened.reading().manifest(&Repository::folder_of(candidate)) else { continue };
            let same_kind = manifest.kind == committed.manifest.kind;
            if !same_kind || selection(&manifest) != selection(&committed.manifest) {
                continue;
            }
            let (was, is) = (Holdings::from(&manifest), Holdings::from(&committed.manifest));
            let findings = suspicions(&was, &is, self.source.suspicious_loss);
            if findings.is_empty() {
                return Ok(());
            }
            tracing::warn!(
                MESSAGE_ID = message_id::BACKUP_SUSPECT,
                BACKUPD_BACKUP = %committed.id,
                BACKUPD_SOURCE = %self.key,
                "backup {} of {} holds suspiciously less than #{}: {}",
                committed.id.short(),
                self.key,
                manifest.sequence,
                findings.join("; ")
            );
            let record = Record::Suspect { at: now_micros(), compared_with: candidate.id, findings };
            return Ok(opened.owned().record(committed.id, &record)?);
        }
        Ok(())
    }

    /// Refuses to begin what will not fit: the reserve of the repository's file system, and what this backup is likely
    /// to add. The last backup tells how much; for a first one an eighth of the database is taken, which compressed
    /// dumps without their indexes seldom stay below.
    fn check_space(&self, preflight: &Preflight) -> Result<(), ServiceError> {
        let opened = self.engine.repository()?;
        let Some(free) = opened.free_bytes()? else { return Ok(()) };
        let backups = opened.backups();
        let likely = match backups.iter().find(|backup| backup.source == self.key) {
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
                    self.key,
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
