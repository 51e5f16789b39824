//! Freeing space: what is dead, and deleting it.
//!
//! Live packs are those of every manifest (of deleted backups too, until their undelete window ends and no session is
//! based on them), and those of every session and of its base. Invariants:
//! 1. Only whole packs that were listed *before* anything was judged live are ever deleted, so a pack that appears
//!    meanwhile is safe.
//! 2. Sessions and backups are read again, with the gate closed, right before anything is deleted.
//! 3. A manifest goes before the packs that only it needs. The list of extents goes after them, so that an
//!    interrupted deletion still shows which packs it was about.
//! 4. A listing that failed in part, a manifest or a session that cannot be read stops everything before anything is
//!    deleted.
//! 5. No more than half of the repository's bytes go without `force`, unless a user named the backup that they
//!    belonged to, or a rule deleted it and its source has others, or they belong to a crashed session that expired:
//!    those losses are explained, others may be a fault.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io::{BufRead as _, BufReader},
};

use super::{
    OwnedRepository, Repository, RepositoryError,
    layout::{
        BackupFolder, DELETED, EXTENTS, MANIFEST, PACKS, bad_pack_key, pack_key, parse_bad_pack_key, parse_pack_key,
    },
    listing::{BackupObjects, FolderState},
    records::{self, Record},
    session::{Session, SessionHead},
    storage::ObjectReader,
};
use crate::{
    fail_point,
    model::{BackupId, PackId, RunId, SourceKey},
    stream::Cancel,
};

/// How long a crashed session keeps its packs for a retry, microseconds: seven days.
const SESSION_EXPIRES: u64 = 7 * 24 * 3600 * 1_000_000;
/// Packs that are deleted before the sessions are read again.
const BATCH: usize = 64;

/// How to free space.
#[derive(Debug, Clone, Copy, Default)]
pub struct GcOptions {
    /// The present time, microseconds since the epoch.
    pub now: u64,
    /// How long a deleted backup stays, microseconds.
    pub undelete_window: u64,
    /// Delete even if more than half of the repository's bytes would go without an explanation.
    pub force: bool,
}

/// What was freed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Backups whose files were removed.
    pub backups: u64,
    /// Packs that were removed.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What is known about what is live; only ever learns more. Pure: reads nothing itself.
#[derive(Debug, Default)]
struct Liveness {
    /// The packs that were there at the beginning, with their sizes.
    packs: BTreeMap<PackId, u64>,
    live: HashSet<PackId>,
    /// Packs whose loss is explained.
    explained: HashSet<PackId>,
    /// Damaged packs that were set aside, and those of them that a backup still names.
    bad: HashMap<PackId, bool>,
}

impl Liveness {
    fn keep(&mut self, packs: impl IntoIterator<Item = PackId>) {
        for id in packs {
            if self.packs.contains_key(&id) {
                self.live.insert(id);
            }
            self.bad.entry(id).and_modify(|named| *named = true);
        }
    }

    fn explain(&mut self, packs: impl IntoIterator<Item = PackId>) {
        let Self { packs: listed, explained, .. } = self;
        explained.extend(packs.into_iter().filter(|id| listed.contains_key(id)));
    }

    fn dead(&self) -> impl Iterator<Item = (PackId, u64)> + '_ {
        self.packs.iter().filter(|(id, _)| !self.live.contains(id)).map(|(id, size)| (*id, *size))
    }

    /// Why deleting what is dead might be wrong.
    fn objection(&self) -> Option<String> {
        let total: u64 = self.packs.values().sum();
        let unexplained: u64 = self.dead().filter(|(id, _)| !self.explained.contains(id)).map(|(_, size)| size).sum();
        (unexplained > total / 2).then(|| {
            format!(
                "{unexplained} of the {total} bytes of all packs belong to no backup any more, which is more than \
                 half. If backups were deleted on purpose, ask again with force"
            )
        })
    }
}

/// Whether a session ends now: its backup is there, or it crashed long ago. Pure. A run may have taken backups of other
/// sources before, which say nothing about this one.
fn ends_session(session: &Session, running: bool, committed: &HashSet<(RunId, SourceKey)>, now: u64) -> bool {
    let SessionHead { run_id, source, started_at, .. } = &session.head;
    !running && (committed.contains(&(*run_id, source.clone())) || started_at.saturating_add(SESSION_EXPIRES) <= now)
}

impl OwnedRepository {
    /// Removes backups that are deleted for long enough, and the packs that nothing refers to any more. May run beside
    /// backups. Repeating it after any failure, or crash, goes on where it stopped.
    ///
    /// # Errors
    /// A refusal (`Failed`) with its reason; `Canceled`; what the storage meets.
    pub fn free_space(&self, options: GcOptions, cancel: &Cancel) -> Result<GcReport, RepositoryError> {
        Collector::new(self, options)?.run(cancel)
    }

    /// Removes those of these packs that nothing refers to but this session, which is given up.
    pub(crate) fn free_packs(&self, candidates: &HashSet<PackId>, given_up: RunId) -> Result<(), RepositoryError> {
        let mut collector = Collector::new(self, GcOptions::default())?;
        collector.liveness.packs.retain(|id, _| candidates.contains(id));
        collector.liveness.explain(candidates.iter().copied());
        collector.given_up = Some(given_up);
        collector.run(&Cancel::new()).map(drop)
    }
}

struct Collector<'a> {
    owned: &'a OwnedRepository,
    options: GcOptions,
    liveness: Liveness,
    /// Backups that were read, so that their packs are live (or explained).
    read: HashSet<BackupId>,
    committed: HashSet<(RunId, SourceKey)>,
    /// Sources that have backups: a rule that deletes others of theirs leaves something.
    listed: HashSet<SourceKey>,
    /// Only the packs of this session are removed: no folder, and no session.
    given_up: Option<RunId>,
    report: GcReport,
}

/// What a look at the repository found to end.
#[derive(Default)]
struct Ending {
    folders: Vec<BackupObjects>,
    sessions: Vec<Session>,
}

impl<'a> Collector<'a> {
    fn new(owned: &'a OwnedRepository, options: GcOptions) -> Result<Self, RepositoryError> {
        owned.check_present()?;
        let codec = owned.codec();
        let objects = owned.storage().list(PACKS)?;
        let bad = objects.iter().filter_map(|object| Some((parse_bad_pack_key(&object.key, codec)?, false))).collect();
        let packs = objects.into_iter().filter_map(|object| Some((parse_pack_key(&object.key, codec)?, object.size)));
        Ok(Self {
            owned,
            options,
            liveness: Liveness { packs: packs.collect(), bad, ..Liveness::default() },
            read: HashSet::new(),
            committed: HashSet::new(),
            listed: HashSet::new(),
            given_up: None,
            report: GcReport::default(),
        })
    }

    fn run(mut self, cancel: &Cancel) -> Result<GcReport, RepositoryError> {
        // Without the gate, so that backups are not held up while thousands of manifests are read.
        self.look(cancel)?;
        let ending = {
            let _gate = self.owned.close_gate();
            let ending = self.look(cancel)?;
            if let Some(objection) = self.liveness.objection().filter(|_| !self.options.force) {
                return Err(RepositoryError::Refused(objection));
            }
            for backup in &ending.folders {
                self.remove_manifest(backup)?;
            }
            for session in &ending.sessions {
                session.remove(self.owned.storage())?;
            }
            ending
        };
        loop {
            cancel.check()?;
            let _gate = self.owned.close_gate();
            self.look(cancel)?;
            let batch: Vec<_> = self.liveness.dead().take(BATCH).collect();
            if batch.is_empty() {
                break;
            }
            for (id, size) in batch {
                self.owned.storage().delete(&pack_key(id, self.owned.codec()))?;
                self.liveness.packs.remove(&id);
                self.report.packs += 1;
                self.report.bytes += size;
                fail_point::hit("pack-removed").map_err(RepositoryError::Stream)?;
            }
        }
        for (id, _) in self.liveness.bad.iter().filter(|(_, named)| !**named && self.given_up.is_none()) {
            self.owned.storage().delete(&bad_pack_key(*id, self.owned.codec()))?;
        }
        for backup in &ending.folders {
            self.remove_rest(backup)?;
        }
        self.remove_tombstones()?;
        Ok(self.report)
    }

    /// Reads what is not known yet, and says what ends now.
    fn look(&mut self, cancel: &Cancel) -> Result<Ending, RepositoryError> {
        // Sessions first: one that commits in between is seen as a session, as a backup, or as both.
        let sessions = self.owned.sessions()?;
        let folders = self.owned.folders(None)?;
        let mut ending = Ending::default();
        for folder in folders.iter().filter(|folder| folder.state() == FolderState::Backup) {
            cancel.check()?;
            self.listed.insert(folder.folder.source.clone());
            self.keep_backup(&folder.folder)?;
        }
        let mut bases = BTreeSet::new();
        for (session, running) in sessions {
            let ends = ends_session(&session, running, &self.committed, self.options.now);
            let packs = session.packs.iter().map(|pack| pack.id);
            if self.given_up == Some(session.head.run_id) {
                continue;
            }
            if ends && self.given_up.is_none() {
                self.liveness.explain(packs);
                ending.sessions.push(session);
            } else {
                self.liveness.keep(packs);
                bases.extend(session.head.base);
            }
        }
        for folder in folders {
            if matches!(folder.state(), FolderState::Deleted | FolderState::Tombstone) {
                self.judge_deleted(folder, &bases, &mut ending)?;
            }
        }
        Ok(ending)
    }

    fn keep_backup(&mut self, folder: &BackupFolder) -> Result<(), RepositoryError> {
        if self.read.contains(&folder.id) {
            return Ok(());
        }
        let (packs, run) = manifest_packs(self.owned, folder)?;
        self.committed.insert((run, folder.source.clone()));
        self.liveness.keep(packs);
        self.read.insert(folder.id);
        Ok(())
    }

    fn judge_deleted(
        &mut self,
        backup: BackupObjects,
        bases: &BTreeSet<BackupId>,
        ending: &mut Ending,
    ) -> Result<(), RepositoryError> {
        let key = backup.folder.key(DELETED);
        let Record::Deleted { at, by_name, at_once, .. } = records::read_one(self.owned.storage(), &key)? else {
            return Err(RepositoryError::damaged(key, "it is not a deletion record"));
        };
        let explained = by_name || self.listed.contains(&backup.folder.source);
        if backup.state() == FolderState::Tombstone {
            // A deletion that was interrupted goes on.
            if backup.objects.len() > 1 && self.given_up.is_none() {
                if explained && backup.has(EXTENTS) {
                    self.liveness.explain(extents_packs(self.owned, &backup.folder)?);
                }
                ending.folders.push(backup);
            }
            return Ok(());
        }
        let over = at_once || at.saturating_add(self.options.undelete_window) <= self.options.now;
        if !over || self.given_up.is_some() || bases.contains(&backup.folder.id) {
            return self.keep_backup(&backup.folder);
        }
        if explained {
            // Also where the manifest is damaged: deleting it is what the user asked for.
            let packs = manifest_packs(self.owned, &backup.folder).map(|(packs, _)| packs);
            let packs = packs.or_else(|_| extents_packs(self.owned, &backup.folder)).unwrap_or_default();
            self.liveness.explain(packs);
        }
        ending.folders.push(backup);
        Ok(())
    }

    fn remove_manifest(&mut self, backup: &BackupObjects) -> Result<(), RepositoryError> {
        if backup.has(MANIFEST) {
            self.owned.storage().delete(&backup.folder.key(MANIFEST))?;
            self.report.backups += 1;
            fail_point::hit("manifest-removed").map_err(RepositoryError::Stream)?;
        }
        Ok(())
    }

    fn remove_rest(&self, backup: &BackupObjects) -> Result<(), RepositoryError> {
        for object in backup.objects.iter().filter(|object| object.key != DELETED && object.key != MANIFEST) {
            self.owned.storage().delete(&backup.folder.key(&object.key))?;
        }
        fail_point::hit("folder-removed").map_err(RepositoryError::Stream)
    }

    /// Removes deletion records that are not needed any more to know the highest sequence of their source.
    fn remove_tombstones(&self) -> Result<(), RepositoryError> {
        if self.given_up.is_some() {
            return Ok(());
        }
        let _gate = self.owned.close_gate();
        let folders = self.owned.folders(None)?;
        let mut highest = HashMap::new();
        let mut tombstones = Vec::new();
        for folder in folders.iter().filter(|folder| folder.state() != FolderState::Stray) {
            let sequence = self.owned.sequence_of(folder)?;
            let entry = highest.entry(&folder.folder.source).or_insert(sequence);
            *entry = sequence.max(*entry);
            if folder.state() == FolderState::Tombstone && folder.objects.len() == 1 {
                tombstones.push((folder, sequence));
            }
        }
        for (tombstone, sequence) in tombstones {
            if highest.get(&tombstone.folder.source).is_some_and(|highest| *highest > sequence) {
                self.owned.storage().delete(&tombstone.folder.key(DELETED))?;
            }
        }
        Ok(())
    }
}

fn manifest_packs(repository: &Repository, folder: &BackupFolder) -> Result<(Vec<PackId>, RunId), RepositoryError> {
    let (manifest, _) = repository.manifest(folder)?;
    Ok((manifest.packs.iter().flatten().map(|pack| pack.id).collect(), manifest.run_id))
}

/// The packs that a list of extents names. It may be damaged: it only explains, it keeps nothing.
fn extents_packs(repository: &Repository, folder: &BackupFolder) -> Result<Vec<PackId>, RepositoryError> {
    let key = folder.key(EXTENTS);
    let mut packs: HashSet<PackId> = HashSet::new();
    let lines = BufReader::new(ObjectReader::new(repository.storage(), &key)?).split(b'\n');
    for line in lines {
        let line = line.map_err(RepositoryError::from_io)?;
        let pack: Option<PackId> =
            String::from_utf8_lossy(&line).split_once('\t').and_then(|(pack, _)| pack.parse().ok());
        packs.extend(pack);
    }
    Ok(packs.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(n: u8) -> PackId {
        PackId([n; 32])
    }

    fn liveness(sizes: &[u64]) -> Liveness {
        let packs = sizes.iter().enumerate().map(|(n, size)| (pack(n as u8), *size)).collect();
        Liveness { packs, ..Liveness::default() }
    }

    #[test]
    fn only_listed_packs_that_nothing_names_are_dead() {
        let mut liveness = liveness(&[10, 20, 30]);
        liveness.keep([pack(1), pack(77)]);
        assert_eq!(liveness.dead().collect::<Vec<_>>(), [(pack(0), 10), (pack(2), 30)]);
    }

    #[test]
    fn losing_more_than_half_needs_an_explanation() {
        let mut liveness = liveness(&[10, 20, 30]);
        liveness.keep([pack(0), pack(1)]);
        assert!(liveness.objection().is_none(), "exactly half may go");
        liveness.packs.insert(pack(3), 1);
        assert!(liveness.objection().is_some());
        liveness.explain([pack(2)]);
        assert!(liveness.objection().is_none());
    }
}
