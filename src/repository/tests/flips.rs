//! Every byte of a small repository flipped in turn; packs that vanish; what is recorded about damage.

use std::fs;

use super::*;
use crate::{
    model::summary::Proof,
    repository::{Record, layout::PACKS},
};

/// A repository with one small backup, and every object of it.
fn small() -> (World, Files, BackupFolder, Vec<String>) {
    let world = World::new();
    let files = files(1, 40);
    let folder = take(&world.own(), world.begin(), &files).unwrap().folder;
    let objects = world.storage().list("").unwrap().into_iter().map(|object| object.key);
    let objects = objects.filter(|key| key.starts_with("packs/") || key.starts_with("backups/")).collect();
    (world, files, folder, objects)
}

#[test]
fn every_flipped_byte_is_detected_or_harmless() {
    let (world, files, folder, objects) = small();
    assert_eq!(objects.len(), 4, "{objects:?}");
    let repository = Repository::open_path(&world.path()).unwrap();
    for key in objects {
        let path = world.path().join(&key);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&path, &bad).unwrap();
            if key.starts_with(PACKS) {
                let report = verify(&repository, Level::Packs);
                assert_eq!(report.bad_packs.len(), 1, "{key} at {at}");
                assert!(report.damaged.contains_key(&folder) && report.good.is_empty());
            } else {
                let report = verify(&repository, Level::List);
                assert!(report.damaged.contains_key(&folder), "{key} at {at}: {report:?}");
            }
            match read(&repository, &folder) {
                Ok(read) => assert!(read == files, "{key} at {at}: other bytes were given"),
                Err(error) => assert_eq!(error.code().name(), "BackupDamaged", "{key} at {at}: {error}"),
            }
        }
        fs::write(&path, &good).unwrap();
    }
    assert_eq!(read(&repository, &folder).unwrap(), files);
}

#[test]
fn a_damaged_pack_is_set_aside_and_stored_again() {
    let (world, files, folder, objects) = small();
    let owned = world.own();
    let second = take(&owned, world.begin(), &files).unwrap();
    let pack = objects.iter().find(|key| key.starts_with(PACKS)).unwrap();
    let path = world.path().join(pack);
    let good = fs::read(&path).unwrap();
    fs::write(&path, [&good[..200], b"x", &good[201..]].concat()).unwrap();
    let only_first = std::slice::from_ref(&folder);
    let report = owned.verify(Some(only_first), Level::Packs, 1, &Cancel::new(), &Progress::default()).unwrap();
    owned.record_findings(&report).unwrap();
    assert!(!path.exists() && world.path().join(format!("{pack}.bad")).exists());
    let catalog = Catalog::open(&owned, None).unwrap();
    assert!(catalog.backups().iter().all(|backup| backup.damaged), "both backups need the pack");
    assert!(matches!(owned.records(&second.folder).unwrap()[..], [Record::Damaged { level: Level::Packs, .. }]));
    assert_eq!(read(&owned, &folder).unwrap_err().code().name(), "BackupDamaged");

    let third = take(&owned, world.begin(), &files).unwrap();
    assert_eq!(third.manifest.statistics.reused_chunks, 0);
    assert_eq!(read(&owned, &third.folder).unwrap(), files);
    // The pack came back, perhaps from a copy: the next verification says so.
    fs::write(&path, good).unwrap();
    let report = verify(&owned, Level::Data);
    assert_eq!((report.good.len(), report.damaged.len()), (3, 0));
    owned.record_findings(&report).unwrap();
    let mut catalog = catalog;
    assert!(catalog.refresh(&owned).unwrap());
    for backup in catalog.backups() {
        assert_eq!((backup.damaged, backup.proof, backup.verified_at), (false, Proof::Checked, report.at));
    }
    assert_eq!(owned.records(&folder).unwrap().len(), 1, "the check overrides what was known before");
}

#[test]
fn missing_packs_are_found_at_every_level() {
    let (world, files, folder, objects) = small();
    let pack = objects.iter().find(|key| key.starts_with(PACKS)).unwrap();
    fs::remove_file(world.path().join(pack)).unwrap();
    let owned = world.own();
    for level in [Level::List, Level::Packs, Level::Data] {
        let report = verify(&owned, level);
        assert!(report.damaged.contains_key(&folder) && !report.bad_packs[0].wrong);
        owned.record_findings(&report).unwrap();
    }
    assert_eq!(read(&owned, &folder).unwrap_err().code().name(), "BackupDamaged");
    let next = take(&owned, world.begin(), &files).unwrap();
    assert_eq!(read(&owned, &next.folder).unwrap(), files);
}

#[test]
fn a_newer_manifest_is_reported_and_hides_no_other() {
    let (world, _, folder, _) = small();
    let mut newer = fs::read_to_string(world.path().join(folder.path()).join("manifest.json")).unwrap();
    newer = newer.replace("\"format\":1", "\"format\":2").replace("\"sequence\":1", "\"sequence\":7");
    let id = super::super::open::manifest_id(newer.as_bytes());
    let other = BackupFolder { id, ..folder.clone() };
    fs::create_dir(world.path().join(other.path())).unwrap();
    fs::write(world.path().join(other.path()).join("manifest.json"), newer).unwrap();
    let owned = world.own();
    let catalog = Catalog::open(&owned, None).unwrap();
    assert_eq!(catalog.backups().len(), 1);
    let problem = catalog.problems().next().unwrap();
    assert_eq!((&problem.folder, problem.error.as_str()), (&other, "UnsupportedFormat"));
    assert_eq!(owned.reader(&other, 1, Cancel::new()).unwrap_err().code().name(), "UnsupportedFormat");
    assert_eq!(owned.free_space(now(), &Cancel::new()).unwrap_err().code().name(), "UnsupportedFormat");
    assert_eq!(verify(&owned, Level::Packs).skipped.len(), 1);
    let next = take(&owned, world.begin(), &files(1, 40)).unwrap();
    assert_eq!(next.manifest.sequence, 8, "numbers of newer backups count");
}

#[test]
fn the_cache_is_only_a_cache() {
    let (world, _, folder, _) = small();
    let owned = world.own();
    let cache = world.scratch().join("cache.json");
    let catalog = Catalog::open(&owned, Some(&cache)).unwrap();
    catalog.save(&owned, &cache).unwrap();
    let mut again = Catalog::open(&owned, Some(&cache)).unwrap();
    assert_eq!(again.backups(), catalog.backups());
    assert!(!again.refresh(&owned).unwrap());
    fs::write(&cache, b"{\"version\":1").unwrap();
    assert_eq!(Catalog::open(&owned, Some(&cache)).unwrap().backups(), catalog.backups());
    catalog.save(&owned, &cache).unwrap();
    owned.delete_backup(&folder, now(), &Cancel::new()).unwrap();
    assert!(Catalog::open(&owned, Some(&cache)).unwrap().backups().is_empty());
}
