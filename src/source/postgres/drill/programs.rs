//! Which server a drill uses: of the original's major version, or the lowest newer one that is installed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    model::ErrorCode,
    source::{
        SourceError,
        postgres::client_programs::{major_of, version_of},
    },
};

/// The programs of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerPrograms {
    folder: PathBuf,
    /// `PostgreSQL 15.18 (Debian …)`.
    pub(super) version: String,
    major: u32,
}

impl ServerPrograms {
    /// Finds them: in `folder` where one is configured, else where Debian, the PGDG's RPMs and Fedora put them.
    pub(super) fn find(folder: Option<&Path>, major: u32) -> Result<Self, SourceError> {
        let candidates = folder.map_or_else(|| candidates(Path::new("/usr")), |folder| vec![folder.to_owned()]);
        Self::among(&candidates, major)
    }

    fn among(candidates: &[PathBuf], major: u32) -> Result<Self, SourceError> {
        let (found, problems): (Vec<_>, Vec<_>) =
            candidates.iter().map(|folder| Self::at(folder)).partition(Result::is_ok);
        let found: Vec<Self> = found.into_iter().flatten().collect();
        let seen: Vec<String> = found.iter().map(|one| format!("{} in {}", one.major, one.folder.display())).collect();
        let best = found.into_iter().filter(|one| one.major >= major).min_by_key(|one| one.major);
        best.ok_or_else(|| {
            let problems: Vec<String> = problems.into_iter().filter_map(Result::err).collect();
            let why = match (seen.is_empty(), problems.first()) {
                (false, _) => format!("there is {}", seen.join(", ")),
                (true, Some(problem)) => problem.clone(),
                (true, None) => "none is installed".to_owned(),
            };
            SourceError::new(
                ErrorCode::DrillUnavailable,
                format!(
                    "a drill needs the programs of a PostgreSQL server of version {major} or newer ({why}). Install the \
                     package postgresql-{major} (Debian, Ubuntu) or postgresql{major}-server (Fedora, PGDG); no cluster of \
                     it needs to run. Or set `server_bin_dir` in [drill] of the source"
                ),
            )
        })
    }

    /// The programs in this folder; the error is a reason.
    fn at(folder: &Path) -> Result<Self, String> {
        for program in ["initdb", "postgres"] {
            let path = folder.join(program);
            if !path.is_file() {
                return Err(format!("there is no {}", path.display()));
            }
        }
        let version = version_of(&folder.join("postgres"))?;
        let major = major_of(&version).ok_or_else(|| format!("its postgres calls itself {version:?}"))?;
        let shown = version.split_once("(PostgreSQL) ").map_or(version.as_str(), |(_, number)| number);
        Ok(Self { folder: folder.to_owned(), version: format!("PostgreSQL {shown}"), major })
    }

    /// The path of initdb.
    pub(super) fn initdb(&self) -> PathBuf {
        self.folder.join("initdb")
    }

    /// The path of postgres.
    pub(super) fn postgres(&self) -> PathBuf {
        self.folder.join("postgres")
    }
}

/// The folders where distributions put servers.
fn candidates(usr: &Path) -> Vec<PathBuf> {
    let below = |folder: PathBuf, prefix: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let versions = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_prefix(prefix)?.parse::<u32>().ok()?;
            Some(folder.join(name).join("bin"))
        });
        versions.filter(|folder| folder.join("initdb").is_file()).collect()
    };
    let mut folders = below(usr.join("lib/postgresql"), "");
    folders.extend(below(usr.to_owned(), "pgsql-"));
    if usr.join("bin/initdb").is_file() {
        folders.push(usr.join("bin"));
    }
    folders
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn fake(folder: &Path, version: &str) {
        fs::create_dir_all(folder).unwrap();
        for program in ["initdb", "postgres"] {
            // Written by another name first: a file that is still open for writing cannot be run.
            fs::write(folder.join("new"), format!("#!/bin/sh\necho '{program} (PostgreSQL) {version}'\n")).unwrap();
            fs::set_permissions(folder.join("new"), fs::Permissions::from_mode(0o755)).unwrap();
            fs::rename(folder.join("new"), folder.join(program)).unwrap();
        }
    }

    #[test]
    fn the_same_version_is_taken_before_a_newer_one_and_never_an_older() {
        let usr = tempfile::tempdir().unwrap();
        fake(&usr.path().join("lib/postgresql/15/bin"), "15.4 (Debian 15.4-1)");
        fake(&usr.path().join("lib/postgresql/17/bin"), "17.1");
        fs::create_dir_all(usr.path().join("lib/postgresql/18/bin")).unwrap(); // Clients only.
        let find = |major| ServerPrograms::among(&candidates(usr.path()), major);
        assert_eq!(find(15).unwrap().version, "PostgreSQL 15.4 (Debian 15.4-1)");
        assert_eq!(find(16).unwrap().major, 17);
        let error = find(18).unwrap_err();
        assert_eq!(error.code(), ErrorCode::DrillUnavailable);
        assert!(error.to_string().contains("17 in") && error.to_string().contains("postgresql-18"), "{error}");
        let error = ServerPrograms::find(Some(usr.path()), 15).unwrap_err();
        assert!(error.to_string().contains("there is no"), "{error}");
    }
}
