//! Compares the restored tables' row counts with the manifest's.
//!
//! Counting comes before indexes, constraints and policies: a mismatch is found before the longest part of a restore,
//! no policy hides a row, and reading every page once here (which sets its hint bits) spares the index builds writing.
//! Rows of a partitioned table are counted over its whole tree, because a dump may load them through the root.

use std::collections::BTreeMap;

use super::{survey::is_selected, toc::TableSelection};
use crate::{
    model::{ErrorCode, Name, manifest::Manifest},
    source::{
        SourceError,
        postgres::{
            connection::{Session, get},
            quote::quote_qualified,
        },
    },
    stream::Cancel,
};

/// How many differing tables an error names.
const NAMED: usize = 10;

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) tables: u64,
    pub(super) rows: u64,
}

/// A table of the new database.
struct Relation {
    root: u32,
    schema: Name,
    name: Name,
    /// Whether it has rows of its own; a partitioned table has none.
    holds_rows: bool,
    /// An extension's own rows are there before the dump's are added.
    of_extension: bool,
}

/// Counts the rows of every table whose rows the manifest counts.
///
/// # Errors
/// `RestoreMismatch`, naming tables and both numbers.
pub(super) async fn compare(
    session: &Session,
    cancel: &Cancel,
    manifest: &Manifest,
    selection: Option<&TableSelection>,
) -> Result<Counted, SourceError> {
    let relations = relations(session, cancel).await?;
    let by_name: BTreeMap<(&Name, &Name), &Relation> =
        relations.iter().map(|relation| ((&relation.schema, &relation.name), relation)).collect();
    let mut expected: BTreeMap<u32, u64> = BTreeMap::new();
    let mut differences = Vec::new();
    let mut counted = Counted::default();
    for table in manifest.tables().filter(|table| is_selected(selection, table)) {
        match by_name.get(&(&table.schema, &table.name)) {
            Some(relation) => *expected.entry(relation.root).or_default() += table.rows,
            None => differences.push(format!("{}.{} is missing", table.schema, table.name)),
        }
    }
    for (root, expected) in expected {
        let tree: Vec<&Relation> = relations.iter().filter(|relation| relation.root == root).collect();
        let mut rows = 0;
        for relation in tree.iter().filter(|relation| relation.holds_rows) {
            rows += count(session, cancel, relation).await?;
        }
        counted.tables += 1;
        counted.rows += expected;
        let more_is_right = tree.iter().any(|relation| relation.of_extension);
        if rows < expected || rows > expected && !more_is_right {
            let name =
                tree.first().map(|relation| format!("{}.{}", relation.schema, relation.name)).unwrap_or_default();
            differences.push(format!("{name} has {rows} rows, the backup counted {expected}"));
        }
    }
    if differences.is_empty() {
        return Ok(counted);
    }
    let more = differences.len().saturating_sub(NAMED);
    differences.truncate(NAMED);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    let message = format!("the restored rows differ from the backup's: {}{more}", differences.join("; "));
    Err(SourceError::new(ErrorCode::RestoreMismatch, message))
}

/// All tables, roots before their partitions.
async fn relations(session: &Session, cancel: &Cancel) -> Result<Vec<Relation>, SourceError> {
    let sql = "SELECT coalesce(pg_partition_root(c.oid)::oid, c.oid), n.nspname::text, c.relname::text, c.relkind = 'r', \
               EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' \
               ORDER BY c.oid <> coalesce(pg_partition_root(c.oid)::oid, c.oid), c.oid";
    let rows = session.query(cancel, "cannot list the restored tables", sql, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Relation {
                root: get(row, 0)?,
                schema: get(row, 1)?,
                name: get(row, 2)?,
                holds_rows: get(row, 3)?,
                of_extension: get(row, 4)?,
            })
        })
        .collect()
}

async fn count(session: &Session, cancel: &Cancel, relation: &Relation) -> Result<u64, SourceError> {
    let attempted = format!("cannot count the rows of {}.{}", relation.schema, relation.name);
    let table = quote_qualified(&relation.schema, &relation.name);
    let rows: i64 = match std::str::from_utf8(&table) {
        Ok(table) => {
            let sql = format!("SELECT count(*) FROM ONLY {table}");
            get(&session.query_one(cancel, &attempted, &sql, &[]).await?, 0)?
        }
        // Statements of other bytes give no rows back here, so the number goes by way of a setting.
        Err(_) => {
            let sql = [
                b"SELECT set_config('backupd.rows', (SELECT count(*) FROM ONLY ".as_slice(),
                &table,
                b")::text, false)",
            ];
            session.execute(cancel, &attempted, &sql.concat()).await?;
            let sql = "SELECT current_setting('backupd.rows')::int8";
            get(&session.query_one(cancel, &attempted, sql, &[]).await?, 0)?
        }
    };
    Ok(u64::try_from(rows).unwrap_or_default())
}
