//! What is worth knowing of a database before its first backup, beyond what would stop it (`dump::preflight`): who owns
//! what a restore has to give back, and what a backup or a restore by an ordinary role will lack.

use std::time::Duration;

use super::{
    catalog, checks,
    connection::{self, Server, Session, get},
    facts,
};
use crate::{
    config::ConnectionSpec,
    model::{ErrorCode, Name, manifest::Selection},
    source::{JobContext, SourceError},
    stream::Cancel,
};

/// How long looking may take, the connection included.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A role that owns the database or something in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its name.
    pub name: Name,
    /// Whether it is a superuser.
    pub superuser: bool,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// The server.
    pub server: Server,
    /// Who owns what is in the database, what belongs to extensions left out.
    pub owners: Vec<Owner>,
    /// What a backup will lack although it succeeds, a sentence each.
    pub gaps: Vec<String>,
    /// What only a superuser can restore.
    pub superuser_needed: Vec<String>,
}

/// Relations, schemas, functions, types and large objects; indexes and what else belongs to a table has the table's owner.
const OWNERS: &str = "
WITH owned (class, oid, owner) AS (
    SELECT 'pg_catalog.pg_class'::regclass::oid, oid, relowner FROM pg_catalog.pg_class
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    UNION ALL SELECT 'pg_catalog.pg_namespace'::regclass, oid, nspowner FROM pg_catalog.pg_namespace
    UNION ALL SELECT 'pg_catalog.pg_proc'::regclass, oid, proowner FROM pg_catalog.pg_proc
    UNION ALL SELECT 'pg_catalog.pg_type'::regclass, oid, typowner FROM pg_catalog.pg_type
    WHERE typrelid = 0 AND typcategory <> 'A'
    UNION ALL SELECT 'pg_catalog.pg_largeobject'::regclass, oid, lomowner FROM pg_catalog.pg_largeobject_metadata)
SELECT rolname::text, rolsuper FROM pg_catalog.pg_roles
WHERE rolname !~ '^pg_' AND oid IN (
    SELECT datdba FROM pg_catalog.pg_database WHERE datname = current_database()
    UNION SELECT owner FROM owned o WHERE o.oid >= 16384 AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_depend e WHERE e.classid = o.class AND e.objid = o.oid AND e.deptype = 'e'))
ORDER BY 1";

/// Owners of objects in schemas that are not theirs, where they may create by a GRANT alone. A restore gives objects to their
/// owners first and grants last, and from an ordinary role a role that may not create yet cannot get an object.
const GUESTS: &str = "
WITH owned (class, oid, owner, schema) AS (
    SELECT 'pg_catalog.pg_class'::regclass::oid, oid, relowner, relnamespace FROM pg_catalog.pg_class
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    UNION ALL SELECT 'pg_catalog.pg_proc'::regclass, oid, proowner, pronamespace FROM pg_catalog.pg_proc
    UNION ALL SELECT 'pg_catalog.pg_type'::regclass, oid, typowner, typnamespace FROM pg_catalog.pg_type
    WHERE typrelid = 0 AND typcategory <> 'A')
SELECT DISTINCT r.rolname::text, n.nspname::text FROM owned o
JOIN pg_catalog.pg_roles r ON r.oid = o.owner JOIN pg_catalog.pg_namespace n ON n.oid = o.schema
WHERE o.oid >= 16384 AND NOT r.rolsuper AND NOT pg_has_role(o.owner, n.nspowner, 'USAGE')
  AND NOT (n.nspname = 'public' AND current_setting('server_version_num')::int4 < 150000)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = o.class AND e.objid = o.oid AND e.deptype = 'e')
ORDER BY 1, 2";

/// Looks at the database that `connection` leads to, within ten seconds. Blocks.
///
/// # Errors
/// As [`Session::connect`] and [`Session::query`].
pub fn examine(
    connection: &ConnectionSpec,
    selection: &Selection,
    context: &JobContext,
) -> Result<Examined, SourceError> {
    context.runtime.block_on(async {
        tokio::time::timeout(TIMEOUT, look(connection, selection, &context.cancel)).await.unwrap_or_else(|_| {
            let message = format!("{} did not answer within {} s", connection::location(connection), TIMEOUT.as_secs());
            Err(SourceError::new(ErrorCode::DatabaseUnreachable, message))
        })
    })
}

async fn look(spec: &ConnectionSpec, selection: &Selection, cancel: &Cancel) -> Result<Examined, SourceError> {
    let session = Session::connect(spec, cancel).await?;
    let rows = session.query(cancel, "cannot list the owners", OWNERS, &[]).await?;
    let owners = rows.iter().map(|row| Ok(Owner { name: get(row, 0)?, superuser: get(row, 1)? }));
    let owners = owners.collect::<Result<_, SourceError>>()?;
    let relations = catalog::relations(&session, cancel).await?;
    let gaps = checks::silent_gaps(&session, cancel, selection, &relations).await?;
    let mut gaps: Vec<String> = gaps.into_iter().map(|gap| gap.message).collect();
    let sql = "SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')";
    let row = session.query_one(cancel, "cannot check the privileges on pg_authid", sql, &[]).await?;
    if !get::<bool>(&row, 0)? {
        gaps.push("the passwords of roles are not included: only a superuser can read them".to_owned());
    }
    let mut superuser_needed = facts::needs_superuser(&session, cancel).await?;
    for row in session.query(cancel, "cannot list owners beside their schemas", GUESTS, &[]).await? {
        let (owner, schema): (Name, Name) = (get(&row, 0)?, get(&row, 1)?);
        superuser_needed.push(format!(
            "what {:?} owns in schema {:?}, which is another's (--no-owner gives it to the restoring role)",
            owner.display(),
            schema.display()
        ));
    }
    Ok(Examined { server: session.server().clone(), owners, gaps, superuser_needed })
}
