//! What a restore leaves on a server or in a folder when the daemon dies: written down before it exists, so that the
//! next start can take it away.
//!
//! Invariants: an entry is on disk, synced, before the database or file that it names is created; it is removed only
//! after that was dropped or got its final name. Dropping by the temporary name can never hit what was published.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    model::{ErrorCode, Name, RunId},
    service::ServiceError,
};

/// What is under construction, by its temporary name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Temporary {
    /// A database on the server that the source's `[restore]` connection reaches.
    Database(Name),
    /// A file of this host.
    File(PathBuf),
}

impl std::fmt::Display for Temporary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Database(name) => write!(f, "database {name}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// One restore that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The job's run.
    pub(super) run_id: RunId,
    /// The source of the backup.
    pub(super) source: String,
    /// What it leaves if it is cut off.
    #[serde(flatten)]
    pub(super) temporary: Temporary,
}

/// The entries, one file each, below the state folder.
#[derive(Debug, Clone)]
pub(super) struct RestoreJournal {
    folder: PathBuf,
}

impl RestoreJournal {
    /// The journal of a daemon with this state folder.
    #[must_use]
    pub(super) fn new(state: &Path) -> Self {
        Self { folder: state.join("restores") }
    }

    /// Writes an entry durably.
    ///
    /// # Errors
    /// `Io`, `NoSpace`: then nothing may be created on the server.
    pub(super) fn add(&self, entry: &Entry) -> Result<(), ServiceError> {
        self.write(entry).map_err(|error| {
            let code = if error.kind() == io::ErrorKind::StorageFull { ErrorCode::NoSpace } else { ErrorCode::Io };
            ServiceError::new(
                code,
                format!("cannot write the restore journal {}: {error}", self.path(entry.run_id).display()),
            )
        })
    }

    fn write(&self, entry: &Entry) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let path = self.path(entry.run_id);
        let temporary = path.with_extension("tmp");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&serde_json::to_vec(entry)?)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(&self.folder)?.sync_all()
    }

    /// Removes an entry. An entry that is not there is no error.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn remove(&self, run_id: RunId) -> Result<(), ServiceError> {
        let path = self.path(run_id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ServiceError::new(ErrorCode::Io, format!("cannot remove {}: {error}", path.display())))
            }
            _ => Ok(()),
        }
    }

    /// All entries: what runs, and what a crash left. An entry that cannot be read is reported and left.
    ///
    /// # Errors
    /// `Io` when the folder cannot be read.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, ServiceError> {
        let error = |error: io::Error| {
            ServiceError::new(
                ErrorCode::Io,
                format!("cannot read the restore journal {}: {error}", self.folder.display()),
            )
        };
        let files = match fs::read_dir(&self.folder) {
            Ok(files) => files,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(other) => return Err(error(other)),
        };
        let mut entries = Vec::new();
        for file in files {
            let path = file.map_err(error)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)) {
                Ok(entry) => entries.push(entry),
                Err(problem) => tracing::warn!("cannot read {}, ignoring it: {problem}", path.display()),
            }
        }
        Ok(entries)
    }

    fn path(&self, run_id: RunId) -> PathBuf {
        self.folder.join(format!("{run_id}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_and_go() {
        let state = tempfile::tempdir().unwrap();
        let journal = RestoreJournal::new(state.path());
        assert_eq!(journal.entries().unwrap(), []);
        for temporary in [Temporary::Database(Name::from("a\n'b")), Temporary::File("/srv/.a.sqlite".into())] {
            let entry = Entry { run_id: RunId::new(), source: "shop".into(), temporary };
            journal.add(&entry).unwrap();
            fs::write(state.path().join("restores/torn.json"), "{").unwrap();
            assert_eq!(RestoreJournal::new(state.path()).entries().unwrap(), std::slice::from_ref(&entry));
            journal.remove(entry.run_id).unwrap();
            journal.remove(entry.run_id).unwrap();
            assert_eq!(journal.entries().unwrap(), []);
        }
    }
}
