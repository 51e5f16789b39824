//! Deleting a backup: first the record that says so, then, when it cannot be brought back any more, everything that only
//! it needed. Bringing it back removes the record.

use super::{
    OwnedRepository, Repository, RepositoryError,
    gc::{GcOptions, GcReport},
    layout::{BackupFolder, DELETED},
    listing::{BackupObjects, FolderState},
    records::{self, Record},
};
use crate::{
    fail_point,
    model::{BackupId, summary::BackupSummary},
    stream::Cancel,
};

/// How a backup is deleted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Deletion {
    /// The present time, microseconds since the epoch.
    pub now: u64,
    /// Whether somebody named this very backup, rather than a rule.
    pub by_name: bool,
    /// Whether it goes at once, so that it cannot be brought back.
    pub at_once: bool,
}

/// A backup that is deleted and can still be brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedBackup {
    /// What it is.
    pub summary: BackupSummary,
    /// When it was deleted, microseconds since the epoch.
    pub at: u64,
    /// Whether somebody named it, rather than a rule.
    pub by_name: bool,
    /// Whether its space is freed as soon as nothing is based on it.
    pub at_once: bool,
}

impl Repository {
    /// The deleted backups whose manifests are still there, in order of their sources and times.
    ///
    /// # Errors
    /// What the storage meets. One that is damaged is passed over: nobody wants it back.
    pub fn deleted(&self) -> Result<Vec<DeletedBackup>, RepositoryError> {
        let mut deleted = Vec::new();
        for backup in self.folders(None)?.iter().filter(|backup| backup.state() == FolderState::Deleted) {
            match self.one_deleted(backup) {
                Ok(found) => deleted.extend(found),
                // It went away meanwhile, or cannot be restored anyway.
                Err(RepositoryError::NoSuchBackup(_) | RepositoryError::BackupDamaged { .. }) => {}
                Err(RepositoryError::Damaged { .. } | RepositoryError::TooNew { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(deleted)
    }

    fn one_deleted(&self, backup: &BackupObjects) -> Result<Option<DeletedBackup>, RepositoryError> {
        let (manifest, _) = self.manifest(&backup.folder)?;
        let mut summary = BackupSummary::of(backup.folder.id, &manifest);
        let records = records::read(self, backup)?;
        records::apply(&records, &mut summary);
        Ok(records.iter().rev().find_map(|record| match record {
            Record::Deleted { at, by_name, at_once, .. } => {
                Some(DeletedBackup { summary: summary.clone(), at: *at, by_name: *by_name, at_once: *at_once })
            }
            _ => None,
        }))
    }
}

impl OwnedRepository {
    /// Deletes one backup that a user named, and frees what only it needed. From the moment the record is written the
    /// backup does not exist any more; where a running backup is based on it, its files stay until that one ends. A
    /// backup may be deleted whatever share of the repository it is: its loss is explained.
    ///
    /// # Errors
    /// `NoSuchBackup`; as [`OwnedRepository::free_space`], when the backup is deleted but the space not freed yet:
    /// freeing space later does that.
    pub fn delete_backup(
        &self,
        folder: &BackupFolder,
        options: GcOptions,
        cancel: &Cancel,
    ) -> Result<GcReport, RepositoryError> {
        self.mark_deleted(folder, Deletion { now: options.now, by_name: true, at_once: false })?;
        self.free_space(options, cancel)
    }

    /// Writes the record that this backup is deleted: from then on it does not exist any more.
    /// [`OwnedRepository::free_space`] frees what only it needed, when it cannot be brought back any more.
    ///
    /// # Errors
    /// `NoSuchBackup`, and what the storage meets.
    pub fn mark_deleted(&self, folder: &BackupFolder, deletion: Deletion) -> Result<(), RepositoryError> {
        self.check_present()?;
        let _gate = self.close_gate();
        let folders = self.folders(Some(&folder.source))?;
        let backup = folders
            .iter()
            .find(|backup| backup.folder == *folder && backup.state() == FolderState::Backup)
            .ok_or(RepositoryError::NoSuchBackup(folder.id))?;
        let sequence = match self.sequence_of(backup) {
            // Nothing in the damaged manifest shows it: what comes behind all others cannot be too low by more than
            // what was deleted before.
            Err(RepositoryError::Damaged { .. }) => self.highest_readable(&folders) + 1,
            other => other?,
        };
        let Deletion { now, by_name, at_once } = deletion;
        let record = Record::Deleted { at: now, id: folder.id, sequence, by_name, at_once };
        records::write(self, backup, &record)?;
        fail_point::hit("record-written").map_err(RepositoryError::Stream)
    }

    /// Brings a deleted backup back. All of it is still there as long as its manifest is: freeing space removes that
    /// first, and both hold the gate.
    ///
    /// # Errors
    /// `NoSuchBackup` where it was not deleted, or is gone; what the storage meets.
    pub fn undelete(&self, id: BackupId) -> Result<(), RepositoryError> {
        self.check_present()?;
        let _gate = self.close_gate();
        let folders = self.folders(None)?;
        let found = folders.iter().find(|backup| backup.folder.id == id && backup.state() == FolderState::Deleted);
        let backup = found.ok_or(RepositoryError::NoSuchBackup(id))?;
        Ok(self.storage().delete(&backup.folder.key(DELETED))?)
    }

    fn highest_readable(&self, folders: &[BackupObjects]) -> u64 {
        let known = folders.iter().filter(|folder| folder.state() != FolderState::Stray);
        known.filter_map(|folder| self.sequence_of(folder).ok()).max().unwrap_or_default()
    }
}
