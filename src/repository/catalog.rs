//! The list of backups, kept in memory and, so that opening is fast, in a file that may be deleted at any time.
//!
//! Invariants: the repository is the truth; a row is used only while the objects of its folder have the names and
//! sizes that they had when it was made (manifests and records are never changed in place); a backup whose manifest
//! cannot be read is listed as a problem and hides no other.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead as _, BufReader, BufWriter, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{
    Repository, RepositoryError,
    layout::BackupFolder,
    listing::{BackupObjects, FolderState},
    records,
};
use crate::model::{ErrorCode, SourceKey, summary::BackupSummary};

/// The version of the cache file; another one is as good as none.
const CACHE_VERSION: u32 = 5;

/// The backups of a repository.
#[derive(Debug, Default)]
pub struct Catalog {
    rows: BTreeMap<BackupFolder, Row>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    fingerprint: u64,
    content: Content,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Content {
    Backup(Box<BackupSummary>),
    Problem { error: String, message: String },
}

/// A backup that cannot be listed properly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its folder.
    pub folder: BackupFolder,
    /// Why, as the stable name of an error code.
    pub error: String,
    /// Why, for people.
    pub message: String,
}

#[derive(Serialize, Deserialize)]
struct CacheHead {
    version: u32,
    repository: uuid::Uuid,
}

#[derive(Serialize, Deserialize)]
struct CacheRow {
    source: SourceKey,
    utc: String,
    id: crate::model::BackupId,
    row: Row,
}

impl Catalog {
    /// The catalog as the cache file has it, brought up to date. A cache that is missing, damaged or of another
    /// repository is passed over.
    ///
    /// # Errors
    /// As [`Catalog::refresh`].
    pub fn open(repository: &Repository, cache: Option<&Path>) -> Result<Self, RepositoryError> {
        let mut catalog = cache.and_then(|path| Self::load(repository, path).ok()).unwrap_or_default();
        catalog.refresh(repository)?;
        Ok(catalog)
    }

    /// Lists the repository, and reads what is new or changed since; says whether anything was.
    ///
    /// # Errors
    /// Where the listing fails; the catalog stays as it was.
    pub fn refresh(&mut self, repository: &Repository) -> Result<bool, RepositoryError> {
        repository.check_present()?;
        let mut rows = BTreeMap::new();
        let mut changed = false;
        for backup in repository.folders(None)? {
            if backup.state() != FolderState::Backup {
                continue;
            }
            let fingerprint = fingerprint(&backup);
            let row = match self.rows.get(&backup.folder).filter(|row| row.fingerprint == fingerprint) {
                Some(row) => row.clone(),
                None => {
                    changed = true;
                    match read(repository, &backup) {
                        Ok(summary) => Row { fingerprint, content: Content::Backup(Box::new(summary)) },
                        // Deleted while it was listed.
                        Err(RepositoryError::NoSuchBackup(_)) => continue,
                        // What may pass is tried again the next time: no listing has this fingerprint.
                        Err(error) => Row {
                            fingerprint: if error.code() == ErrorCode::Io { 0 } else { fingerprint },
                            content: Content::Problem { error: error.code().name().into(), message: error.to_string() },
                        },
                    }
                }
            };
            rows.insert(backup.folder, row);
        }
        changed |= rows.len() != self.rows.len();
        self.rows = rows;
        Ok(changed)
    }

    /// The backups in order of their sources' names, within a source the highest sequence first.
    #[must_use]
    pub fn backups(&self) -> Vec<&BackupSummary> {
        let mut backups: Vec<_> = self.rows.values().filter_map(|row| row.content.backup()).collect();
        backups.sort_by(|a, b| a.source.cmp(&b.source).then(b.sequence.cmp(&a.sequence)));
        backups
    }

    /// The backups that cannot be listed properly.
    pub fn problems(&self) -> impl Iterator<Item = Problem> + '_ {
        self.rows.iter().filter_map(|(folder, row)| match &row.content {
            Content::Backup(_) => None,
            Content::Problem { error, message } => {
                Some(Problem { folder: folder.clone(), error: error.clone(), message: message.clone() })
            }
        })
    }

    /// Writes the cache file (mode 0600), whole or not at all.
    ///
    /// # Errors
    /// As the operating system says; the file is then as it was.
    pub fn save(&self, repository: &Repository, cache: &Path) -> io::Result<()> {
        let folder = cache.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        {
            let mut output = BufWriter::new(&mut file);
            let head = CacheHead { version: CACHE_VERSION, repository: repository.file().id };
            serde_json::to_writer(&mut output, &head)?;
            for (BackupFolder { source, utc, id }, row) in &self.rows {
                output.write_all(b"\n")?;
                let row = CacheRow { source: source.clone(), utc: utc.clone(), id: *id, row: row.clone() };
                serde_json::to_writer(&mut output, &row)?;
            }
            output.flush()?;
        }
        file.persist(cache).map_err(|error| error.error)?;
        Ok(())
    }

    fn load(repository: &Repository, cache: &Path) -> io::Result<Self> {
        let mut lines = BufReader::new(fs::File::open(cache)?).lines();
        let head: CacheHead = serde_json::from_str(&lines.next().unwrap_or_else(|| Ok(String::new()))?)?;
        if head.version != CACHE_VERSION || head.repository != repository.file().id {
            return Ok(Self::default());
        }
        let mut rows = BTreeMap::new();
        for line in lines {
            let CacheRow { source, utc, id, row } = serde_json::from_str(&line?)?;
            rows.insert(BackupFolder { source, utc, id }, row);
        }
        Ok(Self { rows })
    }
}

impl Content {
    fn backup(&self) -> Option<&BackupSummary> {
        match self {
            Self::Backup(summary) => Some(summary),
            Self::Problem { .. } => None,
        }
    }
}

fn read(repository: &Repository, backup: &BackupObjects) -> Result<BackupSummary, RepositoryError> {
    let (manifest, _) = repository.manifest(&backup.folder)?;
    let mut summary = BackupSummary::of(backup.folder.id, &manifest);
    records::apply(&records::read(repository, backup)?, &mut summary);
    Ok(summary)
}

/// Changes whenever an object of the folder comes, goes or has another size; never 0.
fn fingerprint(backup: &BackupObjects) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for object in &backup.objects {
        hasher.update(object.key.as_bytes()).update(&[0]).update(&object.size.to_le_bytes());
    }
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(bytes).max(1)
}
