//! Sessions: what a running or crashed backup has stored so far, so that freeing space leaves it alone and a retry can
//! use it.
//!
//! Invariants: the head, which names the base backup, is stored before a single chunk of the base is relied on; a pack
//! is named before any manifest refers to it; a session is removed only when its manifest is there, or when its
//! backup was given up.
//!
//! A session is JSON lines: the head, then a line per pack. As a storage cannot append, the last part is stored again
//! whenever it grows, and a new part begins every [`PART`] packs.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    RepositoryError,
    layout::{SESSIONS, parse_session_key, session_key, this_writer},
    storage::{PutMode, Storage},
};
use crate::{
    fail_point,
    model::{
        BackupId, RunId, SourceKey,
        manifest::{Pack, Writer},
    },
};

/// Packs per part: 256 of 32 MiB are 8 GiB.
const PART: usize = 256;

/// The first line of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionHead {
    /// The run.
    pub run_id: RunId,
    /// Its source.
    pub source: SourceKey,
    /// When it began, microseconds since the epoch.
    pub started_at: u64,
    /// The backup whose packs it may use.
    pub base: Option<BackupId>,
    /// Who runs it.
    pub writer: Writer,
}

impl SessionHead {
    pub(crate) fn new(run_id: RunId, source: &SourceKey, started_at: u64, base: Option<BackupId>) -> Self {
        Self { run_id, source: source.clone(), started_at, base, writer: this_writer() }
    }
}

/// A session as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its head.
    pub head: SessionHead,
    /// The packs it has stored, or relies on.
    pub packs: Vec<Pack>,
    parts: Vec<usize>,
}

impl Session {
    /// Removes it. Its head goes last, so that a removal that is interrupted can be seen and repeated.
    pub(crate) fn remove(&self, storage: &dyn Storage) -> Result<(), RepositoryError> {
        for part in self.parts.iter().rev() {
            storage.delete(&session_key(self.head.run_id, *part))?;
        }
        Ok(())
    }
}

/// All sessions. Fails as a whole when one of them cannot be read.
pub(crate) fn read_all(storage: &dyn Storage) -> Result<Vec<Session>, RepositoryError> {
    let mut runs = BTreeMap::<RunId, Vec<usize>>::new();
    for object in storage.list(SESSIONS)? {
        let (run, part) = parse_session_key(&object.key)
            .ok_or_else(|| RepositoryError::damaged(&object.key, "it is not a session; move it elsewhere"))?;
        runs.entry(run).or_default().push(part);
    }
    let mut sessions = Vec::new();
    for (run, mut parts) in runs {
        parts.sort_unstable();
        match read(storage, run, parts) {
            Ok(session) => sessions.push(session),
            // It ended while it was read.
            Err(RepositoryError::Storage(error)) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sessions)
}

fn read(storage: &dyn Storage, run: RunId, parts: Vec<usize>) -> Result<Session, RepositoryError> {
    let mut text = Vec::new();
    for part in &parts {
        text.extend(storage.get(&session_key(run, *part))?);
    }
    let malformed =
        |error: serde_json::Error| RepositoryError::damaged(session_key(run, 0), format!("not a session: {error}"));
    let mut lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let head: SessionHead = serde_json::from_slice(lines.next().unwrap_or_default()).map_err(malformed)?;
    let packs = lines.map(serde_json::from_slice).collect::<Result<_, _>>().map_err(malformed)?;
    Ok(Session { head, packs, parts })
}

/// The session of a running backup.
pub(crate) struct SessionWriter {
    storage: Arc<dyn Storage>,
    run: RunId,
    parts: usize,
    packs_in_part: usize,
    text: Vec<u8>,
}

impl SessionWriter {
    /// Stores the head, and the packs of earlier sessions that this one relies on.
    pub(crate) fn begin(
        storage: Arc<dyn Storage>,
        head: &SessionHead,
        adopted: &[Pack],
    ) -> Result<Self, RepositoryError> {
        let mut writer = Self { storage, run: head.run_id, parts: 0, packs_in_part: 0, text: line(head)? };
        writer.store()?;
        for pack in adopted {
            writer.add(pack)?;
        }
        fail_point::hit("session-written").map_err(RepositoryError::Stream)?;
        Ok(writer)
    }

    /// Names a pack.
    pub(crate) fn add(&mut self, pack: &Pack) -> Result<(), RepositoryError> {
        if self.packs_in_part >= PART {
            self.parts += 1;
            self.packs_in_part = 0;
            self.text.clear();
        }
        self.text.extend(line(pack)?);
        self.packs_in_part += 1;
        self.store()
    }

    fn store(&self) -> Result<(), RepositoryError> {
        Ok(self.storage.put(&session_key(self.run, self.parts), &self.text, PutMode::Overwrite)?)
    }

    /// Removes the session.
    pub(crate) fn remove(&self) -> Result<(), RepositoryError> {
        for part in (0..=self.parts).rev() {
            self.storage.delete(&session_key(self.run, part))?;
        }
        Ok(())
    }
}

fn line(value: &impl Serialize) -> Result<Vec<u8>, RepositoryError> {
    let mut text = serde_json::to_vec(value)
        .map_err(|e| RepositoryError::Misuse(format!("cannot write a session's line: {e}")))?;
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::PackId, repository::storage::LocalStorage};

    #[test]
    fn sessions_of_many_packs_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let storage: Arc<dyn Storage> = Arc::new(LocalStorage::new(folder.path()));
        let source = SourceKey::single("shop".parse().unwrap());
        let head = SessionHead::new(RunId::new(), &source, 5, Some(BackupId([1; 16])));
        let packs: Vec<_> = (0..600_u64).map(|n| Pack { id: PackId([n as u8; 32]), size: n }).collect();
        let mut writer = SessionWriter::begin(storage.clone(), &head, &packs[..10]).unwrap();
        for pack in &packs[10..] {
            writer.add(pack).unwrap();
        }
        let sessions = read_all(&*storage).unwrap();
        assert_eq!((&sessions[0].head, &sessions[0].packs), (&head, &packs));
        assert_eq!(sessions[0].parts, [0, 1, 2]);
        sessions[0].remove(&*storage).unwrap();
        assert!(read_all(&*storage).unwrap().is_empty());
        storage.put(&session_key(head.run_id, 0), b"{\"run", PutMode::Overwrite).unwrap();
        assert!(read_all(&*storage).is_err());
    }
}
