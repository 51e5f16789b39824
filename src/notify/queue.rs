//! What waits to be told through one notifier, on disk.
//!
//! One file per notice, and one of what was told before. Invariants:
//! - a file is there whole or not at all; one that cannot be read is set aside with a warning and stops nothing.
//! - a notice leaves the disk only after it was sent, or dropped and counted; so after a crash it may be told twice, never not
//!   at all. What was told is written after the notice itself.
//! - at most [`LIMIT`] wait. Beyond that, the oldest of those that matter least is dropped, and the number is told with
//!   the next notice.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::routing::{self, Marks, Told};
use crate::{
    clock::micros,
    config::NotifyConfig,
    model::notice::{Event, Notice, Severity},
    state_file,
};

/// So many notices wait for one notifier at most.
pub const LIMIT: usize = 256;
/// So many notices go out as one at most.
const BATCH: usize = 50;
/// The pause after a first failed try; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(1800);
/// What is remembered beside the notices.
const STATE: &str = "state.json";

/// What waits for one notifier.
#[derive(Debug)]
pub struct Queue {
    folder: PathBuf,
    waiting: BTreeMap<u64, Entry>,
    next: u64,
    state: State,
}

/// A notice that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What to tell.
    pub notice: Notice,
    /// Since when it waits, microseconds since the epoch.
    pub queued_at: u64,
    /// What was told of its topic before.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    pub before: Marks,
}

/// What is remembered beside the notices.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
struct State {
    told: Told,
    /// Notices that were dropped since the last one that was sent.
    dropped: u64,
    /// Tries since the last one that went well.
    tries: u32,
    /// When it may be tried again, microseconds since the epoch.
    try_at: u64,
    /// Why the last try failed; empty when it went well.
    error: String,
}

/// What goes out as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    numbers: Vec<u64>,
    /// The notices, the oldest first; at least one.
    pub notices: Vec<Notice>,
    /// Notices that were dropped before.
    pub dropped: u64,
}

impl Batch {
    /// Notices that are in no queue.
    #[must_use]
    pub fn alone(notices: Vec<Notice>, dropped: u64) -> Self {
        Self { numbers: Vec::new(), notices, dropped }
    }
}

/// How a try ended that did not reach anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It may go better later.
    Passing,
    /// It will not, with these notices.
    Final,
}

/// What is shown of a queue.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// What waits, the oldest first.
    pub waiting: Vec<Entry>,
    /// Tries since the last one that went well.
    pub tries: u32,
    /// When it is tried again, microseconds since the epoch; 0 when it waits for no such time.
    pub try_at: u64,
    /// Why the last try failed; empty when it went well.
    pub error: String,
    /// Notices that were dropped since the last one that was sent.
    pub dropped: u64,
}

impl Queue {
    /// Opens the folder of a notifier, and makes it if there is none.
    ///
    /// # Errors
    /// The operating system's, when the folder cannot be made or listed.
    pub fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut queue = Self { folder: folder.to_owned(), waiting: BTreeMap::new(), next: 1, state: State::default() };
        for file in fs::read_dir(folder)? {
            queue.read(&file?.path());
        }
        for entry in queue.waiting.values() {
            queue.state.told.waits(&entry.notice, entry.queued_at);
        }
        queue.next = queue.waiting.last_key_value().map_or(1, |(number, _)| number + 1);
        Ok(queue)
    }

    fn read(&mut self, path: &Path) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_suffix(".json").and_then(|number| number.parse().ok());
        let read = || fs::read(path).map_err(|error| error.to_string());
        let result = match number {
            _ if name == STATE => read()
                .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()))
                .map(|state| {
                    self.state = state;
                }),
            Some(number) => read()
                .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()))
                .map(|entry| {
                    self.waiting.insert(number, entry);
                }),
            // What a write left that was not finished, or what was set aside before.
            None => fs::remove_file(path).map_err(|error| error.to_string()),
        };
        if let Err(error) = result {
            tracing::warn!("a notice that waits in {} cannot be read: {error}; it is set aside", path.display());
            let _ = fs::rename(path, path.with_extension("unreadable"));
        }
    }

    /// Decides whether a notice is told, and if so keeps it until it was.
    ///
    /// # Errors
    /// The operating system's: then it is kept in memory alone.
    pub fn push(&mut self, config: &NotifyConfig, notice: &Notice, now: u64) -> io::Result<()> {
        let (before, marks) = (self.state.clone(), self.state.told.of(notice));
        let Some(notice) = routing::decide(&mut self.state.told, config, notice, now) else {
            return if self.state == before { Ok(()) } else { self.save() };
        };
        let number = self.next;
        self.next += 1;
        let entry = Entry { notice, queued_at: now, before: marks };
        let written = serde_json::to_vec(&entry)
            .map_err(io::Error::from)
            .and_then(|bytes| state_file::replace(&self.path(number), &bytes));
        self.waiting.insert(number, entry);
        if self.waiting.len() > LIMIT {
            // The first ones may be on their way just now.
            let least = self.waiting.iter().skip(BATCH).min_by_key(|(number, entry)| (weight(&entry.notice), **number));
            let least = least.map(|(number, _)| *number);
            least.into_iter().for_each(|number| self.drop_one(number));
        }
        written.and(self.save())
    }

    /// When the next batch is due, microseconds since the epoch; `None` while nothing waits.
    #[must_use]
    pub fn due(&self, config: &NotifyConfig, now: u64) -> Option<u64> {
        let oldest = self.waiting.values().next()?;
        // Times in the future come from a clock that was set back; what waits because of one would wait for ever.
        let grouped = if oldest.queued_at > now { now } else { oldest.queued_at.saturating_add(micros(config.group)) };
        let retry = if self.state.try_at > now.saturating_add(micros(LONGEST_PAUSE)) { now } else { self.state.try_at };
        Some(grouped.max(retry))
    }

    /// What goes out as one, if it is due. It stays in the queue until [`Queue::sent`] or [`Queue::failed`].
    #[must_use]
    pub fn batch(&self, config: &NotifyConfig, now: u64) -> Option<Batch> {
        if self.due(config, now)? > now {
            return None;
        }
        let most = if config.is_ping() { 1 } else { BATCH };
        let (numbers, notices) =
            self.waiting.iter().take(most).map(|(number, entry)| (*number, entry.notice.clone())).unzip();
        Some(Batch { numbers, notices, dropped: self.state.dropped })
    }

    /// A batch was taken.
    ///
    /// # Errors
    /// The operating system's: it may be told a second time after a restart.
    pub fn sent(&mut self, batch: &Batch) -> io::Result<()> {
        let mut result = Ok(());
        for number in &batch.numbers {
            self.waiting.remove(number);
            result = result.and(remove(&self.path(*number)));
        }
        let dropped = self.state.dropped.saturating_sub(batch.dropped);
        self.state = State { told: std::mem::take(&mut self.state.told), dropped, ..State::default() };
        result.and(self.save())
    }

    /// A batch was not taken. What is too old, and all of it after a final failure, is dropped; the number is returned.
    ///
    /// # Errors
    /// The operating system's.
    pub fn failed(
        &mut self,
        config: &NotifyConfig,
        batch: &Batch,
        failure: Failure,
        error: &str,
        now: u64,
    ) -> io::Result<usize> {
        let over = |entry: &Entry| now.saturating_sub(entry.queued_at) >= micros(config.retry_for);
        let given_up: Vec<u64> = batch
            .numbers
            .iter()
            .filter(|number| failure == Failure::Final || self.waiting.get(number).is_some_and(over))
            .copied()
            .collect();
        for number in &given_up {
            self.drop_one(*number);
        }
        error.clone_into(&mut self.state.error);
        self.state.tries = self.state.tries.saturating_add(1);
        self.state.try_at = now.saturating_add(micros(pause(self.state.tries)));
        self.save().map(|()| given_up.len())
    }

    /// What is shown of it.
    #[must_use]
    pub fn shown(&self) -> Shown {
        let State { tries, try_at, error, dropped, .. } = self.state.clone();
        Shown { waiting: self.waiting.values().cloned().collect(), tries, try_at, error, dropped }
    }

    fn drop_one(&mut self, number: u64) {
        if let Some(entry) = self.waiting.remove(&number) {
            self.state.told.not_told(&entry.notice, &entry.before);
            self.state.dropped = self.state.dropped.saturating_add(1);
            if let Err(error) = remove(&self.path(number)) {
                tracing::warn!("a notice that was given up cannot be removed from {}: {error}", self.folder.display());
            }
        }
    }

    fn save(&self) -> io::Result<()> {
        state_file::replace(&self.folder.join(STATE), &serde_json::to_vec(&self.state)?)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:020}.json"))
    }
}

/// How much it matters that a notice is told: the end of a trouble as much as a trouble.
fn weight(notice: &Notice) -> Severity {
    if notice.event == Event::Recovery { notice.severity.max(Severity::Warning) } else { notice.severity }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// How long is waited after so many tries that failed.
fn pause(tries: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(20)).min(LONGEST_PAUSE)
}
