//! SIGKILL at every named step of writing and deleting: every listed backup still restores byte for byte, the next
//! backup works, and nothing is left over after it.

#![cfg(feature = "failpoints")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeSet,
    io::Read as _,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use backupd::{
    model::{
        RunId, SourceKey,
        manifest::{ChunkerParameters, CodecName, FileRole, Kind},
    },
    repository::{
        BackupFolder, BeginBackup, Catalog, FAIL_POINTS, GcOptions, LocalStorage, ManifestFacts, OwnedRepository,
        Repository, RepositoryError, Storage as _,
    },
    source::{SetReader as _, SetSink as _},
    stream::Cancel,
};

/// Names the repository to the child.
const REPOSITORY: &str = "BACKUPD_TEST_REPOSITORY";
/// Tells the child how large a backup to take, bytes.
const SIZE: &str = "BACKUPD_TEST_SIZE";

fn now() -> u64 {
    u64::try_from(chrono::Utc::now().timestamp_micros()).unwrap()
}

/// Bytes that do not compress. All but the last 34 MiB, more than a pack holds, are the same for every `n`.
fn content(n: u8, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    blake3::Hasher::new().update(&[n]).finalize_xof().fill(&mut bytes[size.saturating_sub(34 << 20)..]);
    bytes
}

fn take(owned: &OwnedRepository, scratch: &Path, bytes: &[u8]) -> Result<BackupFolder, RepositoryError> {
    let mut writer = owned.begin_backup(BeginBackup {
        source: SourceKey::single("shop".parse().unwrap()),
        run_id: RunId::new(),
        whole_run: false,
        started_at: now(),
        level: 1,
        chunker: ChunkerParameters::with_average(256 << 10),
        threads: 2,
        verify_members: true,
        max_size: None,
        scratch: scratch.to_owned(),
        cancel: Cancel::new(),
        progress: Arc::default(),
    })?;
    let mut write = || {
        writer.begin_file("data-000.sql", FileRole::Data)?;
        writer.bytes().write(bytes)?;
        writer.end_file(Vec::new())
    };
    write().map_err(RepositoryError::from_io)?;
    let facts = ManifestFacts {
        kind: Kind::Logical,
        snapshot_at: now(),
        description: String::new(),
        tags: Vec::new(),
        incomplete: Vec::new(),
        postgresql: None,
        sqlite: None,
        database_bytes: 0,
    };
    Ok(writer.commit(facts)?.folder)
}

fn listed(repository: &Repository) -> Vec<BackupFolder> {
    let catalog = Catalog::open(repository, None).unwrap();
    assert_eq!(catalog.problems().next(), None);
    catalog.backups().into_iter().rev().map(Repository::folder_of).collect()
}

fn read(repository: &Repository, folder: &BackupFolder) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reader = repository.reader(folder, 2, Cancel::new()).unwrap();
    reader.open("data-000.sql").unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn free(owned: &OwnedRepository) {
    owned.free_space(GcOptions { now: now(), ..GcOptions::default() }, &Cancel::new()).unwrap();
}

#[test]
#[ignore = "the part that is killed; run by the other test"]
fn child() {
    let Some(path) = std::env::var_os(REPOSITORY).map(PathBuf::from) else { return };
    let owned = OwnedRepository::create_path(&path, CodecName::Gzip).unwrap();
    let first = listed(&owned).remove(0);
    let size = std::env::var(SIZE).unwrap().parse().unwrap();
    take(&owned, path.parent().unwrap(), &content(1, size)).unwrap();
    let options = GcOptions { now: now(), ..GcOptions::default() };
    owned.delete_backup(&first, options, &Cancel::new()).unwrap();
}

fn kill_at(place: &str, size: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("repository");
    {
        let owned = OwnedRepository::create_path(&path, CodecName::Gzip).unwrap();
        take(&owned, folder.path(), &content(0, size)).unwrap();
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["child", "--exact", "--ignored", "--nocapture"]).stdout(Stdio::null()).stderr(Stdio::null());
    let status = child
        .env(REPOSITORY, &path)
        .env(SIZE, size.to_string())
        .env("BACKUPD_FAIL_POINT", format!("{place}=kill"))
        .status()
        .unwrap();
    assert_eq!(status.signal(), Some(9), "{place} was not reached: {status}");

    let known = [content(0, size), content(1, size)];
    let reader = Repository::open_path(&path).unwrap();
    let before = listed(&reader);
    assert!(!before.is_empty(), "{place}: there is always a backup");
    for backup in &before {
        assert!(known.contains(&read(&reader, backup)), "{place}");
    }
    let owned = OwnedRepository::create_path(&path, CodecName::Gzip).unwrap();
    let next = take(&owned, folder.path(), &content(2, size)).unwrap();
    free(&owned);
    assert!(read(&owned, &next) == content(2, size), "{place}");
    for backup in &before {
        assert!(known.contains(&read(&owned, backup)), "{place}");
    }
    let needed: BTreeSet<_> =
        listed(&owned).iter().flat_map(|f| owned.manifest(f).unwrap().0.packs).flatten().map(|p| p.id).collect();
    let objects = LocalStorage::new(&path).list("").unwrap();
    let packs = objects.iter().filter(|object| object.key.starts_with("packs/")).count();
    assert_eq!(packs, needed.len(), "{place}: packs are left");
    assert!(!objects.iter().any(|object| object.key.starts_with("sessions/")), "{place}: a session is left");
    assert_eq!(std::fs::read_dir(path.join("tmp")).unwrap().count(), 0, "{place}: a temporary is left");
}

#[test]
fn sigkill_at_every_named_step_loses_nothing() {
    for place in FAIL_POINTS {
        kill_at(place, 2 << 20);
    }
}

#[test]
fn sigkill_at_the_second_pack_loses_nothing() {
    for place in ["pack-created#2", "pack-written#2", "pack-synced#2", "pack-renamed#2", "pack-in-session#2"] {
        kill_at(place, 46 << 20);
    }
}
