//! The configuration: `backupd.toml` and `sources.d/NAME.toml`, parsed, validated, with errors that name file, line
//! and key. A broken source file disables that source; the others go on.
//!
//! - [`connection`]: how to reach a server; [`uri`]: the same as a connection URI.
//! - `daemon`, `source`, `postgres`, `sqlite`, `drill`, `health`, `metrics`, [`notify`]: the keys of the files; [`credential`]: where secrets are; `schedule`: when; `reader`, `values`, `units`, `files`: how they
//!   are read.
//! - `problem`: what is wrong.

pub mod connection;
pub mod credential;
mod daemon;
mod drill;
mod files;
mod health;
mod metrics;
pub mod notify;
mod postgres;
mod problem;
mod reader;
mod retention;
mod schedule;
mod source;
mod sqlite;
mod units;
pub mod uri;
mod values;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

pub use connection::{ConnectionKeys, ConnectionSpec, PasswordSource, Secret, SslMode};
pub use daemon::{DEFAULT_REPOSITORY, Limits, RepositoryConfig, UndoConfig};
pub use drill::{DEFAULT_DRILL_USER, DrillConfig, DrillHost, read_assertions};
pub use health::{HealthConfig, HealthHost, Within};
pub use metrics::MetricsConfig;
pub use notify::NotifyConfig;
pub use postgres::{AllDatabases, PostgresConfig, SwapHooks};
pub use problem::{ConfigErrors, ConfigProblem};
pub use retention::{RetentionHost, RetentionKeys, RetentionPolicy};
pub use source::{SourceConfig, SourceKind};
pub use sqlite::{DEFAULT_LOCK_TIMEOUT as SQLITE_LOCK_TIMEOUT, SqliteCheck, SqliteConfig};
pub(crate) use units::parse_size;

use crate::model::SourceName;

/// Where the configuration is unless `--config-dir` says otherwise.
pub const DEFAULT_DIRECTORY: &str = "/etc/backupd";

/// Everything that the daemon is told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// `[repository]`.
    pub repository: RepositoryConfig,
    /// `[limits]` and what else concerns all jobs.
    pub limits: Limits,
    /// `[undo]`.
    pub undo: UndoConfig,
    /// `[drill]`.
    pub drill: DrillHost,
    /// The policy of `[retention]`, for sources that say nothing else.
    pub retention: RetentionPolicy,
    /// What else `[retention]` says.
    pub pruning: RetentionHost,
    /// `[health]`.
    pub health: HealthHost,
    /// `[metrics]`.
    pub metrics: MetricsConfig,
    /// `[notify.NAME]`, by the names.
    pub notify: BTreeMap<String, NotifyConfig>,
    /// The sources whose files are in order.
    pub sources: BTreeMap<SourceName, SourceConfig>,
    /// What is wrong with the other sources' files, by the name of the source as far as it could be told.
    pub broken: BTreeMap<String, Vec<ConfigProblem>>,
}

impl Config {
    /// Which backups of a source stay; nothing of one that is not configured, or not properly.
    #[must_use]
    pub fn retention_of(&self, source: &SourceName) -> Option<RetentionPolicy> {
        self.sources.get(source).map(|source| source.retention.over(&self.retention))
    }

    /// What is wrong with the files of sources, in the order of their names.
    pub fn problems(&self) -> impl Iterator<Item = &ConfigProblem> {
        self.broken.values().flatten()
    }
}

/// Reads the configuration in a directory. A `backupd.toml` that is not there means defaults, as elsewhere under
/// systemd; a directory that is not there is an error. Files of `sources.d` whose names do not end in `.toml`, or begin
/// with a dot, are editors' and packagers' own and are skipped.
///
/// # Errors
/// When the directory or `backupd.toml` has a problem; the problems of all files are in the error. Otherwise those of
/// sources are in [`Config::broken`].
pub fn load(config_dir: &Path) -> Result<Config, ConfigErrors> {
    let whole = |file: &Path, message: String| {
        ConfigErrors(vec![ConfigProblem { file: file.to_owned(), line: 0, key: String::new(), message }])
    };
    match std::fs::metadata(config_dir) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(whole(config_dir, "the configuration directory is not a directory".to_owned())),
        Err(error) => return Err(whole(config_dir, format!("the configuration directory cannot be used: {error}"))),
    }
    let main = config_dir.join("backupd.toml");
    let read_main = match files::read(&main) {
        Ok(None) => Ok(Default::default()),
        Ok(Some(text)) => parse(&main, &text, |root| Some(daemon::read(root))),
        Err(message) => Err(whole(&main, message).0),
    };
    let config = load_sources(config_dir)
        .map_err(|error| whole(&config_dir.join("sources.d"), format!("cannot be listed: {error}")))?;
    match read_main {
        Ok(main) => Ok(Config { sources: config.sources, broken: config.broken, ..main }),
        Err(mut problems) => {
            problems.extend(config.broken.into_values().flatten());
            Err(ConfigErrors(problems))
        }
    }
}

/// Reads the files of sources alone; all else has its default.
///
/// # Errors
/// When the directory cannot be listed. The problems of sources are in [`Config::broken`].
pub fn load_sources(config_dir: &Path) -> std::io::Result<Config> {
    let mut config = Config::default();
    for file in source_files(&config_dir.join("sources.d"))? {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match load_source(&file, &stem) {
            Ok(Some((name, source))) => drop(config.sources.insert(name, source)),
            Ok(None) => {}
            Err(problems) => drop(config.broken.insert(stem, problems)),
        }
    }
    Ok(config)
}

/// Where the file of a source is, or would be.
#[must_use]
pub fn source_file(config_dir: &Path, name: &SourceName) -> PathBuf {
    config_dir.join("sources.d").join(format!("{name}.toml"))
}

/// Reads a text as the file of a source, whether or not it is there: what the daemon would make of it.
///
/// # Errors
/// All problems of the text, at `file`.
pub fn read_source(file: &Path, text: &str) -> Result<SourceConfig, ConfigErrors> {
    parse(file, text, source::read).map_err(ConfigErrors)
}

/// The files of `sources.d` in the order of their names; none if there is no such directory.
fn source_files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads one source's file; `None` if it went away meanwhile.
fn load_source(file: &Path, stem: &str) -> Result<Option<(SourceName, SourceConfig)>, Vec<ConfigProblem>> {
    let whole = |message| vec![ConfigProblem { file: file.to_owned(), line: 0, key: String::new(), message }];
    let name: SourceName = stem
        .parse()
        .map_err(|error| whole(format!("the file's name, without .toml, names the source, and {error}")))?;
    let Some(text) = files::read(file).map_err(whole)? else { return Ok(None) };
    Ok(Some((name, parse(file, &text, source::read)?)))
}

/// Reads a file's text with a function for its top; all problems if there is one.
fn parse<T>(
    file: &Path,
    text: &str,
    read: impl FnOnce(reader::Section<'_>) -> Option<T>,
) -> Result<T, Vec<ConfigProblem>> {
    let document = reader::Document::new(file, text);
    let result = document.root().and_then(read);
    let problems = document.into_problems();
    match result {
        Some(result) if problems.is_empty() => Ok(result),
        _ => Err(problems),
    }
}
