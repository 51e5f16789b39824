//! Opening a repository: to read, which needs no lock and writes nothing, or as its one owner.

use std::{
    collections::{HashMap, HashSet},
    ops::Deref,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use sha2::{Digest as _, Sha256};

use super::{
    RepositoryError,
    layout::{
        BackupFolder, DELETED, HELP_FILES, MANIFEST, PACKS, REPOSITORY_FILE, RepositoryFile, RepositoryFileError,
        this_writer,
    },
    listing::{self, BackupObjects, FolderState},
    records::{self, Record},
    session::{self, Session},
    storage::{Lease, LocalStorage, PutMode, Storage, StorageError, StorageErrorKind},
};
use crate::clock::now_micros;
use crate::model::{
    BackupId, RunId, SourceKey,
    manifest::{CodecName, FORMAT, Manifest, ManifestError},
    summary::BackupSummary,
};

/// A repository that can be read. Clones share it.
#[derive(Debug, Clone)]
pub struct Repository {
    storage: Arc<dyn Storage>,
    file: Arc<RepositoryFile>,
}

impl Repository {
    /// Opens a repository for reading: no lock is taken and nothing is written, so it may lie on read-only media.
    ///
    /// # Errors
    /// `RepositoryUnavailable` where there is none or it cannot be read, `UnsupportedFormat` where it is newer than
    /// this program, `RepositoryDamaged` where its file cannot be understood.
    pub fn open(storage: Arc<dyn Storage>) -> Result<Self, RepositoryError> {
        let name = storage.name();
        let unavailable = |reason: String| RepositoryError::Unavailable { name: name.clone(), reason };
        let bytes = storage.get(REPOSITORY_FILE).map_err(|error| match error.kind {
            StorageErrorKind::NotFound => {
                unavailable(format!("it has no {REPOSITORY_FILE}. Is the path right, and its file system mounted?"))
            }
            _ => unavailable(error.to_string()),
        })?;
        let file = RepositoryFile::parse(&bytes).map_err(|error| match error {
            RepositoryFileError::TooNew(reason) => {
                RepositoryError::TooNew { object: format!("the repository {name}"), reason }
            }
            RepositoryFileError::Malformed(reason) => {
                RepositoryError::damaged(format!("{name}/{REPOSITORY_FILE}"), reason)
            }
        })?;
        Ok(Self { storage, file: file.into() })
    }

    /// [`Repository::open`] on a directory.
    ///
    /// # Errors
    /// As [`Repository::open`].
    pub fn open_path(path: &Path) -> Result<Self, RepositoryError> {
        Self::open(Arc::new(LocalStorage::new(path)))
    }

    /// The storage.
    #[must_use]
    pub fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// What the packs hold, bytes, and how many there are.
    ///
    /// # Errors
    /// As [`Repository::open`].
    pub(crate) fn packs_size(&self) -> Result<(u64, u64), RepositoryError> {
        let packs = self.storage.list(PACKS)?;
        Ok((packs.iter().map(|pack| pack.size).sum(), packs.len() as u64))
    }

    pub(crate) fn shared_storage(&self) -> Arc<dyn Storage> {
        self.storage.clone()
    }

    /// What the repository is.
    #[must_use]
    pub fn file(&self) -> &RepositoryFile {
        &self.file
    }

    /// How its chunks are stored.
    #[must_use]
    pub fn codec(&self) -> CodecName {
        self.file.codec
    }

    /// Fails where the repository was created with another codec than the one that is wanted.
    ///
    /// # Errors
    /// `ConfigInvalid`.
    pub fn require_codec(&self, codec: CodecName) -> Result<(), RepositoryError> {
        if self.codec() == codec {
            return Ok(());
        }
        let (created, asked) = (self.codec().as_str(), codec.as_str());
        Err(RepositoryError::OtherCodec { name: self.storage().name(), created, asked })
    }

    /// Fails unless the storage still holds this very repository: an empty or other file system mounted in its place
    /// must not be mistaken for a repository in which everything was deleted.
    pub(crate) fn check_present(&self) -> Result<(), RepositoryError> {
        let now = Self::open(self.storage.clone())?;
        if now.file.id == self.file.id {
            return Ok(());
        }
        Err(RepositoryError::Unavailable {
            name: self.storage.name(),
            reason: "another repository lies in its place now".to_owned(),
        })
    }

    /// The folders of one source, or of all.
    pub(crate) fn folders(&self, source: Option<&SourceKey>) -> Result<Vec<BackupObjects>, RepositoryError> {
        listing::read(self.storage(), source)
    }

    /// Finds a backup by its id; one that is deleted is not found.
    ///
    /// # Errors
    /// `NoSuchBackup`, and what the storage meets.
    pub fn find(&self, id: BackupId) -> Result<BackupObjects, RepositoryError> {
        self.folders(None)?
            .into_iter()
            .find(|backup| backup.folder.id == id && backup.state() == FolderState::Backup)
            .ok_or(RepositoryError::NoSuchBackup(id))
    }

    /// The folder of a backup that was listed.
    #[must_use]
    pub fn folder_of(summary: &BackupSummary) -> BackupFolder {
        BackupFolder::new(&summary.source, summary.snapshot_at, summary.id)
    }

    /// A backup's manifest, verified against the folder's name, as it is stored and as it reads.
    ///
    /// # Errors
    /// `NoSuchBackup`, `BackupDamaged`, `UnsupportedFormat`, and what the storage meets.
    pub fn manifest(&self, folder: &BackupFolder) -> Result<(Manifest, Vec<u8>), RepositoryError> {
        let bytes = self.storage.get(&folder.key(MANIFEST)).map_err(|error| match error.kind {
            StorageErrorKind::NotFound => RepositoryError::NoSuchBackup(folder.id),
            _ => error.into(),
        })?;
        let damaged = |reason: String| RepositoryError::BackupDamaged { id: folder.id, reason };
        if manifest_id(&bytes) != folder.id {
            return Err(damaged("the SHA-256 of its manifest.json is not its id".to_owned()));
        }
        let manifest = Manifest::parse(&bytes).map_err(|error| match error {
            ManifestError::TooNew { .. } => {
                RepositoryError::TooNew { object: format!("backup {}", folder.id), reason: error.to_string() }
            }
            ManifestError::Malformed(_) => damaged(error.to_string()),
        })?;
        if manifest.source != folder.source {
            return Err(damaged(format!(
                "its manifest is of source {}, its folder of {}",
                manifest.source, folder.source
            )));
        }
        Ok((manifest, bytes))
    }

    /// The records about a backup, oldest first.
    ///
    /// # Errors
    /// `RepositoryDamaged` where a record cannot be read, and what the storage meets.
    pub fn records(&self, folder: &BackupFolder) -> Result<Vec<Record>, RepositoryError> {
        let prefix = format!("{}/", folder.path());
        let objects = self.storage.list(&prefix)?.into_iter().filter_map(|mut object| {
            object.key = object.key.strip_prefix(&prefix)?.to_owned();
            Some(object)
        });
        records::read(self, &BackupObjects { folder: folder.clone(), objects: objects.collect() })
    }
}

/// The first 128 bits of the SHA-256 of a manifest's bytes.
pub(crate) fn manifest_id(bytes: &[u8]) -> BackupId {
    let hash = Sha256::digest(bytes);
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    BackupId(id)
}

/// A repository that this process may write to. Clones share it; the lock goes with the last one.
#[derive(Debug, Clone)]
pub struct OwnedRepository {
    shared: Arc<Owned>,
}

#[derive(Debug)]
struct Owned {
    repository: Repository,
    /// Held shared around every step that makes packs live, and alone around every step that deletes dead ones.
    gate: RwLock<()>,
    /// Held while a backup takes its sequence and commits.
    commits: Mutex<()>,
    /// The sessions of backups that run in this process; all others are of processes that died.
    running: Mutex<HashSet<RunId>>,
    /// Sequences that were read from manifests, which never change.
    sequences: Mutex<HashMap<BackupId, u64>>,
    _lease: Box<dyn Lease>,
}

impl Deref for OwnedRepository {
    type Target = Repository;
    fn deref(&self) -> &Repository {
        &self.shared.repository
    }
}

impl OwnedRepository {
    /// Becomes the owner of a repository that exists, and removes what an earlier owner's crash left.
    ///
    /// # Errors
    /// `RepositoryLocked` naming the present owner; as [`Repository::open`] otherwise.
    pub fn open(storage: Arc<dyn Storage>) -> Result<Self, RepositoryError> {
        // Before the lock, so that a path that is wrong is not written to.
        let _ = Repository::open(storage.clone())?;
        let lease = lock(&*storage)?;
        Self::with_lease(Repository::open(storage)?, lease)
    }

    /// Creates a repository where there is none, finishes one whose creation was interrupted, or opens the one that is
    /// there.
    ///
    /// # Errors
    /// `ConfigInvalid` where one with another codec is there, `RepositoryUnavailable` where the place holds something
    /// else; as [`OwnedRepository::open`] otherwise.
    pub fn create(storage: Arc<dyn Storage>, codec: CodecName) -> Result<Self, RepositoryError> {
        let name = storage.name();
        let present =
            |error: StorageError| RepositoryError::Unavailable { name: name.clone(), reason: error.to_string() };
        if storage.size(REPOSITORY_FILE).is_err_and(|error| error.is_not_found()) {
            let ours = |key: &str| HELP_FILES.iter().any(|(name, _)| *name == key);
            if let Some(object) = storage.list("").map_err(present)?.iter().find(|object| !ours(&object.key)) {
                return Err(RepositoryError::Unavailable {
                    name,
                    reason: format!("it is not a repository, but holds {}. Give an empty directory", object.key),
                });
            }
        }
        let lease = lock(&*storage)?;
        let file = RepositoryFile {
            format: FORMAT,
            required_features: Vec::new(),
            optional_features: Vec::new(),
            id: uuid::Uuid::new_v4(),
            codec,
            created_at: now_micros(),
            writer: this_writer(),
        };
        let bytes = serde_json::to_vec_pretty(&file)
            .map_err(|e| RepositoryError::Misuse(format!("cannot write {REPOSITORY_FILE}: {e}")))?;
        write_help(&*storage)?;
        match storage.put(REPOSITORY_FILE, &bytes, PutMode::IfAbsent) {
            Err(error) if error.kind == StorageErrorKind::AlreadyExists => {}
            other => other?,
        }
        let repository = Repository::open(storage)?;
        repository.require_codec(codec)?;
        Self::with_lease(repository, lease)
    }

    /// [`OwnedRepository::create`] in a directory, which is made where it is missing; its parent must exist.
    ///
    /// # Errors
    /// As [`OwnedRepository::create`].
    pub fn create_path(path: &Path, codec: CodecName) -> Result<Self, RepositoryError> {
        let storage = LocalStorage::new(path);
        storage.create_root().map_err(|error| match error.kind {
            StorageErrorKind::NoSpace => error.into(),
            _ => RepositoryError::Unavailable { name: storage.name(), reason: error.to_string() },
        })?;
        Self::create(Arc::new(storage), codec)
    }

    fn with_lease(repository: Repository, lease: Box<dyn Lease>) -> Result<Self, RepositoryError> {
        let storage = repository.storage();
        write_help(storage)?;
        storage.sweep()?;
        for stray in repository.folders(None)?.iter().filter(|folder| folder.state() == FolderState::Stray) {
            for object in &stray.objects {
                storage.delete(&stray.folder.key(&object.key))?;
            }
        }
        let shared = Owned {
            repository,
            gate: RwLock::default(),
            commits: Mutex::default(),
            running: Mutex::default(),
            sequences: Mutex::default(),
            _lease: lease,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// To be held around a step that makes packs live: nothing is deleted meanwhile.
    pub(crate) fn enter(&self) -> RwLockReadGuard<'_, ()> {
        self.shared.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be held from judging what is dead until it is deleted: nothing becomes live meanwhile.
    pub(crate) fn close_gate(&self) -> RwLockWriteGuard<'_, ()> {
        self.shared.gate.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be held while a backup takes its sequence and commits.
    pub(crate) fn commits(&self) -> MutexGuard<'_, ()> {
        self.shared.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sessions of running backups, with mutable access.
    pub(crate) fn running(&self) -> MutexGuard<'_, HashSet<RunId>> {
        self.shared.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All sessions, each with whether it runs.
    pub(crate) fn sessions(&self) -> Result<Vec<(Session, bool)>, RepositoryError> {
        let sessions = session::read_all(self.storage())?;
        let running = self.running();
        Ok(sessions.into_iter().map(|s| (running.contains(&s.head.run_id), s)).map(|(runs, s)| (s, runs)).collect())
    }

    /// The sequence of a folder that is a backup or was one, also where its manifest is damaged as far as it still
    /// shows the number.
    pub(crate) fn sequence_of(&self, backup: &BackupObjects) -> Result<u64, RepositoryError> {
        let id = backup.folder.id;
        let mut known = self.shared.sequences.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sequence) = known.get(&id) {
            return Ok(*sequence);
        }
        let sequence = if backup.state() == FolderState::Tombstone {
            match records::read_one(self.storage(), &backup.folder.key(DELETED))? {
                Record::Deleted { sequence, .. } => sequence,
                _ => return Err(RepositoryError::damaged(backup.folder.key(DELETED), "not a deletion record")),
            }
        } else {
            let key = backup.folder.key(MANIFEST);
            let bytes = self.storage().get(&key)?;
            find_sequence(&bytes).ok_or_else(|| {
                RepositoryError::damaged(&key, "it does not show its sequence; delete this backup first")
            })?
        };
        known.insert(id, sequence);
        Ok(sequence)
    }
}

/// The number after `"sequence":`, read without relying on the rest of the document.
fn find_sequence(manifest: &[u8]) -> Option<u64> {
    let mark = b"\"sequence\":";
    let start = memchr::memmem::find(manifest, mark)? + mark.len();
    let digits: Vec<u8> = manifest[start..].iter().copied().take_while(u8::is_ascii_digit).collect();
    std::str::from_utf8(&digits).ok()?.parse().ok().filter(|sequence| *sequence < 1 << 53)
}

fn lock(storage: &dyn Storage) -> Result<Box<dyn Lease>, RepositoryError> {
    let writer = this_writer();
    let owner = format!(
        "{} {} on {}, process {}, since {}",
        writer.program,
        writer.version,
        writer.host,
        std::process::id(),
        chrono::Utc::now().format("%Y-%m-%dT%H:%M:%SZ")
    );
    storage.lock(&owner).map_err(|error| match error.kind {
        StorageErrorKind::Locked => RepositoryError::Locked { name: storage.name(), owner: error.source.to_string() },
        StorageErrorKind::NoSpace => error.into(),
        _ => RepositoryError::Unavailable { name: storage.name(), reason: error.to_string() },
    })
}

fn write_help(storage: &dyn Storage) -> Result<(), RepositoryError> {
    for (name, text) in HELP_FILES {
        if storage.get(name).ok().as_deref() != Some(text.as_bytes()) {
            storage.put(name, text.as_bytes(), PutMode::Overwrite)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_many_readers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        assert_eq!(Repository::open_path(&path).unwrap_err().code().name(), "RepositoryUnavailable");
        let owned = OwnedRepository::create_path(&path, CodecName::Gzip).unwrap();
        let error = OwnedRepository::create_path(&path, CodecName::Gzip).unwrap_err();
        assert_eq!(error.code().name(), "RepositoryLocked");
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        let reader = Repository::open_path(&path).unwrap();
        assert_eq!(reader.file(), owned.file());
        drop(owned);
        let again = OwnedRepository::create_path(&path, CodecName::Gzip).unwrap();
        assert_eq!(again.file(), reader.file());
        drop(again);
        assert_eq!(OwnedRepository::create_path(&path, CodecName::Zstd).unwrap_err().code().name(), "ConfigInvalid");
    }

    #[test]
    fn nothing_is_created_among_other_files() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("letter.txt"), "dear").unwrap();
        assert!(OwnedRepository::create_path(folder.path(), CodecName::Gzip).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(OwnedRepository::create_path(&folder.path().join("a/b"), CodecName::Gzip).is_err());
    }

    #[test]
    fn a_newer_repository_is_refused_as_newer() {
        let folder = tempfile::tempdir().unwrap();
        drop(OwnedRepository::create_path(folder.path(), CodecName::Gzip).unwrap());
        std::fs::write(folder.path().join(REPOSITORY_FILE), "{\"format\": 2, \"what\": []}").unwrap();
        assert_eq!(Repository::open_path(folder.path()).unwrap_err().code().name(), "UnsupportedFormat");
        assert_eq!(
            OwnedRepository::open(Arc::new(LocalStorage::new(folder.path()))).unwrap_err().code().name(),
            "UnsupportedFormat"
        );
    }

    #[test]
    fn sequences_are_read_from_damaged_manifests_too() {
        assert_eq!(find_sequence(b"{\"a\":\xff\"sequence\":17,\"b\""), Some(17));
        assert_eq!(find_sequence(b"{\"sequence\":x"), None);
        assert_eq!(find_sequence(b"{}"), None);
    }
}
