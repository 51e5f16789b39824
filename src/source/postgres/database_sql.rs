//! What neither `globals.sql` nor a dump of one database holds: the database itself, its owner, privileges, comment,
//! limits and settings. Read into [`DatabaseProperties`], written as `database.sql`.

use super::{
    connection::{Session, get},
    quote::{quote_ident, quote_literal},
};
use crate::{
    model::{
        Name,
        manifest::{AclItem, DatabaseProperties, DatabaseSetting},
    },
    source::SourceError,
    stream::Cancel,
};

/// Settings whose stored value is a list of names, quoted already: they go back as a list of literals, or the quotes
/// would become part of one name (`GUC_LIST_QUOTE`, PostgreSQL's `dumputils.c`).
const LISTS: [&[u8]; 6] = [
    b"local_preload_libraries",
    b"search_path",
    b"session_preload_libraries",
    b"shared_preload_libraries",
    b"temp_tablespaces",
    b"unix_socket_directories",
];

/// Reads the properties of the database that the session is connected to.
///
/// # Errors
/// As [`Session::query`].
pub async fn read(session: &Session, cancel: &Cancel) -> Result<DatabaseProperties, SourceError> {
    let attempted = "cannot read the properties of the database";
    // What came with which version: locale providers and versions 15, ICU rules 16, one column for all locales 17.
    let version = session.server().version_num;
    let (provider, collation_version) =
        if version >= 150_000 { ("d.datlocprovider::text", "d.datcollversion") } else { ("'c'::text", "NULL::text") };
    let locale = match version {
        170_000.. => "d.datlocale",
        150_000.. => "d.daticulocale",
        _ => "NULL::text",
    };
    let rules = if version >= 160_000 { "d.daticurules" } else { "NULL::text" };
    let sql = format!(
        "SELECT d.datname::text, r.rolname::text, pg_encoding_to_char(d.encoding)::text, {provider}, \
         d.datcollate::text, d.datctype::text, {locale}::text, {rules}::text, {collation_version}::text, d.datconnlimit, \
         d.datistemplate, t.spcname::text, shobj_description(d.oid, 'pg_database'), d.datacl IS NOT NULL \
         FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba \
         JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = current_database()"
    );
    let row = session.query_one(cancel, attempted, &sql, &[]).await?;
    let text = |column| get::<Option<Name>>(&row, column).map(|name| name.map(|name| name.lossy().into_owned()));
    let provider = match text(3)?.as_deref() {
        Some("i") => "icu",
        Some("b") => "builtin",
        _ => "libc",
    };
    Ok(DatabaseProperties {
        name: get(&row, 0)?,
        owner: get(&row, 1)?,
        encoding: text(2)?.unwrap_or_default(),
        locale_provider: provider.to_owned(),
        collate: text(4)?.unwrap_or_default(),
        ctype: text(5)?.unwrap_or_default(),
        locale: text(6)?,
        icu_rules: text(7)?,
        collation_version: text(8)?,
        connection_limit: get(&row, 9)?,
        is_template: get(&row, 10)?,
        tablespace: get(&row, 11)?,
        comment: get(&row, 12)?,
        acl: if get(&row, 13)? { Some(acl(session, cancel).await?) } else { None },
        settings: settings(session, cancel).await?,
    })
}

async fn acl(session: &Session, cancel: &Cancel) -> Result<Vec<AclItem>, SourceError> {
    let sql = "SELECT r.rolname::text, a.privilege_type, a.is_grantable
               FROM pg_catalog.pg_database d, aclexplode(d.datacl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
               WHERE d.datname = current_database() AND (a.grantee = 0 OR r.oid IS NOT NULL)
               ORDER BY a.grantee, a.privilege_type";
    let rows = session.query(cancel, "cannot read the privileges of the database", sql, &[]).await?;
    rows.iter()
        .map(|row| Ok(AclItem { grantee: get(row, 0)?, privilege: get(row, 1)?, grantable: get(row, 2)? }))
        .collect()
}

async fn settings(session: &Session, cancel: &Cancel) -> Result<Vec<DatabaseSetting>, SourceError> {
    let sql = "SELECT r.rolname::text, c.entry FROM pg_catalog.pg_db_role_setting s
               LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
               CROSS JOIN LATERAL unnest(s.setconfig) WITH ORDINALITY c (entry, place)
               WHERE s.setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
                 AND (s.setrole = 0 OR r.oid IS NOT NULL)
               ORDER BY s.setrole, c.place";
    let rows = session.query(cancel, "cannot read the settings of the database", sql, &[]).await?;
    let mut settings = Vec::with_capacity(rows.len());
    for row in &rows {
        let entry: Name = get(row, 1)?;
        let bytes = entry.as_bytes();
        if let Some(at) = memchr::memchr(b'=', bytes) {
            let (name, value) = (Name::from(bytes[..at].to_vec()), Name::from(bytes[at + 1..].to_vec()));
            settings.push(DatabaseSetting { role: get(row, 0)?, name, value });
        }
    }
    Ok(settings)
}

/// CREATE DATABASE under this name with the encoding and locale of the properties, from `template0`, without a line's
/// end. The tablespace is named only where `with_tablespace` and it is not the default.
#[must_use]
pub fn create_statement(
    properties: &DatabaseProperties,
    name: &Name,
    server_major: u32,
    with_tablespace: bool,
) -> Vec<u8> {
    let mut sql =
        [b"CREATE DATABASE ".as_slice(), &quote_ident(name.as_bytes()), b" WITH TEMPLATE = template0"].concat();
    let mut option = |name: &str, value: &[u8]| {
        sql.extend_from_slice(format!(" {name} = ").as_bytes());
        sql.extend_from_slice(value);
    };
    option("ENCODING", &quote_literal(properties.encoding.as_bytes()));
    if server_major >= 15 {
        option("LOCALE_PROVIDER", properties.locale_provider.as_bytes());
    }
    option("LC_COLLATE", &quote_literal(properties.collate.as_bytes()));
    option("LC_CTYPE", &quote_literal(properties.ctype.as_bytes()));
    if let Some(locale) = &properties.locale {
        let name = if properties.locale_provider == "builtin" { "BUILTIN_LOCALE" } else { "ICU_LOCALE" };
        option(name, &quote_literal(locale.as_bytes()));
    }
    if let Some(rules) = &properties.icu_rules {
        option("ICU_RULES", &quote_literal(rules.as_bytes()));
    }
    if with_tablespace && properties.tablespace != Name::from("pg_default") {
        option("TABLESPACE", &quote_ident(properties.tablespace.as_bytes()));
    }
    sql
}

/// The statements that give a database of this name everything but what CREATE DATABASE gave it, each without `;`.
#[must_use]
pub fn property_statements(properties: &DatabaseProperties, name: &Name) -> Vec<Vec<u8>> {
    let database = quote_ident(name.as_bytes());
    let alter = [b"ALTER DATABASE ".as_slice(), &database].concat();
    let mut statements = vec![[&*alter, b" OWNER TO ", &quote_ident(properties.owner.as_bytes())].concat()];
    if let Some(comment) = &properties.comment {
        statements.push(
            [b"COMMENT ON DATABASE ".as_slice(), &database, b" IS ", &quote_literal(comment.as_bytes())].concat(),
        );
    }
    if properties.connection_limit != -1 {
        let limit = format!(" CONNECTION LIMIT = {}", properties.connection_limit);
        statements.push([&*alter, limit.as_bytes()].concat());
    }
    if properties.is_template {
        statements.push([&*alter, b" IS_TEMPLATE = true"].concat());
    }
    statements.extend(privilege_statements(properties, &database));
    for setting in &properties.settings {
        let mut statement = match &setting.role {
            None => alter.clone(),
            Some(role) => {
                [b"ALTER ROLE ".as_slice(), &quote_ident(role.as_bytes()), b" IN DATABASE ", &database].concat()
            }
        };
        statement.extend([b" SET ".as_slice(), &quote_ident(setting.name.as_bytes()), b" TO "].concat());
        statement.extend(setting_value(setting));
        statements.push(statement);
    }
    statements
}

fn privilege_statements(properties: &DatabaseProperties, database: &[u8]) -> Vec<Vec<u8>> {
    let Some(acl) = &properties.acl else { return Vec::new() };
    let role = |grantee: &Option<Name>| {
        grantee.as_ref().map_or_else(|| b"PUBLIC".to_vec(), |name| quote_ident(name.as_bytes()))
    };
    // What a new database gives by itself: to PUBLIC and to its owner.
    let owner = Some(properties.owner.clone());
    let mut statements: Vec<Vec<u8>> = [&None, &owner]
        .into_iter()
        .map(|grantee| [b"REVOKE ALL ON DATABASE ".as_slice(), database, b" FROM ", &role(grantee)].concat())
        .collect();
    for item in acl {
        let mut statement = [
            b"GRANT ".as_slice(),
            item.privilege.as_bytes(),
            b" ON DATABASE ",
            database,
            b" TO ",
            &role(&item.grantee),
        ]
        .concat();
        if item.grantable {
            statement.extend_from_slice(b" WITH GRANT OPTION");
        }
        statements.push(statement);
    }
    statements
}

fn setting_value(setting: &DatabaseSetting) -> Vec<u8> {
    let is_list = LISTS.iter().any(|list| setting.name.as_bytes().eq_ignore_ascii_case(list));
    match is_list.then(|| split_list(setting.value.as_bytes())).flatten() {
        Some(names) if names.is_empty() => b"''".to_vec(),
        Some(names) => names.iter().map(|name| quote_literal(name)).collect::<Vec<_>>().join(&b", "[..]),
        None => quote_literal(setting.value.as_bytes()),
    }
}

/// The names of a stored list, without their quotes (`SplitGUCList`); `None` where it is no such list.
fn split_list(value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    let mut rest = value.trim_ascii_start();
    if rest.is_empty() {
        return Some(names);
    }
    loop {
        if let Some(quoted) = rest.strip_prefix(b"\"") {
            let mut name = Vec::new();
            rest = quoted;
            loop {
                let end = memchr::memchr(b'"', rest)?;
                name.extend_from_slice(&rest[..end]);
                rest = &rest[end + 1..];
                let Some(more) = rest.strip_prefix(b"\"") else { break };
                name.push(b'"');
                rest = more;
            }
            names.push(name);
        } else {
            let end = rest.iter().position(|&b| b == b',' || b.is_ascii_whitespace()).unwrap_or(rest.len());
            if end == 0 {
                return None;
            }
            names.push(rest[..end].to_vec());
            rest = &rest[end..];
        }
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Some(names);
        }
        rest = rest.strip_prefix(b",")?.trim_ascii_start();
    }
}

/// The text of `database.sql`: what `psql` runs, connected to another database, before the dump itself is restored.
#[must_use]
pub fn script(properties: &DatabaseProperties, server_major: u32) -> Vec<u8> {
    let mut script = b"-- The database itself. globals.sql comes before it; connect to the new database after it.\n\n\
        SET standard_conforming_strings = on;\n"
        .to_vec();
    // Names and values are in the database's own encoding.
    script.extend(format!("SET client_encoding = '{}';\n\n", properties.encoding).as_bytes());
    let create = create_statement(properties, &properties.name, server_major, true);
    for statement in std::iter::once(create).chain(property_statements(properties, &properties.name)) {
        script.extend(statement);
        script.extend_from_slice(b";\n");
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::postgres::test_server::TestServer;

    #[test]
    fn lists_are_split_as_the_server_does() {
        let split = |text: &str| split_list(text.as_bytes());
        assert_eq!(split("").unwrap(), Vec::<Vec<u8>>::new());
        assert_eq!(split("a, \"b \"\"x, y\", c").unwrap(), [b"a".to_vec(), b"b \"x, y".to_vec(), b"c".to_vec()]);
        assert_eq!(split("\"open"), None);
        assert_eq!(split("a,,b"), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn properties_survive_their_own_script() {
        let server = TestServer::start("");
        let name = "we\"ird 'db' \\ ü\n=x";
        let quoted = String::from_utf8(quote_ident(name.as_bytes())).unwrap();
        server.sql(
            "postgres",
            format!(
                "CREATE ROLE \"o'wner\"; CREATE ROLE reader;
                 CREATE DATABASE {quoted} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C' CONNECTION LIMIT 7 OWNER \"o'wner\";
                 COMMENT ON DATABASE {quoted} IS 'it''s \\ a comment';
                 ALTER DATABASE {quoted} SET search_path = \"$user\", \"a, b\", public;
                 ALTER DATABASE {quoted} SET work_mem = '8MB';
                 ALTER DATABASE {quoted} SET my.setting = 'a''b\\c, \"d\"';
                 ALTER ROLE reader IN DATABASE {quoted} SET search_path = '';
                 REVOKE ALL ON DATABASE {quoted} FROM PUBLIC;
                 GRANT CONNECT ON DATABASE {quoted} TO reader WITH GRANT OPTION;"
            ),
        );
        let cancel = Cancel::new();
        let spec = server.spec("postgres", name);
        let read = async || {
            let session = Session::connect(&spec, &cancel).await.unwrap();
            read(&session, &cancel).await.unwrap()
        };
        let before = read().await;
        assert_eq!(before.encoding, "LATIN1");
        assert_eq!(before.settings.len(), 4);
        server.sql("postgres", format!("DROP DATABASE {quoted}"));
        server.sql("postgres", [b"SET client_encoding = 'UTF8';".to_vec(), script_for_psql(&before)].concat());
        assert_eq!(read().await, before);
    }

    /// The name of this database is UTF-8 although its encoding is LATIN1, because it was created from a UTF8 one.
    fn script_for_psql(properties: &DatabaseProperties) -> Vec<u8> {
        let script = script(properties, 15);
        String::from_utf8(script)
            .unwrap()
            .replace("SET client_encoding = 'LATIN1'", "SET client_encoding = 'UTF8'")
            .into()
    }
}
