//! `backupd.toml`: the repository and the limits that concern all jobs.

use std::{path::PathBuf, time::Duration};

use super::{Config, drill, health, metrics, notify, reader::Section, retention, values};
use crate::model::manifest::{Codec, CodecName};

/// The repository where none is configured.
pub const DEFAULT_REPOSITORY: &str = "/var/lib/backupd/repository";

/// `[repository]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryConfig {
    /// Its folder.
    pub path: PathBuf,
    /// Codec (fixed when the repository is created) and level.
    pub codec: Codec,
    /// Bytes of the file system that backups leave free.
    pub reserve: u64,
    /// Whether what was compressed is decompressed and compared before it is stored.
    pub compare: bool,
}

impl Default for RepositoryConfig {
    fn default() -> Self {
        Self {
            path: DEFAULT_REPOSITORY.into(),
            codec: Codec { name: CodecName::Gzip, level: CodecName::Gzip.default_level() },
            reserve: 1 << 30,
            compare: true,
        }
    }
}

/// `[undo]`: what restores in place keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoConfig {
    /// How long what was replaced is kept.
    pub keep: Duration,
}

impl Default for UndoConfig {
    fn default() -> Self {
        Self { keep: Duration::from_secs(72 * 3600) }
    }
}

/// `[limits]`: what concerns all jobs.
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

impl Default for Limits {
    fn default() -> Self {
        Self { concurrency: 2, queue: 64, compression_threads: 0, history: 1000 }
    }
}

/// Reads the whole of `backupd.toml`, which names no sources. What has a problem is reported, and has its default here.
pub(super) fn read(mut root: Section<'_>) -> Config {
    let repository = read_repository(root.section("repository"));
    let limits = read_limits(root.section("limits"));
    let mut section = root.section("undo");
    let undo = UndoConfig { keep: section.take("keep", values::duration).unwrap_or(UndoConfig::default().keep) };
    section.finish();
    let drill = drill::read_host(root.section("drill"));
    let health = health::read_host(root.section("health"));
    let (retention, pruning) = retention::read_host(root.section("retention"));
    let metrics = metrics::read(root.section("metrics"));
    let notify = notify::read(root.sections("notify"));
    root.finish();
    Config { repository, limits, undo, drill, health, retention, pruning, metrics, notify, ..Config::default() }
}

fn read_repository(mut section: Section<'_>) -> RepositoryConfig {
    let default = RepositoryConfig::default();
    let path = section.take("path", values::absolute_path).unwrap_or(default.path);
    let codecs = [CodecName::Gzip, CodecName::Zstd].map(|codec| (codec.as_str(), codec));
    let name = section.take("codec", values::one_of(&codecs)).unwrap_or(default.codec.name);
    let level = section.take("level", values::integer(0..=name.levels().1)).unwrap_or(0);
    let level = if level == 0 { name.default_level() } else { level };
    let reserve = section.take("reserve", values::size).unwrap_or(default.reserve);
    let compare = section.take("compare", values::boolean).unwrap_or(default.compare);
    section.finish();
    RepositoryConfig { path, codec: Codec { name, level }, reserve, compare }
}

fn read_limits(mut section: Section<'_>) -> Limits {
    let default = Limits::default();
    let limits = Limits {
        concurrency: section.take("concurrency", values::integer(1..=64)).unwrap_or(default.concurrency),
        queue: section.take("queue", values::integer(0..=10_000)).unwrap_or(default.queue),
        compression_threads: section
            .take("compression_threads", values::integer(0..=256))
            .unwrap_or(default.compression_threads),
        history: section.take("history", values::integer(1..=1_000_000)).unwrap_or(default.history),
    };
    section.finish();
    limits
}
