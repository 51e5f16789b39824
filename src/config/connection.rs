//! How to reach a PostgreSQL server: parsed once, given to libpq's tools and to the Rust client alike.

use std::path::PathBuf;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
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
