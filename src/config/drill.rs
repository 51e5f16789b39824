//! `[drill]`: in `backupd.toml` who drills and where, in the file of a source what is looked at.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{files, reader::Section, values};

/// The user that drills run as, where there is no other configured.
pub const DEFAULT_DRILL_USER: &str = "backupd-drill";

/// How long a drill may take where nothing is configured.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// `[drill]` of `backupd.toml`. Both are for a daemon that runs as root, without the units: there, the unit says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrillHost {
    /// The user that drills run as; without it `backupd-drill`, or `nobody` where there is none.
    pub user: Option<String>,
    /// Where the scratch database goes.
    pub scratch: PathBuf,
}

impl Default for DrillHost {
    fn default() -> Self {
        Self { user: None, scratch: PathBuf::from("/var/tmp") }
    }
}

/// `[drill]` of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrillConfig {
    /// A file of SQL whose rows must begin with a true value.
    pub assertions: Option<PathBuf>,
    /// How long a drill may take in all.
    pub timeout: Duration,
    /// Where initdb and postgres are; found by themselves when absent. For PostgreSQL.
    pub server_bin_dir: Option<PathBuf>,
    /// Libraries that extensions of the database need from the start of the server.
    pub preload_libraries: Vec<String>,
}

impl Default for DrillConfig {
    fn default() -> Self {
        Self { assertions: None, timeout: DEFAULT_TIMEOUT, server_bin_dir: None, preload_libraries: Vec::new() }
    }
}

pub(super) fn read_host(mut section: Section<'_>) -> DrillHost {
    let default = DrillHost::default();
    let user = section.take("user", values::word);
    let scratch = section.take("scratch", values::absolute_path).unwrap_or(default.scratch);
    section.finish();
    DrillHost { user, scratch }
}

pub(super) fn read(mut section: Section<'_>, is_sqlite: bool) -> DrillConfig {
    let default = DrillConfig::default();
    let assertions = section.take("assertions", values::absolute_path);
    let timeout = section.take("timeout", values::duration).unwrap_or(default.timeout);
    if is_sqlite {
        section.refuse("server_bin_dir", "is for PostgreSQL; SQLite is part of this program");
        section.refuse("preload_libraries", "is for PostgreSQL");
    }
    let server_bin_dir = section.take("server_bin_dir", values::absolute_path);
    let preload_libraries = section.take("preload_libraries", libraries).unwrap_or_default();
    section.finish();
    DrillConfig { assertions, timeout, server_bin_dir, preload_libraries }
}

/// Names of libraries, as a setting of the server takes them in a list.
fn libraries(value: toml::de::DeValue<'_>) -> Result<Vec<String>, String> {
    let names = values::words(value)?;
    let plain = |name: &String| name.bytes().all(|c| c.is_ascii_alphanumeric() || b"_-./$".contains(&c));
    match names.iter().find(|name| !plain(name)) {
        Some(name) => Err(format!("must be names of libraries, which {name:?} is not")),
        None => Ok(names),
    }
}

/// Reads a file of assertions: regular, not writable by everybody, of at most a mebibyte, in UTF-8.
///
/// # Errors
/// A sentence about the file.
pub fn read_assertions(path: &Path) -> Result<String, String> {
    match files::read(path) {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(format!("the file of the assertions, {}, does not exist", path.display())),
        Err(problem) => Err(format!("the file of the assertions, {}, {problem}", path.display())),
    }
}
