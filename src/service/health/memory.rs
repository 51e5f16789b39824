//! What health remembers across restarts: the last report, so that nothing is told twice, and how much space there was.
//!
//! Invariant: it is a help, not a truth. A file that cannot be read is as good as none, one that cannot be written is logged.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{health::Report, service::state_file};

/// How far apart points of the trend are, microseconds.
const SPACING: u64 = 3_600_000_000;
/// How far back they go.
const SPAN: u64 = 14 * 86_400_000_000;

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Remembered {
    report: Report,
    /// Free bytes of the repository's file system by time, the oldest first.
    free: Vec<(u64, u64)>,
}

#[derive(Debug)]
pub(super) struct Memory {
    path: PathBuf,
    remembered: Remembered,
}

impl Memory {
    /// What was remembered in this state folder.
    pub(super) fn open(state: &Path) -> Self {
        let path = state.join("health.json");
        let read = fs::read(&path).and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::from));
        let remembered = read.unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!("what health remembers is lost: cannot read {}: {error}", path.display());
            }
            Remembered::default()
        });
        Self { path, remembered }
    }

    /// The last report; an empty one if there was none.
    pub(super) fn report(&self) -> &Report {
        &self.remembered.report
    }

    /// How much space there was.
    pub(super) fn free(&self) -> &[(u64, u64)] {
        &self.remembered.free
    }

    /// Remembers a report, and a point of the trend when it is time for one.
    pub(super) fn remember(&mut self, report: &Report, free: Option<u64>) {
        let Remembered { report: last, free: points } = &mut self.remembered;
        let now = report.at;
        let before = points.len();
        // A clock that was wrong left points that are no use.
        points.retain(|(at, _)| *at <= now && now - *at <= SPAN);
        let is_due = points.last().is_none_or(|(at, _)| now - *at >= SPACING);
        if let Some(free) = free.filter(|_| is_due) {
            points.push((now, free));
        }
        let same = last.findings == report.findings && points.len() == before && !is_due;
        *last = report.clone();
        // Times alone are not worth a write every few minutes.
        if !same && let Err(error) = self.write() {
            tracing::warn!("cannot write {}: {error}", self.path.display());
        }
    }

    fn write(&self) -> io::Result<()> {
        state_file::replace(&self.path, &serde_json::to_vec(&self.remembered)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_an_hour_apart_for_two_weeks_and_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut memory = Memory::open(folder.path());
        let at = |minutes: u64| Report { at: minutes * 60_000_000, ..Report::default() };
        for minutes in 0..20 * 24 * 60 / 5 {
            memory.remember(&at(minutes * 5), Some(minutes));
        }
        assert_eq!(memory.free().len(), 14 * 24);
        let again = Memory::open(folder.path());
        assert_eq!(again.free(), memory.free());
        // The clock is set back: what is in the future goes.
        let mut memory = again;
        memory.remember(&at(19 * 24 * 60), Some(1));
        assert!(memory.free().iter().all(|(time, _)| *time <= at(19 * 24 * 60).at));
        // A torn file costs what it held, nothing else.
        fs::write(folder.path().join("health.json"), b"{\"rep").unwrap();
        assert_eq!(Memory::open(folder.path()).free(), []);
    }
}
