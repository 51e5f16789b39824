//! Which repository this daemon used last, so that a mount that is missing is an error and not a new, empty repository.
//!
//! Invariant: once a repository was opened at a path, only that one is opened there again; a new one is created only at
//! a path that was never used. Removing the file `repository.json` from the state folder forgets it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{error::ServiceError, state_file};
use crate::{
    config::RepositoryConfig,
    model::ErrorCode,
    repository::{LocalStorage, OwnedRepository},
};

/// What is remembered.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    path: PathBuf,
    id: uuid::Uuid,
}

/// Opens the repository, or creates it where this daemon never used one at that path.
///
/// # Errors
/// `RepositoryUnavailable` where the one that was used is not there any more, or another one is;
/// as [`OwnedRepository::create_path`] and [`OwnedRepository::open`]; `Io` for the state folder.
pub(super) fn open(config: &RepositoryConfig, state: &Path) -> Result<OwnedRepository, ServiceError> {
    let file = state.join("repository.json");
    let known = read(&file)?.filter(|known| known.path == config.path);
    let owned = match &known {
        None => OwnedRepository::create_path(&config.path, config.codec.name)?,
        Some(known) => reopen(config, known, &file)?,
    };
    let found = Known { path: config.path.clone(), id: owned.file().id };
    if known.as_ref() != Some(&found) {
        write(&file, &found)?;
    }
    Ok(owned)
}

fn reopen(config: &RepositoryConfig, known: &Known, file: &Path) -> Result<OwnedRepository, ServiceError> {
    let unavailable = |problem: String| {
        ServiceError::new(
            ErrorCode::RepositoryUnavailable,
            format!(
                "{problem}. Is its file system mounted? To begin a new repository at {}, remove {}",
                config.path.display(),
                file.display()
            ),
        )
    };
    let gone = |error: &dyn std::fmt::Display| {
        unavailable(format!("the repository {} that was used before is not there: {error}", known.id))
    };
    let owned =
        OwnedRepository::open(Arc::new(LocalStorage::new(&config.path))).map_err(|error| match error.code() {
            ErrorCode::RepositoryUnavailable => gone(&error),
            _ => error.into(),
        })?;
    if owned.file().id != known.id {
        return Err(unavailable(format!(
            "{} holds the repository {}, but {} was used before",
            config.path.display(),
            owned.file().id,
            known.id
        )));
    }
    owned.require_codec(config.codec.name)?;
    Ok(owned)
}

fn read(file: &Path) -> Result<Option<Known>, ServiceError> {
    let problem = |error: &dyn std::fmt::Display| {
        ServiceError::new(ErrorCode::Io, format!("cannot read {}: {error}", file.display()))
    };
    match fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| problem(&error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(problem(&error)),
    }
}

fn write(file: &Path, known: &Known) -> Result<(), ServiceError> {
    let written =
        serde_json::to_vec(known).map_err(io::Error::from).and_then(|bytes| state_file::replace(file, &bytes));
    written.map_err(|error| ServiceError::new(ErrorCode::Io, format!("cannot write {}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::manifest::{Codec, CodecName};

    #[test]
    fn a_repository_that_went_away_is_not_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        fs::create_dir(&state).unwrap();
        let config = |name: &str| RepositoryConfig {
            path: folder.path().join(name),
            codec: Codec { name: CodecName::Gzip, level: 1 },
            reserve: 0,
            compare: true,
        };
        let first = open(&config("one"), &state).unwrap().file().id;
        assert_eq!(open(&config("one"), &state).unwrap().file().id, first);

        // As when the file system that it lies in is not mounted.
        fs::rename(folder.path().join("one"), folder.path().join("away")).unwrap();
        for empty in [false, true] {
            if empty {
                fs::create_dir(folder.path().join("one")).unwrap();
            }
            let error = open(&config("one"), &state).unwrap_err();
            assert_eq!(error.code(), ErrorCode::RepositoryUnavailable, "{error}");
            assert!(error.to_string().contains("mounted"), "{error}");
        }

        // As when another one is mounted in its place.
        fs::remove_dir(folder.path().join("one")).unwrap();
        drop(OwnedRepository::create_path(&folder.path().join("one"), CodecName::Gzip).unwrap());
        let error = open(&config("one"), &state).unwrap_err();
        assert_eq!(error.code(), ErrorCode::RepositoryUnavailable, "{error}");

        // Another path is another repository.
        assert_ne!(open(&config("two"), &state).unwrap().file().id, first);
    }
}
