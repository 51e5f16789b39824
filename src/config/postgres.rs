//! The keys of `type = "postgresql"`: the reading connection, the privileged one of `[restore]`, and what to take.

use std::{path::PathBuf, time::Duration};

use super::{
    connection::{ConnectionKeys, ConnectionSpec, PasswordSource, SslMode},
    files,
    reader::Section,
    uri, values,
};
use crate::model::{Name, manifest::Selection};

/// How long to wait for one table's lock where nothing is configured.
const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// The keys that a `uri` stands in place of. Passwords are not among them: they do not belong in a URI.
const URI_REPLACES: [&str; 7] = ["host", "port", "database", "user", "sslmode", "sslrootcert", "connect_timeout"];

/// The keys of `type = "postgresql"`.
#[derive(Debug, Clone, PartialEq)]
pub struct PostgresConfig {
    /// The reading connection. For all databases of the server: to the one whose catalogs name them.
    pub connection: ConnectionSpec,
    /// `database = "all"`: every database of the server.
    pub all: Option<AllDatabases>,
    /// The privileged one of `[restore]`; only restore uses it. Keys that it does not give are the reading one's.
    pub restore: Option<ConnectionSpec>,
    /// What runs around the swap of a restore in place.
    pub hooks: SwapHooks,
    /// Tables and schemas to include and exclude.
    pub selection: Selection,
    /// How long to wait for one table's lock.
    pub lock_timeout: Duration,
    /// Where pg_dump is; found by itself when absent.
    pub client_bin_dir: Option<PathBuf>,
}

/// Commands that run around the swap of a restore in place, without a shell; empty for none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SwapHooks {
    /// `pre_swap`: before the sessions with the old database are ended.
    pub before: Vec<String>,
    /// `post_swap`: after the swap, or after it was given up.
    pub after: Vec<String>,
}

/// What `database = "all"` takes: every database that allows connections, but some.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllDatabases {
    /// Not these; `*` and `?` stand for any characters and any one.
    pub exclude: Vec<String>,
}

/// Reads the keys; `None` where there is no connection without a problem, which is then reported.
pub(super) fn read(root: &mut Section<'_>) -> Option<PostgresConfig> {
    let database = root.take("database", |value| Ok(Name::from(values::word(value)?)));
    let keys = read_connection(root).map(|keys| match keys.database {
        Some(_) => keys,
        None => ConnectionKeys { database, ..keys },
    });
    let (keys, all) = read_all(root, keys);
    if keys.as_ref().is_some_and(|keys| keys.database.is_none()) && !root.has("database") {
        if root.has("uri") {
            root.problem("uri", "must name the database: postgresql://host/database");
        } else {
            root.problem("database", "is missing; write the name of the database to back up");
        }
    }
    let lock_timeout = root.take("lock_timeout", values::duration).unwrap_or(DEFAULT_LOCK_TIMEOUT);
    let client_bin_dir = root.take("client_bin_dir", values::absolute_path);
    let selection = Selection {
        schema_only: false,
        include_tables: root.take("include_tables", values::words).unwrap_or_default(),
        exclude_tables: root.take("exclude_tables", values::words).unwrap_or_default(),
        include_schemas: root.take("include_schemas", values::words).unwrap_or_default(),
        exclude_schemas: root.take("exclude_schemas", values::words).unwrap_or_default(),
    };
    for key in ["include_tables", "exclude_tables", "include_schemas", "exclude_schemas"] {
        if all.is_some() && root.has(key) {
            root.problem(key, "cannot stand beside database = \"all\"; make a source of its own for that database");
        }
    }
    let connection = keys.and_then(ConnectionKeys::resolve);
    if let Some(connection) = &connection {
        check_certificates(root, connection);
    }
    let (restore, hooks) = read_restore(root, connection.as_ref());
    Some(PostgresConfig { connection: connection?, all, restore, hooks, selection, lock_timeout, client_bin_dir })
}

/// Reads what belongs to `database = "all"`, and puts the database to connect to in the place of that word.
fn read_all(root: &mut Section<'_>, keys: Option<ConnectionKeys>) -> (Option<ConnectionKeys>, Option<AllDatabases>) {
    let is_all = keys.as_ref().and_then(|keys| keys.database.as_ref()).is_some_and(|name| name.as_bytes() == b"all");
    let exclude = root.take("exclude_databases", values::words).unwrap_or_default();
    let connect_to = root.take("connect_database", |value| Ok(Name::from(values::word(value)?)));
    if !is_all {
        for key in ["exclude_databases", "connect_database"] {
            if root.has(key) {
                root.problem(key, "belongs to database = \"all\", which this source does not have");
            }
        }
        return (keys, None);
    }
    let database = connect_to.unwrap_or_else(|| Name::from("postgres"));
    (keys.map(|keys| ConnectionKeys { database: Some(database), ..keys }), Some(AllDatabases { exclude }))
}

/// Reads `[restore]`; no connection where there is none, or none without a problem.
fn read_restore(root: &mut Section<'_>, reading: Option<&ConnectionSpec>) -> (Option<ConnectionSpec>, SwapHooks) {
    let mut section = root.section("restore");
    let hooks = SwapHooks {
        before: section.take("pre_swap", command).unwrap_or_default(),
        after: section.take("post_swap", command).unwrap_or_default(),
    };
    let advice = "is not known here; `backupctl restore --to` names the new database";
    section.refuse("database", advice);
    let keys = root.has("restore").then(|| read_connection(&mut section)).flatten();
    if keys.as_ref().is_some_and(|keys| keys.database.is_some()) {
        section.problem("uri", format!("names a database, which {advice}"));
    }
    let restore = reading.zip(keys).map(|(reading, keys)| keys.resolve_beside(reading));
    if let Some(restore) = &restore {
        check_certificates(&section, restore);
    }
    section.finish();
    (restore, hooks)
}

/// A command as a list: its program by absolute path, then arguments.
fn command(value: toml::de::DeValue<'_>) -> Result<Vec<String>, String> {
    let words = values::words(value)?;
    match words.first() {
        Some(program) if !program.starts_with('/') => {
            Err(format!("must begin with the absolute path of a program, which {program:?} is not"))
        }
        _ => Ok(words),
    }
}

/// Reads a connection, all but its database, from the single keys or from `uri`. `None` for a bad `uri`.
fn read_connection(section: &mut Section<'_>) -> Option<ConnectionKeys> {
    let sslmodes = SslMode::ALL.map(|mode| (mode.as_str(), mode));
    let single = ConnectionKeys {
        host: section.take("host", |value| one_host(values::word(value)?)),
        port: section.take("port", values::integer(1..=u16::MAX)),
        user: section.take("user", values::word),
        database: None,
        password: None,
        sslmode: section.take("sslmode", values::one_of(&sslmodes)),
        sslrootcert: section.take("sslrootcert", values::absolute_path),
        connect_timeout: section.take("connect_timeout", values::duration),
    };
    let password = read_password(section);
    let from_uri = section.take("uri", |value| uri_without_password(&values::word(value)?));
    if !section.has("uri") {
        return Some(ConnectionKeys { password, ..single });
    }
    for key in URI_REPLACES {
        if section.has(key) {
            section.problem(key, "is given beside uri, which stands in its place; keep one of them");
        }
    }
    from_uri.map(|keys| ConnectionKeys { password, ..keys })
}

fn uri_without_password(text: &str) -> Result<ConnectionKeys, String> {
    let keys = uri::parse(text).map_err(|error| error.to_string())?;
    match keys.password {
        Some(PasswordSource::Given(_)) => Err("contains a password, which everybody who reads this file would know; \
             take it out and use password_credential or password_file"
            .to_owned()),
        Some(_) => Err("names a passfile; use the key password_file for it".to_owned()),
        None => {
            if keys.sslrootcert.as_ref().is_some_and(|path| !path.is_absolute()) {
                return Err("names a sslrootcert that is not an absolute path".to_owned());
            }
            Ok(keys)
        }
    }
}

fn one_host(host: String) -> Result<String, String> {
    if host.contains(',') {
        Err("names several hosts, which is not supported; give the one that is to be backed up".to_owned())
    } else if host.chars().any(|c| c.is_control() || (c.is_whitespace() && !host.starts_with('/'))) {
        Err(format!("must be a host name, an address, or the directory of a socket, which {host:?} is not"))
    } else {
        Ok(host)
    }
}

fn read_password(section: &mut Section<'_>) -> Option<PasswordSource> {
    section.refuse("password", "does not belong in this file; use password_credential or password_file");
    let credential = section.take("password_credential", |value| credential_name(values::word(value)?));
    let file = section.take("password_file", |value| {
        let path = values::absolute_path(value)?;
        match files::password_file_problem(&path) {
            Some(problem) => Err(problem),
            None => Ok(path),
        }
    });
    if section.has("password_credential") && section.has("password_file") {
        section.problem("password_file", "is given beside password_credential; keep one of them");
    }
    credential.map(PasswordSource::Credential).or(file.map(PasswordSource::PassFile))
}

/// The name of a credential is a file name below `$CREDENTIALS_DIRECTORY` (systemd.exec(5), "Credentials").
fn credential_name(name: String) -> Result<String, String> {
    let valid = name.len() <= 255
        && !matches!(name.as_str(), "." | "..")
        && name.bytes().all(|c| c.is_ascii_graphic() && !matches!(c, b'/' | b':'));
    if valid { Ok(name) } else { Err(format!("{name:?} is not the name of a systemd credential")) }
}

/// libpq would look for a certificate in the home directory, which a daemon does not have.
fn check_certificates(section: &Section<'_>, connection: &ConnectionSpec) {
    let verifies = matches!(connection.sslmode, SslMode::VerifyCa | SslMode::VerifyFull);
    if verifies && connection.sslrootcert.is_none() && !connection.is_local() {
        let key = if section.has("uri") { "uri" } else { "sslmode" };
        let message =
            format!("{} needs sslrootcert, the file with the trusted certificates", connection.sslmode.as_str());
        section.problem(key, message);
    }
}
