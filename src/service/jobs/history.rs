//! What is remembered of jobs: a file of JSON lines, one when a job is accepted and one when it ends.
//!
//! Invariants: a line is written whole or not at all (a failed write is cut off again); a torn last line, from a
//! crash, is dropped when the file is next opened, which also rewrites it; of two lines with one number the one with a
//! result wins; a job without one was interrupted. The file never holds more than about twice the limit.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    clock::now_micros,
    model::{
        ErrorCode,
        job::{JobError, JobNumber, JobRecord, JobResult},
        message_id,
    },
    service::{ServiceError, state_file},
};

/// Lines that the file may have beyond the limit before it is rewritten.
const SLACK: usize = 64;

/// The file has a lock of its own, which is held while it is synced; what is remembered can be read meanwhile.
#[derive(Debug)]
pub(super) struct History {
    path: PathBuf,
    log: Mutex<Log>,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Log {
    file: File,
    lines: usize,
}

#[derive(Debug)]
struct Memory {
    limit: usize,
    finished: BTreeMap<JobNumber, JobRecord>,
    unfinished: BTreeMap<JobNumber, JobRecord>,
}

impl History {
    /// Reads the file and closes the jobs that ran when the daemon died.
    pub(super) fn open(path: PathBuf, limit: usize) -> Result<Self, ServiceError> {
        let mut finished = read(&path)?;
        for record in finished.values_mut().filter(|record| record.result.is_none()) {
            interrupt(record);
        }
        rewrite(&path, finished.values()).map_err(|error| io_error("write the history of jobs", &path, &error))?;
        let file = open_for_append(&path).map_err(|error| io_error("open the history of jobs", &path, &error))?;
        let log = Mutex::new(Log { file, lines: finished.len() });
        let mut memory = Memory { limit, finished, unfinished: BTreeMap::new() };
        memory.forget_oldest();
        Ok(Self { path, log, memory: Mutex::new(memory) })
    }

    /// The highest number that is remembered; 0 for none.
    pub(super) fn highest(&self) -> JobNumber {
        let memory = self.memory();
        memory.finished.keys().chain(memory.unfinished.keys()).max().copied().unwrap_or(0)
    }

    /// The jobs that ended, the oldest first.
    pub(super) fn finished(&self) -> Vec<JobRecord> {
        self.memory().finished.values().cloned().collect()
    }

    /// A job that ended.
    pub(super) fn get(&self, number: JobNumber) -> Option<JobRecord> {
        self.memory().finished.get(&number).cloned()
    }

    pub(super) fn set_limit(&self, limit: usize) {
        let mut memory = self.memory();
        memory.limit = limit;
        memory.forget_oldest();
    }

    /// Remembers a job as it is now. A record with a result is the job's last.
    ///
    /// A file that cannot be written costs the memory of the job across a restart, not the job: it is only logged.
    pub(super) fn record(&self, record: &JobRecord) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = log.append(record) {
            tracing::error!(file = %self.path.display(), %error, "cannot write the history of jobs");
        }
        let too_long = {
            let mut memory = self.memory();
            memory.insert(record.clone());
            log.lines > 2 * memory.limit + memory.unfinished.len() + SLACK
        };
        if too_long && let Err(error) = self.compact(&mut log) {
            tracing::error!(file = %self.path.display(), %error, "cannot shorten the history of jobs");
        }
    }

    fn compact(&self, log: &mut Log) -> io::Result<()> {
        let records: Vec<JobRecord> = {
            let memory = self.memory();
            memory.finished.values().chain(memory.unfinished.values()).cloned().collect()
        };
        rewrite(&self.path, records.iter())?;
        *log = Log { file: open_for_append(&self.path)?, lines: records.len() };
        Ok(())
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn append(&mut self, record: &JobRecord) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let end = self.file.seek(io::SeekFrom::End(0))?;
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        if written.is_err() {
            self.file.set_len(end)?;
        } else {
            self.lines += 1;
        }
        written
    }
}

impl Memory {
    fn insert(&mut self, record: JobRecord) {
        if record.result.is_some() {
            self.unfinished.remove(&record.number);
            self.finished.insert(record.number, record);
            self.forget_oldest();
        } else {
            self.unfinished.insert(record.number, record);
        }
    }

    fn forget_oldest(&mut self) {
        while self.finished.len() > self.limit {
            self.finished.pop_first();
        }
    }
}

fn read(path: &Path) -> Result<BTreeMap<JobNumber, JobRecord>, ServiceError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(io_error("read the history of jobs", path, &error)),
    };
    let mut records: BTreeMap<JobNumber, JobRecord> = BTreeMap::new();
    for (index, line) in bytes.split(|&b| b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        match serde_json::from_slice::<JobRecord>(line) {
            Ok(record) => {
                if records.get(&record.number).is_none_or(|known| known.result.is_none()) {
                    records.insert(record.number, record);
                }
            }
            Err(error) => tracing::warn!(
                file = %path.display(), line = index + 1, %error,
                "a line of the history of jobs is not readable and is dropped"
            ),
        }
    }
    Ok(records)
}

/// Ends the record of a job whose daemon died. When that was is not known: the time is that of noticing.
fn interrupt(record: &mut JobRecord) {
    let message = format!(
        "job {} ({} {}) was interrupted: the daemon died or was killed while it ran",
        record.number, record.job_type, record.source
    );
    tracing::warn!(
        MESSAGE_ID = message_id::JOB_INTERRUPTED,
        BACKUPD_JOB = %record.run_id,
        BACKUPD_SOURCE = record.source,
        BACKUPD_JOB_NUMBER = record.number,
        BACKUPD_JOB_TYPE = record.job_type.as_str(),
        BACKUPD_RESULT = JobResult::Interrupted.as_str(),
        BACKUPD_ERROR = ErrorCode::Interrupted.name(),
        "{message}"
    );
    record.result = Some(JobResult::Interrupted);
    record.error = Some(JobError::new(ErrorCode::Interrupted, message));
    record.end_time = now_micros().max(record.start_time);
}

fn rewrite<'a>(path: &Path, records: impl Iterator<Item = &'a JobRecord>) -> io::Result<()> {
    let mut bytes = Vec::new();
    for record in records {
        serde_json::to_writer(&mut bytes, record)?;
        bytes.push(b'\n');
    }
    state_file::replace(path, &bytes)
}

fn open_for_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// An error of the operating system about one file of the daemon's state.
pub(super) fn io_error(attempted: &str, path: &Path, error: &io::Error) -> ServiceError {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::NoSpace,
        _ => ErrorCode::Io,
    };
    ServiceError::new(code, format!("cannot {attempted} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        RunId,
        job::{JobType, Phase},
    };

    fn record(number: JobNumber, result: Option<JobResult>) -> JobRecord {
        JobRecord {
            number,
            run_id: RunId::new(),
            job_type: JobType::Create,
            source: "shop".into(),
            backup: String::new(),
            started_by_uid: 0,
            start_time: now_micros(),
            end_time: 0,
            phase: Phase::Data,
            result,
            error: None,
            statistics: serde_json::Map::new(),
        }
    }

    #[test]
    fn a_torn_line_costs_only_itself_and_what_ran_was_interrupted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jobs.jsonl");
        let history = History::open(path.clone(), 10).unwrap();
        history.record(&record(1, None));
        history.record(&record(1, Some(JobResult::Done)));
        history.record(&record(2, None));
        drop(history);
        let whole = std::fs::read(&path).unwrap();
        let torn = serde_json::to_vec(&record(3, None)).unwrap();
        for cut in 0..torn.len() {
            std::fs::write(&path, [&whole[..], &torn[..cut]].concat()).unwrap();
            let history = History::open(path.clone(), 10).unwrap();
            assert_eq!(history.get(1).unwrap().result, Some(JobResult::Done));
            let interrupted = history.get(2).unwrap();
            assert_eq!(interrupted.result, Some(JobResult::Interrupted));
            assert_eq!(interrupted.error.unwrap().name, "Interrupted");
            assert!(interrupted.end_time >= interrupted.start_time);
            assert_eq!(history.highest(), 2);
            history.record(&record(4, Some(JobResult::Failed)));
            drop(history);
            assert_eq!(History::open(path.clone(), 10).unwrap().get(4).unwrap().result, Some(JobResult::Failed));
        }
    }

    #[test]
    fn neither_memory_nor_file_grows_beyond_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jobs.jsonl");
        let history = History::open(path.clone(), 5).unwrap();
        history.record(&record(1, None));
        for number in 2..400 {
            history.record(&record(number, Some(JobResult::Done)));
            let lines = std::fs::read_to_string(&path).unwrap().lines().count();
            assert!(lines <= 2 * 5 + 1 + SLACK, "{lines} lines");
        }
        assert_eq!(history.finished().iter().map(|r| r.number).collect::<Vec<_>>(), [395, 396, 397, 398, 399]);
        drop(history);
        let history = History::open(path, 5).unwrap();
        assert_eq!(history.highest(), 399);
    }
}
