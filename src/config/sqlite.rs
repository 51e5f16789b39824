//! The keys of `type = "sqlite"`: the file, and how it is read.

use std::{path::PathBuf, time::Duration};

use super::{reader::Section, values};

/// How long to wait for a lock that somebody else holds where nothing is configured.
/// How long is waited for a lock unless that is configured.
pub const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// How long one read transaction may hold back checkpoints of the write-ahead log where nothing is configured.
const DEFAULT_READ_TIMEOUT: Duration = Duration::from_secs(3600);

/// How long writers of a database in rollback-journal mode may be kept waiting at a time where nothing is configured.
const DEFAULT_WRITE_PAUSE: Duration = Duration::from_millis(200);

/// The keys of `type = "sqlite"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteConfig {
    /// The database file.
    pub path: PathBuf,
    /// What SQLite itself checks of each backup.
    pub check: SqliteCheck,
    /// How long to wait for a lock that somebody else holds.
    pub lock_timeout: Duration,
    /// How long the read transaction of a database in WAL mode may last: it holds back checkpoints, and the log grows.
    pub read_timeout: Duration,
    /// How long writers of a database in rollback-journal mode may be kept waiting at a time: what is copied of it at once.
    pub write_pause: Duration,
}

/// What SQLite itself checks of the database that a backup holds (<https://sqlite.org/pragma.html#pragma_quick_check>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SqliteCheck {
    /// `PRAGMA quick_check`: everything but the agreement of indexes with their tables, and UNIQUE.
    #[default]
    Quick,
    /// `PRAGMA integrity_check`: those, too.
    Integrity,
}

impl SqliteCheck {
    /// The name of the pragma.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quick => "quick_check",
            Self::Integrity => "integrity_check",
        }
    }
}

/// Reads the keys; `None` where there is no path without a problem, which is then reported.
pub(super) fn read(root: &mut Section<'_>) -> Option<SqliteConfig> {
    let path = root.take("path", values::absolute_path);
    if !root.has("path") {
        root.problem("path", "is missing; write the absolute path of the database file to back up");
    }
    let checks = [("quick", SqliteCheck::Quick), ("integrity", SqliteCheck::Integrity)];
    let check = root.take("check", values::one_of(&checks)).unwrap_or_default();
    let lock_timeout = root.take("lock_timeout", values::duration).unwrap_or(DEFAULT_LOCK_TIMEOUT);
    let read_timeout = root.take("read_timeout", values::duration).unwrap_or(DEFAULT_READ_TIMEOUT);
    let write_pause = root.take("write_pause", values::duration).unwrap_or(DEFAULT_WRITE_PAUSE);
    Some(SqliteConfig { path: path?, check, lock_timeout, read_timeout, write_pause })
}
