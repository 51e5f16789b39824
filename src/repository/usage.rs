//! Who needs how much of the repository's space. The numbers add up: everything that is stored is counted once in
//! [`Usage::total`], and each of its parts is a sum over objects.
//!
//! A pack that several backups need is counted once as shared, whoever stored it; a backup that is deleted needs its packs
//! until it cannot be brought back any more.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    Repository, RepositoryError,
    layout::{BackupFolder, parse_pack_key},
    listing::FolderState,
};
use crate::{
    model::{BackupId, PackId, SourceKey},
    stream::Cancel,
};

/// What one backup needs, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackupUsage {
    /// Its own files: manifest, index, records.
    pub own: u64,
    /// Packs that no other backup needs.
    pub unique: u64,
    /// Packs that others need, too.
    pub shared: u64,
}

impl BackupUsage {
    /// What deleting it frees, when it cannot be brought back any more.
    #[must_use]
    pub fn freed_if_deleted(&self) -> u64 {
        self.own + self.unique
    }
}

/// What the backups of one source need, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceUsage {
    /// Files of its backups.
    pub own: u64,
    /// Packs that no backup of another source needs.
    pub unique: u64,
    /// Packs that backups of others need, too.
    pub shared: u64,
}

/// What everything needs, bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// By backup, listed ones.
    pub backups: BTreeMap<BackupId, BackupUsage>,
    /// By source, listed backups.
    pub sources: BTreeMap<SourceKey, SourceUsage>,
    /// The packs of each listed backup.
    pub packs: HashMap<BackupId, Vec<(PackId, u64)>>,
    /// Files of listed backups.
    pub own: u64,
    /// Packs that exactly one listed backup needs.
    pub unique: u64,
    /// Packs that several listed backups need.
    pub shared: u64,
    /// Files of deleted backups, and packs that only they need.
    pub deleted: u64,
    /// Packs that nothing needs, or only a session: freed later, or used by a retry.
    pub unreferenced: u64,
    /// Sessions, the description of the repository, what a damaged pack left, and whatever else is there.
    pub other: u64,
    /// Number of packs.
    pub pack_count: u64,
}

impl Usage {
    /// Bytes of all objects.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.own + self.unique + self.shared + self.deleted + self.unreferenced + self.other
    }
}

/// The bytes of a backup's own files, its source, and whether it is listed.
struct Folder {
    source: SourceKey,
    id: BackupId,
    own: u64,
    state: FolderState,
}

impl Repository {
    /// Counts everything. A backup whose manifest cannot be read needs its own files alone, as far as is known.
    ///
    /// # Errors
    /// `Canceled`, and what the storage meets.
    pub fn usage(&self, cancel: &Cancel) -> Result<Usage, RepositoryError> {
        let mut usage = Usage::default();
        let mut sizes: HashMap<PackId, u64> = HashMap::new();
        let mut folders: BTreeMap<BackupFolder, Folder> = BTreeMap::new();
        let states: HashMap<BackupFolder, FolderState> =
            self.folders(None)?.into_iter().map(|backup| (backup.folder.clone(), backup.state())).collect();
        for object in self.storage().list("")? {
            if let Some(id) = parse_pack_key(&object.key, self.codec()) {
                sizes.insert(id, object.size);
            } else if let Some((folder, _)) = BackupFolder::parse(&object.key) {
                let state = states.get(&folder).copied().unwrap_or(FolderState::Stray);
                let (source, id) = (folder.source.clone(), folder.id);
                folders.entry(folder).or_insert(Folder { source, id, own: 0, state }).own += object.size;
            } else {
                usage.other += object.size;
            }
        }
        usage.pack_count = u64::try_from(sizes.len()).unwrap_or(u64::MAX);
        let mut needed = Needed::default();
        for (folder, facts) in &folders {
            cancel.check()?;
            let packs = match facts.state {
                FolderState::Backup | FolderState::Deleted => self.needed_packs(folder, &sizes)?,
                FolderState::Tombstone | FolderState::Stray => Vec::new(),
            };
            match facts.state {
                FolderState::Backup => {
                    usage.own += facts.own;
                    needed.add(facts, &packs);
                    usage.backups.insert(facts.id, BackupUsage { own: facts.own, ..BackupUsage::default() });
                    usage.sources.entry(facts.source.clone()).or_default().own += facts.own;
                    usage.packs.insert(facts.id, packs);
                }
                FolderState::Deleted => {
                    usage.deleted += facts.own;
                    needed.by_deleted.extend(packs.iter().map(|(id, _)| *id));
                }
                FolderState::Tombstone | FolderState::Stray => usage.other += facts.own,
            }
        }
        needed.account(&mut usage, &sizes);
        Ok(usage)
    }

    fn needed_packs(
        &self,
        folder: &BackupFolder,
        sizes: &HashMap<PackId, u64>,
    ) -> Result<Vec<(PackId, u64)>, RepositoryError> {
        match self.manifest(folder) {
            Ok((manifest, _)) => {
                let packs = manifest.packs.iter().flatten();
                Ok(packs.filter_map(|pack| Some((pack.id, *sizes.get(&pack.id)?))).collect())
            }
            // It went away meanwhile, or nobody can tell what it needs.
            Err(RepositoryError::NoSuchBackup(_) | RepositoryError::BackupDamaged { .. }) => Ok(Vec::new()),
            Err(RepositoryError::TooNew { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// Who needs which pack.
#[derive(Default)]
struct Needed {
    /// The first listed backup that needs it, and its source; whether another one does, of another source.
    by_listed: HashMap<PackId, Needing>,
    by_deleted: HashSet<PackId>,
}

struct Needing {
    backup: BackupId,
    sources: HashSet<SourceKey>,
    several: bool,
}

impl Needed {
    fn add(&mut self, of: &Folder, packs: &[(PackId, u64)]) {
        for (id, _) in packs {
            let entry = self.by_listed.entry(*id).or_insert_with(|| Needing {
                backup: of.id,
                sources: HashSet::new(),
                several: false,
            });
            entry.several |= entry.backup != of.id;
            entry.sources.insert(of.source.clone());
        }
    }

    fn account(&self, usage: &mut Usage, sizes: &HashMap<PackId, u64>) {
        for (id, size) in sizes {
            let Some(needing) = self.by_listed.get(id) else {
                if self.by_deleted.contains(id) {
                    usage.deleted += size;
                } else {
                    usage.unreferenced += size;
                }
                continue;
            };
            if needing.several {
                usage.shared += size;
            } else {
                usage.unique += size;
            }
            for source in &needing.sources {
                let of_source = usage.sources.entry(source.clone()).or_default();
                if needing.sources.len() > 1 {
                    of_source.shared += size;
                } else {
                    of_source.unique += size;
                }
            }
        }
        for (backup, packs) in &usage.packs {
            let Some(of_backup) = usage.backups.get_mut(backup) else { continue };
            for (id, size) in packs {
                if self.by_listed.get(id).is_some_and(|needing| needing.several) {
                    of_backup.shared += size;
                } else {
                    of_backup.unique += size;
                }
            }
        }
    }
}
