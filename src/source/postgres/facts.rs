//! What the manifest says of a database: what a restore needs to find, and what it needs rights for.

use super::{
    catalog,
    connection::{Session, get},
    database_sql, selection,
};
use crate::{
    model::{
        Name,
        manifest::{Extension, PostgresFacts, Selection},
    },
    source::SourceError,
    stream::Cancel,
};

/// The condition that an object of a catalog is neither built in nor part of an extension.
macro_rules! own {
    ($class:literal, $oid:literal) => {
        concat!(
            "NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.",
            $class,
            "'::regclass AND e.objid = ",
            $oid,
            " AND e.deptype = 'e') AND ",
            $oid,
            " >= 16384"
        )
    };
}

/// Roles that a restore must find: owners, grantees and grantors, roles of policies, roles with settings. Built-in
/// roles are not recorded in `pg_shdepend`, so what they own and are granted is looked up.
const ROLES: &str = "
WITH me AS (SELECT oid, datdba, datacl FROM pg_catalog.pg_database WHERE datname = current_database()),
acls (acl) AS (
    SELECT relacl FROM pg_catalog.pg_class WHERE oid >= 16384
    UNION ALL SELECT nspacl FROM pg_catalog.pg_namespace WHERE oid >= 16384 OR nspname = 'public'
    UNION ALL SELECT proacl FROM pg_catalog.pg_proc WHERE oid >= 16384
    UNION ALL SELECT typacl FROM pg_catalog.pg_type WHERE oid >= 16384
    UNION ALL SELECT attacl FROM pg_catalog.pg_attribute WHERE attrelid >= 16384
    UNION ALL SELECT lomacl FROM pg_catalog.pg_largeobject_metadata
    UNION ALL SELECT defaclacl FROM pg_catalog.pg_default_acl
    UNION ALL SELECT datacl FROM me),
roles (oid) AS (
    SELECT refobjid FROM pg_catalog.pg_shdepend, me
    WHERE refclassid = 'pg_catalog.pg_authid'::regclass
      AND (dbid = me.oid OR (classid = 'pg_catalog.pg_database'::regclass AND objid = me.oid))
    UNION SELECT datdba FROM me
    UNION SELECT setrole FROM pg_catalog.pg_db_role_setting, me WHERE setdatabase = me.oid
    UNION SELECT relowner FROM pg_catalog.pg_class WHERE oid >= 16384
    UNION SELECT nspowner FROM pg_catalog.pg_namespace WHERE oid >= 16384
    UNION SELECT proowner FROM pg_catalog.pg_proc WHERE oid >= 16384
    UNION SELECT typowner FROM pg_catalog.pg_type WHERE oid >= 16384
    UNION SELECT lomowner FROM pg_catalog.pg_largeobject_metadata
    UNION SELECT extowner FROM pg_catalog.pg_extension WHERE oid >= 16384
    UNION SELECT g.grantee FROM acls, aclexplode(acls.acl) g WHERE acls.acl IS NOT NULL
    UNION SELECT g.grantor FROM acls, aclexplode(acls.acl) g WHERE acls.acl IS NOT NULL)
SELECT r.rolname::text FROM pg_catalog.pg_roles r JOIN roles USING (oid) ORDER BY 1";

const TABLESPACES: &str = "
SELECT DISTINCT t.spcname::text FROM pg_catalog.pg_tablespace t
WHERE t.oid IN (SELECT reltablespace FROM pg_catalog.pg_class WHERE oid >= 16384)
   OR (t.spcname <> 'pg_default' AND t.oid = (SELECT dattablespace FROM pg_catalog.pg_database WHERE datname = current_database()))
ORDER BY 1";

const EXTENSIONS: &str = "
SELECT e.extname::text, e.extversion, n.nspname::text, coalesce(bool_or(a.trusted OR NOT a.superuser), false)
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
LEFT JOIN pg_catalog.pg_available_extension_versions a ON a.name = e.extname AND a.version = e.extversion
GROUP BY 1, 2, 3 ORDER BY 1";

/// What only a superuser can create: a word for it, its names.
const SUPERUSER: &[(&str, &str)] = &[
    (
        "event trigger",
        concat!("SELECT evtname::text FROM pg_catalog.pg_event_trigger t WHERE ", own!("pg_event_trigger", "t.oid")),
    ),
    ("publication for all tables", "SELECT pubname::text FROM pg_catalog.pg_publication WHERE puballtables"),
    (
        "subscription",
        "SELECT subname::text FROM pg_catalog.pg_subscription WHERE subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())",
    ),
    (
        "foreign-data wrapper",
        concat!(
            "SELECT fdwname::text FROM pg_catalog.pg_foreign_data_wrapper f WHERE ",
            own!("pg_foreign_data_wrapper", "f.oid")
        ),
    ),
    (
        "function in an untrusted language",
        concat!(
            "SELECT n.nspname::text || '.' || p.proname::text FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang \
             JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE NOT l.lanpltrusted AND p.prolang <> 14 AND ",
            own!("pg_proc", "p.oid")
        ),
    ),
    (
        "leakproof function",
        concat!(
            "SELECT n.nspname::text || '.' || p.proname::text FROM pg_catalog.pg_proc p \
             JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE p.proleakproof AND ",
            own!("pg_proc", "p.oid")
        ),
    ),
    (
        "base type",
        concat!(
            "SELECT typname::text FROM pg_catalog.pg_type t WHERE t.typtype = 'b' AND t.typelem = 0 AND ",
            own!("pg_type", "t.oid")
        ),
    ),
    ("access method", concat!("SELECT amname::text FROM pg_catalog.pg_am a WHERE ", own!("pg_am", "a.oid"))),
    (
        "operator class",
        concat!("SELECT opcname::text FROM pg_catalog.pg_opclass o WHERE ", own!("pg_opclass", "o.oid")),
    ),
    (
        "text search parser",
        concat!("SELECT prsname::text FROM pg_catalog.pg_ts_parser p WHERE ", own!("pg_ts_parser", "p.oid")),
    ),
];

/// Names of one kind that are listed one by one; of more, only the number is told.
const LISTED: usize = 20;

/// Reads the facts in the transaction that the session is in.
///
/// # Errors
/// As [`Session::query`].
pub async fn read(
    session: &Session,
    cancel: &Cancel,
    selected: &Selection,
    pg_dump_version: &str,
) -> Result<PostgresFacts, SourceError> {
    let server = session.server();
    let extensions = extensions(session, cancel).await?;
    let superuser_needed = superuser_needed(session, cancel, &extensions).await?;
    Ok(PostgresFacts {
        server_version_num: server.version_num,
        server_version: server.version.clone(),
        pg_dump_version: pg_dump_version.to_owned(),
        system_identifier: system_identifier(session, cancel).await?,
        standby: server.standby,
        database: database_sql::read(session, cancel).await?,
        extensions,
        roles: names(session, cancel, "cannot list the roles", ROLES).await?,
        tablespaces: names(session, cancel, "cannot list the tablespaces", TABLESPACES).await?,
        large_objects: catalog::large_objects(session, cancel).await?,
        superuser_needed,
        selection: selection::is_partial(selected).then(|| selected.clone()),
    })
}

async fn names(session: &Session, cancel: &Cancel, attempted: &str, sql: &str) -> Result<Vec<Name>, SourceError> {
    let rows = session.query(cancel, attempted, sql, &[]).await?;
    rows.iter().map(|row| get(row, 0)).collect()
}

async fn extensions(session: &Session, cancel: &Cancel) -> Result<Vec<Extension>, SourceError> {
    let rows = session.query(cancel, "cannot list the extensions", EXTENSIONS, &[]).await?;
    rows.iter()
        .map(|row| {
            let version: Name = get(row, 1)?;
            Ok(Extension {
                name: get(row, 0)?,
                version: version.lossy().into_owned(),
                schema: get(row, 2)?,
                trusted: get(row, 3)?,
            })
        })
        .collect()
}

/// The cluster's identifier; empty where the role may not read it (`pg_control_system` can be revoked).
pub(super) async fn system_identifier(session: &Session, cancel: &Cancel) -> Result<String, SourceError> {
    let allowed = "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')";
    let attempted = "cannot read the system identifier";
    if !get::<bool>(&session.query_one(cancel, attempted, allowed, &[]).await?, 0)? {
        return Ok(String::new());
    }
    let sql = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()";
    get(&session.query_one(cancel, attempted, sql, &[]).await?, 0)
}

/// What only a superuser can create again.
///
/// # Errors
/// As [`Session::query`].
pub async fn needs_superuser(session: &Session, cancel: &Cancel) -> Result<Vec<String>, SourceError> {
    superuser_needed(session, cancel, &extensions(session, cancel).await?).await
}

async fn superuser_needed(
    session: &Session,
    cancel: &Cancel,
    extensions: &[Extension],
) -> Result<Vec<String>, SourceError> {
    let untrusted = extensions.iter().filter(|extension| !extension.trusted);
    let mut needed: Vec<String> =
        untrusted.map(|extension| format!("extension {} (not trusted)", extension.name)).collect();
    for (word, sql) in SUPERUSER {
        let names = names(session, cancel, &format!("cannot list what is a {word}"), sql).await?;
        if names.len() > LISTED {
            needed.push(format!("{} of the kind: {word}", names.len()));
        } else {
            needed.extend(names.iter().map(|name| format!("{word} {name}")));
        }
    }
    Ok(needed)
}
