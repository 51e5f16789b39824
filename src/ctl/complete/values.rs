//! What the daemon knows that a word of the command line may name.
//!
//! Invariants: it is asked once, within [`LIMIT`]; nobody is asked for a password for it, and no daemon is started for it.

use std::{collections::BTreeSet, ffi::OsString, future::Future, time::Duration};

use chrono::{DateTime, Local};
use clap::ValueEnum as _;

use super::super::{arguments::Bus, client::Client, error::CtlError, manager::Manager};
use crate::{
    bus::types::{BackupRow, list_filter_to_wire},
    service::operations::ListFilter,
};

/// How long somebody waits who pressed the tabulator.
const LIMIT: Duration = Duration::from_secs(1);
/// How much of an id is enough, as listings show it.
const SHORT_ID: usize = 8;

/// What a word names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `SOURCE` or `SOURCE/DATABASE`.
    Source,
    /// A backup: an id, `SOURCE@latest` or `SOURCE@TIME`.
    Backup,
    /// A backup of the source that stands elsewhere: an id, `latest` or a time.
    BackupOfSource,
    /// A tag of a backup.
    Tag,
    /// The number of a job.
    Job,
    /// The number of a job that has not ended.
    RunningJob,
    /// The number of a job whose restore can be undone.
    UndoableJob,
    /// The number of a job, or a source.
    JobOrSource,
}

/// A value and a few words about it.
type Value = (String, String);

/// The daemon that the command line is about.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Daemon {
    address: Option<String>,
    bus: Option<Bus>,
    /// The source that an option names.
    source: Option<String>,
    /// Whether none is to be asked.
    offline: bool,
}

impl Daemon {
    /// Reads from the words before the cursor which daemon is meant.
    pub(super) fn of(words: &[OsString]) -> Self {
        let mut daemon = Self::default();
        let words: Vec<&str> = words.iter().map(|word| word.to_str().unwrap_or_default()).collect();
        for (index, word) in words.iter().enumerate() {
            let next = || words.get(index + 1).copied();
            let (name, value) =
                word.split_once('=').map_or_else(|| (*word, next()), |(name, value)| (name, Some(value)));
            match name {
                "--address" => daemon.address = value.map(str::to_owned),
                "--bus" => daemon.bus = value.and_then(|value| Bus::from_str(value, false).ok()),
                "--source" => daemon.source = value.map(str::to_owned),
                "--no-daemon" => daemon.offline = true,
                _ => {}
            }
        }
        daemon
    }

    /// What begins with `current`; nothing where the daemon does not answer.
    pub(super) fn values(&self, kind: Kind, current: &str) -> Vec<Value> {
        if current.starts_with('-') {
            return Vec::new(); // An option; no name begins so.
        }
        let mut values = self.ask(async |manager| self.fetch(&manager, kind, current).await).unwrap_or_default();
        values.retain(|(value, _)| value.starts_with(current));
        values
    }

    fn ask<T, F: Future<Output = Result<T, CtlError>>>(&self, question: impl FnOnce(Manager) -> F) -> Option<T> {
        if self.offline {
            return None;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let answer = runtime.block_on(async {
            let asked = async { question(Client::for_completion(self.address.as_deref(), self.bus).await?).await };
            tokio::time::timeout(LIMIT, asked).await
        });
        runtime.shutdown_background();
        answer.ok()?.ok()
    }

    async fn fetch(&self, manager: &Manager, kind: Kind, current: &str) -> Result<Vec<Value>, CtlError> {
        Ok(match kind {
            Kind::Source => sources(manager).await?,
            Kind::Backup => match current.rsplit_once('@') {
                Some((source, _)) => points_in_time(&backups(manager, source).await?, &format!("{source}@")),
                None => selectors(&backups(manager, "").await?),
            },
            Kind::BackupOfSource => {
                let rows = backups(manager, self.source.as_deref().unwrap_or_default()).await?;
                let mut values = ids(&rows);
                if self.source.is_some() {
                    values.extend(points_in_time(&rows, ""));
                }
                values
            }
            Kind::Tag => {
                let tags: BTreeSet<String> = backups(manager, "").await?.into_iter().flat_map(|row| row.tags).collect();
                tags.into_iter().map(|tag| (tag, String::new())).collect()
            }
            Kind::Job => jobs(manager, false).await?,
            Kind::RunningJob => jobs(manager, true).await?,
            Kind::UndoableJob => {
                let rows = manager.list_undo(0).await?.into_iter();
                rows.map(|row| (row.job.to_string(), format!("{} kept as {}", row.target, row.kept))).collect()
            }
            Kind::JobOrSource => {
                let mut values = jobs(manager, false).await?;
                values.extend(sources(manager).await?);
                values
            }
        })
    }
}

/// The backups of a source, or of all: the first part of the listing, ten thousand.
async fn backups(manager: &Manager, source: &str) -> Result<Vec<BackupRow>, CtlError> {
    let filter = ListFilter { source: source.to_owned(), ..ListFilter::default() };
    Ok(manager.list_backups(&list_filter_to_wire(&filter), 0, "", 0).await?.0)
}

async fn sources(manager: &Manager) -> Result<Vec<Value>, CtlError> {
    let rows = manager.list_sources(0).await?;
    let mut values: Vec<Value> = rows.into_iter().map(|row| (row.name, row.location)).collect();
    // The daemon knows a server's databases by the backups that there are of them.
    let backups = backups(manager, "").await?;
    let databases: BTreeSet<String> = backups.iter().filter(|row| !row.database.is_empty()).filter_map(key).collect();
    values.extend(databases.into_iter().map(|name| (name, String::new())));
    Ok(values)
}

async fn jobs(manager: &Manager, running: bool) -> Result<Vec<Value>, CtlError> {
    let rows = manager.list_jobs(0).await?.into_iter().rev().filter(|row| !running || row.end_time == 0);
    Ok(rows
        .map(|row| {
            let state = if row.result.is_empty() { &row.phase } else { &row.result };
            (row.id.to_string(), format!("{} {} {state}", row.job_type, row.source))
        })
        .collect())
}

/// What a backup is listed under; `None` for a name that is not UTF-8 and cannot be typed.
fn key(row: &BackupRow) -> Option<String> {
    let database = std::str::from_utf8(&row.database).ok()?;
    Some(if database.is_empty() { row.source.clone() } else { format!("{}/{database}", row.source) })
}

/// `SOURCE@latest` of all that have backups, and ids.
fn selectors(rows: &[BackupRow]) -> Vec<Value> {
    let servers = rows.iter().map(|row| row.source.clone());
    let keys: BTreeSet<String> = servers.chain(rows.iter().filter_map(key)).collect();
    let latest = keys.into_iter().map(|key| (format!("{key}@latest"), String::new()));
    latest.chain(ids(rows)).collect()
}

fn ids(rows: &[BackupRow]) -> Vec<Value> {
    let short = |row: &BackupRow| row.id.get(..SHORT_ID).unwrap_or(&row.id).to_owned();
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<String> = rows.iter().map(short).filter(|id| !seen.insert(id.clone())).collect();
    let value = |row: &BackupRow| {
        let id = Some(short(row)).filter(|id| !twice.contains(id)).unwrap_or_else(|| row.id.clone());
        (id, format!("{} {}", key(row).unwrap_or_else(|| row.source.clone()), local(row.snapshot_at)))
    };
    rows.iter().map(value).collect()
}

/// `latest` and the times of backups, each after a prefix.
fn points_in_time(rows: &[BackupRow], prefix: &str) -> Vec<Value> {
    if rows.is_empty() {
        return Vec::new();
    }
    let mut times: Vec<Value> = vec![(format!("{prefix}latest"), String::new())];
    times.extend(rows.iter().map(|row| (format!("{prefix}{}", local(row.snapshot_at)), row.description.clone())));
    times
}

/// A time as `SOURCE@TIME` takes it.
fn local(microseconds: u64) -> String {
    let time = i64::try_from(microseconds).ok().and_then(DateTime::from_timestamp_micros).unwrap_or_default();
    time.with_timezone(&Local).format("%Y-%m-%dT%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_is_the_one_of_the_line() {
        let of = |line: &str| Daemon::of(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(of("backupctl list"), Daemon::default());
        let peer = Daemon { address: Some("unix:path=/x".to_owned()), ..Daemon::default() };
        assert_eq!(of("backupctl --address unix:path=/x list"), peer);
        assert_eq!(of("backupctl list --address=unix:path=/x"), peer);
        let session = Daemon { bus: Some(Bus::Session), source: Some("a".to_owned()), ..Daemon::default() };
        assert_eq!(of("backupctl --bus session show --source a"), session);
        assert!(of("backupctl --no-daemon --repository /x").offline);
    }

    #[test]
    fn nobody_waits_for_a_daemon_that_is_away_or_hangs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let daemon = || Daemon { address: Some(format!("unix:path={}", path.display())), ..Daemon::default() };
        assert_eq!(daemon().values(Kind::Source, ""), []);
        // It accepts, as the kernel does for it, and says nothing.
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let began = std::time::Instant::now();
        assert_eq!(daemon().values(Kind::Backup, ""), []);
        assert!(began.elapsed() < LIMIT * 5, "{:?}", began.elapsed());
    }
}
