//! What the server must have: room for the name, a version, extensions, a locale, tablespaces, space, client programs.

use std::path::Path;

use tokio_postgres::types::ToSql;

use super::{
    existing,
    request::{OnExisting, RestoreRequest},
    survey::{Findings, Look, Place},
    vacant,
};
use crate::{
    model::{
        Name,
        manifest::{DatabaseProperties, PostgresFacts},
    },
    source::{
        SourceError,
        postgres::{
            client_programs::{self, ClientPrograms},
            connection::{Server, get},
            quote::quote_literal,
        },
        space::free_bytes,
    },
};

/// From this major version on, dumps and pg_restore set `transaction_timeout`, which older servers refuse.
const TRANSACTION_TIMEOUT: u32 = 17;
/// The tablespaces that every server has.
const BUILT_IN_TABLESPACES: &[&[u8]] = &[b"pg_default", b"pg_global"];

/// The client programs: those of the dump's version, or the next newer.
pub(super) fn client_programs(
    request: &RestoreRequest<'_>,
    facts: &PostgresFacts,
    server: &Server,
    findings: &mut Findings,
) -> Option<ClientPrograms> {
    let dumped_by = client_programs::major_of(&facts.pg_dump_version).unwrap_or(facts.server_version_num / 10_000);
    let too_new = |major: u32| server.major() < TRANSACTION_TIMEOUT && major >= TRANSACTION_TIMEOUT;
    if too_new(dumped_by) {
        let message = format!(
            "the backup was written by pg_dump {dumped_by}, whose scripts a server of version {} refuses \
             (transaction_timeout); restore to a server of version {TRANSACTION_TIMEOUT} or newer",
            server.major()
        );
        findings.obstacle("client-programs", message);
    }
    match ClientPrograms::find(request.client_bin_dir.as_deref(), dumped_by) {
        Ok(programs) => {
            if too_new(programs.major) && !too_new(dumped_by) {
                let message = format!(
                    "the only client programs found are of version {}, which a server of version {} does not understand \
                     (transaction_timeout); install postgresql-client-{dumped_by}",
                    programs.major,
                    server.major()
                );
                findings.obstacle("client-programs", message);
            }
            Some(programs)
        }
        Err(error) => {
            findings.obstacle("client-programs", error.to_string());
            None
        }
    }
}

/// The name of the new database, the right to create one, and the server's version. Says who has the name now.
pub(super) async fn target(look: &Look<'_>, findings: &mut Findings) -> Result<Place, SourceError> {
    let target = look.request.target(look.manifest);
    let shown = target.display();
    if target.as_bytes().is_empty() || target.as_bytes().len() > 63 || target.as_bytes().contains(&0) {
        findings.obstacle("bad-name", format!("{shown:?} cannot be the name of a database: 1 to 63 bytes, no NUL"));
    }
    let place = place(look, &target, findings).await?;
    let server = look.session.server();
    if server.standby {
        findings
            .obstacle("standby", "the server is a standby, on which nothing can be created; restore to its primary");
    }
    if !look.me.superuser && !look.me.create_db {
        let role = look.me.name.display();
        findings.obstacle("createdb", format!("role {role:?} may not create databases: ALTER ROLE … CREATEDB"));
    }
    let (from, to) = (look.facts.server_version_num / 10_000, server.major());
    if to < from {
        let message = format!(
            "the backup is of a server of version {from}, this server is of version {to}: PostgreSQL does not promise that \
             a dump can be restored to an older version"
        );
        findings.obstacle("version-downgrade", message);
    }
    Ok(place)
}

/// Whether a database of the name exists, and is replaced; one that is not is an obstacle.
async fn place(look: &Look<'_>, target: &Name, findings: &mut Findings) -> Result<Place, SourceError> {
    let sql = "SELECT 1 FROM pg_database WHERE datname::text = $1";
    if !exists(look, "cannot list the databases", sql, &[target]).await? {
        return Ok(Place::Free);
    }
    let why = match look.request.options.existing {
        OnExisting::Refuse => String::new(),
        OnExisting::ReplaceVacant => match vacant::objection(look, target).await? {
            None => return Ok(Place::Vacant),
            Some(objection) => format!(" and cannot be replaced ({objection})"),
        },
        OnExisting::Replace { .. } if !look.request.options.tables.is_empty() => return Ok(Place::Beside),
        OnExisting::Replace { break_replication } => {
            let existing = existing::look(look, target, break_replication, findings).await?;
            let kept = existing::kept_name(look, target, findings).await?;
            return Ok(existing.map_or(Place::Free, |existing| Place::Taken(Box::new(existing), kept)));
        }
    };
    let shown = target.display();
    let message =
        format!("database {shown:?} exists on {}{why}; restore under another name with --to", look.location());
    findings.obstacle("target-exists", message);
    Ok(Place::Free)
}

/// What is said of tablespaces.
pub(super) struct Tablespaces {
    /// Whether the original's default tablespace can be used.
    pub(super) default_usable: bool,
    /// Whether one that tables lie in is missing.
    pub(super) any_missing: bool,
}

/// Missing tablespaces are no obstacle: the default one takes their place.
pub(super) async fn tablespaces(look: &Look<'_>, findings: &mut Findings) -> Result<Tablespaces, SourceError> {
    let sql = "SELECT spcname::text, has_tablespace_privilege(oid, 'CREATE') FROM pg_tablespace";
    let rows = look.session.query(look.cancel, "cannot list the tablespaces", sql, &[]).await?;
    let mut usable = Vec::new();
    for row in &rows {
        if get::<bool>(row, 1)? {
            usable.push(get::<Name>(row, 0)?);
        }
    }
    let is_usable = |name: &&Name| usable.contains(*name) || BUILT_IN_TABLESPACES.contains(&name.as_bytes());
    let home = &look.facts.database.tablespace;
    let missing: Vec<&Name> = look.facts.tablespaces.iter().filter(|name| !is_usable(name)).collect();
    for name in missing.iter().copied().chain([home]).filter(|name| !is_usable(name)) {
        let message = format!(
            "tablespace {:?} is missing or may not be used: everything goes into the default tablespace",
            name.display()
        );
        if !findings.notices.iter().any(|notice| notice.message == message) {
            findings.notice("tablespace", message);
        }
    }
    Ok(Tablespaces { default_usable: is_usable(&home), any_missing: !missing.is_empty() })
}

/// Whether a database with the original's encoding and locale can be created.
pub(super) async fn locale(look: &Look<'_>, findings: &mut Findings) -> Result<(), SourceError> {
    let database = &look.facts.database;
    let major = look.session.server().major();
    let since = match database.locale_provider.as_str() {
        "icu" => 15,
        "builtin" => 17,
        _ => 0,
    };
    if major < since {
        let provider = &database.locale_provider;
        let message = format!("the database's locale provider {provider} exists from PostgreSQL {since} on");
        findings.obstacle("locale", message);
        return Ok(());
    }
    let sql = "SELECT 1 FROM pg_collation WHERE collprovider = 'i' LIMIT 1";
    if database.locale_provider == "icu" && !exists(look, "cannot list the collations", sql, &[]).await? {
        findings.obstacle("locale", "the database's locale is ICU's, and the server was built without ICU");
    }
    for locale in [&database.collate, &database.ctype] {
        libc_locale(look, locale, findings).await?;
    }
    collation_version(look, major, findings).await
}

/// Looks for a locale of the operating system among what the server knows, and tries it where it is not there.
async fn libc_locale(look: &Look<'_>, locale: &str, findings: &mut Findings) -> Result<(), SourceError> {
    let sql = "SELECT 1 WHERE $1 IN ('C', 'POSIX') \
               OR EXISTS (SELECT FROM pg_database WHERE $1 IN (datcollate::text, datctype::text)) \
               OR EXISTS (SELECT FROM pg_collation WHERE collprovider = 'c' \
                          AND translate(lower($1), '-', '') = translate(lower(collcollate::text), '-', ''))";
    if exists(look, "cannot look for the locale", sql, &[&locale]).await? {
        return Ok(());
    }
    let literal = quote_literal(locale.as_bytes());
    let literal = String::from_utf8_lossy(&literal);
    // Nothing stays of a temporary object of a transaction that is rolled back.
    let probe =
        format!("BEGIN; CREATE COLLATION pg_temp.backupd_probe (provider = libc, locale = {literal}); ROLLBACK");
    let result = look.session.execute(look.cancel, "the locale cannot be used", probe.as_bytes()).await;
    look.session.execute(look.cancel, "cannot end a transaction", b"ROLLBACK").await?;
    let Err(error) = result else { return Ok(()) };
    look.cancel.check()?;
    if look.session.server().encoding == look.facts.database.encoding && look.me.superuser {
        findings.obstacle("locale", format!("the server's host does not know the locale {locale:?}: {error}"));
    } else {
        findings.notice("locale", format!("whether the server's host knows the locale {locale:?} could not be told"));
    }
    Ok(())
}

/// Another version of the collation sorts differently; indexes are built anew, so this is only worth knowing.
async fn collation_version(look: &Look<'_>, major: u32, findings: &mut Findings) -> Result<(), SourceError> {
    let DatabaseProperties { locale_provider, collate, locale, collation_version, .. } = &look.facts.database;
    let Some(original) = collation_version else { return Ok(()) };
    let (provider, column, name) = match (locale_provider.as_str(), major) {
        ("icu", 17..) => ("i", "colllocale", locale.as_deref().unwrap_or_default()),
        ("icu", _) => ("i", "colliculocale", locale.as_deref().unwrap_or_default()),
        ("libc", _) => ("c", "collcollate", collate.as_str()),
        _ => return Ok(()),
    };
    let sql = format!(
        "SELECT pg_collation_actual_version(oid)::text FROM pg_collation \
         WHERE collprovider = '{provider}' AND {column}::text = $1 LIMIT 1"
    );
    let rows = look.session.query(look.cancel, "cannot read the collation's version", &sql, &[&name]).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    if let Some(here) = get::<Option<String>>(row, 0)?
        && here != *original
    {
        let message = format!(
            "the server sorts by version {here} of the collation {name:?}, the original by {original}: order may differ, \
             and rows of range partitions by text may fall elsewhere"
        );
        findings.notice("collation-version", message);
    }
    Ok(())
}

/// Whether the server has the extensions, in which version, and who may create them.
pub(super) async fn extensions(look: &Look<'_>, findings: &mut Findings) -> Result<(), SourceError> {
    let sql = "SELECT e.default_version, coalesce(v.superuser AND NOT v.trusted, false) \
               FROM pg_available_extensions e \
               LEFT JOIN pg_available_extension_versions v ON v.name = e.name AND v.version = e.default_version \
               WHERE e.name::text = $1";
    for extension in &look.facts.extensions {
        let name = extension.name.display();
        let rows = look.session.query(look.cancel, "cannot list the extensions", sql, &[&extension.name]).await?;
        let Some(row) = rows.first() else {
            let message =
                format!("extension {name:?} is not installed on the server's host; install its package there");
            if look.request.options.tables.is_empty() {
                findings.obstacle("missing-extension", message);
            } else {
                findings.notice("missing-extension", format!("{message}, if the tables need it"));
            }
            continue;
        };
        let version: Option<String> = get(row, 0)?;
        if let Some(version) = version.filter(|version| *version != extension.version) {
            let message =
                format!("extension {name:?} will have version {version}, the original had {}", extension.version);
            findings.notice("extension-version", message);
        }
        // What pg_dump leaves out because every database has it is not created anew.
        let is_given = extension.name.as_bytes() == b"plpgsql";
        if get::<bool>(row, 1)? && !look.me.superuser && !is_given && look.request.options.tables.is_empty() {
            findings.obstacle("superuser", format!("extension {name:?} can be created by a superuser only"));
        }
    }
    Ok(())
}

/// What is known of space.
pub(super) struct Space {
    pub(super) needed: u64,
    pub(super) free: Option<u64>,
}

/// Compares the size with what is free, where the server's files are on this host.
pub(super) async fn space(look: &Look<'_>, row_bytes: u64, findings: &mut Findings) -> Result<Space, SourceError> {
    let options = &look.request.options;
    let needed = if options.tables.is_empty() {
        look.manifest.statistics.database_bytes
    } else {
        // Rows take about as much as their text, and indexes as much again.
        2 * row_bytes
    };
    let free = match data_directory(look).await? {
        Some(folder) if look.request.connection.host.starts_with('/') => free_bytes(Path::new(&folder)),
        _ => None,
    };
    match free {
        Some(free) if free < needed => {
            let message = format!(
                "the new database takes about {needed} bytes and {free} are free where the server keeps its data"
            );
            findings.obstacle("space", message);
        }
        Some(_) => {}
        None => findings.notice(
            "space",
            format!("the new database takes about {needed} bytes; free space could not be read from here"),
        ),
    }
    Ok(Space { needed, free })
}

async fn data_directory(look: &Look<'_>) -> Result<Option<String>, SourceError> {
    // Only pg_read_all_settings may see it; for others the row is not there.
    let sql = "SELECT setting FROM pg_settings WHERE name = 'data_directory'";
    let rows = look.session.query(look.cancel, "cannot read the data directory's name", sql, &[]).await?;
    rows.first().map(|row| get(row, 0)).transpose()
}

/// Whether a query gives a row.
pub(super) async fn exists(
    look: &Look<'_>,
    attempted: &str,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<bool, SourceError> {
    Ok(!look.session.query(look.cancel, attempted, sql, parameters).await?.is_empty())
}

impl Look<'_> {
    /// The server, for messages.
    pub(super) fn location(&self) -> String {
        let connection = &self.request.connection;
        format!("{}:{}", connection.host, connection.port)
    }
}
