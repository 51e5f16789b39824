//! The new database as an object of the server: created under a temporary name, given its properties and its name in
//! one transaction, dropped when the restore failed.
//!
//! Durability: the sessions that restore run with `synchronous_commit = off`. The transaction that publishes waits for
//! the log to be flushed up to its own end, and the log has one order, so it makes all before it durable as well.

use std::time::Duration;

use super::{
    create_roles,
    request::{is_temporary_name, replaced_name},
    survey::{Decisions, maintenance},
    vacant,
};
use crate::{
    config::ConnectionSpec,
    model::{ErrorCode, Name, manifest::DatabaseProperties},
    source::{
        JobContext, SourceError,
        postgres::{connection::Session, database_sql, quote::quote_ident},
    },
    stream::Cancel,
};

/// How often the rename and the drop are tried while others are connected. Each try waits five seconds on the server.
const TRIES: u32 = 4;
/// How long creating or publishing may take. Up to PostgreSQL 14 a checkpoint is part of the first.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(600);
/// How long cleaning up may take in all.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(60);

/// Creates the database, with its owner at once: objects of the new database can only be given to roles that may create
/// in its schemas, which for schema `public` is the database's owner. Until it is published, nobody else may connect.
pub(super) async fn create(
    session: &Session,
    cancel: &Cancel,
    name: &Name,
    decisions: &Decisions,
) -> Result<(), SourceError> {
    let major = session.server().major();
    let mut sql = database_sql::create_statement(&decisions.properties, name, major, decisions.with_tablespace);
    sql.extend([b" OWNER = ".as_slice(), &quote_ident(decisions.properties.owner.as_bytes())].concat());
    cancel.check()?;
    execute_whole(session, &format!("cannot create database {:?}", name.display()), &sql).await?;
    let sql = [b"REVOKE ALL ON DATABASE ".as_slice(), &quote_ident(name.as_bytes()), b" FROM PUBLIC"].concat();
    session.execute(cancel, "cannot close the new database to others", &sql).await
}

/// Runs a statement to its end whatever the cancel flag says: a cancel that is too late for the server would leave it
/// unknown whether the statement was carried out.
pub(super) async fn execute_whole(session: &Session, attempted: &str, sql: &[u8]) -> Result<(), SourceError> {
    let never = Cancel::new();
    tokio::time::timeout(WHOLE_TIMEOUT, session.execute(&never, attempted, sql)).await.unwrap_or_else(|_| {
        let message = format!("{attempted}: the server did not end it within {} s", WHOLE_TIMEOUT.as_secs());
        Err(SourceError::new(ErrorCode::RestoreFailed, message))
    })
}

/// The transaction that publishes: name, privileges, comment, limit, settings. A database that makes way gets its own
/// name in the same transaction.
fn publish_sql(temporary: &Name, target: &Name, replaced: Option<&Name>, properties: &DatabaseProperties) -> Vec<u8> {
    let new = quote_ident(target.as_bytes());
    let rename = |from: &[u8], to: &[u8]| [b"ALTER DATABASE ".as_slice(), from, b" RENAME TO ", to].concat();
    let mut statements = vec![b"BEGIN".to_vec(), b"SET LOCAL synchronous_commit = on".to_vec()];
    statements.extend(replaced.map(|replaced| rename(&new, &quote_ident(replaced.as_bytes()))));
    statements.push(rename(&quote_ident(temporary.as_bytes()), &new));
    statements.extend(belongings(properties, target));
    statements.push(b"COMMIT".to_vec());
    statements.join(b"; ".as_slice())
}

/// The statements that give the new database, under its name, what belongs to it besides its contents.
pub(super) fn belongings(properties: &DatabaseProperties, target: &Name) -> Vec<Vec<u8>> {
    let mut statements = Vec::new();
    if properties.acl.is_none() {
        // What every new database gives, and [`create`] took away.
        let new = quote_ident(target.as_bytes());
        statements.push([b"GRANT CONNECT, TEMPORARY ON DATABASE ".as_slice(), &new, b" TO PUBLIC"].concat());
    }
    statements.extend(database_sql::property_statements(properties, target));
    statements
}

/// Gives the database its properties and its name, all or nothing; the database that has that name becomes `replaced`.
///
/// # Errors
/// `TargetExists` when somebody made a database of that name meanwhile.
pub(super) async fn publish(
    session: &Session,
    cancel: &Cancel,
    temporary: &Name,
    target: &Name,
    replaced: Option<&Name>,
    properties: &DatabaseProperties,
) -> Result<(), SourceError> {
    let sql = publish_sql(temporary, target, replaced, properties);
    let mut tries = TRIES;
    loop {
        // A rename needs the database to itself: monitoring may have come in.
        disconnect_others(session, cancel, temporary).await?;
        let Err(error) = execute_whole(session, "cannot publish the new database", &sql).await else { return Ok(()) };
        session.execute(cancel, "cannot end a transaction", b"ROLLBACK").await?;
        if replaced.is_none() && is_there(session, cancel, target).await? {
            let message = format!("database {:?} was created by somebody else meanwhile", target.display());
            return Err(SourceError::new(ErrorCode::TargetExists, message));
        }
        tries -= 1;
        if tries == 0 || !error.to_string().contains("is being accessed by other users") {
            return Err(error);
        }
    }
}

pub(super) async fn disconnect_others(session: &Session, cancel: &Cancel, name: &Name) -> Result<(), SourceError> {
    // A session that may not be ended is left to the caller's retries: the condition keeps the function from failing.
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname::text = $1 AND pid <> pg_backend_pid() AND usesysid IS NOT NULL \
               AND (pg_has_role(current_user, usesysid, 'USAGE') OR pg_has_role(current_user, 'pg_signal_backend', 'USAGE')) \
               AND ((SELECT rolsuper FROM pg_roles WHERE rolname = current_user) \
                    OR NOT EXISTS (SELECT FROM pg_roles WHERE oid = usesysid AND rolsuper))";
    session.query(cancel, "cannot end other sessions of the new database", sql, &[name]).await.map(|_| ())
}

async fn is_there(session: &Session, cancel: &Cancel, name: &Name) -> Result<bool, SourceError> {
    let sql = "SELECT 1 FROM pg_database WHERE datname::text = $1";
    Ok(!session.query(cancel, "cannot list the databases", sql, &[name]).await?.is_empty())
}

/// Drops a database that made way, if it is empty still. Says whether it is gone.
///
/// # Errors
/// The server's; the database then stays under that name.
pub(super) async fn drop_replaced(
    session: &Session,
    connection: &ConnectionSpec,
    cancel: &Cancel,
    replaced: &Name,
) -> Result<bool, SourceError> {
    if !is_there(session, cancel, replaced).await? {
        return Ok(true);
    }
    if !vacant::is_vacant(connection, replaced, cancel).await? {
        return Ok(false);
    }
    drop_database(session, cancel, replaced).await?;
    Ok(true)
}

/// Drops the database with whoever is connected to it, if it is there.
pub(super) async fn drop_database(session: &Session, cancel: &Cancel, name: &Name) -> Result<(), SourceError> {
    let attempted = format!("cannot drop database {:?}", name.display());
    let plain = [b"DROP DATABASE IF EXISTS ".as_slice(), &quote_ident(name.as_bytes())].concat();
    let force = [plain.as_slice(), b" WITH (FORCE)"].concat();
    let mut result = Ok(());
    for attempt in 0..TRIES {
        // FORCE is refused where somebody is connected whom this role may not disconnect; without it the server waits.
        let sql = if attempt % 2 == 0 { &force } else { &plain };
        result = session.execute(cancel, &attempted, sql).await;
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Takes away what a restore left: the database, then the roles it created. Runs also when the job was cancelled, and
/// ends by itself after a minute.
///
/// # Errors
/// When the server does not let go of the database; it then remains under its temporary name.
pub(super) async fn clean_up(spec: &ConnectionSpec, name: &Name, roles: &[Name]) -> Result<(), SourceError> {
    // The job's own flag may be raised already.
    let cancel = Cancel::new();
    let work = async {
        let (session, _) = maintenance(spec, &cancel).await?;
        drop_database(&session, &cancel, name).await?;
        create_roles::drop_again(&session, roles).await;
        Ok(())
    };
    tokio::time::timeout(CLEANUP_TIMEOUT, work).await.unwrap_or_else(|_| {
        let message = format!("database {:?} was not dropped within {} s", name.display(), CLEANUP_TIMEOUT.as_secs());
        Err(SourceError::new(ErrorCode::RestoreFailed, message))
    })
}

/// Says whether the server can be reached as a restore reaches it.
///
/// # Errors
/// `DatabaseUnreachable`, `AuthenticationFailed`…
pub fn reach(connection: &ConnectionSpec, context: &JobContext) -> Result<(), SourceError> {
    context.runtime.block_on(maintenance(connection, &context.cancel)).map(|_| ())
}

/// Drops databases that restores left under temporary names when the daemon died. `names` come from the journal that
/// the caller keeps by [`super::RestoreRequest::on_temporary_name`]; those that are not there count as dropped. An empty
/// database that had made way for one of them goes too.
///
/// # Errors
/// `InvalidArgs` for a name that no restore gives, before anything is dropped; otherwise the server's.
pub fn sweep(connection: &ConnectionSpec, names: &[Name], context: &JobContext) -> Result<(), SourceError> {
    if let Some(name) = names.iter().find(|name| !is_temporary_name(name)) {
        let message = format!("{:?} is not the name of an unfinished restore: it is not dropped", name.display());
        return Err(SourceError::new(ErrorCode::InvalidArgs, message));
    }
    context.runtime.block_on(async {
        let (session, _) = maintenance(connection, &context.cancel).await?;
        for name in names {
            drop_database(&session, &context.cancel, name).await?;
            let replaced = replaced_name(name);
            if !drop_replaced(&session, connection, &context.cancel, &replaced).await? {
                tracing::warn!("database {replaced} made way for a restored one and is not empty any more: it stays");
            }
        }
        Ok(())
    })
}
