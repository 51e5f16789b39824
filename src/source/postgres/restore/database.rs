//! The new database as an object of the server: created under a temporary name, given its properties and its name in
//! one transaction, dropped when the restore failed.
//!
//! Durability: the sessions that restore run with `synchronous_commit = off`. The transaction that publishes waits for
//! the log to be flushed up to its own end, and the log has one order, so it makes all before it durable as well.

use std::time::Duration;

use super::{
    request::is_temporary_name,
    statements::unquote,
    survey::{Decisions, maintenance},
};
use crate::{
    config::ConnectionSpec,
    model::{
        ErrorCode, Name,
        manifest::{AclItem, DatabaseProperties, DatabaseSetting},
    },
    source::{
        JobContext, SourceError,
        postgres::{
            connection::Session,
            quote::{quote_ident, quote_literal},
        },
    },
    stream::Cancel,
};

/// Parameters whose values are lists that the server quotes itself (`GUC_LIST_QUOTE`): each element is one literal.
const LIST_PARAMETERS: &[&str] = &[
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];
/// How often the rename and the drop are tried while others are connected. Each try waits five seconds on the server.
const TRIES: u32 = 4;
/// How long cleaning up may take in all.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(60);

/// SQL built from parts.
#[derive(Debug, Default)]
struct Sql(Vec<u8>);

impl Sql {
    fn text(mut self, text: &str) -> Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn ident(mut self, name: &Name) -> Self {
        self.0.extend_from_slice(&quote_ident(name.as_bytes()));
        self
    }

    fn literal(mut self, value: &[u8]) -> Self {
        self.0.extend_from_slice(&quote_literal(value));
        self
    }
}

/// `CREATE DATABASE` with everything that cannot be changed afterwards, and the owner: objects of the new database can
/// be given to roles that may create in its schemas, which for schema `public` is the database's owner.
fn create_sql(
    name: &Name,
    owner: Option<&Name>,
    tablespace: Option<&Name>,
    original: &DatabaseProperties,
    server_version_num: u32,
) -> Vec<u8> {
    let mut sql = Sql::default().text("CREATE DATABASE ").ident(name).text(" WITH TEMPLATE template0");
    if let Some(owner) = owner {
        sql = sql.text(" OWNER ").ident(owner);
    }
    sql = sql.text(" ENCODING ").literal(original.encoding.as_bytes());
    sql = sql.text(" LC_COLLATE ").literal(original.collate.as_bytes());
    sql = sql.text(" LC_CTYPE ").literal(original.ctype.as_bytes());
    if server_version_num >= 150_000 {
        sql = sql.text(" LOCALE_PROVIDER ").text(match original.locale_provider.as_str() {
            "icu" => "icu",
            "builtin" => "builtin",
            _ => "libc",
        });
    }
    let locale = original.locale.as_deref().unwrap_or_default();
    match original.locale_provider.as_str() {
        "icu" => sql = sql.text(" ICU_LOCALE ").literal(locale.as_bytes()),
        "builtin" => sql = sql.text(" BUILTIN_LOCALE ").literal(locale.as_bytes()),
        _ => {}
    }
    if let Some(rules) = &original.icu_rules {
        sql = sql.text(" ICU_RULES ").literal(rules.as_bytes());
    }
    if let Some(tablespace) = tablespace {
        sql = sql.text(" TABLESPACE ").ident(tablespace);
    }
    sql.0
}

/// Creates the database. Until it is published, nobody but its owner and superusers may connect.
pub(super) async fn create(
    session: &Session,
    cancel: &Cancel,
    name: &Name,
    original: &DatabaseProperties,
    decisions: &Decisions,
) -> Result<(), SourceError> {
    let sql = create_sql(
        name,
        decisions.owner.as_ref(),
        decisions.tablespace.as_ref(),
        original,
        decisions.server_version_num,
    );
    session.execute(cancel, &format!("cannot create database {:?}", name.display()), &sql).await?;
    let sql = Sql::default().text("REVOKE ALL ON DATABASE ").ident(name).text(" FROM PUBLIC");
    session.execute(cancel, "cannot close the new database to others", &sql.0).await
}

/// The transaction that publishes: name, privileges, comment, limit, settings.
fn publish_sql(temporary: &Name, target: &Name, original: &DatabaseProperties, decisions: &Decisions) -> Vec<u8> {
    let mut sql = Sql::default().text("BEGIN; SET LOCAL synchronous_commit = on; ALTER DATABASE ").ident(temporary);
    sql = sql.text(" RENAME TO ").ident(target).text("; ");
    match &decisions.acl {
        None => sql = sql.text("GRANT CONNECT, TEMPORARY ON DATABASE ").ident(target).text(" TO PUBLIC; "),
        Some(items) => {
            for item in items.iter().filter(|item| item.grantee.as_ref() != Some(&original.owner)) {
                sql = grant(sql, target, item);
            }
            sql = decisions.owner.iter().fold(sql, |sql, owner| owner_privileges(sql, target, owner, items));
        }
    }
    if let Some(comment) = &original.comment {
        sql = sql.text("COMMENT ON DATABASE ").ident(target).text(" IS ").literal(comment.as_bytes()).text("; ");
    }
    if original.connection_limit != -1 {
        let limit = format!(" CONNECTION LIMIT {}; ", original.connection_limit);
        sql = sql.text("ALTER DATABASE ").ident(target).text(&limit);
    }
    if original.is_template {
        sql = sql.text("ALTER DATABASE ").ident(target).text(" IS_TEMPLATE true; ");
    }
    for setting in &decisions.settings {
        sql = set(sql, target, setting);
    }
    sql.text("COMMIT").0
}

fn grant(sql: Sql, database: &Name, item: &AclItem) -> Sql {
    let sql = sql.text("GRANT ").text(privilege(item)).text(" ON DATABASE ").ident(database).text(" TO ");
    let sql = match &item.grantee {
        None => sql.text("PUBLIC"),
        Some(role) => sql.ident(role),
    };
    sql.text(if item.grantable { " WITH GRANT OPTION; " } else { "; " })
}

/// An owner has every privilege from the start; what it had lost is taken away again.
fn owner_privileges(mut sql: Sql, database: &Name, owner: &Name, items: &[AclItem]) -> Sql {
    for lost in ["CREATE", "CONNECT", "TEMPORARY"] {
        if !items.iter().any(|item| item.grantee.as_ref() == Some(owner) && privilege(item) == lost) {
            sql = sql
                .text("REVOKE ")
                .text(lost)
                .text(" ON DATABASE ")
                .ident(database)
                .text(" FROM ")
                .ident(owner)
                .text("; ");
        }
    }
    sql
}

/// The keyword of a privilege on a database; nothing else of the manifest becomes a keyword.
fn privilege(item: &AclItem) -> &'static str {
    match item.privilege.as_str() {
        "CREATE" => "CREATE",
        "CONNECT" => "CONNECT",
        _ => "TEMPORARY",
    }
}

fn set(sql: Sql, database: &Name, setting: &DatabaseSetting) -> Sql {
    let sql = match &setting.role {
        None => sql.text("ALTER DATABASE ").ident(database),
        Some(role) => sql.text("ALTER ROLE ").ident(role).text(" IN DATABASE ").ident(database),
    };
    // A parameter of an extension has a dot in its name, which separates two identifiers.
    let parts: Vec<Vec<u8>> = setting.name.as_bytes().split(|&byte| byte == b'.').map(quote_ident).collect();
    let mut sql = sql.text(" SET ");
    sql.0.extend(parts.join(&b'.'));
    sql = sql.text(" TO ");
    let is_list = LIST_PARAMETERS.iter().any(|name| setting.name.as_bytes().eq_ignore_ascii_case(name.as_bytes()));
    let values =
        if is_list { list_elements(setting.value.as_bytes()) } else { vec![setting.value.as_bytes().to_vec()] };
    let literals: Vec<Vec<u8>> = values.iter().map(|value| quote_literal(value)).collect();
    sql.0.extend(literals.join(b", ".as_slice()));
    sql.text("; ")
}

/// The elements of a list parameter's stored value: separated by commas, in double quotes where they need it. An empty
/// list is one empty element, as `SET search_path TO ''` stores it.
fn list_elements(value: &[u8]) -> Vec<Vec<u8>> {
    let mut elements = Vec::new();
    let (mut start, mut quoted) = (0, false);
    for (at, &byte) in value.iter().chain(b",").enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted || at == value.len() => {
                let element = value[start..at].trim_ascii();
                elements.push(if element.starts_with(b"\"") { unquote(element) } else { element.to_vec() });
                start = at + 1;
            }
            _ => {}
        }
    }
    elements
}

/// Gives the database its properties and its name, all or nothing.
///
/// # Errors
/// `TargetExists` when somebody made a database of that name meanwhile.
pub(super) async fn publish(
    session: &Session,
    cancel: &Cancel,
    temporary: &Name,
    target: &Name,
    original: &DatabaseProperties,
    decisions: &Decisions,
) -> Result<(), SourceError> {
    let sql = publish_sql(temporary, target, original, decisions);
    let mut tries = TRIES;
    loop {
        // A rename needs the database to itself: monitoring may have come in.
        disconnect_others(session, cancel, temporary).await?;
        let Err(error) = session.execute(cancel, "cannot publish the new database", &sql).await else { return Ok(()) };
        session.execute(cancel, "cannot end a transaction", b"ROLLBACK").await?;
        if is_there(session, cancel, target).await? {
            let message = format!("database {:?} was created by somebody else meanwhile", target.display());
            return Err(SourceError::new(ErrorCode::TargetExists, message));
        }
        tries -= 1;
        if tries == 0 || !error.to_string().contains("is being accessed by other users") {
            return Err(error);
        }
    }
}

async fn disconnect_others(session: &Session, cancel: &Cancel, name: &Name) -> Result<(), SourceError> {
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

/// Drops the database with whoever is connected to it, if it is there.
async fn drop_database(session: &Session, cancel: &Cancel, name: &Name) -> Result<(), SourceError> {
    let attempted = format!("cannot drop database {:?}", name.display());
    let plain = Sql::default().text("DROP DATABASE IF EXISTS ").ident(name);
    let force = Sql::default().text("DROP DATABASE IF EXISTS ").ident(name).text(" WITH (FORCE)");
    let mut result = Ok(());
    for attempt in 0..TRIES {
        // FORCE is refused where somebody is connected whom this role may not disconnect; without it the server waits.
        let sql = if attempt % 2 == 0 { &force } else { &plain };
        result = session.execute(cancel, &attempted, &sql.0).await;
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
        for role in roles.iter().rev() {
            let sql = Sql::default().text("DROP ROLE IF EXISTS ").ident(role);
            if let Err(error) = session.execute(&cancel, "cannot drop a role", &sql.0).await {
                tracing::warn!(role = %role, %error, "a role that this restore created was not dropped");
            }
        }
        Ok(())
    };
    tokio::time::timeout(CLEANUP_TIMEOUT, work).await.unwrap_or_else(|_| {
        let message = format!("database {:?} was not dropped within {} s", name.display(), CLEANUP_TIMEOUT.as_secs());
        Err(SourceError::new(ErrorCode::RestoreFailed, message))
    })
}

/// Drops databases that restores left under temporary names when the daemon died. `names` come from the journal that
/// the caller keeps by [`super::RestoreRequest::on_temporary_name`]; those that are not there count as dropped.
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
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(elements: Vec<Vec<u8>>) -> Vec<String> {
        elements.into_iter().map(|element| String::from_utf8(element).unwrap()).collect()
    }

    #[test]
    fn lists_are_taken_apart() {
        assert_eq!(text(list_elements(br#""$user", public, "a, ""b""#)), ["$user", "public", "a, \"b"]);
        assert_eq!(text(list_elements(b"")), [""]);
        assert_eq!(text(list_elements(b"\"\"")), [""]);
    }

    #[test]
    fn settings_are_quoted() {
        let setting = |role: Option<&str>, name: &str, value: &str| DatabaseSetting {
            role: role.map(Name::from),
            name: name.into(),
            value: value.into(),
        };
        let sql = |setting| String::from_utf8(set(Sql::default(), &"d\"b".into(), &setting).0).unwrap();
        assert_eq!(sql(setting(None, "my.guc", "it's")), "ALTER DATABASE \"d\"\"b\" SET \"my\".\"guc\" TO 'it''s'; ");
        assert_eq!(
            sql(setting(Some("r"), "search_path", "\"$user\", s")),
            "ALTER ROLE \"r\" IN DATABASE \"d\"\"b\" SET \"search_path\" TO '$user', 's'; "
        );
    }
}
