//! A storage that fails at every call in turn, while backups are taken and deleted.

use super::*;
use crate::{
    model::manifest::Pack,
    repository::{
        layout::SESSIONS,
        storage::faulty::{Fault, FaultyStorage},
    },
};

fn sets() -> [Files; 3] {
    let [mut second, mut third] = [files(1, 400), files(1, 400)];
    second.get_mut("data-000.sql").unwrap().extend(rows(5, 300));
    third.get_mut("data-000.sql").unwrap().extend(rows(6, 300));
    [files(1, 400), second, third]
}

/// Takes a second backup and deletes the first, on a storage that may fail.
fn work(
    storage: &FaultyStorage,
    world: &World,
    first: &BackupFolder,
    sets: &[Files; 3],
) -> Result<(), RepositoryError> {
    let owned = OwnedRepository::open(Arc::new(storage.clone()))?;
    take(&owned, world.begin(), &sets[1])?;
    owned.delete_backup(first, now(), &Cancel::new())?;
    let report = owned.verify(None, Level::Data, 1, &Cancel::new(), &Progress::default())?;
    owned.record_findings(&report)
}

/// Whatever happened: what is listed reads, the next backup works, and nothing is left over after it.
fn check(world: &World, sets: &[Files; 3], what: &str) {
    let owned = world.own();
    let before = listed(&owned);
    for folder in &before {
        let files = read(&owned, folder).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(sets.contains(&files), "{what}: a backup reads as something else");
    }
    let next = take(&owned, world.begin(), &sets[2]).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(next.manifest.sequence >= 2, "{what}");
    owned.free_space(now(), &Cancel::new()).unwrap_or_else(|error| panic!("{what}: {error}"));
    for (folder, expected) in before.iter().map(|f| (f, None)).chain([(&next.folder, Some(&sets[2]))]) {
        let files = read(&owned, folder).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(expected.map_or_else(|| sets.contains(&files), |expected| *expected == files), "{what}");
    }
    assert!(verify(&owned, Level::Data).damaged.is_empty(), "{what}");
    let needed: std::collections::BTreeSet<_> = listed(&owned)
        .iter()
        .flat_map(|folder| owned.manifest(folder).unwrap().0.packs)
        .flatten()
        .map(|Pack { id, .. }| id)
        .collect();
    let objects = world.storage().list("").unwrap();
    assert_eq!(objects.iter().filter(|o| o.key.starts_with("packs/")).count(), needed.len(), "{what}: packs are left");
    assert!(!objects.iter().any(|o| o.key.starts_with(SESSIONS)), "{what}: sessions are left");
    assert_eq!(std::fs::read_dir(world.path().join("tmp")).unwrap().count(), 0, "{what}: temporaries are left");
}

fn at_every_call(fault: Fault) {
    let sets = sets();
    let mut at = 1;
    loop {
        let world = World::new();
        let first = {
            let owned = world.own();
            take(&owned, world.begin(), &sets[0]).unwrap()
        };
        let storage = FaultyStorage::new(world.storage(), fault, at);
        let result = work(&storage, &world, &first.folder, &sets);
        check(&world, &sets, &format!("{fault:?} at call {at}"));
        if storage.calls() < at {
            assert!(result.is_ok());
            assert!(at > 30, "only {at} calls were made");
            return;
        }
        at += 1;
    }
}

#[test]
fn a_call_that_fails_loses_nothing() {
    at_every_call(Fault::Fail);
}

#[test]
fn a_call_that_lies_loses_nothing() {
    at_every_call(Fault::Lie);
}

#[test]
fn a_storage_that_goes_away_loses_nothing() {
    at_every_call(Fault::Gone);
}

#[test]
fn a_storage_that_fills_up_loses_nothing() {
    at_every_call(Fault::Full);
}
