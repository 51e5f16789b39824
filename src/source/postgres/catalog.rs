//! What a database holds, read from its catalogs. Names are raw bytes.

use tokio_postgres::types::Oid;

use super::connection::{Session, get};
use crate::{model::Name, source::SourceError, stream::Cancel};

/// A relation that pg_dump would dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Its object id.
    pub oid: Oid,
    /// Its schema.
    pub schema: Name,
    /// Its name.
    pub name: Name,
    /// `relkind`: `r` table, `p` partitioned table, `m` materialized view, `f` foreign table, `S` sequence, `v` view.
    pub kind: u8,
    /// Whether the session may read it: SELECT on it and USAGE on its schema.
    pub readable: bool,
    /// Whether row level security would hide rows from the session.
    pub row_security: bool,
    /// Whether it is unlogged.
    pub unlogged: bool,
}

impl Relation {
    /// Whether it can be locked by LOCK TABLE (and is worth it: it has rows, or its children have).
    #[must_use]
    pub fn lockable(&self) -> bool {
        matches!(self.kind, b'r' | b'p')
    }

    /// `schema.name`, for people.
    #[must_use]
    pub fn display(&self) -> String {
        format!("{}.{}", self.schema.display(), self.name.display())
    }

    /// What makes it the same relation in two listings.
    #[must_use]
    pub fn identity(&self) -> (Oid, &Name, &Name, u8) {
        (self.oid, &self.schema, &self.name, self.kind)
    }

    #[cfg(test)]
    pub(super) fn for_tests(schema: &str, name: &str) -> Self {
        let (schema, name) = (schema.into(), name.into());
        Self { oid: 1, schema, name, kind: b'r', readable: true, row_security: false, unlogged: false }
    }
}

/// Relations outside of system schemas that belong to no extension, or hold an extension's configuration: what pg_dump
/// dumps (and locks). In order of their oids.
const RELATIONS: &str = "
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text,
       has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'),
       c.relrowsecurity AND row_security_active(c.oid),
       c.relpersistence = 'u'
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm', 'f', 'S', 'v') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND (NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                   WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
       OR EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig)))
ORDER BY c.oid";

/// Lists the relations.
///
/// # Errors
/// As [`Session::query`].
pub async fn relations(session: &Session, cancel: &Cancel) -> Result<Vec<Relation>, SourceError> {
    let rows = session.query(cancel, "cannot list the tables", RELATIONS, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Relation {
                oid: get(row, 0)?,
                schema: get(row, 1)?,
                name: get(row, 2)?,
                kind: get::<Name>(row, 3)?.as_bytes().first().copied().unwrap_or_default(),
                // NULL where the relation vanished while the query ran.
                readable: get::<Option<bool>>(row, 4)?.unwrap_or(true),
                row_security: get::<Option<bool>>(row, 5)?.unwrap_or(false),
                unlogged: get(row, 6)?,
            })
        })
        .collect()
}

/// A size in bytes that the server reports.
async fn size(session: &Session, cancel: &Cancel, attempted: &str, sql: &str) -> Result<u64, SourceError> {
    let row = session.query_one(cancel, attempted, sql, &[]).await?;
    Ok(u64::try_from(get::<Option<i64>>(&row, 0)?.unwrap_or_default()).unwrap_or_default())
}

/// Size of the database on disk, indexes included. Takes no lock.
///
/// # Errors
/// As [`Session::query`].
pub async fn database_size(session: &Session, cancel: &Cancel) -> Result<u64, SourceError> {
    let sql = "SELECT pg_database_size(current_database())";
    size(session, cancel, "cannot read the size of the database", sql).await
}

/// Bytes of tables as they lie on disk, TOAST included: about what their rows are as text. The tables should be locked
/// by the session: it would wait for one that somebody else has locked.
///
/// # Errors
/// As [`Session::query`].
pub async fn tables_size(session: &Session, cancel: &Cancel, tables: &[Oid]) -> Result<u64, SourceError> {
    let sql = "SELECT sum(pg_relation_size(c.oid) + CASE WHEN c.reltoastrelid = 0 THEN 0 ELSE pg_relation_size(c.reltoastrelid) END)::int8
               FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1)";
    let row = session.query_one(cancel, "cannot read the sizes of the tables", sql, &[&tables]).await?;
    Ok(u64::try_from(get::<Option<i64>>(&row, 0)?.unwrap_or_default()).unwrap_or_default())
}

/// Number of large objects.
///
/// # Errors
/// As [`Session::query`].
pub async fn large_objects(session: &Session, cancel: &Cancel) -> Result<u64, SourceError> {
    let sql = "SELECT count(*) FROM pg_catalog.pg_largeobject_metadata";
    size(session, cancel, "cannot count the large objects", sql).await
}
