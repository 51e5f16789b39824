//! The environment in which libpq's programs run: everything that decides where and how they connect, and nothing of
//! this process's own.
//!
//! The database goes in by `PGDATABASE`, never by an argument: libpq takes a name such as `a=b` or `postgres://x` in
//! an argument for connection parameters. The password goes in by a file that only this user can read. `HOME` is the
//! job's scratch folder, so that no `~/.pgpass`, `~/.postgresql` or `~/.psqlrc` has a say.

use std::{
    ffi::{OsStr, OsString},
    io::Write as _,
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use tempfile::NamedTempFile;

use super::{connection, password};
use crate::{
    config::{ConnectionSpec, Secret},
    model::ErrorCode,
    source::SourceError,
};

/// Environment variables for libpq's programs; owns their password file, which goes with it.
#[derive(Debug)]
pub struct LibpqEnvironment {
    variables: Vec<(OsString, OsString)>,
    _password_file: Option<NamedTempFile>,
}

impl LibpqEnvironment {
    /// The environment for a connection to a server of this version (`server_version_num`), with the settings pinned
    /// that could end or change a dump. `encoding` is that of the database, so that no byte is converted; without it
    /// the server's choice stands. `scratch` is a private folder that outlives the programs.
    ///
    /// # Errors
    /// `CredentialsMissing`; `ConfigInvalid` for what libpq cannot take; `Io` when the password cannot be handed over.
    pub fn new(
        spec: &ConnectionSpec,
        server_version_num: u32,
        encoding: Option<&str>,
        scratch: &Path,
    ) -> Result<Self, SourceError> {
        connection::check(spec)?;
        let mut environment = Self::base(scratch);
        environment.set("PGHOST", &spec.host);
        environment.set("PGPORT", spec.port.to_string());
        environment.set("PGUSER", &spec.user);
        environment.set("PGDATABASE", OsStr::from_bytes(spec.database.as_bytes()));
        environment.set("PGSSLMODE", spec.sslmode.as_str());
        if let Some(path) = &spec.sslrootcert {
            environment.set("PGSSLROOTCERT", path);
        }
        environment.set("PGGSSENCMODE", "disable");
        environment.set("PGCONNECT_TIMEOUT", spec.connect_timeout.max(2).to_string());
        environment.set("PGAPPNAME", connection::APPLICATION_NAME);
        environment.set("PGOPTIONS", pinned_options(server_version_num));
        if let Some(encoding) = encoding {
            environment.set("PGCLIENTENCODING", encoding);
        }
        match password::resolve(spec)? {
            Some(secret) => {
                let file = password_file(&secret, scratch)?;
                environment.set("PGPASSFILE", file.path());
                environment._password_file = Some(file);
            }
            // libpq passes over a file that is not there.
            None => environment.set("PGPASSFILE", scratch.join("no-password-file")),
        }
        Ok(environment)
    }

    /// What programs get that connect nowhere, such as `pg_restore -f`.
    #[must_use]
    pub fn base(scratch: &Path) -> Self {
        let mut environment = Self { variables: Vec::new(), _password_file: None };
        environment.set("PATH", "/usr/local/bin:/usr/bin:/bin");
        environment.set("LC_ALL", "C");
        environment.set("TZ", "UTC");
        environment.set("HOME", scratch);
        environment.set("TMPDIR", scratch);
        environment
    }

    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        Self::base(Path::new("/nonexistent"))
    }

    /// Adds settings of the sessions to the pinned ones.
    #[must_use]
    pub fn with_settings(mut self, settings: &[(&str, &str)]) -> Self {
        for (variable, value) in &mut self.variables {
            if variable == "PGOPTIONS" {
                for (name, setting) in settings {
                    // libpq splits at spaces that no backslash precedes.
                    value.push(format!(" -c {name}={}", setting.replace('\\', "\\\\").replace(' ', "\\ ")));
                }
            }
        }
        self
    }

    fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.variables.push((name.into(), value.into()));
    }

    /// The variables. They hold no secret.
    pub fn variables(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.variables.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }
}

/// Settings of the server or the role that could end a long session or change what it reads. Settings that a server of
/// this version does not know would be refused by it.
fn pinned_options(server_version_num: u32) -> String {
    connection::PINNED
        .iter()
        .filter(|setting| server_version_num >= setting.since)
        .map(|setting| format!("-c {}={}", setting.name, setting.value))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A password file of mode 0600 with one line that matches every connection.
fn password_file(secret: &Secret, scratch: &Path) -> Result<NamedTempFile, SourceError> {
    let password = secret.reveal();
    if password.contains(['\n', '\r', '\0']) {
        return Err(SourceError::new(
            ErrorCode::CredentialsMissing,
            "the password contains a line break or NUL, which libpq's password file cannot hold",
        ));
    }
    let failed =
        |error: std::io::Error| SourceError::io(format!("write a password file in {}", scratch.display()), &error);
    let mut file = tempfile::Builder::new().prefix("pgpass-").tempfile_in(scratch).map_err(failed)?;
    let escaped = password.replace('\\', "\\\\").replace(':', "\\:");
    file.write_all(format!("*:*:*:*:{escaped}\n").as_bytes()).map_err(failed)?;
    file.flush().map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::{
        config::{PasswordSource, SslMode},
        model::Name,
    };

    fn spec(password: &str) -> ConnectionSpec {
        ConnectionSpec {
            host: "/tmp".to_owned(),
            port: 5432,
            user: "u".to_owned(),
            database: Name::from("host=evil dbname='x'"),
            password: PasswordSource::Given(Secret::new(password.to_owned())),
            sslmode: SslMode::Prefer,
            sslrootcert: None,
            connect_timeout: 1,
        }
    }

    #[test]
    fn the_password_is_in_a_private_file_only() {
        let scratch = tempfile::tempdir().unwrap();
        let environment = LibpqEnvironment::new(&spec("a:b\\c"), 150_000, Some("UTF8"), scratch.path()).unwrap();
        let value = |name: &str| environment.variables().find(|(n, _)| *n == name).unwrap().1.to_owned();
        assert!(environment.variables().all(|(_, value)| !value.to_string_lossy().contains("a:b")));
        let path = value("PGPASSFILE");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "*:*:*:*:a\\:b\\\\c\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(value("PGDATABASE"), "host=evil dbname='x'");
        assert!(value("PGOPTIONS").to_str().unwrap().contains("-c idle_session_timeout=0"));
        assert!(!value("PGOPTIONS").to_str().unwrap().contains("transaction_timeout=0 -c transaction_timeout"));
        drop(environment);
        assert!(!Path::new(&path).exists());
    }

    #[test]
    fn a_password_with_a_line_break_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let error = LibpqEnvironment::new(&spec("a\nb"), 150_000, None, scratch.path()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::CredentialsMissing);
        assert!(!error.to_string().contains("a\nb"));
    }
}
