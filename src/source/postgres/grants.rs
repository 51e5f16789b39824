//! The SQL that gives the roles of a source what they need, for psql and for a superuser to run.
//!
//! Invariants: it can be run again and again, since several sources share a role; nobody becomes a member of a
//! superuser by it; a name of any bytes stays one name, in statements, psql's own commands and comments.

use super::quote::{quote_ident, quote_literal};
use crate::{
    config::{ConnectionSpec, PasswordSource, PostgresConfig},
    model::Name,
};

/// The first major version that has `pg_read_all_data`.
const READ_ALL_DATA: u32 = 14;

/// What the reading role needs. `major` is the server's version as far as it is known, `daemon` the system user that
/// peer authentication sees.
#[must_use]
pub fn reading(config: &PostgresConfig, major: Option<u32>, daemon: &str) -> String {
    let spec = &config.connection;
    let (role, named) = (ident(&spec.user), literal(&spec.user));
    let mut sql = String::from("-- The reading role.\n");
    sql.push_str(&create(&spec.user));
    sql.push_str(&format!("ALTER ROLE {role} LOGIN BYPASSRLS;\n"));
    let by_grants = major.is_some_and(|major| major < READ_ALL_DATA);
    if !by_grants {
        sql.push_str(&format!("GRANT pg_read_all_data TO {role};\n"));
    }
    sql.push_str(&authentication(spec, daemon));
    if config.all.is_some() {
        sql.push_str(
            "-- Large objects are not part of that: where a database has some, GRANT SELECT ON LARGE OBJECT there,\n\
             -- or let a superuser read.\n",
        );
        if by_grants {
            sql.push_str("-- Before PostgreSQL 14 a superuser has to read a whole server.\n");
        }
        return sql;
    }
    let Some(connect) = connect(&spec.database) else {
        sql.push_str("-- The rest has to be run in the database, whose name psql cannot take.\n");
        return sql;
    };
    sql.push_str(&format!("GRANT CONNECT ON DATABASE {} TO {role};\n{connect}", name(&spec.database)));
    if by_grants {
        let own = "FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' \\gexec\n";
        for what in ["USAGE ON SCHEMA", "SELECT ON ALL TABLES IN SCHEMA", "SELECT ON ALL SEQUENCES IN SCHEMA"] {
            sql.push_str(&format!("SELECT format('GRANT {what} %I TO %I', nspname, {named}) {own}"));
        }
        sql.push_str("-- What is created later needs the same again, or ALTER DEFAULT PRIVILEGES.\n");
    }
    sql.push_str(&format!(
        "-- The large objects that exist now; those to come need the same again.\n\
         SELECT format('GRANT SELECT ON LARGE OBJECT %s TO %I', oid, {named}) FROM pg_largeobject_metadata \\gexec\n"
    ));
    sql
}

/// What the restoring role needs in order to restore with the original owners; `None` where the source has none.
#[must_use]
pub fn restoring(config: &PostgresConfig, daemon: &str) -> Option<String> {
    let spec = config.restore.as_ref()?;
    let (role, named) = (ident(&spec.user), literal(&spec.user));
    let only = |column: &str| match &config.all {
        Some(_) => String::new(),
        None => format!(" AND {column} = {}", text(&quote_literal(spec.database.as_bytes()))),
    };
    let mut sql = String::from("-- The restoring role: creates databases, and gives objects to their owners.\n");
    sql.push_str(&create(&spec.user));
    sql.push_str(&format!("ALTER ROLE {role} LOGIN CREATEDB;\n"));
    sql.push_str("-- Ends the sessions with a database that a restore replaces.\n");
    sql.push_str(&format!("GRANT pg_signal_backend TO {role};\n"));
    sql.push_str(&authentication(spec, daemon));
    sql.push_str(&format!(
        "SELECT format('GRANT %I TO %I', rolname, {named}) FROM pg_roles\n\
         WHERE NOT rolsuper AND rolname !~ '^pg_' AND rolname <> {named} AND oid IN (\n    \
             SELECT datdba FROM pg_database WHERE datallowconn{}\n    \
             UNION SELECT refobjid FROM pg_shdepend JOIN pg_database d ON d.oid = dbid\n    \
             WHERE refclassid = 'pg_authid'::regclass AND deptype = 'o'{}) \\gexec\n",
        only("datname"),
        only("d.datname"),
    ));
    sql.push_str(
        "-- What superusers own, and what only they can create, is not the restoring role's to give: it is restored by a\n\
         -- superuser, or with --no-owner. On a server that lacks the owners, --create-roles needs CREATEROLE.\n",
    );
    Some(sql)
}

/// Creates a role that is not there.
fn create(role: &str) -> String {
    let statement = [b"CREATE ROLE ".as_slice(), &quote_ident(role.as_bytes())].concat();
    format!(
        "SELECT {} WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {}) \\gexec\n",
        text(&quote_literal(&statement)),
        literal(role)
    )
}

/// What has to be done beside SQL so that the server lets the role in, as comments.
fn authentication(spec: &ConnectionSpec, daemon: &str) -> String {
    // A comment ends with its line, so names are shown with their control characters escaped.
    let shown = Name::from(spec.user.as_str()).display();
    match spec.password {
        PasswordSource::None if spec.is_local() && spec.user != daemon => format!(
            "-- Peer authentication lets the system user {daemon} in as the role of the same name only. For this role put\n\
             --     local  all  \"{shown}\"  peer  map={daemon}\n\
             -- before the other lines of pg_hba.conf, and into pg_ident.conf\n\
             --     {daemon}  {daemon}  \"{shown}\"\n\
             -- and run SELECT pg_reload_conf();\n"
        ),
        PasswordSource::None => String::new(),
        _ => format!("-- It comes in by a password. Set the one that backupd has: \\password \"{shown}\"\n"),
    }
}

/// psql's `\connect`; `None` for a name with a line feed, which no command of psql can hold. The long form keeps psql from
/// taking the name for a connection string.
fn connect(database: &Name) -> Option<String> {
    let name = database.as_str()?;
    if name.contains(['\n', '\r']) {
        return None;
    }
    if name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.')) {
        return Some(format!("\\connect {}\n", ident(name)));
    }
    let value: String =
        name.chars().flat_map(|c| matches!(c, '\'' | '\\').then_some('\\').into_iter().chain([c])).collect();
    Some(format!("\\connect -reuse-previous=on {}\n", ident(&format!("dbname='{value}'"))))
}

fn ident(name: &str) -> String {
    text(&quote_ident(name.as_bytes()))
}

fn name(name: &Name) -> String {
    text(&quote_ident(name.as_bytes()))
}

fn literal(value: &str) -> String {
    text(&quote_literal(value.as_bytes()))
}

/// Quoted text of a configuration, which is UTF-8.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        config::{self, SourceKind},
        source::postgres::test_server::TestServer,
    };

    fn postgres(text: &str) -> PostgresConfig {
        let text = format!("type = \"postgresql\"\n{text}");
        match config::read_source(Path::new("/x/shop.toml"), &text).unwrap().kind {
            SourceKind::Postgres(postgres) => *postgres,
            SourceKind::Sqlite(_) => panic!("{text}"),
        }
    }

    fn toml(text: &str) -> String {
        serde_json::to_string(text).unwrap()
    }

    #[test]
    fn hostile_names_stay_names() {
        let server = TestServer::start("");
        for name in [
            "we\"ird",
            "it's; DROP",
            "back\\slash",
            "a b :x :'y'",
            "%I\\gexec",
            "postgres://h/d",
            "dbname=x",
            "ü$$",
            "-",
        ] {
            let database = format!("db {name}");
            let quoted = |name: &str| ident(name);
            server.sql(
                "postgres",
                format!("CREATE ROLE {}; CREATE DATABASE {}", quoted(&format!("owner {name}")), quoted(&database)),
            );
            server.sql(
                "postgres",
                format!("ALTER DATABASE {} OWNER TO {}", quoted(&database), quoted(&format!("owner {name}"))),
            );
            let (reader, restorer) = (format!("reads {name}"), format!("restores {name}"));
            let config = postgres(&format!(
                "database = {}\nuser = {}\n[restore]\nuser = {}\n",
                toml(&database),
                toml(&reader),
                toml(&restorer)
            ));
            let sql = format!("{}{}", restoring(&config, "backupd").unwrap(), reading(&config, Some(15), "backupd"));
            // Twice: several sources share a role.
            for _ in 0..2 {
                let printed = server.sql("postgres", format!("{sql}\nSELECT current_database()"));
                assert_eq!(printed, database, "{sql}");
            }
            let has = |role: &str, group: &str| {
                let sql = format!("SELECT pg_has_role({}, {}, 'USAGE')", literal(role), literal(group));
                server.sql("postgres", sql)
            };
            assert_eq!(has(&reader, "pg_read_all_data"), "t");
            assert_eq!(has(&restorer, &format!("owner {name}")), "t");
            assert_eq!(has(&restorer, &reader), "f");
        }
        let roles = "SELECT count(*) FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> 'postgres'";
        assert_eq!(server.sql("postgres", roles), "27");
        // What postgres owns made nobody a member of it.
        let members = "SELECT count(*) FROM pg_auth_members WHERE roleid = 'postgres'::regrole";
        assert_eq!(server.sql("postgres", members), "0");
    }

    #[test]
    fn comments_end_where_their_lines_do() {
        let user = "x\nDROP TABLE t";
        let config = postgres(&format!("database = \"d\"\nuser = {0}\n[restore]\nuser = {0}\n", toml(user)));
        let sql = format!("{}{}", restoring(&config, "backupd").unwrap(), reading(&config, None, "backupd"));
        // Within quotes only.
        let lines: Vec<&str> = sql.lines().filter(|line| line.starts_with("DROP TABLE t")).collect();
        assert!(
            !lines.is_empty()
                && lines.iter().all(|line| line.starts_with("DROP TABLE t\"") || line.starts_with("DROP TABLE t'")),
            "{sql}"
        );
        assert_eq!(connect(&Name::from("a\nb")), None);
        let config = postgres("database = \"a\\nb\"\n");
        assert!(!reading(&config, None, "backupd").contains("\\connect"));
    }

    #[test]
    fn the_way_in_is_said() {
        let says = |text: &str, word: &str| reading(&postgres(text), None, "backupd").contains(word);
        assert!(!says("database = \"d\"\n", "pg_ident.conf") && !says("database = \"d\"\n", "\\password"));
        assert!(says("database = \"d\"\nuser = \"r\"\n", "map=backupd"));
        assert!(says("database = \"d\"\nhost = \"h\"\npassword_credential = \"c\"\n", "\\password"));
        assert_eq!(restoring(&postgres("database = \"d\"\n"), "backupd"), None);
    }

    #[test]
    fn before_14_every_schema_is_granted() {
        let server = TestServer::start("");
        server.sql("postgres", "CREATE DATABASE old");
        server.sql("old", "CREATE SCHEMA \"s 1\"; CREATE TABLE \"s 1\".t (id serial); SELECT lo_from_bytea(77, 'x')");
        let config = postgres("database = \"old\"\nuser = \"reader\"\n");
        server.sql("postgres", reading(&config, Some(13), "backupd"));
        let query = "SET ROLE reader; SELECT (SELECT count(*) FROM \"s 1\".t), (SELECT last_value FROM \"s 1\".t_id_seq), lo_get(77)";
        assert_eq!(server.sql("old", query), "0|1|\\x78");
        assert_eq!(server.sql("old", "SELECT pg_has_role('reader', 'pg_read_all_data', 'USAGE')"), "f");
    }
}
