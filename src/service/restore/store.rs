//! Small records of the daemon's own state, a file each, by run: what a restore has under construction, and what an
//! undo can bring back.
//!
//! Invariant: a record that was added is on disk, synced, under its name, whole.

use std::{
    fs, io,
    marker::PhantomData,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    model::{ErrorCode, RunId},
    service::{ServiceError, state_file},
};

/// A record and its name.
pub(super) trait Record: Serialize + DeserializeOwned {
    /// What such records are, for messages.
    const WHAT: &'static str;
    /// The folder of all of them, below the state folder.
    const FOLDER: &'static str;

    /// The run that it is named by.
    fn run_id(&self) -> RunId;
}

/// The records of one kind.
#[derive(Debug, Clone)]
pub(super) struct Store<R> {
    folder: PathBuf,
    records: PhantomData<fn() -> R>,
}

impl<R: Record> Store<R> {
    /// That of a daemon with this state folder.
    #[must_use]
    pub(super) fn new(state: &Path) -> Self {
        Self { folder: state.join(R::FOLDER), records: PhantomData }
    }

    /// Writes a record durably; one of the same run is replaced.
    ///
    /// # Errors
    /// `Io`, `NoSpace`: then what it announces may not be done.
    pub(super) fn add(&self, record: &R) -> Result<(), ServiceError> {
        self.write(record).map_err(|error| {
            let code = if error.kind() == io::ErrorKind::StorageFull { ErrorCode::NoSpace } else { ErrorCode::Io };
            let path = self.path(record.run_id());
            ServiceError::new(code, format!("cannot write {} {}: {error}", R::WHAT, path.display()))
        })
    }

    fn write(&self, record: &R) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        state_file::replace(&self.path(record.run_id()), &serde_json::to_vec(record)?)
    }

    /// Removes a record. One that is not there is no error.
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

    /// The record of a run, if there is one.
    ///
    /// # Errors
    /// `Io` when it cannot be read.
    pub(super) fn get(&self, run_id: RunId) -> Result<Option<R>, ServiceError> {
        let path = self.path(run_id);
        match read(&path) {
            Ok(record) => Ok(Some(record)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(ServiceError::new(ErrorCode::Io, format!("cannot read {} {}: {error}", R::WHAT, path.display())))
            }
        }
    }

    /// All records, oldest run first. One that cannot be read is reported and left.
    ///
    /// # Errors
    /// `Io` when the folder cannot be read.
    pub(super) fn all(&self) -> Result<Vec<R>, ServiceError> {
        let error = |error: io::Error| {
            ServiceError::new(ErrorCode::Io, format!("cannot read {}: {error}", self.folder.display()))
        };
        let files = match fs::read_dir(&self.folder) {
            Ok(files) => files,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(other) => return Err(error(other)),
        };
        let mut records: Vec<R> = Vec::new();
        for file in files {
            let path = file.map_err(error)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read(&path) {
                Ok(record) => records.push(record),
                // Removed meanwhile by the job that it was about.
                Err(problem) if problem.kind() == io::ErrorKind::NotFound => {}
                Err(problem) => tracing::warn!("cannot read {}, ignoring it: {problem}", path.display()),
            }
        }
        // The identifier of a run begins with its time.
        records.sort_by_key(R::run_id);
        Ok(records)
    }

    fn path(&self, run_id: RunId) -> PathBuf {
        self.folder.join(format!("{run_id}.json"))
    }
}

fn read<R: Record>(path: &Path) -> io::Result<R> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note(RunId, String);

    impl Record for Note {
        const WHAT: &'static str = "the note";
        const FOLDER: &'static str = "notes";

        fn run_id(&self) -> RunId {
            self.0
        }
    }

    #[test]
    fn records_survive_and_go() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::<Note>::new(state.path());
        assert_eq!(store.all().unwrap(), []);
        let notes = ["a\n'b", "c"].map(|text| Note(RunId::new(), text.to_owned()));
        for note in &notes {
            store.add(note).unwrap();
        }
        fs::write(state.path().join("notes/torn.json"), "{").unwrap();
        assert_eq!(Store::<Note>::new(state.path()).all().unwrap(), notes);
        store.add(&Note(notes[0].0, "other".to_owned())).unwrap();
        assert_eq!(store.all().unwrap()[0].1, "other");
        assert_eq!(store.get(notes[1].0).unwrap().as_ref(), Some(&notes[1]));
        assert_eq!(store.get(RunId::new()).unwrap(), None);
        for note in &notes {
            store.remove(note.0).unwrap();
            store.remove(note.0).unwrap();
        }
        assert_eq!(store.all().unwrap(), []);
    }
}
