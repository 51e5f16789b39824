//! One session with a server, from the same [`ConnectionSpec`] that libpq's programs get.
//!
//! Invariants: the settings that could end or change a long session are pinned before the first query; names and
//! values pass as raw bytes in the database's own encoding (the session's `client_encoding` is `SQL_ASCII`, which
//! means "no conversion"); a raised cancel flag ends a query on the server too, not only here.
//!
//! `sslmode` means what it means to libpq: `disable` plain; `allow` plain, then TLS where the server refuses the user
//! without it; `prefer` TLS, then plain where the server has no TLS or refuses the user with it; `require` TLS, its
//! certificate verified as in `verify-ca` only where `sslrootcert` is given; a Unix socket never uses TLS. What
//! `tls` is stricter in is said there.

use std::{io, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
    time::timeout,
};
use tokio_postgres::{
    Client, Connection, NoTls, Row,
    config::SslMode as Tls,
    error::SqlState,
    types::{FromSql, IsNull, ToSql, Type, to_sql_checked},
};
use tokio_util::sync::CancellationToken;

use super::{password, tls};
use crate::{
    config::{ConnectionSpec, SslMode},
    model::{ErrorCode, Name},
    source::SourceError,
    stream::Cancel,
};

/// How sessions call themselves in `pg_stat_activity`.
pub const APPLICATION_NAME: &str = "backupd";
/// How long the server may take to answer a request to cancel a query.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// A setting that every session pins.
#[derive(Debug)]
pub struct PinnedSetting {
    /// The parameter.
    pub name: &'static str,
    /// Its value, which needs no quoting.
    pub value: &'static str,
    /// The first `server_version_num` that knows it.
    pub since: u32,
}

const fn pinned(name: &'static str, value: &'static str, since: u32) -> PinnedSetting {
    PinnedSetting { name, value, since }
}

/// What defaults of the server, the database or the role could otherwise do to a dump.
pub const PINNED: &[PinnedSetting] = &[
    pinned("statement_timeout", "0", 0),
    pinned("lock_timeout", "0", 0),
    pinned("idle_in_transaction_session_timeout", "0", 0),
    pinned("idle_session_timeout", "0", 140_000),
    pinned("transaction_timeout", "0", 170_000),
    pinned("row_security", "off", 0),
    // What literals in a dump mean must not depend on the source.
    pinned("standard_conforming_strings", "on", 0),
    pinned("search_path", "", 0),
    pinned("DateStyle", "ISO", 0),
    pinned("IntervalStyle", "postgres", 0),
    pinned("bytea_output", "hex", 0),
    pinned("default_transaction_isolation", "read\\ committed", 0),
];

/// What the server said of itself when the session began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `server_version_num`, such as 150018.
    pub version_num: u32,
    /// `server_version`, for people.
    pub version: String,
    /// The encoding of the database.
    pub encoding: String,
    /// Whether it is a standby.
    pub standby: bool,
}

impl Server {
    /// The major version.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.version_num / 10_000
    }
}

/// A session with a server.
pub struct Session {
    client: Client,
    closed: CancellationToken,
    driver: JoinHandle<()>,
    connector: Option<tokio_postgres_rustls::MakeRustlsConnect>,
    at: String,
    server: Server,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("at", &self.at).field("server", &self.server).finish_non_exhaustive()
    }
}

/// Refuses what libpq and this client would understand differently.
///
/// # Errors
/// `ConfigInvalid`, `NotSupported`.
pub fn check(spec: &ConnectionSpec) -> Result<(), SourceError> {
    let invalid = |message: String| Err(SourceError::new(ErrorCode::ConfigInvalid, message));
    if spec.host.is_empty() || spec.host.starts_with('@') || spec.host.contains([',', '\0']) {
        return invalid(format!("host {:?} must be one host name, one address or the folder of a socket", spec.host));
    }
    if spec.user.is_empty() || spec.user.contains('\0') {
        return invalid("user must be given and hold no NUL".to_owned());
    }
    if spec.database.as_bytes().is_empty() || spec.database.as_bytes().contains(&0) {
        return invalid("database must be given and hold no NUL".to_owned());
    }
    if let Some(path) = &spec.sslrootcert {
        // libpq 16 takes the bare word for the system's own authorities.
        if path.as_os_str() == "system" {
            return invalid("sslrootcert \"system\" is not supported: name a file of certificates".to_owned());
        }
    }
    Ok(())
}

/// Where a connection leads, for messages.
#[must_use]
pub fn location(spec: &ConnectionSpec) -> String {
    format!("database {:?} at {}:{} as user {:?}", spec.database.display(), spec.host, spec.port, spec.user)
}

impl Session {
    /// Connects, and pins the session's settings.
    ///
    /// # Errors
    /// `DatabaseUnreachable`, `AuthenticationFailed`, `NoSuchDatabase`, `CredentialsMissing`, `ConfigInvalid`,
    /// `NotSupported`, or the cancel.
    pub async fn connect(spec: &ConnectionSpec, cancel: &Cancel) -> Result<Self, SourceError> {
        check(spec)?;
        let Some(database) = spec.database.as_str() else {
            let message = format!("the name of database {:?} is not UTF-8: it cannot be connected to", spec.database);
            return Err(SourceError::new(ErrorCode::NotSupported, message));
        };
        let mut config = tokio_postgres::Config::new();
        config.host(&spec.host).port(spec.port).user(&spec.user).dbname(database).application_name(APPLICATION_NAME);
        config.keepalives(true).keepalives_idle(Duration::from_secs(60)).keepalives_interval(Duration::from_secs(10));
        if let Some(secret) = password::resolve(spec)? {
            config.password(secret.reveal());
        }
        let at = location(spec);
        let limit = Duration::from_secs(spec.connect_timeout.max(1));
        let connecting = async {
            let mut session = timeout(limit, open(spec, &config, &at)).await.unwrap_or_else(|_| {
                let message = format!("cannot connect to {at}: no answer within {} s", limit.as_secs());
                Err(SourceError::new(ErrorCode::DatabaseUnreachable, message))
            })?;
            timeout(limit, session.pin_settings()).await.unwrap_or_else(|_| {
                let message = format!("{at}: the server accepted the connection but does not answer");
                Err(SourceError::new(ErrorCode::DatabaseUnreachable, message))
            })?;
            Ok(session)
        };
        tokio::select! {
            biased;
            reason = cancel.cancelled() => Err(reason.into()),
            session = connecting => session,
        }
    }

    async fn pin_settings(&mut self) -> Result<(), SourceError> {
        let failed = |error: tokio_postgres::Error| sql_error("cannot prepare the session", &error);
        // First of all, so that no function of somebody else's is called in the place of a built-in one.
        self.client.batch_execute("SET search_path = ''; SET client_encoding = 'SQL_ASCII'").await.map_err(failed)?;
        let row = self
            .client
            .query_one(
                "SELECT current_setting('server_version_num')::int4, current_setting('server_version'), \
                 getdatabaseencoding()::text, pg_is_in_recovery()",
                &[],
            )
            .await
            .map_err(failed)?;
        self.server = Server {
            version_num: u32::try_from(get::<i32>(&row, 0)?).unwrap_or_default(),
            version: get(&row, 1)?,
            encoding: get(&row, 2)?,
            standby: get(&row, 3)?,
        };
        let settings: String = PINNED
            .iter()
            .filter(|setting| setting.name != "search_path" && self.server.version_num >= setting.since)
            .map(|setting| format!("SET {} = '{}';", setting.name, setting.value.replace('\\', "")))
            .collect();
        self.client.batch_execute(&settings).await.map_err(failed)
    }

    /// What the server said of itself.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Waits until the connection is lost.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// A flag that is raised when the connection is lost.
    #[must_use]
    pub fn closed_token(&self) -> CancellationToken {
        self.closed.clone()
    }

    /// Runs one query with parameters. `attempted` begins the error: `"cannot list the tables"`.
    ///
    /// # Errors
    /// As [`sql_error`] maps them, or the cancel; the query has then ended on the server too.
    pub async fn query(
        &self,
        cancel: &Cancel,
        attempted: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, SourceError> {
        self.watched(cancel, self.client.query(sql, parameters)).await?.map_err(|error| sql_error(attempted, &error))
    }

    /// Runs a query that gives exactly one row.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub async fn query_one(
        &self,
        cancel: &Cancel,
        attempted: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, SourceError> {
        self.watched(cancel, self.client.query_one(sql, parameters))
            .await?
            .map_err(|error| sql_error(attempted, &error))
    }

    /// Runs statements that give nothing, of any bytes in the database's encoding.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub async fn execute(&self, cancel: &Cancel, attempted: &str, sql: &[u8]) -> Result<(), SourceError> {
        self.try_execute(cancel, sql).await?.map_err(|error| sql_error(attempted, &error))
    }

    /// [`Session::execute`] for a caller that judges the server's error itself.
    ///
    /// # Errors
    /// The outer one is the cancel's.
    pub async fn try_execute(
        &self,
        cancel: &Cancel,
        sql: &[u8],
    ) -> Result<Result<(), tokio_postgres::Error>, SourceError> {
        let statement = match std::str::from_utf8(sql) {
            Ok(text) => std::borrow::Cow::Borrowed(text),
            // The client takes only UTF-8 for a statement, so these travel as hexadecimal digits.
            Err(_) => std::borrow::Cow::Owned(format!(
                "DO $do$ BEGIN EXECUTE convert_from(decode('{}', 'hex'), getdatabaseencoding()); END $do$",
                crate::model::ids::to_hex(sql)
            )),
        };
        self.watched(cancel, self.client.batch_execute(&statement)).await
    }

    /// Waits for a query, and ends it on the server when the cancel flag is raised.
    async fn watched<T>(&self, cancel: &Cancel, query: impl Future<Output = T>) -> Result<T, SourceError> {
        tokio::select! {
            biased;
            reason = cancel.cancelled() => {
                self.cancel_query().await;
                Err(reason.into())
            }
            result = query => Ok(result),
        }
    }

    /// Asks the server to end what this session runs. Dropping the session alone does not: a server that waits for a
    /// lock does not look at its client.
    async fn cancel_query(&self) {
        let token = self.client.cancel_token();
        let request = async {
            match &self.connector {
                Some(connector) => token.cancel_query(connector.clone()).await,
                None => token.cancel_query(NoTls).await,
            }
        };
        match timeout(CANCEL_TIMEOUT, request).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the server did not take the request to cancel a query"),
            Err(_) => tracing::warn!("the server did not answer the request to cancel a query"),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Closes the socket, which rolls back whatever was open.
        self.driver.abort();
    }
}

/// Connects in the order of libpq's `sslmode`.
async fn open(spec: &ConnectionSpec, config: &tokio_postgres::Config, at: &str) -> Result<Session, SourceError> {
    let failed = |error: &tokio_postgres::Error| connect_error(at, error);
    if spec.host.starts_with('/') || spec.sslmode == SslMode::Disable {
        return plain(config, at).await.map_err(|error| failed(&error));
    }
    let connector = tls::connector(spec)?;
    match spec.sslmode {
        SslMode::Allow => match plain(config, at).await {
            Err(first) if refuses_user(&first) => encrypted(config, connector, at)
                .await
                .map_err(|second| failed(if is_tls(&second) { &first } else { &second })),
            other => other.map_err(|error| failed(&error)),
        },
        SslMode::Prefer => match encrypted(config, connector, at).await {
            Err(first) if is_tls(&first) || refuses_user(&first) => {
                plain(config, at).await.map_err(|second| failed(if is_tls(&first) { &second } else { &first }))
            }
            other => other.map_err(|error| failed(&error)),
        },
        _ => encrypted(config, connector, at).await.map_err(|error| failed(&error)),
    }
}

async fn plain(config: &tokio_postgres::Config, at: &str) -> Result<Session, tokio_postgres::Error> {
    let (client, connection) = config.clone().ssl_mode(Tls::Disable).connect(NoTls).await?;
    Ok(start(client, connection, None, at))
}

async fn encrypted(
    config: &tokio_postgres::Config,
    connector: tokio_postgres_rustls::MakeRustlsConnect,
    at: &str,
) -> Result<Session, tokio_postgres::Error> {
    let (client, connection) = config.clone().ssl_mode(Tls::Require).connect(connector.clone()).await?;
    Ok(start(client, connection, Some(connector), at))
}

fn start<S, T>(
    client: Client,
    connection: Connection<S, T>,
    connector: Option<tokio_postgres_rustls::MakeRustlsConnect>,
    at: &str,
) -> Session
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let closed = CancellationToken::new();
    let ended = closed.clone().drop_guard();
    let driver = tokio::spawn(async move {
        let _ended = ended;
        // Whoever waits for an answer gets the error; there may be nobody.
        if let Err(error) = connection.await {
            tracing::debug!(error = %reason(&error), "a database connection ended");
        }
    });
    let server = Server { version_num: 0, version: String::new(), encoding: String::new(), standby: false };
    Session { client, closed, driver, connector, at: at.to_owned(), server }
}

/// Whether TLS itself failed, or the server has none.
fn is_tls(error: &tokio_postgres::Error) -> bool {
    error.to_string().contains("TLS handshake")
}

fn refuses_user(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| code.code().starts_with("28"))
}

/// An error of a query, mapped by its SQLSTATE (PostgreSQL manual, appendix "PostgreSQL Error Codes").
#[must_use]
pub fn sql_error(attempted: &str, error: &tokio_postgres::Error) -> SourceError {
    let Some(db) = error.as_db_error() else {
        let code = if error.is_closed() || is_io(error) { ErrorCode::DatabaseUnreachable } else { ErrorCode::Failed };
        return SourceError::new(code, format!("{attempted}: {}", reason(error)));
    };
    let mut message = format!("{attempted}: {}", db.message());
    for more in [db.detail(), db.hint()].into_iter().flatten() {
        message.push_str(". ");
        message.push_str(more.trim_end_matches('.'));
    }
    let state = db.code();
    let (code, advice) = match state.code() {
        "3D000" => (ErrorCode::NoSuchDatabase, ""),
        "42501" => (ErrorCode::DatabasePermission, ""),
        "55P03" | "40P01" => (ErrorCode::LockTimeout, ""),
        "53100" => (ErrorCode::NoSpace, ""),
        "53200" => (ErrorCode::Failed, "; max_locks_per_transaction of the server may be too small"),
        "53300" => {
            (ErrorCode::DatabaseUnreachable, "; max_connections or the connection limit of role or database is reached")
        }
        "57P03" => (ErrorCode::DatabaseUnreachable, "; try again when it has started"),
        "40001" => (
            ErrorCode::DumpFailed,
            "; on a standby set hot_standby_feedback or a longer max_standby_streaming_delay, or back up the primary",
        ),
        code if code.starts_with("28") => (ErrorCode::AuthenticationFailed, ""),
        code if code.starts_with("08") || code.starts_with("57P") => (ErrorCode::DatabaseUnreachable, ""),
        _ => (ErrorCode::Failed, ""),
    };
    message.push_str(advice);
    if *state == SqlState::INVALID_PASSWORD {
        message.push_str("; check the password, and pg_hba.conf of the server");
    }
    SourceError::new(code, message)
}

fn connect_error(at: &str, error: &tokio_postgres::Error) -> SourceError {
    let attempted = format!("cannot connect to {at}");
    if error.as_db_error().is_some() {
        return sql_error(&attempted, error);
    }
    let why = reason(error);
    if why.contains("password missing") {
        let message = format!("{attempted}: the server wants a password and none is configured for it");
        return SourceError::new(ErrorCode::AuthenticationFailed, message);
    }
    let advice = if is_tls(error) { "" } else { ". Is the server running, and are host and port right?" };
    SourceError::new(ErrorCode::DatabaseUnreachable, format!("{attempted}: {why}{advice}"))
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<io::Error>())
}

/// An error with what caused it, in one line.
fn reason(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A column of a row whose type the query itself fixes.
///
/// # Errors
/// `Internal` when the query does not give that type.
pub fn get<'row, T: FromSql<'row>>(row: &'row Row, column: usize) -> Result<T, SourceError> {
    row.try_get(column).map_err(|error| {
        SourceError::new(ErrorCode::Internal, format!("the server's answer is not understood: {}", reason(&error)))
    })
}

impl<'a> FromSql<'a> for Name {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self::from(raw.to_vec()))
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::TEXT | Type::NAME | Type::VARCHAR)
    }
}

impl ToSql for Name {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        <Self as FromSql>::accepts(ty)
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests;
