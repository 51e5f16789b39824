//! Finding PostgreSQL's client programs: of the server's major version or newer (an older pg_dump refuses the server),
//! the lowest that is installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{model::ErrorCode, source::SourceError};

/// The programs that a backup and a restore run; one package holds them all.
const PROGRAMS: [&str; 4] = ["pg_dump", "pg_dumpall", "pg_restore", "psql"];
/// `--version` connects nowhere; one that takes longer hangs.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// The client programs of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientPrograms {
    folder: PathBuf,
    /// What `pg_dump --version` printed.
    pub version: String,
    /// Its major version.
    pub major: u32,
}

impl ClientPrograms {
    /// Finds the programs for a server of this major version: in `folder` where one is configured, else where Debian,
    /// the PGDG's RPMs and Fedora put them.
    ///
    /// # Errors
    /// `ClientProgramMissing`, saying which package has them.
    pub fn find(folder: Option<&Path>, server_major: u32) -> Result<Self, SourceError> {
        if let Some(folder) = folder {
            let found =
                Self::at(folder).map_err(|why| missing(server_major, &format!("client_bin_dir is set, but {why}")))?;
            if found.major < server_major {
                let why = format!("client_bin_dir has version {}, which is older than the server", found.major);
                return Err(missing(server_major, &why));
            }
            return Ok(found);
        }
        Self::find_below(Path::new("/usr"), server_major)
    }

    fn find_below(usr: &Path, server_major: u32) -> Result<Self, SourceError> {
        let mut seen: Vec<String> = Vec::new();
        let mut best: Option<Self> = None;
        for folder in candidates(usr) {
            match Self::at(&folder) {
                Ok(found) => {
                    let better = best.as_ref().is_none_or(|best| found.major < best.major);
                    seen.push(format!("{} in {}", found.major, folder.display()));
                    if found.major >= server_major && better {
                        best = Some(found);
                    }
                }
                Err(why) => tracing::debug!(folder = %folder.display(), why, "no client programs"),
            }
        }
        best.ok_or_else(|| {
            let seen = if seen.is_empty() {
                "none is installed".to_owned()
            } else {
                format!("installed: {}", seen.join(", "))
            };
            missing(server_major, &seen)
        })
    }

    /// The programs in this folder; the error is a reason.
    fn at(folder: &Path) -> Result<Self, String> {
        for program in PROGRAMS {
            let path = folder.join(program);
            if !path.is_file() {
                return Err(format!("there is no {}", path.display()));
            }
        }
        let version = version_of(&folder.join("pg_dump"))?;
        let major = major_of(&version).ok_or_else(|| format!("its pg_dump calls itself {version:?}"))?;
        Ok(Self { folder: folder.to_owned(), version, major })
    }

    /// The path of pg_dump.
    #[must_use]
    pub fn pg_dump(&self) -> PathBuf {
        self.folder.join("pg_dump")
    }

    /// The path of pg_dumpall.
    #[must_use]
    pub fn pg_dumpall(&self) -> PathBuf {
        self.folder.join("pg_dumpall")
    }

    /// The path of pg_restore.
    #[must_use]
    pub fn pg_restore(&self) -> PathBuf {
        self.folder.join("pg_restore")
    }

    /// The path of psql.
    #[must_use]
    pub fn psql(&self) -> PathBuf {
        self.folder.join("psql")
    }
}

fn missing(server_major: u32, why: &str) -> SourceError {
    SourceError::new(
        ErrorCode::ClientProgramMissing,
        format!(
            "no PostgreSQL client programs of version {server_major} or newer ({why}). Install the package \
             postgresql-client-{server_major} (Debian, Ubuntu) or postgresql{server_major} (Fedora, PGDG), or set `client_bin_dir`"
        ),
    )
}

/// The folders where distributions put client programs, most specific first.
fn candidates(usr: &Path) -> Vec<PathBuf> {
    let below = |folder: PathBuf, prefix: &str, suffix: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut found: Vec<(u32, PathBuf)> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let major = name.strip_prefix(prefix)?.parse().ok()?;
                Some((major, folder.join(name).join(suffix)))
            })
            .collect();
        found.sort();
        found.into_iter().map(|(_, path)| path).collect()
    };
    let mut folders = below(usr.join("lib/postgresql"), "", "bin");
    folders.extend(below(usr.to_owned(), "pgsql-", "bin"));
    let plain = usr.join("bin");
    // Debian's /usr/bin/pg_dump is a script that chooses a version by a configuration of its own.
    let wrapped = fs::canonicalize(plain.join("pg_dump")).is_ok_and(|path| path.ends_with("pg_wrapper"));
    if !wrapped {
        folders.push(plain);
    }
    folders
}

/// What `PROGRAM --version` prints.
pub(in crate::source::postgres) fn version_of(program: &Path) -> Result<String, String> {
    let failed = |why: &dyn std::fmt::Display| format!("`{} --version` failed: {why}", program.display());
    let mut child = Command::new(program)
        .arg("--version")
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(&error))?;
    let deadline = Instant::now() + VERSION_TIMEOUT;
    // One short line fits the pipe, so the program ends without being read from.
    let status = loop {
        match child.try_wait().map_err(|error| failed(&error))? {
            Some(status) => break status,
            None if Instant::now() >= deadline => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(&"it does not end"));
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    if !status.success() {
        return Err(failed(&status));
    }
    let mut text = String::new();
    let mut pipe =
        child.stdout.take().map(|pipe| std::io::Read::take(pipe, 4096)).ok_or_else(|| failed(&"no output"))?;
    std::io::Read::read_to_string(&mut pipe, &mut text).map_err(|error| failed(&error))?;
    Ok(text.trim().to_owned())
}

/// The major version in `pg_dump (PostgreSQL) 15.18 (Debian …)`, also of `18beta1`.
pub(in crate::source::postgres) fn major_of(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn fake(folder: &Path, version: &str) {
        fs::create_dir_all(folder).unwrap();
        for program in PROGRAMS {
            let path = folder.join(program);
            // Written by another name first: a file that is still open for writing cannot be run.
            fs::write(folder.join("new"), format!("#!/bin/sh\necho '{program} (PostgreSQL) {version}'\n")).unwrap();
            fs::set_permissions(folder.join("new"), fs::Permissions::from_mode(0o755)).unwrap();
            fs::rename(folder.join("new"), path).unwrap();
        }
    }

    #[test]
    fn the_lowest_version_that_is_not_older_is_taken() {
        let usr = tempfile::tempdir().unwrap();
        fake(&usr.path().join("lib/postgresql/13/bin"), "13.22 (Debian 13.22-1)");
        fake(&usr.path().join("lib/postgresql/16/bin"), "16.1");
        fake(&usr.path().join("pgsql-15/bin"), "15.4");
        fake(&usr.path().join("bin"), "18beta1");
        let find = |major| ClientPrograms::find_below(usr.path(), major);
        assert_eq!(find(13).unwrap().major, 13);
        assert_eq!(find(14).unwrap().pg_dump(), usr.path().join("pgsql-15/bin/pg_dump"));
        assert_eq!(find(16).unwrap().version, "pg_dump (PostgreSQL) 16.1");
        assert_eq!(find(17).unwrap().major, 18);
        let error = find(19).unwrap_err();
        assert_eq!(error.code(), ErrorCode::ClientProgramMissing);
        assert!(error.to_string().contains("postgresql-client-19") && error.to_string().contains("16 in"), "{error}");
    }

    #[test]
    fn a_configured_folder_is_checked() {
        let folder = tempfile::tempdir().unwrap();
        assert!(ClientPrograms::find(Some(folder.path()), 15).unwrap_err().to_string().contains("there is no"));
        fake(folder.path(), "14.1");
        assert!(ClientPrograms::find(Some(folder.path()), 15).unwrap_err().to_string().contains("older"));
        assert_eq!(ClientPrograms::find(Some(folder.path()), 14).unwrap().major, 14);
    }
}
