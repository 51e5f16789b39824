//! Finding damage. What is found is given back; nothing is written. The owner writes it down with
//! [`OwnedRepository::record_findings`].
//!
//! Each level includes the ones before it: `list` compares manifests, chunk indexes, extents and the sizes of packs,
//! `packs` the SHA-256 of every stored byte, `data` every chunk's hash and every file's SHA-256.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{self, Read as _},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    BackupFolder, BackupReader, OwnedRepository, Repository, RepositoryError,
    layout::{PACKS, bad_pack_key, pack_key, parse_pack_key},
    listing::FolderState,
    pack,
    records::{self, Record},
    storage::PutMode,
};
use crate::{
    clock::now_micros,
    model::{PackId, manifest::Pack},
    source::SetReader as _,
    stream::{Cancel, Progress},
};

/// How much of a pack is read at once, bytes.
const PIECE: usize = 1 << 20;

/// How deep to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Manifests and what they vouch for, and the packs' sizes.
    List,
    /// SHA-256 of every stored pack.
    Packs,
    /// Every chunk decoded and hashed, every file's hash compared.
    Data,
}

/// What is wrong with a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPack {
    /// The pack.
    pub id: PackId,
    /// What is wrong with it.
    pub problem: String,
    /// Whether it is there with other bytes than it should have; otherwise it is missing, or cannot be read.
    pub wrong: bool,
}

/// What a verification found.
#[derive(Debug, Clone)]
pub struct VerifyReport {
    /// How deep was looked.
    pub level: Level,
    /// When it ended, microseconds since the epoch.
    pub at: u64,
    /// The backups that were looked at and found good.
    pub good: Vec<BackupFolder>,
    /// Damaged backups, those included that only need a bad pack, with what is wrong, a sentence each.
    pub damaged: BTreeMap<BackupFolder, Vec<String>>,
    /// Backups that could not be looked at (newer formats, errors of the storage), and why.
    pub skipped: BTreeMap<BackupFolder, String>,
    /// Bad packs.
    pub bad_packs: Vec<BadPack>,
    /// Packs that were looked at.
    pub packs: u64,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Plaintext bytes that were decoded and hashed.
    pub raw_bytes: u64,
}

impl Repository {
    /// Verifies these backups, or all. `threads` work at once.
    ///
    /// # Errors
    /// Only where nothing can be said: a listing that fails, `Canceled`. Damage is in the report.
    pub fn verify(
        &self,
        backups: Option<&[BackupFolder]>,
        level: Level,
        threads: usize,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<VerifyReport, RepositoryError> {
        self.check_present()?;
        let backups = match backups {
            Some(backups) => backups.to_vec(),
            None => self.existing()?,
        };
        let mut verifier =
            Verifier { repository: self, threads: threads.max(1), cancel, progress, report: empty(level) };
        let mut packs = HashMap::new();
        let mut open = Vec::new();
        let mut raw_bytes = 0;
        for folder in backups {
            cancel.check()?;
            if let Some(reader) = verifier.open(&folder)? {
                let manifest = reader.manifest();
                packs.extend(manifest.packs.iter().flatten().map(|pack| (pack.id, pack.size)));
                raw_bytes += manifest.statistics.raw_bytes;
                open.push(folder);
            }
        }
        let mut packs: Vec<_> = packs.into_iter().map(|(id, size)| Pack { id, size }).collect();
        packs.sort_unstable_by_key(|pack| pack.id);
        let stored: u64 = packs.iter().map(|pack| pack.size).sum();
        progress.expect_bytes(match level {
            Level::List => 0,
            Level::Packs => stored,
            Level::Data => stored + raw_bytes,
        });
        verifier.packs(&packs)?;
        if level == Level::Data {
            for folder in &open {
                verifier.data(folder)?;
            }
        }
        verifier.finish(open)
    }

    /// The backups that exist.
    fn existing(&self) -> Result<Vec<BackupFolder>, RepositoryError> {
        let folders = self.folders(None)?.into_iter();
        Ok(folders.filter(|folder| folder.state() == FolderState::Backup).map(|folder| folder.folder).collect())
    }
}

fn empty(level: Level) -> VerifyReport {
    VerifyReport {
        level,
        at: 0,
        good: Vec::new(),
        damaged: BTreeMap::new(),
        skipped: BTreeMap::new(),
        bad_packs: Vec::new(),
        packs: 0,
        stored_bytes: 0,
        raw_bytes: 0,
    }
}

struct Verifier<'a> {
    repository: &'a Repository,
    threads: usize,
    cancel: &'a Cancel,
    progress: &'a Progress,
    report: VerifyReport,
}

impl Verifier<'_> {
    /// Reads what is in the backup's folder; notes what is wrong there.
    fn open(&mut self, folder: &BackupFolder) -> Result<Option<BackupReader>, RepositoryError> {
        let reader = self.repository.reader(folder, self.threads, self.cancel.clone());
        match reader.and_then(|reader| reader.check_extents().map(|()| reader)) {
            Ok(reader) => Ok(Some(reader)),
            Err(error) => self.note(folder, error).map(|()| None),
        }
    }

    fn note(&mut self, folder: &BackupFolder, error: RepositoryError) -> Result<(), RepositoryError> {
        match error {
            RepositoryError::Canceled(reason) => return Err(reason.into()),
            // Deleted since it was listed.
            RepositoryError::NoSuchBackup(_) => {}
            RepositoryError::BackupDamaged { reason, .. } => {
                self.report.damaged.entry(folder.clone()).or_default().push(reason);
            }
            other => {
                self.report.skipped.insert(folder.clone(), other.to_string());
            }
        }
        Ok(())
    }

    fn packs(&mut self, packs: &[Pack]) -> Result<(), RepositoryError> {
        let codec = self.repository.codec();
        let listed = self.repository.storage().list(PACKS)?;
        let sizes: HashMap<PackId, u64> =
            listed.into_iter().filter_map(|object| Some((parse_pack_key(&object.key, codec)?, object.size))).collect();
        let mut whole = Vec::new();
        for pack in packs {
            self.report.packs += 1;
            let (problem, wrong) = match sizes.get(&pack.id) {
                None => ("it is missing".to_owned(), false),
                Some(size) if *size == pack.size => {
                    whole.push(*pack);
                    continue;
                }
                Some(size) => (format!("it has {size} bytes in place of {}", pack.size), true),
            };
            self.report.bad_packs.push(BadPack { id: pack.id, problem, wrong });
        }
        if self.report.level >= Level::Packs {
            self.hash_packs(&whole)?;
            self.report.stored_bytes = whole.iter().map(|pack| pack.size).sum();
        }
        Ok(())
    }

    /// Hashes packs, each thread the next that nobody has taken yet.
    fn hash_packs(&mut self, packs: &[Pack]) -> Result<(), RepositoryError> {
        let next = AtomicUsize::new(0);
        let bad = Mutex::new(Vec::new());
        let work = || {
            while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let found = check_pack(self.repository, pack, self.cancel, self.progress)?;
                bad.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
            }
            Ok::<_, RepositoryError>(())
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (1..self.threads).map(|_| scope.spawn(work)).collect();
            let mine = work();
            let panicked = |_| RepositoryError::Misuse("a thread of the verification panicked".to_owned());
            threads.into_iter().try_for_each(|thread| thread.join().map_err(panicked)?)?;
            mine
        })?;
        self.report.bad_packs.extend(bad.into_inner().unwrap_or_else(PoisonError::into_inner));
        self.report.bad_packs.sort_unstable_by_key(|pack| pack.id);
        Ok(())
    }

    /// Reads all files of a backup. The first thing wrong with a file ends that file, not the backup.
    fn data(&mut self, folder: &BackupFolder) -> Result<(), RepositoryError> {
        let Some(reader) = self.open(folder)? else { return Ok(()) };
        for file in &reader.manifest().files {
            if let Err(error) = self.read_file(&reader, &file.name) {
                let error = match RepositoryError::from_io(error) {
                    RepositoryError::BackupDamaged { id, reason } => {
                        RepositoryError::BackupDamaged { id, reason: format!("file {}: {reason}", file.name) }
                    }
                    other => other,
                };
                self.note(folder, error)?;
            }
        }
        Ok(())
    }

    fn read_file(&mut self, reader: &BackupReader, file: &str) -> io::Result<()> {
        let mut input = reader.open(file)?;
        let mut buffer = vec![0; PIECE];
        loop {
            self.cancel.check_io()?;
            match input.read(&mut buffer)? {
                0 => return Ok(()),
                count => {
                    self.report.raw_bytes += count as u64;
                    self.progress.add_bytes(count as u64);
                }
            }
        }
    }

    /// Finds all backups that need a bad pack, also those that were not asked about.
    fn finish(mut self, open: Vec<BackupFolder>) -> Result<VerifyReport, RepositoryError> {
        let bad: HashMap<PackId, String> =
            self.report.bad_packs.iter().map(|pack| (pack.id, pack.problem.clone())).collect();
        if !bad.is_empty() {
            for folder in self.repository.existing()? {
                self.cancel.check()?;
                // One that cannot be read was noted above, or is not what was asked about.
                let Ok((manifest, _)) = self.repository.manifest(&folder) else { continue };
                for (pack, problem) in
                    manifest.packs.iter().flatten().filter_map(|pack| Some((pack, bad.get(&pack.id)?)))
                {
                    let sentence = format!("its pack {}: {problem}", pack.id);
                    self.report.damaged.entry(folder.clone()).or_default().push(sentence);
                }
            }
        }
        let report = &mut self.report;
        let is_good =
            |folder: &BackupFolder| !report.damaged.contains_key(folder) && !report.skipped.contains_key(folder);
        report.good = open.into_iter().filter(is_good).collect();
        report.at = now_micros();
        Ok(self.report)
    }
}

/// Hashes one pack. An error of the storage is a finding too: what cannot be read cannot be restored.
fn check_pack(
    repository: &Repository,
    pack: &Pack,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<Option<BadPack>, RepositoryError> {
    let key = pack_key(pack.id, repository.codec());
    let mut hash = Sha256::new();
    let mut offset = 0;
    while offset < pack.size {
        cancel.check()?;
        let length = usize::try_from(pack.size - offset).unwrap_or(PIECE).min(PIECE);
        match repository.storage().get_range(&key, offset, length) {
            Ok(bytes) => hash.update(&bytes),
            Err(error) => return Ok(Some(BadPack { id: pack.id, problem: error.to_string(), wrong: false })),
        }
        offset += length as u64;
        progress.add_bytes(length as u64);
    }
    let found = PackId(hash.finalize().into());
    let problem = format!("its SHA-256 is {found}");
    Ok((found != pack.id).then_some(BadPack { id: pack.id, problem, wrong: true }))
}

impl OwnedRepository {
    /// Writes down what a verification found: packs with wrong bytes are set aside as `.bad`, so that the next backup
    /// stores their chunks again; backups are marked as damaged or as checked. Levels below `packs` are not recorded.
    ///
    /// # Errors
    /// What the storage meets; may be repeated.
    pub fn record_findings(&self, report: &VerifyReport) -> Result<(), RepositoryError> {
        // Nothing is deleted meanwhile, so no record is written into a folder that goes away.
        let _gate = self.close_gate();
        for pack in report.bad_packs.iter().filter(|pack| pack.wrong) {
            self.set_aside(pack.id)?;
        }
        let good: HashSet<_> = report.good.iter().filter(|_| report.level >= Level::Packs).collect();
        for backup in self.folders(None)? {
            if backup.state() != FolderState::Backup {
                continue;
            }
            let (at, level) = (report.at, report.level);
            if let Some(findings) = report.damaged.get(&backup.folder) {
                let findings = findings.clone();
                records::write(self, &backup, &Record::Damaged { at, level, findings })?;
            } else if good.contains(&backup.folder) {
                records::write(self, &backup, &Record::Checked { at, level })?;
            }
        }
        Ok(())
    }

    /// Writes down how a drill ended. For a backup that was deleted meanwhile, nothing is.
    ///
    /// # Errors
    /// What the storage meets.
    pub fn record_drill(&self, folder: &BackupFolder, record: &Record) -> Result<(), RepositoryError> {
        let _gate = self.close_gate();
        match self.find(folder.id) {
            Ok(backup) => records::write(self, &backup, record),
            Err(RepositoryError::NoSuchBackup(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Moves a pack to its `.bad` name, unless it reads well now.
    fn set_aside(&self, id: PackId) -> Result<(), RepositoryError> {
        let (key, codec) = (pack_key(id, self.codec()), self.codec());
        let bytes = match self.storage().get(&key) {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        };
        if pack::id_of(&bytes) == id {
            return Ok(());
        }
        self.storage().put(&bad_pack_key(id, codec), &bytes, PutMode::Overwrite)?;
        Ok(self.storage().delete(&key)?)
    }
}
