//! The file of what is remembered for statistics: JSON lines, the first about the rest, then one for each row or period.
//!
//! Invariants: a line is written whole or not at all; a torn or odd line costs only itself; a file that cannot be read or written
//! costs numbers across a restart, nothing else. What is remembered stays in memory, and is bounded
//! ([`crate::statistics::rows`]).

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    model::{SourceKey, job::JobNumber},
    service::state_file,
    statistics::rows::{BackupRow, JobRow, Period, Remembered},
};

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    /// About the rest; the first.
    Head(Head),
    /// A job.
    Job(JobRow),
    /// A backup.
    Backup(BackupRow),
    /// A day or a month.
    Period(Period),
}

/// About the rest of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    jobs_since: u64,
    thinned_job: JobNumber,
    /// Not a map: in JSON its keys would have to be texts.
    thinned_backups: Vec<(SourceKey, u64)>,
}

/// What is remembered, in memory and in its file.
#[derive(Debug)]
pub(in crate::service) struct History {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    remembered: Remembered,
    /// Open for appending, once there is a whole file.
    file: Option<File>,
}

impl History {
    /// Reads the file. Where there is none, all jobs are known since `jobs_since`.
    pub(in crate::service) fn open(path: PathBuf, jobs_since: u64) -> Self {
        let remembered = match std::fs::read(&path) {
            Ok(bytes) => parse(&path, &bytes, jobs_since),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::error!(file = %path.display(), %error, "cannot read the history for statistics; it begins anew");
                }
                Remembered { jobs_since, ..Remembered::default() }
            }
        };
        let history = Self { path, state: Mutex::new(State { remembered, file: None }) };
        history.state().rewrite(&history.path);
        history
    }

    /// What is remembered.
    pub(in crate::service) fn remembered(&self) -> Remembered {
        self.state().remembered.clone()
    }

    /// Takes in what is new, as `look` finds it, and thins what is old. Two at once take nothing in twice.
    pub(in crate::service) fn take_in(
        &self,
        now: u64,
        look: impl FnOnce(&mut Remembered) -> (Vec<JobRow>, Vec<BackupRow>),
    ) {
        let mut state = self.state();
        let (jobs, backups) = look(&mut state.remembered);
        let lines: Vec<Line> =
            jobs.iter().cloned().map(Line::Job).chain(backups.iter().cloned().map(Line::Backup)).collect();
        state.remembered.jobs.extend(jobs);
        state.remembered.backups.extend(backups);
        let thick = state.remembered.is_thick(now);
        if thick {
            state.remembered.thin(now);
        }
        if thick || (state.file.is_none() && !lines.is_empty()) {
            state.rewrite(&self.path);
        } else if !lines.is_empty() {
            state.append(&self.path, &lines);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A failure is logged; the next change tries again.
    fn rewrite(&mut self, path: &std::path::Path) {
        let written = lines_of(&self.remembered)
            .and_then(|bytes| state_file::replace(path, &bytes))
            .and_then(|()| OpenOptions::new().append(true).mode(0o600).open(path));
        self.file = written
            .inspect_err(|error| {
                tracing::error!(file = %path.display(), %error, "cannot write the history for statistics");
            })
            .ok();
    }

    fn append(&mut self, path: &std::path::Path, lines: &[Line]) {
        let Some(file) = &mut self.file else { return };
        let appended = bytes_of(lines).and_then(|bytes| {
            let end = file.seek(io::SeekFrom::End(0))?;
            let written = file.write_all(&bytes).and_then(|()| file.sync_data());
            // What is half there is cut off again.
            written.inspect_err(|_| drop(file.set_len(end)))
        });
        if let Err(error) = appended {
            tracing::error!(file = %path.display(), %error, "cannot write the history for statistics");
            // What is missing now is written with the whole.
            self.file = None;
        }
    }
}

fn bytes_of(lines: &[Line]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut bytes, line)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

fn lines_of(remembered: &Remembered) -> io::Result<Vec<u8>> {
    let head = Head {
        jobs_since: remembered.jobs_since,
        thinned_job: remembered.thinned_job,
        thinned_backups: remembered.thinned_backups.clone().into_iter().collect(),
    };
    let mut lines = vec![Line::Head(head)];
    lines.extend(remembered.periods.iter().cloned().map(Line::Period));
    lines.extend(remembered.jobs.iter().cloned().map(Line::Job));
    lines.extend(remembered.backups.iter().cloned().map(Line::Backup));
    bytes_of(&lines)
}

fn parse(path: &std::path::Path, bytes: &[u8], jobs_since: u64) -> Remembered {
    let mut remembered = Remembered { jobs_since, ..Remembered::default() };
    for (index, line) in bytes.split(|&b| b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(Line::Head(head)) => {
                remembered.jobs_since = head.jobs_since;
                remembered.thinned_job = head.thinned_job;
                remembered.thinned_backups = BTreeMap::from_iter(head.thinned_backups);
            }
            Ok(Line::Job(row)) => remembered.jobs.push(row),
            Ok(Line::Backup(row)) => remembered.backups.push(row),
            Ok(Line::Period(period)) => remembered.periods.push(period),
            Err(error) => tracing::warn!(
                file = %path.display(), line = index + 1, %error,
                "a line of the history for statistics is not readable and is dropped"
            ),
        }
    }
    remembered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            job::{JobResult, JobType},
            summary::BackupSummary,
        },
        statistics::rows::DAY,
    };

    const NOW: u64 = 1_793_577_600_000_000;

    fn job(number: u64) -> JobRow {
        let (job_type, result) = (JobType::Create, JobResult::Done);
        JobRow { at: NOW, number, job_type, source: "shop".to_owned(), result, duration: 5, recovery: 0 }
    }

    fn backup() -> BackupRow {
        BackupRow { at: NOW, ..BackupRow::of(&BackupSummary::nothing()) }
    }

    #[test]
    fn what_was_taken_in_is_there_after_a_restart_and_a_torn_line_costs_only_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statistics.jsonl");
        let history = History::open(path.clone(), 7);
        history.take_in(NOW, |_| (vec![job(1)], vec![backup()]));
        history.take_in(NOW, |known| (vec![job(2)], known.unknown_backups(&[BackupSummary::nothing()])));
        let known = history.remembered();
        assert_eq!((known.jobs.len(), known.backups.len(), known.jobs_since), (2, 1, 7));
        let whole = std::fs::read(&path).unwrap();
        let torn = serde_json::to_vec(&Line::Job(job(3))).unwrap();
        for cut in 0..torn.len() {
            std::fs::write(&path, [&whole[..], &torn[..cut]].concat()).unwrap();
            let history = History::open(path.clone(), 9);
            assert_eq!(history.remembered(), known, "{cut}");
            history.take_in(NOW, |_| (vec![job(4)], Vec::new()));
            assert_eq!(History::open(path.clone(), 9).remembered().jobs.len(), 3);
        }
    }

    #[test]
    fn what_was_thinned_stays_so_across_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statistics.jsonl");
        let history = History::open(path.clone(), 7);
        history.take_in(NOW + 200 * DAY, |_| (vec![job(5)], vec![backup()]));
        let known = history.remembered();
        assert_eq!((known.jobs.len(), known.backups.len(), known.periods.len()), (0, 0, 1));
        let again = History::open(path, 0).remembered();
        assert_eq!((&again, again.unknown_backups(&[BackupSummary::nothing()]).len()), (&known, 0));
    }

    #[test]
    fn a_file_that_cannot_be_written_costs_nothing_but_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/statistics.jsonl");
        let history = History::open(path.clone(), 7);
        history.take_in(NOW, |_| (vec![job(1)], Vec::new()));
        assert_eq!(history.remembered().jobs.len(), 1);
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        history.take_in(NOW, |_| (vec![job(2)], Vec::new()));
        assert_eq!(History::open(path, 0).remembered().jobs.len(), 2, "what was not written is written later");
    }
}
