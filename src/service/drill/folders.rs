//! Folders of workers that no unit takes with it: noted before they are made, so that a start after a crash removes them.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    model::{ErrorCode, RunId},
    service::{ServiceError, engine::Engine},
};

/// What the names of the folders begin with. Nothing else is ever removed.
const PREFIX: &str = "backupd-drill-";
/// How often the removal is tried while what was killed still ends.
const TRIES: u32 = 50;
/// How long is waited in between.
const STEP: Duration = Duration::from_millis(100);

/// A folder that belongs to the user of a worker. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    note: PathBuf,
}

impl Folder {
    /// Makes one below `scratch` for this user.
    pub(super) fn make(state: &Path, scratch: &Path, run_id: RunId, user: (u32, u32)) -> Result<Self, ServiceError> {
        let notes = notes(state);
        // Short, as the name of a socket below it has at most 107 bytes. The last digits of a run are random.
        let digits = run_id.0.simple().to_string();
        let path = scratch.join(format!("{PREFIX}{}", &digits[digits.len() - 12..]));
        let failed = |what: &Path, error: io::Error| {
            let message = format!("cannot make {} for a drill: {error}", what.display());
            ServiceError::new(ErrorCode::DrillUnavailable, message)
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&notes).map_err(|error| failed(&notes, error))?;
        let note = notes.join(run_id.to_string());
        fs::write(&note, path.as_os_str().as_encoded_bytes()).map_err(|error| failed(&note, error))?;
        let folder = Self { path, note };
        DirBuilder::new()
            .mode(0o700)
            .create(&folder.path)
            .and_then(|()| chown(&folder.path, Some(user.0), Some(user.1)))
            .map_err(|error| failed(&folder.path, error))?;
        Ok(folder)
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.path, &self.note);
    }
}

fn notes(state: &Path) -> PathBuf {
    state.join("drills")
}

/// Removes what workers of a daemon that died left; in the background, as they may not have ended yet.
pub(in crate::service) fn sweep(engine: &Engine) {
    let notes: Vec<PathBuf> = fs::read_dir(notes(&engine.folders().state))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    if notes.is_empty() {
        return;
    }
    engine.runtime().spawn_blocking(move || {
        for note in notes {
            let Ok(path) = fs::read_to_string(&note).map(PathBuf::from) else { continue };
            let is_ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
            if is_ours && path.is_absolute() {
                tracing::info!(folder = %path.display(), "removing what a drill left that did not end");
                remove(&path, &note);
            }
        }
    });
}

/// Removes the folder, then the note of it; both stay where that does not succeed.
fn remove(path: &Path, note: &Path) {
    for attempt in 1..=TRIES {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                if attempt == TRIES {
                    tracing::warn!(folder = %path.display(), %error, "cannot remove the folder of a drill; the next start tries again");
                    return;
                }
                std::thread::sleep(STEP);
            }
            _ => break,
        }
    }
    if let Err(error) = fs::remove_file(note) {
        tracing::warn!(file = %note.display(), %error, "cannot remove the note of a drill");
    }
}
