//! What a restore or an undo leaves when the daemon dies: written down before it exists, so that it can be finished or
//! taken back.
//!
//! Invariants: an entry is on disk before the database or file that it names is created, and again with the swap before
//! that begins; it is removed only after what it names was dropped or got its final name. Dropping by the temporary name
//! can never hit what was published.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    kept::Kept,
    store::{Record, Store},
    target::Step,
    undo::UndoCopy,
};
use crate::{
    clock::now_micros,
    model::{Name, RunId, job::JobNumber},
    service::{ServiceError, engine::Engine},
    source::{postgres::restore::Milestone, sqlite::restore::FileStep},
};

/// What is under construction, by its temporary name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Temporary {
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

/// One restore or undo that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The job's run.
    pub(super) run_id: RunId,
    /// The job's number.
    #[serde(default)]
    pub(super) job: JobNumber,
    /// The source of the backup.
    pub(super) source: String,
    /// The backup, in hex.
    #[serde(default)]
    pub(super) backup: String,
    /// The name or path that was asked for; empty for the original.
    #[serde(default)]
    pub(super) to: String,
    /// What it leaves if it is cut off; an undo builds nothing.
    #[serde(flatten)]
    pub(super) temporary: Option<Temporary>,
    /// The swap that was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) swap: Option<Kept>,
    /// The run whose restore is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) undoes: Option<RunId>,
}

impl Record for Entry {
    const WHAT: &'static str = "the restore journal";
    const FOLDER: &'static str = "restores";

    fn run_id(&self) -> RunId {
        self.run_id
    }
}

/// The entries and the undo copies of a daemon.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    pub(super) entries: Store<Entry>,
    pub(super) copies: Store<UndoCopy>,
}

impl Journal {
    pub(super) fn of(engine: &Engine) -> Self {
        let state = &engine.folders().state;
        Self { entries: Store::new(state), copies: Store::new(state) }
    }

    /// Writes a step of the restore down that `entry` is about.
    pub(super) fn note(&self, entry: &Entry, step: Step<'_>, keep: std::time::Duration) -> Result<(), ServiceError> {
        let file = |path: &Path| Temporary::File(path.to_owned());
        let (temporary, swap) = match step {
            Step::Database(Milestone::Over) | Step::File(FileStep::Over) => {
                return self.entries.remove(entry.run_id);
            }
            Step::Database(Milestone::Swapped(swap)) => {
                return self.swapped(entry, &Kept::Database(swap.clone()), keep);
            }
            Step::File(FileStep::Swapped(swap)) => return self.swapped(entry, &Kept::File(swap.clone()), keep),
            Step::Database(Milestone::Building(name)) => (Temporary::Database(name.clone()), None),
            Step::Database(Milestone::Swapping(swap)) => {
                (Temporary::Database(swap.incoming_name.clone()), Some(Kept::Database(swap.clone())))
            }
            Step::File(FileStep::Building(path)) => (file(path), None),
            Step::File(FileStep::Swapping(swap)) => (file(&swap.incoming), Some(Kept::File(swap.clone()))),
        };
        self.entries.add(&Entry { temporary: Some(temporary), swap, ..entry.clone() })
    }

    /// The swap has happened: from now on it can be undone, and what it undid cannot any more. Doing this again changes
    /// nothing.
    pub(super) fn swapped(&self, entry: &Entry, kept: &Kept, keep: std::time::Duration) -> Result<(), ServiceError> {
        let now = now_micros();
        self.copies.add(&UndoCopy {
            run_id: entry.run_id,
            job: entry.job,
            source: entry.source.clone(),
            backup: entry.backup.clone(),
            to: entry.to.clone(),
            undid: entry.undoes.is_some(),
            made_at: now,
            until: now.saturating_add(u64::try_from(keep.as_micros()).unwrap_or(u64::MAX)),
            bytes: 0,
            kept: kept.clone(),
        })?;
        match entry.undoes {
            Some(undone) => self.copies.remove(undone),
            None => Ok(()),
        }
    }
}
