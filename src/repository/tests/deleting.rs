//! Deleting, freeing space, and what must not be freed.

use super::*;
use crate::repository::{
    BackupWriter,
    layout::{DELETED, PACKS},
    listing::FolderState,
    session,
};

fn packs(world: &World) -> usize {
    world.storage().list(PACKS).unwrap().len()
}

#[test]
fn deleting_frees_what_only_that_backup_needed() {
    let world = World::new();
    let owned = world.own();
    let first = take(&owned, world.begin(), &files(1, 3000)).unwrap();
    let second_files = files(2, 3000);
    let second = take(&owned, world.begin(), &second_files).unwrap();
    assert_eq!(packs(&world), 2);
    let report = owned.delete_backup(&first.folder, now(), &Cancel::new()).unwrap();
    assert_eq!((report.backups, report.packs), (1, 1));
    assert_eq!(packs(&world), 1);
    assert_eq!(read(&owned, &second.folder).unwrap(), second_files);
    assert_eq!(listed(&owned), std::slice::from_ref(&second.folder));
    assert!(!world.path().join(first.folder.path()).exists(), "a lower sequence needs no tombstone");
    let error = owned.delete_backup(&first.folder, now(), &Cancel::new()).unwrap_err();
    assert_eq!(error.code().name(), "NoSuchBackup");

    // The last one leaves a tombstone, so that its number is not used again.
    owned.delete_backup(&second.folder, now(), &Cancel::new()).unwrap();
    assert_eq!(packs(&world), 0);
    let left = owned.folders(None).unwrap();
    assert_eq!((left.len(), left[0].state()), (1, FolderState::Tombstone));
    drop(owned);
    let owned = world.own();
    assert_eq!(take(&owned, world.begin(), &second_files).unwrap().manifest.sequence, 3);
    owned.free_space(now(), &Cancel::new()).unwrap();
    assert!(owned.folders(None).unwrap().iter().all(|folder| !folder.has(DELETED)));
}

#[test]
fn the_base_of_a_running_backup_stays_until_it_ends() {
    let world = World::new();
    let owned = world.own();
    let files = files(1, 20_000);
    let base = take(&owned, world.begin(), &files).unwrap();
    let mut writer = owned.begin_backup(world.begin()).unwrap();
    let report = owned.delete_backup(&base.folder, now(), &Cancel::new()).unwrap();
    assert_eq!(report.packs, 0);
    assert!(listed(&owned).is_empty());
    for (name, bytes) in &files {
        writer.begin_file(name, FileRole::Data).unwrap();
        writer.bytes().write(bytes).unwrap();
        writer.end_file(Vec::new()).unwrap();
    }
    let second = writer.commit(facts()).unwrap();
    assert!(second.manifest.statistics.reused_chunks == second.manifest.statistics.chunks);
    assert_eq!(second.manifest.sequence, 2);
    owned.free_space(now(), &Cancel::new()).unwrap();
    assert_eq!(read(&owned, &second.folder).unwrap(), files);
    assert!(!world.path().join(base.folder.path()).exists());
}

#[test]
fn an_undelete_window_keeps_the_files() {
    let world = World::new();
    let owned = world.own();
    let backup = take(&owned, world.begin(), &files(1, 1000)).unwrap();
    let window = GcOptions { undelete_window: 1_000_000, ..now() };
    assert_eq!(owned.delete_backup(&backup.folder, window, &Cancel::new()).unwrap().packs, 0);
    assert!(listed(&owned).is_empty());
    let later = GcOptions { now: window.now + 1_000_000, ..window };
    assert_eq!(owned.free_space(later, &Cancel::new()).unwrap().packs, 1);
}

#[test]
fn nothing_is_freed_while_something_cannot_be_read() {
    let world = World::new();
    let owned = world.own();
    let first = take(&owned, world.begin(), &files(1, 1000)).unwrap();
    let second = take(&owned, world.begin(), &files(2, 1000)).unwrap();
    let manifest = world.path().join(first.folder.path()).join("manifest.json");
    let good = std::fs::read(&manifest).unwrap();
    let mut bad = good.clone();
    bad[20] ^= 1;
    std::fs::write(&manifest, bad).unwrap();
    let error = owned.free_space(now(), &Cancel::new()).unwrap_err();
    assert_eq!(error.code().name(), "BackupDamaged");
    assert_eq!(packs(&world), 2);
    // Deleting the damaged one itself is what helps.
    assert_eq!(owned.delete_backup(&first.folder, now(), &Cancel::new()).unwrap().packs, 1);
    assert_eq!(listed(&owned), [second.folder]);
}

#[test]
fn losing_half_without_a_reason_is_refused() {
    let world = World::new();
    let owned = world.own();
    let first = take(&owned, world.begin(), &files(1, 3000)).unwrap();
    let small = take(&owned, world.begin(), &Files::from([("a".to_owned(), rows(7, 100))])).unwrap();
    std::fs::remove_dir_all(world.path().join(first.folder.path())).unwrap();
    let error = owned.free_space(now(), &Cancel::new()).unwrap_err();
    assert!(matches!(error, RepositoryError::Refused(_)), "{error}");
    assert_eq!(packs(&world), 2);
    assert_eq!(owned.free_space(GcOptions { force: true, ..now() }, &Cancel::new()).unwrap().packs, 1);
    assert_eq!(listed(&owned), [small.folder]);
}

/// A backup that has stored a pack and goes no further.
fn begun_with_a_pack(owned: &OwnedRepository, options: BeginBackup) -> BackupWriter {
    let mut writer = owned.begin_backup(options).unwrap();
    let mut noise = vec![0; 35 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    writer.begin_file("a", FileRole::Data).unwrap();
    writer.bytes().write(&noise).unwrap();
    writer.end_file(Vec::new()).unwrap();
    writer
}

#[test]
fn a_crashed_session_outlives_what_its_run_had_committed_of_others() {
    let world = World::new();
    let owned = world.own();
    let database = |name: &str| SourceKey { child: Some(name.into()), ..source() };
    let of = |name: &str, run_id| BeginBackup { source: database(name), run_id, whole_run: true, ..world.begin() };
    let run = RunId::new();
    let first = take(&owned, of("a", run), &files(1, 1000)).unwrap();
    std::mem::forget(begun_with_a_pack(&owned, of("b", run)));
    owned.running().clear();
    assert_eq!(owned.free_space(now(), &Cancel::new()).unwrap().packs, 0, "a retry may use it");
    assert_eq!(session::read_all(owned.storage()).unwrap().len(), 1);
    let retried = owned.begin_backup(of("b", RunId::new())).unwrap();
    assert_eq!(session::read_all(owned.storage()).unwrap()[1].packs.len(), 1, "the retry relies on what was stored");
    drop(retried);
    assert_eq!(listed(&owned), [first.folder]);
}

#[test]
fn crashed_sessions_expire() {
    let world = World::new();
    let owned = world.own();
    let writer = begun_with_a_pack(&owned, world.begin());
    assert_eq!(owned.free_space(now(), &Cancel::new()).unwrap().packs, 0, "it runs");
    std::mem::forget(writer);
    owned.running().clear();
    assert_eq!(owned.free_space(now(), &Cancel::new()).unwrap().packs, 0, "a retry may use it");
    let later = GcOptions { now: now_micros() + 7 * 24 * 3600 * 1_000_000, ..now() };
    assert_eq!(owned.free_space(later, &Cancel::new()).unwrap().packs, 1);
    assert!(session::read_all(owned.storage()).unwrap().is_empty());
}

#[test]
fn another_repository_in_its_place_is_noticed() {
    let world = World::new();
    let owned = world.own();
    take(&owned, world.begin(), &files(1, 100)).unwrap();
    std::fs::rename(world.path(), world.scratch().join("away")).unwrap();
    drop(world.own());
    for error in [
        owned.free_space(now(), &Cancel::new()).unwrap_err(),
        owned.begin_backup(world.begin()).unwrap_err(),
        Catalog::open(&owned, None).unwrap_err(),
    ] {
        assert_eq!(error.code().name(), "RepositoryUnavailable");
    }
}
