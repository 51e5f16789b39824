//! How to reach a PostgreSQL server: parsed once, given to libpq's tools and to the Rust client alike.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::model::Name;

/// A connection to one database. Nothing in here is secret: the password is read when it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionSpec {
    /// Host name, address, or (with a leading `/`) the directory of the server's socket.
    pub host: String,
    /// TCP port, or the number in the socket's name.
    pub port: u16,
    /// The role.
    pub user: String,
    /// The database.
    pub database: Name,
    /// Where the password is.
    pub password: PasswordSource,
    /// What TLS must give, with libpq's meaning.
    pub sslmode: SslMode,
    /// Certificates of the authorities that are trusted (PEM).
    pub sslrootcert: Option<PathBuf>,
    /// How long one connection attempt may take, seconds.
    pub connect_timeout: u64,
}

/// The directory of the server's socket where no host is given: Debian's and Fedora's.
const DEFAULT_HOST: &str = "/run/postgresql";
/// The role where none is given: the daemon's own user, so that peer authentication works.
const DEFAULT_USER: &str = "backupd";
/// How long one connection attempt may take where nothing is given.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection as far as it was given, by single keys or by a URI; what is absent has a default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the fields of `ConnectionSpec`")]
pub struct ConnectionKeys {
    pub host: Option<String>,
    pub port: Option<u16>,
    pub user: Option<String>,
    pub database: Option<Name>,
    pub password: Option<PasswordSource>,
    pub sslmode: Option<SslMode>,
    pub sslrootcert: Option<PathBuf>,
    pub connect_timeout: Option<Duration>,
}

impl ConnectionKeys {
    /// The connection that these keys and the defaults make. `None` without a database, which has no default.
    #[must_use]
    pub fn resolve(self) -> Option<ConnectionSpec> {
        Some(ConnectionSpec {
            host: self.host.unwrap_or_else(|| DEFAULT_HOST.to_owned()),
            port: self.port.unwrap_or(5432),
            user: self.user.unwrap_or_else(|| DEFAULT_USER.to_owned()),
            database: self.database?,
            password: self.password.unwrap_or_default(),
            sslmode: self.sslmode.unwrap_or_default(),
            sslrootcert: self.sslrootcert,
            connect_timeout: self.connect_timeout.unwrap_or(DEFAULT_CONNECT_TIMEOUT).as_secs().max(1),
        })
    }

    /// A second connection to the same database: keys that are absent here are the other connection's. A credential
    /// holds the password of one role, so it is taken over only with the role; a password file has many.
    #[must_use]
    pub fn resolve_beside(self, other: &ConnectionSpec) -> ConnectionSpec {
        let user = self.user.unwrap_or_else(|| other.user.clone());
        let inherited = match &other.password {
            PasswordSource::PassFile(path) => PasswordSource::PassFile(path.clone()),
            password if user == other.user => password.clone(),
            _ => PasswordSource::None,
        };
        ConnectionSpec {
            host: self.host.unwrap_or_else(|| other.host.clone()),
            port: self.port.unwrap_or(other.port),
            user,
            database: self.database.unwrap_or_else(|| other.database.clone()),
            password: self.password.unwrap_or(inherited),
            sslmode: self.sslmode.unwrap_or(other.sslmode),
            sslrootcert: self.sslrootcert.or_else(|| other.sslrootcert.clone()),
            connect_timeout: self.connect_timeout.map_or(other.connect_timeout, |time| time.as_secs().max(1)),
        }
    }
}

impl ConnectionSpec {
    /// Whether the server is reached by a socket in a directory, where libpq ignores `sslmode`.
    #[must_use]
    pub fn is_local(&self) -> bool {
        Path::new(&self.host).is_absolute()
    }
}

/// Where a password comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PasswordSource {
    /// None is needed (peer, trust, certificate).
    #[default]
    None,
    /// A systemd credential: a file of this name below `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// A file in the format of `.pgpass`, not accessible by others.
    PassFile(PathBuf),
    /// Given for one restore by the user in memory (`--no-daemon` with a URI or `PGPASSWORD`); never from configuration.
    Given(Secret),
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// libpq's `sslmode` (PostgreSQL manual, "SSL Support", table of modes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// Without TLS, with it if the server wants it.
    Allow,
    /// With TLS if the server has it.
    #[default]
    Prefer,
    /// With TLS; the certificate is verified only where `sslrootcert` is given.
    Require,
    /// With TLS and a certificate of a trusted authority.
    VerifyCa,
    /// As `verify-ca`, and the certificate names the host.
    VerifyFull,
}

impl SslMode {
    /// All of them, from the weakest to the strictest.
    pub const ALL: [Self; 6] =
        [Self::Disable, Self::Allow, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    /// libpq's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}
