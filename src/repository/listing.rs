//! What is below `backups/`: backups, tombstones, and what a crash left.

use super::{
    RepositoryError,
    layout::{BACKUPS, BackupFolder, DELETED, MANIFEST},
    storage::{Object, Storage},
};
use crate::model::SourceKey;

/// A folder below `backups/` with its objects, whose keys are relative to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupObjects {
    /// The folder.
    pub folder: BackupFolder,
    /// What is in it, in order of the names.
    pub objects: Vec<Object>,
}

/// What a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderState {
    /// A backup.
    Backup,
    /// A backup with a deletion record: it does not exist any more, but its files do.
    Deleted,
    /// The deletion record of a backup that is gone.
    Tombstone,
    /// What a backup left that never was committed.
    Stray,
}

impl BackupObjects {
    /// Whether the folder has this object.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.objects.iter().any(|object| object.key == name)
    }

    /// What it is.
    #[must_use]
    pub fn state(&self) -> FolderState {
        match (self.has(MANIFEST), self.has(DELETED)) {
            (true, false) => FolderState::Backup,
            (true, true) => FolderState::Deleted,
            (false, true) => FolderState::Tombstone,
            (false, false) => FolderState::Stray,
        }
    }
}

/// All folders of backups, of one source or of all, in order of source and time. Objects that are in no folder of a
/// backup are passed over: they are not ours.
pub(crate) fn read(storage: &dyn Storage, source: Option<&SourceKey>) -> Result<Vec<BackupObjects>, RepositoryError> {
    let prefix = source.map_or_else(|| BACKUPS.to_owned(), |source| format!("{BACKUPS}{}/", source.folder()));
    let mut folders: Vec<BackupObjects> = Vec::new();
    for Object { key, size } in storage.list(&prefix)? {
        let Some((folder, name)) = BackupFolder::parse(&key) else { continue };
        let object = Object { key: name.to_owned(), size };
        match folders.last_mut() {
            Some(last) if last.folder == folder => last.objects.push(object),
            _ => folders.push(BackupObjects { folder, objects: vec![object] }),
        }
    }
    Ok(folders)
}
