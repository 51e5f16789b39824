//! Lets the server look at its own structures: `amcheck` (<https://www.postgresql.org/docs/current/amcheck.html>).
//!
//! Every index entry is looked for in its table and the other way round, so a function in an index expression that gives
//! something else than it did, or a collation that sorts differently, is found here.

use tokio_postgres::Row;

use crate::{
    config::ConnectionSpec,
    model::Name,
    source::{
        JobContext, SourceError,
        drill::Finding,
        postgres::{
            connection::{Session, get},
            quote::quote_qualified,
        },
    },
    stream::Cancel,
};

/// How many broken objects are named.
const NAMED: usize = 5;

/// The schema that the extension goes into where the database does not have it.
const SCHEMA: &str = "backupd_drill";

/// Looks at every B-tree index.
pub(super) fn check_indexes(spec: &ConnectionSpec, context: &JobContext) -> Result<Finding, SourceError> {
    let sql = "SELECT c.oid, n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_am a ON a.oid = c.relam \
               WHERE a.amname = 'btree' AND c.relkind = 'i' AND i.indisvalid AND c.relpersistence <> 't'";
    context.runtime.block_on(async {
        let session = Session::connect(spec, &context.cancel).await?;
        let Some(amcheck) = amcheck(&session, &context.cancel).await? else { return Ok(missing()) };
        let check = format!("SELECT {}($1::oid::regclass, true)", function(&amcheck, "bt_index_check"));
        each(&session, &context.cancel, sql, ("index", "indexes"), async |row| {
            match session.query(&context.cancel, "amcheck", &check, &[&get::<u32>(row, 0)?]).await {
                Ok(_) => Ok(None),
                Err(SourceError::Failed { message, .. }) => Ok(Some(message)),
                Err(error) => Err(error),
            }
        })
        .await
    })
}

/// Looks at every table, of servers from 14 on.
pub(super) fn check_heaps(spec: &ConnectionSpec, context: &JobContext) -> Result<Finding, SourceError> {
    let sql = "SELECT c.oid, n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'heap' AND c.relkind IN ('r', 'm', 't') AND c.relpersistence <> 't'";
    context.runtime.block_on(async {
        let session = Session::connect(spec, &context.cancel).await?;
        if session.server().major() < 14 {
            return Ok(Finding::Skipped("amcheck knows tables from PostgreSQL 14 on".to_owned()));
        }
        let Some(amcheck) = amcheck(&session, &context.cancel).await? else { return Ok(missing()) };
        let check = format!("SELECT msg FROM {}($1::oid::regclass, true) LIMIT 1", function(&amcheck, "verify_heapam"));
        each(&session, &context.cancel, sql, ("table", "tables"), async |row| {
            let found = session.query(&context.cancel, "amcheck", &check, &[&get::<u32>(row, 0)?]).await?;
            found.first().map(|row| get(row, 0)).transpose()
        })
        .await
    })
}

fn missing() -> Finding {
    Finding::Skipped(
        "the extension amcheck is not installed on this host (Debian: it comes with postgresql-NN)".to_owned(),
    )
}

/// The schema of the extension, which is created where it is missing; none where it cannot be.
async fn amcheck(session: &Session, cancel: &Cancel) -> Result<Option<Name>, SourceError> {
    let sql = "SELECT n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'";
    if let Some(row) = session.query(cancel, "cannot list the extensions", sql, &[]).await?.first() {
        return Ok(Some(get(row, 0)?));
    }
    // A database may be read-only by its own settings.
    session.execute(cancel, "cannot change a setting", b"SET default_transaction_read_only = off").await?;
    let sql = "SELECT FROM pg_available_extensions WHERE name = 'amcheck'";
    if session.query(cancel, "cannot list the extensions", sql, &[]).await?.is_empty() {
        return Ok(None);
    }
    let sql = format!("CREATE SCHEMA {SCHEMA}; CREATE EXTENSION amcheck SCHEMA {SCHEMA}");
    session.execute(cancel, "cannot create the extension amcheck", sql.as_bytes()).await?;
    Ok(Some(Name::from(SCHEMA)))
}

fn function(schema: &Name, name: &str) -> String {
    String::from_utf8_lossy(&quote_qualified(schema, &Name::from(name))).into_owned()
}

/// Looks at each object that a query lists; `look` gives what is wrong with it.
async fn each(
    session: &Session,
    cancel: &Cancel,
    list: &str,
    (kind, plural): (&str, &str),
    look: impl AsyncFn(&Row) -> Result<Option<String>, SourceError>,
) -> Result<Finding, SourceError> {
    let rows = session.query(cancel, "cannot list what is to be checked", list, &[]).await?;
    let mut broken = Vec::new();
    for row in &rows {
        if let Some(problem) = look(row).await? {
            let (schema, name): (Name, Name) = (get(row, 1)?, get(row, 2)?);
            broken.push(format!("{kind} {schema}.{name}: {problem}"));
        }
    }
    if broken.is_empty() {
        return Ok(Finding::Good(format!("amcheck finds everything in order: {} {plural}", rows.len())));
    }
    let more = broken.len().saturating_sub(NAMED);
    broken.truncate(NAMED);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    Ok(Finding::Bad(format!("amcheck finds damage in the restored database: {}{more}", broken.join("; "))))
}
