//! The configuration: `backupd.toml` and `sources.d/NAME.toml`, parsed, validated, with errors that name file, line
//! and key. A broken source file disables that source; the others go on.

pub mod connection;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

pub use connection::{ConnectionSpec, PasswordSource, Secret, SslMode};

use crate::model::{
    SourceName,
    manifest::{Codec, Selection},
};

/// Everything that the daemon is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[repository]`.
    pub repository: RepositoryConfig,
    /// `[limits]` and what else concerns all jobs.
    pub limits: Limits,
    /// The sources whose files are in order.
    pub sources: BTreeMap<SourceName, SourceConfig>,
    /// What is wrong with the other sources' files, by the name of the source as far as it could be told.
    pub broken: BTreeMap<String, Vec<ConfigProblem>>,
}

/// `[repository]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryConfig {
    /// Its folder.
    pub path: PathBuf,
    /// Codec (fixed when the repository is created) and level.
    pub codec: Codec,
    /// Bytes of the file system that backups leave free.
    pub reserve: u64,
}

/// Limits that concern all jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Jobs that run at once.
    pub concurrency: u32,
    /// Jobs that may wait.
    pub queue: u32,
    /// Threads that compress, per job; 0 for one per processor.
    pub compression_threads: u32,
    /// Finished jobs that are kept in history.
    pub history: u32,
}

/// One source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    /// Whether it may be backed up.
    pub enabled: bool,
    /// Free text.
    pub description: String,
    /// How long a backup may take in all.
    pub timeout: Option<Duration>,
    /// How many plaintext bytes a backup may have.
    pub max_size: Option<u64>,
    /// What it is.
    pub kind: SourceKind,
}

/// The kinds of sources.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceKind {
    /// `type = "postgresql"`.
    Postgres(Box<PostgresConfig>),
}

/// The keys of `type = "postgresql"`.
#[derive(Debug, Clone, PartialEq)]
pub struct PostgresConfig {
    /// The reading connection.
    pub connection: ConnectionSpec,
    /// The privileged one of `[restore]`; only restore uses it. Keys that it does not give are the reading one's.
    pub restore: Option<ConnectionSpec>,
    /// Tables and schemas to include and exclude.
    pub selection: Selection,
    /// How long to wait for one table's lock.
    pub lock_timeout: Duration,
    /// Where pg_dump is; found by itself when absent.
    pub client_bin_dir: Option<PathBuf>,
}

/// One thing wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 where it concerns the whole file.
    pub line: usize,
    /// The key, dotted; empty where it concerns the whole file.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl std::fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}
