//! The repository against a model of it: any sequence of backups, deletions, pins, prunes, freeing of space, jumps of the
//! clock, and deaths of the process at any call of the storage. Whatever happened, every listed backup reads as what was
//! taken, nothing that is not deleted is missing, and in the end nothing is stored that nobody needs.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{
    config::RetentionPolicy,
    model::BackupId,
    repository::{
        Deletion, Record,
        layout::SESSIONS,
        storage::faulty::{Fault, FaultyStorage},
    },
    retention::{self, Candidate, Question},
};

const HOUR: u64 = 3_600_000_000;
/// Deleted backups can be brought back for a day.
const WINDOW: u64 = 24 * HOUR;

#[derive(Debug, Clone)]
enum Step {
    /// Takes a backup of the files with this seed, which shares much with those of neighbours.
    Take(u8),
    Delete(prop::sample::Index, bool),
    Undelete(prop::sample::Index),
    Pin(prop::sample::Index, bool),
    Prune(RetentionPolicy),
    Free,
    /// Hours, forward or back.
    Clock(i32),
}

fn step() -> impl Strategy<Value = (Step, Option<u16>)> {
    let index = any::<prop::sample::Index>;
    let policy = (0..4_u32, 0..3_u32, 0..3_u32).prop_map(|(keep_last, keep_daily, max_count)| RetentionPolicy {
        keep_last,
        keep_daily,
        max_count,
        ..RetentionPolicy::everything()
    });
    let step = prop_oneof![
        5 => (0..20_u8).prop_map(Step::Take),
        2 => (index(), prop::bool::weighted(0.2)).prop_map(|(which, at_once)| Step::Delete(which, at_once)),
        2 => index().prop_map(Step::Undelete),
        1 => (index(), any::<bool>()).prop_map(|(which, on)| Step::Pin(which, on)),
        2 => policy.prop_map(Step::Prune),
        2 => Just(Step::Free),
        2 => (-50..200_i32).prop_map(Step::Clock),
    ];
    // At which call the process dies, if it does.
    (step, prop::option::weighted(0.25, 1..60_u16))
}

/// Some tables that stay as they are from one to the next.
fn contents(seed: u8) -> Files {
    (0..3_u64).map(|n| (format!("data-00{n}.sql"), rows((u64::from(seed) + n * 7) / 8, 60))).collect()
}

/// What should be there.
#[derive(Default)]
struct Model {
    now: u64,
    taken: BTreeMap<BackupId, Files>,
    listed: BTreeSet<BackupId>,
    pinned: BTreeSet<BackupId>,
    /// By when.
    deleted: BTreeMap<BackupId, u64>,
}

fn choose(index: &prop::sample::Index, among: impl ExactSizeIterator<Item = BackupId>) -> Option<BackupId> {
    let all: Vec<BackupId> = among.collect();
    (!all.is_empty()).then(|| *index.get(&all))
}

fn options(now: u64) -> GcOptions {
    GcOptions { now, undelete_window: WINDOW, force: true }
}

impl Model {
    /// Carries a step out, and says which backups it may have changed.
    fn run(&mut self, step: &Step, owned: &OwnedRepository, scratch: &Path) -> Result<(), RepositoryError> {
        match step {
            Step::Take(seed) => {
                let files = contents(*seed);
                let options = BeginBackup { started_at: self.now, threads: 1, ..begin(scratch) };
                let committed = take_at(owned, options, &files, self.now)?;
                self.taken.insert(committed.id, files);
                self.listed.insert(committed.id);
            }
            Step::Delete(which, at_once) => {
                let Some(id) = choose(which, self.listed.iter().copied()) else { return Ok(()) };
                let folder = owned.find(id)?.folder;
                owned.mark_deleted(&folder, Deletion { now: self.now, by_name: true, at_once: *at_once })?;
                self.gone(id);
            }
            Step::Undelete(which) => {
                let Some(id) = choose(which, self.deleted.keys().copied()) else { return Ok(()) };
                match owned.undelete(id) {
                    Err(RepositoryError::NoSuchBackup(_)) => {}
                    other => {
                        other?;
                        self.deleted.remove(&id);
                        self.listed.insert(id);
                    }
                }
            }
            Step::Pin(which, on) => {
                let Some(id) = choose(which, self.listed.iter().copied()) else { return Ok(()) };
                if *on {
                    let record = Record::Pinned { at: self.now, until: None, reason: String::new() };
                    owned.record(id, &record)?;
                    self.pinned.insert(id);
                } else {
                    owned.unpin(id)?;
                    self.pinned.remove(&id);
                }
            }
            Step::Prune(policy) => {
                for id in going(owned, policy, self.now) {
                    assert!(!self.pinned.contains(&id), "a pinned backup was to go");
                    let folder = owned.find(id)?.folder;
                    owned.mark_deleted(&folder, Deletion { now: self.now, by_name: false, at_once: false })?;
                    self.gone(id);
                }
                owned.free_space(options(self.now), &Cancel::new())?;
            }
            Step::Free => drop(owned.free_space(options(self.now), &Cancel::new())?),
            Step::Clock(hours) => {
                self.now = self.now.saturating_add_signed(i64::from(*hours) * 3_600_000_000);
            }
        }
        Ok(())
    }

    fn gone(&mut self, id: BackupId) {
        self.listed.remove(&id);
        self.deleted.insert(id, self.now);
    }

    /// The process died in the middle of a step: that one may be done or not, and nothing else has changed.
    fn recover(&mut self, step: &Step, owned: &OwnedRepository) {
        let catalog = Catalog::open(owned, None).unwrap();
        let found: BTreeMap<BackupId, bool> =
            catalog.backups().iter().map(|backup| (backup.id, backup.pin.is_some())).collect();
        let listed: BTreeSet<BackupId> = found.keys().copied().collect();
        let (came, went) = (listed.difference(&self.listed).count(), self.listed.difference(&listed).count());
        match step {
            Step::Take(seed) => {
                assert!(came <= 1 && went == 0, "a backup that failed took {went} away");
                for id in listed.difference(&self.listed) {
                    self.taken.insert(*id, contents(*seed));
                }
            }
            Step::Delete(..) => assert!(came == 0 && went <= 1, "one was deleted, and {went} went"),
            Step::Undelete(..) => assert!(came <= 1 && went == 0, "one was brought back, and {came} came"),
            Step::Prune(..) => {
                assert_eq!(came, 0);
                // One that is pinned may have been deleted by name before.
                let pinned: BTreeSet<BackupId> = self.pinned.intersection(&self.listed).copied().collect();
                assert!(pinned.is_subset(&listed), "a pinned backup went");
            }
            Step::Pin(..) | Step::Free | Step::Clock(_) => assert_eq!((came, went), (0, 0)),
        }
        for id in self.listed.clone().difference(&listed) {
            self.gone(*id);
        }
        self.deleted.retain(|id, _| !listed.contains(id));
        self.pinned = found.iter().filter(|(_, pinned)| **pinned).map(|(id, _)| *id).collect();
        self.listed = listed;
    }

    fn check(&self, owned: &OwnedRepository) {
        let folders = listed(owned);
        let found: BTreeSet<BackupId> = folders.iter().map(|folder| folder.id).collect();
        assert_eq!(found, self.listed);
        for folder in &folders {
            assert_eq!(read(owned, folder).unwrap(), self.taken[&folder.id], "{}", folder.path());
        }
    }
}

/// Takes a backup whose snapshot is of this time.
fn take_at(
    owned: &OwnedRepository,
    options: BeginBackup,
    files: &Files,
    now: u64,
) -> Result<Committed, RepositoryError> {
    let mut writer = owned.begin_backup(options)?;
    let mut write = || {
        for (name, bytes) in files {
            writer.begin_file(name, FileRole::Data)?;
            writer.bytes().write(bytes)?;
            writer.end_file(Vec::new())?;
        }
        Ok(())
    };
    write().map_err(RepositoryError::from_io)?;
    writer.commit(ManifestFacts { snapshot_at: now, ..facts() })
}

/// What a policy lets go.
fn going(owned: &OwnedRepository, policy: &RetentionPolicy, now: u64) -> Vec<BackupId> {
    let catalog = Catalog::open(owned, None).unwrap_or_default();
    let candidates: Vec<Candidate> =
        catalog.backups().iter().map(|backup| retention::Candidate::of(backup, None)).collect();
    let question = Question { policy, space: None, zone: &chrono::Utc, now, despite_clock: false };
    question.decide(&candidates).iter().filter(|decision| !decision.stays()).map(|decision| decision.id).collect()
}

/// In memory where there is such a file system: the model is about order, not about disks.
fn world() -> World {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    World { folder: folder.unwrap() }
}

fn live(steps: &[(Step, Option<u16>)]) {
    let world = world();
    let mut model = Model { now: 1_795_608_000_000_000, ..Model::default() };
    let mut owned = world.own();
    for (step, death) in steps {
        model.now += HOUR;
        if let Some(at) = death {
            drop(owned);
            let storage = FaultyStorage::new(world.storage(), Fault::Gone, u64::from(*at));
            let died = match OwnedRepository::open(Arc::new(storage.clone())) {
                Ok(dying) => model.run(step, &dying, world.scratch()).is_err(),
                Err(_) => true,
            };
            owned = world.own();
            if died {
                model.recover(step, &owned);
            }
        } else {
            model.run(step, &owned, world.scratch()).unwrap();
        }
        model.check(&owned);
    }
    adds_up(&owned, &world);
    // Long after, only what is listed needs anything.
    model.now += 60 * 24 * HOUR;
    let far = model.deleted.values().copied().max().unwrap_or_default().max(model.now) + 60 * 24 * HOUR;
    owned.free_space(options(far), &Cancel::new()).unwrap();
    model.check(&owned);
    let usage = adds_up(&owned, &world);
    assert_eq!((usage.deleted, usage.unreferenced), (0, 0), "bytes are left that nobody needs");
    assert!(!world.storage().list("").unwrap().iter().any(|object| object.key.starts_with(SESSIONS)));
}

/// Every byte that is stored is counted once, and what is freed is what was said.
fn adds_up(owned: &OwnedRepository, world: &World) -> crate::repository::Usage {
    let usage = owned.usage(&Cancel::new()).unwrap();
    assert_eq!(usage.total(), world.size());
    assert_eq!(usage.backups.values().map(|backup| backup.own).sum::<u64>(), usage.own);
    assert_eq!(usage.backups.values().map(|backup| backup.unique).sum::<u64>(), usage.unique);
    let packs: BTreeMap<_, u64> = usage.packs.values().flatten().copied().collect();
    assert_eq!(packs.values().sum::<u64>(), usage.unique + usage.shared);
    let sources: u64 = usage.sources.values().map(|source| source.own + source.unique + source.shared).sum();
    assert_eq!(sources, usage.own + usage.unique + usage.shared, "there is one source, so nothing is counted twice");
    usage
}

fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { 2000 };
    ProptestConfig { cases, max_shrink_iters: 500, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_happens_what_is_listed_restores(steps in prop::collection::vec(step(), 1..14)) {
        live(&steps);
    }
}

#[test]
fn what_deleting_frees_is_what_was_said() {
    let world = World::new();
    let owned = world.own();
    for seed in [1, 2, 30] {
        take(&owned, world.begin(), &files(seed, 2000)).unwrap();
    }
    let mut changed = files(30, 2000);
    changed.get_mut("data-000.sql").unwrap().extend(rows(77, 900));
    let last = take(&owned, world.begin(), &changed).unwrap();
    let before = adds_up(&owned, &world);
    for folder in listed(&owned).into_iter().filter(|folder| *folder != last.folder) {
        let said = owned.usage(&Cancel::new()).unwrap().backups[&folder.id].freed_if_deleted();
        let size = world.size();
        owned.delete_backup(&folder, now(), &Cancel::new()).unwrap();
        assert_eq!(size - world.size(), said, "{}", folder.path());
    }
    let after = adds_up(&owned, &world);
    assert!(after.total() < before.total());
    assert_eq!(after.shared, 0);
}

#[test]
fn a_deleted_backup_comes_back_whole_until_its_space_is_freed() {
    let world = World::new();
    let owned = world.own();
    let kept = files(1, 3000);
    let backup = take(&owned, world.begin(), &kept).unwrap();
    let now = now_micros();
    let window = |now| GcOptions { now, undelete_window: WINDOW, force: false };
    owned.delete_backup(&backup.folder, window(now), &Cancel::new()).unwrap();
    assert_eq!(listed(&owned), []);
    let deleted = owned.deleted().unwrap();
    assert_eq!((deleted.len(), deleted[0].summary.id, deleted[0].at), (1, backup.id, now));
    // What is stored again meanwhile is found.
    let again = take(&owned, world.begin(), &kept).unwrap();
    assert_eq!(again.manifest.sequence, 2);
    owned.undelete(backup.id).unwrap();
    assert_eq!(owned.deleted().unwrap(), []);
    assert_eq!(read(&owned, &backup.folder).unwrap(), kept);
    assert!(matches!(owned.undelete(backup.id), Err(RepositoryError::NoSuchBackup(_))), "it is not deleted");
    owned.mark_deleted(&backup.folder, Deletion { now, by_name: true, at_once: true }).unwrap();
    owned.free_space(window(now), &Cancel::new()).unwrap();
    assert!(matches!(owned.undelete(backup.id), Err(RepositoryError::NoSuchBackup(_))), "it went at once");
    assert_eq!(read(&owned, &again.folder).unwrap(), kept);
}
