//! Deleting a backup: first the record that says so, then everything that only it needed.

use super::{
    OwnedRepository, RepositoryError,
    gc::{GcOptions, GcReport},
    layout::BackupFolder,
    listing::{BackupObjects, FolderState},
    records::{self, Record},
};
use crate::{fail_point, stream::Cancel};

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
        self.mark_deleted(folder, options.now)?;
        self.free_space(options, cancel)
    }

    /// Writes the record that a user deleted this backup at `now`, microseconds since the epoch: from then on it does not
    /// exist any more. [`OwnedRepository::free_space`] frees what only it needed.
    ///
    /// # Errors
    /// `NoSuchBackup`, and what the storage meets.
    pub fn mark_deleted(&self, folder: &BackupFolder, now: u64) -> Result<(), RepositoryError> {
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
        let record = Record::Deleted { at: now, id: folder.id, sequence, by_name: true };
        records::write(self, backup, &record)?;
        fail_point::hit("record-written").map_err(RepositoryError::Stream)
    }

    fn highest_readable(&self, folders: &[BackupObjects]) -> u64 {
        let known = folders.iter().filter(|folder| folder.state() != FolderState::Stray);
        known.filter_map(|folder| self.sequence_of(folder).ok()).max().unwrap_or_default()
    }
}
