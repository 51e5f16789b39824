//! Whether a restore may take the place of a database that exists: only of one that holds nothing, such as the database
//! `postgres` of a server that was just made.
//!
//! Invariant: nothing of anybody's is lost. What holds an object that does not come with every database, a setting, a
//! privilege or a role's session is not vacant; a database that is dropped was renamed away first and looked at again.

use super::survey::Look;
use crate::{
    config::ConnectionSpec,
    model::Name,
    source::{
        SourceError,
        postgres::connection::{APPLICATION_NAME, Session, get},
    },
    stream::Cancel,
};

/// Catalogs whose rows are objects of one database. What initdb makes has object ids below 16384
/// (`FirstNormalObjectId`), also in databases that are copied from its templates.
const CATALOGS: [&str; 24] = [
    "pg_am",
    "pg_cast",
    "pg_class",
    "pg_conversion",
    "pg_default_acl",
    "pg_event_trigger",
    "pg_extension",
    "pg_foreign_data_wrapper",
    "pg_foreign_server",
    "pg_language",
    "pg_opclass",
    "pg_operator",
    "pg_opfamily",
    "pg_policy",
    "pg_proc",
    "pg_publication",
    "pg_statistic_ext",
    "pg_transform",
    "pg_trigger",
    "pg_ts_config",
    "pg_ts_dict",
    "pg_ts_parser",
    "pg_ts_template",
    "pg_type",
];

/// What else tells that somebody has used the database: schemas (those for temporary tables aside), collations (the
/// system's aside, which can be imported later), privileges on schema `public`, subscriptions, and large objects, whose
/// ids their users choose.
const OTHERS: &str = "
SELECT EXISTS (SELECT FROM pg_largeobject_metadata)
    OR EXISTS (SELECT FROM pg_namespace n LEFT JOIN pg_init_privs p
               ON p.objoid = n.oid AND p.classoid = 'pg_namespace'::regclass AND p.objsubid = 0
               WHERE n.nspname !~ '^pg_(toast_)?temp_'
                 AND (n.oid >= 16384 OR n.nspname = 'public' AND n.nspacl::text IS DISTINCT FROM p.initprivs::text))
    OR EXISTS (SELECT FROM pg_collation WHERE oid >= 16384 AND collnamespace <> 'pg_catalog'::regnamespace)
    OR EXISTS (SELECT FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database())";

/// What belongs to the database itself. `$1` is its name.
const PROPERTIES: &str = "
SELECT datistemplate, NOT datallowconn, datacl IS NOT NULL OR EXISTS (SELECT FROM pg_db_role_setting WHERE setdatabase = d.oid),
       pg_has_role(datdba, 'USAGE'),
       (SELECT count(*) FROM pg_stat_activity WHERE datid = d.oid AND application_name <> $2)
FROM pg_database d WHERE datname::text = $1";

/// Why this database, which exists, cannot be replaced; `None` where it can.
pub(super) async fn objection(look: &Look<'_>, database: &Name) -> Result<Option<&'static str>, SourceError> {
    let rows = look
        .session
        .query(look.cancel, "cannot read the properties of a database", PROPERTIES, &[database, &APPLICATION_NAME])
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(if get::<bool>(row, 0)? {
        Some("it is a template")
    } else if get::<bool>(row, 1)? {
        Some("it allows no connections")
    } else if get::<bool>(row, 2)? {
        Some("it has settings or privileges of its own")
    } else if !get::<bool>(row, 3)? {
        Some("it belongs to another role")
    } else if get::<i64>(row, 4)? > 0 {
        Some("somebody is connected to it")
    } else if !is_vacant(&look.request.connection, database, look.cancel).await? {
        Some("it is not empty")
    } else {
        None
    })
}

/// Whether a database holds nothing that not every new database holds.
pub(super) async fn is_vacant(
    connection: &ConnectionSpec,
    database: &Name,
    cancel: &Cancel,
) -> Result<bool, SourceError> {
    let spec = ConnectionSpec { database: database.clone(), ..connection.clone() };
    let session = Session::connect(&spec, cancel).await?;
    let any: Vec<String> = CATALOGS
        .iter()
        .map(|catalog| format!("EXISTS (SELECT FROM pg_catalog.{catalog} WHERE oid >= 16384)"))
        .collect();
    let sql = format!("SELECT {}", any.join(" OR "));
    let attempted = "cannot look whether a database is empty";
    Ok(!get::<bool>(&session.query_one(cancel, attempted, &sql, &[]).await?, 0)?
        && !get::<bool>(&session.query_one(cancel, attempted, OTHERS, &[]).await?, 0)?)
}
