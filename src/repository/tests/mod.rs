//! Tests of the repository as a whole. What concerns one module alone is tested beside it.

mod deleting;
mod faults;
mod flips;
mod model;
mod round_trip;

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    BackupFolder, BeginBackup, Catalog, Committed, GcOptions, LocalStorage, ManifestFacts, OwnedRepository, Repository,
    RepositoryError, Storage, VerifyReport, verify::Level,
};
use crate::{
    clock::now_micros,
    model::{
        RunId, SourceKey,
        manifest::{ChunkerParameters, CodecName, FileRole, Kind},
    },
    source::{SetReader as _, SetSink as _},
    stream::{Cancel, Progress},
};

/// The files of a set, by name.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// A folder with room for a repository and scratch.
pub(super) struct World {
    folder: tempfile::TempDir,
}

impl World {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("repository")
    }

    pub(super) fn scratch(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(LocalStorage::new(self.path()))
    }

    /// Becomes the owner. A lock that was just let go is held for a moment longer where another test starts a program:
    /// until that is executed, the fork has the descriptor, too.
    pub(super) fn own(&self) -> OwnedRepository {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            match OwnedRepository::create_path(&self.path(), CodecName::Gzip) {
                Err(RepositoryError::Locked { .. }) if Instant::now() < end => std::thread::yield_now(),
                owned => return owned.unwrap(),
            }
        }
    }

    pub(super) fn begin(&self) -> BeginBackup {
        begin(self.scratch())
    }

    /// Bytes of all files of the repository, but the lock's.
    pub(super) fn size(&self) -> u64 {
        self.storage().list("").unwrap().iter().map(|object| object.size).sum()
    }
}

pub(super) fn source() -> SourceKey {
    SourceKey::single("shop".parse().unwrap())
}

pub(super) fn begin(scratch: &Path) -> BeginBackup {
    BeginBackup {
        source: source(),
        run_id: RunId::new(),
        whole_run: false,
        started_at: now_micros(),
        level: 1,
        chunker: ChunkerParameters::with_average(4096),
        threads: 2,
        verify_members: true,
        max_size: None,
        scratch: scratch.to_owned(),
        cancel: Cancel::new(),
        progress: Arc::default(),
    }
}

pub(super) fn facts() -> ManifestFacts {
    ManifestFacts {
        kind: Kind::Logical,
        snapshot_at: now_micros(),
        description: "a test, with \"quotes\"".to_owned(),
        tags: vec!["nightly".to_owned()],
        incomplete: Vec::new(),
        postgresql: None,
        sqlite: None,
        database_bytes: 0,
    }
}

/// Takes a backup of these files.
pub(super) fn take(owned: &OwnedRepository, options: BeginBackup, files: &Files) -> Result<Committed, RepositoryError> {
    let mut writer = owned.begin_backup(options)?;
    let mut write = || {
        for (name, bytes) in files {
            writer.begin_file(name, FileRole::Data)?;
            for piece in bytes.chunks(10_000) {
                writer.bytes().write(piece)?;
            }
            writer.end_file(Vec::new())?;
        }
        Ok(())
    };
    write().map_err(RepositoryError::from_io)?;
    writer.commit(facts())
}

/// Reads all files of a backup.
pub(super) fn read(repository: &Repository, folder: &BackupFolder) -> Result<Files, RepositoryError> {
    let reader = repository.reader(folder, 2, Cancel::new())?;
    let mut files = Files::new();
    for file in &reader.manifest().files {
        let mut bytes = Vec::new();
        reader
            .open(&file.name)
            .and_then(|mut input| input.read_to_end(&mut bytes))
            .map_err(RepositoryError::from_io)?;
        files.insert(file.name.clone(), bytes);
    }
    Ok(files)
}

/// All backups that are listed, oldest first.
pub(super) fn listed(repository: &Repository) -> Vec<BackupFolder> {
    let catalog = Catalog::open(repository, None).unwrap();
    assert_eq!(catalog.problems().next(), None);
    catalog.backups().into_iter().rev().map(Repository::folder_of).collect()
}

/// Text that looks like rows, `count` of them, different for each seed.
pub(super) fn rows(seed: u64, count: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for n in 0..count {
        let hash = blake3::hash(&[seed.to_le_bytes(), (n as u64).to_le_bytes()].concat());
        text.extend_from_slice(format!("{n}\t{}\tcustomer {}\n", &hash.to_hex()[..24], n % 97).as_bytes());
    }
    text
}

pub(super) fn files(seed: u64, count: usize) -> Files {
    Files::from([
        ("data-000.sql".to_owned(), rows(seed, count)),
        ("empty.sql".to_owned(), Vec::new()),
        ("globals.sql".to_owned(), format!("CREATE ROLE a{seed};\n").into_bytes()),
        ("post-data.sql".to_owned(), rows(seed + 1000, 50)),
    ])
}

pub(super) fn now() -> GcOptions {
    GcOptions { now: now_micros(), ..GcOptions::default() }
}

pub(super) fn verify(repository: &Repository, level: Level) -> VerifyReport {
    repository.verify(None, level, 2, &Cancel::new(), &Progress::default()).unwrap()
}
