//! The databases of a server.

use std::time::Duration;

use super::{
    checks,
    client_programs::ClientPrograms,
    connection::{self, Session, get},
    restore::request::is_temporary_name,
};
use crate::{
    config::ConnectionSpec,
    model::{ErrorCode, Name},
    source::{JobContext, SourceError},
    stream::Cancel,
};

/// How long listing may take, the connection included.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often the list is asked for again when a database is dropped under it.
const TRIES: u32 = 3;

/// A database of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerDatabase {
    /// Its name.
    pub name: Name,
    /// Whether it allows connections, and is neither half dropped nor half restored.
    pub allows_connections: bool,
    /// Its size on disk, bytes; 0 where the role may not ask.
    pub bytes: u64,
}

/// Databases in order of their names. `datconnlimit` is -2 where DROP DATABASE was interrupted. A size can be asked for
/// only by who may connect; one that is gone meanwhile has none.
const DATABASES: &str = "
SELECT datname::text, datallowconn AND datconnlimit <> -2,
       CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) END
FROM pg_catalog.pg_database ORDER BY datname::text COLLATE \"C\"";

/// The client programs that fit the server of a connection, which is asked for its version.
///
/// # Errors
/// As [`list`].
pub fn client(
    connection: &ConnectionSpec,
    client_bin_dir: Option<&std::path::Path>,
    context: &JobContext,
) -> Result<ClientPrograms, SourceError> {
    let major = context.runtime.block_on(async {
        let asking = async { Ok(Session::connect(connection, &context.cancel).await?.server().major()) };
        tokio::time::timeout(TIMEOUT, asking).await.unwrap_or_else(|_| {
            let place = connection::location(connection);
            Err(SourceError::new(ErrorCode::DatabaseUnreachable, format!("no answer from {place} in time")))
        })
    })?;
    ClientPrograms::find(client_bin_dir, major)
}

/// Lists the databases of the server that `connection` leads to, over the database that it names. Also the early check
/// of a backup of them all: within ten seconds it says what would stop every one of them.
///
/// # Errors
/// `DatabaseUnreachable`, `AuthenticationFailed`, `NoSuchDatabase`, `CredentialsMissing`; `NotSupported` for a server
/// that is too old; `ClientProgramMissing`.
pub fn list(
    connection: &ConnectionSpec,
    client_bin_dir: Option<&std::path::Path>,
    context: &JobContext,
) -> Result<Vec<ServerDatabase>, SourceError> {
    let (server, databases) = context.runtime.block_on(async {
        let asking = async {
            let session = Session::connect(connection, &context.cancel).await?;
            let databases = ask(&session, &context.cancel).await?;
            Ok((session.server().clone(), databases))
        };
        tokio::time::timeout(TIMEOUT, asking).await.unwrap_or_else(|_| {
            let message = format!(
                "cannot list the databases over {}: no answer within {} s",
                connection::location(connection),
                TIMEOUT.as_secs()
            );
            Err(SourceError::new(ErrorCode::DatabaseUnreachable, message))
        })
    })?;
    checks::server_version(&server)?;
    ClientPrograms::find(client_bin_dir, server.major())?;
    Ok(databases)
}

async fn ask(session: &Session, cancel: &Cancel) -> Result<Vec<ServerDatabase>, SourceError> {
    let mut tries = 1;
    let rows = loop {
        match session.query(cancel, "cannot list the databases", DATABASES, &[]).await {
            Err(error) if error.code() == ErrorCode::NoSuchDatabase && tries < TRIES => tries += 1,
            rows => break rows?,
        }
    };
    rows.iter()
        .map(|row| {
            let (name, bytes): (Name, Option<i64>) = (get(row, 0)?, get(row, 2)?);
            Ok(ServerDatabase {
                // What a restore is building is nobody's database yet, and goes away under this name.
                allows_connections: get::<bool>(row, 1)? && !is_temporary_name(&name),
                name,
                bytes: bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::source::postgres::test_server::TestServer;

    #[test]
    fn names_sizes_and_who_may_connect() {
        let server = TestServer::start("");
        server.sql("postgres", "CREATE DATABASE \"a\n/@b\"; CREATE DATABASE closed ALLOW_CONNECTIONS false");
        server.sql("postgres", "CREATE DATABASE shop__restore_0123abcd");
        server.sql(
            "postgres",
            "CREATE ROLE reader LOGIN; CREATE DATABASE secret; REVOKE CONNECT ON DATABASE secret FROM PUBLIC",
        );
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let context = JobContext {
            cancel: Cancel::new(),
            progress: Arc::default(),
            scratch: std::env::temp_dir(),
            runtime: runtime.handle().clone(),
        };
        let spec = server.spec("reader", "postgres");
        let listed = list(&spec, Some(server.bin()), &context).unwrap();
        let shown: Vec<_> = listed.iter().map(|d| (d.name.display(), d.allows_connections, d.bytes > 0)).collect();
        let expected = [
            ("a\\n/@b", true, true),
            ("closed", false, true),
            ("postgres", true, true),
            ("secret", true, false),
            ("shop__restore_0123abcd", false, true),
            ("template0", false, true),
            ("template1", true, true),
        ];
        assert_eq!(shown, expected.map(|(name, open, size)| (name.to_owned(), open, size)));
        let nowhere = server.spec("reader", "nowhere");
        assert_eq!(list(&nowhere, Some(server.bin()), &context).unwrap_err().code(), ErrorCode::NoSuchDatabase);
    }
}
