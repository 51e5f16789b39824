//! What can be known before a dump begins: whether the role may read everything, what pg_dump would pass over without
//! a word, and whether the server has room for the locks.

use tokio_postgres::types::Oid;

use super::{
    catalog::Relation,
    connection::{Server, Session, get},
    selection,
};
use crate::{
    model::{
        ErrorCode,
        manifest::{Incomplete, Selection},
    },
    source::SourceError,
    stream::Cancel,
};

/// The oldest and the newest major version that this program knows.
pub const KNOWN_MAJORS: std::ops::RangeInclusive<u32> = 13..=18;
/// Tables that an error names.
const NAMED: usize = 10;

/// Refuses servers that are too old, and warns of those that are newer than this program.
///
/// # Errors
/// `NotSupported`.
pub fn server_version(server: &Server) -> Result<(), SourceError> {
    let major = server.major();
    if major < *KNOWN_MAJORS.start() {
        let message = format!(
            "the server is PostgreSQL {}; {} is the oldest that is supported",
            server.version,
            KNOWN_MAJORS.start()
        );
        return Err(SourceError::new(ErrorCode::NotSupported, message));
    }
    if major > *KNOWN_MAJORS.end() {
        tracing::warn!(version = server.version, "the server is newer than this program was made for");
    }
    Ok(())
}

/// Refuses relations that the role cannot read whole, naming them and what to grant.
///
/// # Errors
/// `DatabasePermission`.
pub fn readable(relations: &[&Relation], user: &str, server_major: u32) -> Result<(), SourceError> {
    let denied: Vec<&Relation> =
        relations.iter().copied().filter(|r| matches!(r.kind, b'r' | b'p' | b'S') && !r.readable).collect();
    if !denied.is_empty() {
        let advice = if server_major >= 14 {
            format!("GRANT pg_read_all_data TO {user}")
        } else {
            format!(
                "GRANT USAGE ON SCHEMA … TO {user}; GRANT SELECT ON ALL TABLES IN SCHEMA …, and ON ALL SEQUENCES …, TO {user}"
            )
        };
        let message = format!("user {user:?} may not read {}. Help: {advice};", enumerate(&denied));
        return Err(SourceError::new(ErrorCode::DatabasePermission, message));
    }
    let hidden: Vec<&Relation> = relations.iter().copied().filter(|r| r.kind == b'r' && r.row_security).collect();
    if !hidden.is_empty() {
        let message = format!(
            "row level security would hide rows from user {user:?} in {}. Help, as superuser: ALTER ROLE {user} BYPASSRLS;",
            enumerate(&hidden)
        );
        return Err(SourceError::new(ErrorCode::DatabasePermission, message));
    }
    Ok(())
}

fn enumerate(relations: &[&Relation]) -> String {
    let names: Vec<String> = relations.iter().take(NAMED).map(|relation| relation.display()).collect();
    let more = relations.len().saturating_sub(NAMED);
    let kind = if relations.len() == 1 { "relation" } else { "relations" };
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{kind} {}{more}", names.join(", "))
}

/// Refuses large objects that the role cannot read. `pg_read_all_data` does not reach them.
///
/// # Errors
/// `DatabasePermission`, and as [`Session::query`].
pub async fn large_objects_readable(session: &Session, cancel: &Cancel, user: &str) -> Result<(), SourceError> {
    let sql = "
        SELECT count(*), min(m.oid) FROM pg_catalog.pg_largeobject_metadata m
        WHERE NOT current_setting('lo_compat_privileges')::bool
          AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
          AND NOT pg_has_role(m.lomowner, 'USAGE')
          AND NOT EXISTS (SELECT FROM aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT'
                          AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))";
    let row = session.query_one(cancel, "cannot check the privileges on large objects", sql, &[]).await?;
    let count: i64 = get(&row, 0)?;
    if count == 0 {
        return Ok(());
    }
    let first: Oid = get(&row, 1)?;
    Err(SourceError::new(
        ErrorCode::DatabasePermission,
        format!(
            "user {user:?} may not read {count} large objects, such as {first}. Help: GRANT SELECT ON LARGE OBJECT {first} TO {user}; \
             for each of them, or back up as their owner or a superuser"
        ),
    ))
}

/// Whether the server's table of locks has room.
///
/// # Errors
/// `DumpFailed` with the setting to raise, and as [`Session::query`].
pub async fn lock_headroom(session: &Session, cancel: &Cancel, tables: usize) -> Result<(), SourceError> {
    let sql = "SELECT current_setting('max_locks_per_transaction')::int8
                      * (current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8),
                      current_setting('max_locks_per_transaction')::int8";
    let row = session.query_one(cancel, "cannot read the size of the lock table", sql, &[]).await?;
    let slots: i64 = get(&row, 0)?;
    let setting: i64 = get(&row, 1)?;
    let tables = i64::try_from(tables).unwrap_or(i64::MAX);
    // Both sessions' locks of one table share a slot; TOAST tables and their indexes have their own.
    let needed = tables.saturating_mul(2).saturating_add(100);
    if needed > slots {
        let raise = setting.saturating_mul(needed / slots.max(1) + 1);
        let message = format!(
            "{tables} tables need about {needed} locks and the server has {slots}; set max_locks_per_transaction = {raise} and restart it"
        );
        return Err(SourceError::new(ErrorCode::DumpFailed, message));
    }
    Ok(())
}

/// What pg_dump leaves out although it succeeds.
///
/// # Errors
/// As [`Session::query`].
pub async fn silent_gaps(
    session: &Session,
    cancel: &Cancel,
    selected: &Selection,
    relations: &[Relation],
) -> Result<Vec<Incomplete>, SourceError> {
    let mut gaps = Vec::new();
    let mut gap = |what: &str, message: String| gaps.push(Incomplete { what: what.to_owned(), message });
    let sql = "SELECT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user),
                      (SELECT count(subname) FROM pg_catalog.pg_subscription
                       WHERE subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())),
                      (SELECT count(*) FROM pg_catalog.pg_user_mappings WHERE umoptions IS NULL),
                      (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata)";
    let row = session.query_one(cancel, "cannot look for what pg_dump leaves out", sql, &[]).await?;
    let superuser: bool = get(&row, 0)?;
    let subscriptions: i64 = get(&row, 1)?;
    if subscriptions > 0 && !superuser {
        gap("subscriptions", format!("{subscriptions} subscriptions are not included: only a superuser can read them"));
    }
    let mappings: i64 = get(&row, 2)?;
    if mappings > 0 && !superuser {
        gap(
            "user-mapping-options",
            format!(
                "the options (passwords) of up to {mappings} user mappings are not included: only a superuser or their users can read them"
            ),
        );
    }
    let foreign = relations.iter().filter(|relation| relation.kind == b'f').count();
    if foreign > 0 {
        gap(
            "foreign-table-data",
            format!("the rows of {foreign} foreign tables are not included: they are kept elsewhere"),
        );
    }
    let unlogged = relations.iter().filter(|relation| relation.unlogged && relation.kind == b'r').count();
    if unlogged > 0 && session.server().standby {
        gap(
            "unlogged-table-data",
            format!("the rows of {unlogged} unlogged tables are not included: a standby does not have them"),
        );
    }
    if selection::is_partial(selected) {
        let what = if selected.schema_only {
            "only the schema was taken"
        } else {
            "only chosen tables and schemas were taken"
        };
        gap("excluded", format!("{what}; see `selection`"));
    }
    let large_objects: i64 = get(&row, 3)?;
    if large_objects > 0 && !selection::has_large_objects(selected) && !selected.schema_only {
        gap(
            "large-objects",
            format!("{large_objects} large objects are not included, because only chosen tables or schemas were taken"),
        );
    }
    Ok(gaps)
}
