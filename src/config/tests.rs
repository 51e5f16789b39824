//! Every key, every error, and the whole way from a directory to a [`Config`].

mod notify;
mod retention;

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::model::{
    Name,
    manifest::{Codec, CodecName, Selection},
};

/// A configuration directory with a `backupd.toml` and sources.
fn directory(main: Option<&str>, sources: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    if let Some(main) = main {
        fs::write(directory.path().join("backupd.toml"), main).unwrap();
    }
    fs::create_dir(directory.path().join("sources.d")).unwrap();
    for (name, text) in sources {
        fs::write(directory.path().join("sources.d").join(name), text).unwrap();
    }
    directory
}

/// The problems of one source's file, without the directory's name.
fn problems_of(text: &str) -> Vec<String> {
    let directory = directory(None, &[("shop.toml", text)]);
    let config = load(directory.path()).unwrap();
    let prefix = format!("{}/sources.d/", directory.path().display());
    config.problems().map(|problem| problem.to_string().replace(&prefix, "")).collect()
}

/// The problems of a `backupd.toml`, without the directory's name.
fn problems_of_main(text: &str) -> Vec<String> {
    let directory = directory(Some(text), &[]);
    let prefix = format!("{}/", directory.path().display());
    match load(directory.path()) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.0.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect(),
    }
}

/// The one source of a text that has no problem.
fn postgres(text: &str) -> (SourceConfig, PostgresConfig) {
    let directory = directory(None, &[("shop.toml", text)]);
    let config = load(directory.path()).unwrap();
    assert!(config.broken.is_empty(), "{:?}", config.broken);
    let source = config.sources.into_values().next().unwrap();
    let SourceKind::Postgres(postgres) = source.kind.clone() else { panic!("{:?}", source.kind) };
    (source, *postgres)
}

#[test]
fn nothing_configured_means_defaults() {
    let directory = tempfile::tempdir().unwrap();
    let config = load(directory.path()).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.repository.path, PathBuf::from("/var/lib/backupd/repository"));
    assert_eq!(config.repository.codec, Codec { name: CodecName::Gzip, level: 1 });
    assert_eq!((config.limits.concurrency, config.limits.queue), (2, 64));
}

#[test]
fn the_examples_of_the_documentation_are_good() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples");
    let config = load(&examples).unwrap();
    assert!(config.broken.is_empty(), "{:?}", config.broken);
    assert!(!config.sources.is_empty());
}

/// The examples of notifiers in the README.
#[test]
fn the_notifiers_of_the_readme_are_good() {
    let readme = include_str!("../../README.md");
    let (section, _) = readme.split_once("## Notices").unwrap().1.split_once("\n## ").unwrap();
    let blocks: Vec<&str> = section.split("```toml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert_eq!(problems_of_main(&blocks.concat()), Vec::<String>::new());
    let directory = directory(Some(&blocks.concat()), &[]);
    assert_eq!(load(directory.path()).unwrap().notify.len(), 6);
}

#[test]
fn every_key_of_the_main_file() {
    let main = r#"
[repository]
path = "/srv/backups"
codec = "zstd"
level = 7
reserve = "5GiB"
compare = false
[limits]
concurrency = 4
queue = 9
compression_threads = 3
history = 50
[retention]
keep_last = 1
keep_within = "off"
keep_daily = 0
max_age = "90d"
automatic = false
undelete = "3d"
[health]
verified_within = "9d"
drilled_within = "off"
min_backups = 3
full_within = "off"
max_undo = "1GiB"
"#;
    let config = load(directory(Some(main), &[]).path()).unwrap();
    assert_eq!(
        config.repository,
        RepositoryConfig {
            path: "/srv/backups".into(),
            codec: Codec { name: CodecName::Zstd, level: 7 },
            reserve: 5 << 30,
            compare: false,
        }
    );
    assert_eq!(config.limits, Limits { concurrency: 4, queue: 9, compression_threads: 3, history: 50 });
    let sources = HealthConfig {
        verified_within: Some(Within::Time(Duration::from_secs(9 * 86_400))),
        drilled_within: Some(Within::Off),
        min_backups: Some(3),
    };
    let days = |days: u64| Duration::from_secs(days * 86_400);
    let retention = RetentionPolicy {
        keep_last: 1,
        keep_within: None,
        keep_daily: 0,
        max_age: Some(days(90)),
        ..RetentionPolicy::default()
    };
    assert_eq!(config.retention, retention);
    assert_eq!(config.pruning, RetentionHost { automatic: false, undelete: days(3) });
    assert_eq!(config.health, HealthHost { sources, full_within: None, max_undo: Some(1 << 30) });
}

#[test]
fn the_smallest_source_has_defaults() {
    let (source, postgres) = postgres("type = \"postgresql\"\ndatabase = \"shop\"\n");
    assert!(source.enabled);
    assert_eq!((source.timeout, source.max_size, source.description.as_str()), (None, None, ""));
    let connection = postgres.connection;
    assert_eq!((connection.host.as_str(), connection.port), ("/run/postgresql", 5432));
    assert_eq!((connection.user.as_str(), &connection.database), ("backupd", &"shop".into()));
    assert_eq!((connection.password, connection.sslmode), (PasswordSource::None, SslMode::Prefer));
    assert_eq!((connection.connect_timeout, postgres.lock_timeout), (10, Duration::from_secs(60)));
    assert_eq!((postgres.restore, postgres.selection), (None, Selection::default()));
}

#[test]
fn every_key_of_a_source() {
    let (source, postgres) = postgres(
        r#"
enabled = false
description = "the shop"
rpo = "4h"
timeout = "2h"
max_size = "1TiB"
type = "postgresql"
host = "db.example"
port = 6432
database = "shop\n; drop"
user = "reader"
password_credential = "shop.password"
sslmode = "verify-full"
sslrootcert = "/etc/ssl/ca.pem"
connect_timeout = "3s"
lock_timeout = "500ms"
client_bin_dir = "/opt/pg/bin"
include_tables = ["public.*"]
exclude_tables = ["public.log"]
include_schemas = ["public"]
exclude_schemas = ["scratch"]
[restore]
user = "postgres"
password_credential = "postgres.password"
[health]
verified_within = "off"
drilled_within = "30d"
"#,
    );
    assert!(!source.enabled);
    assert_eq!(source.description, "the shop");
    assert_eq!((source.timeout, source.max_size), (Some(Duration::from_secs(7200)), Some(1 << 40)));
    let all = HealthConfig {
        min_backups: Some(2),
        verified_within: Some(Within::Time(Duration::from_secs(1))),
        ..HealthConfig::default()
    };
    let resolved = HealthConfig {
        verified_within: Some(Within::Off),
        drilled_within: Some(Within::Time(Duration::from_secs(30 * 86_400))),
        min_backups: Some(2),
    };
    assert_eq!((source.rpo, source.health.or(&all)), (Some(Within::Time(Duration::from_secs(4 * 3600))), resolved));
    let reading = ConnectionSpec {
        host: "db.example".to_owned(),
        port: 6432,
        user: "reader".to_owned(),
        database: "shop\n; drop".into(),
        password: PasswordSource::Credential("shop.password".to_owned()),
        sslmode: SslMode::VerifyFull,
        sslrootcert: Some("/etc/ssl/ca.pem".into()),
        connect_timeout: 3,
    };
    let restoring = ConnectionSpec {
        user: "postgres".to_owned(),
        password: PasswordSource::Credential("postgres.password".to_owned()),
        ..reading.clone()
    };
    assert_eq!(postgres.connection, reading);
    assert_eq!(postgres.restore, Some(restoring));
    assert_eq!(postgres.lock_timeout, Duration::from_millis(500));
    assert_eq!(postgres.client_bin_dir, Some("/opt/pg/bin".into()));
    let words = |word: &str| vec![word.to_owned()];
    let selection = Selection {
        schema_only: false,
        include_tables: words("public.*"),
        exclude_tables: words("public.log"),
        include_schemas: words("public"),
        exclude_schemas: words("scratch"),
    };
    assert_eq!(postgres.selection, selection);
}

#[test]
fn a_uri_stands_in_place_of_the_keys() {
    let (_, postgres) = postgres(
        "type = \"postgresql\"\nuri = \"postgresql://reader@db.example:6432/shop?sslmode=require\"\npassword_credential = \"p\"\n",
    );
    let connection = postgres.connection;
    assert_eq!((connection.host.as_str(), connection.port, connection.user.as_str()), ("db.example", 6432, "reader"));
    assert_eq!((connection.sslmode, &connection.database), (SslMode::Require, &"shop".into()));
    assert_eq!(connection.password, PasswordSource::Credential("p".to_owned()));
}

#[test]
fn the_restoring_connection_inherits_no_other_roles_password() {
    let with = |restore: &str| {
        let text = format!(
            "type = \"postgresql\"\ndatabase = \"shop\"\nuser = \"reader\"\npassword_credential = \"p\"\n[restore]\n{restore}"
        );
        postgres(&text).1.restore.unwrap().password
    };
    assert_eq!(with("user = \"admin\""), PasswordSource::None);
    assert_eq!(with("host = \"other\""), PasswordSource::Credential("p".to_owned()));
    assert_eq!(with("password_credential = \"q\""), PasswordSource::Credential("q".to_owned()));
}

const GOOD: &str = "type = \"postgresql\"\ndatabase = \"shop\"\n";

#[test]
fn problems_of_sources_name_file_line_and_key() {
    for (added, expected) in [
        ("prot = 1", "shop.toml:3: prot: unknown key; did you mean \"port\"?"),
        ("port = \"5432\"", "shop.toml:3: port: must be an integer, not a string"),
        ("port = 0", "shop.toml:3: port: must be from 1 to 65535, not 0"),
        ("port = 99999999999999999999", "shop.toml:3: port: must be from 1 to 65535, not 99999999999999999999"),
        ("enabled = \"yes\"", "shop.toml:3: enabled: must be true or false, not a string"),
        (
            "schedule = 3",
            "shop.toml:3: schedule: must be a calendar event such as \"daily\", or an array of such strings",
        ),
        ("schedule = []", "shop.toml:3: schedule: is empty; leave the key out for no schedule"),
        (
            "schedule = [\"daily\", \"0 24 * * *\"]",
            "shop.toml:3: schedule: the cron expression \"0 24 * * *\": \"24\" is no hour; it must be from 0 to 23",
        ),
        ("description = 3", "shop.toml:3: description: must be a string, not an integer"),
        ("timeout = 30", "shop.toml:3: timeout: must have a unit; write \"30s\" for 30 seconds"),
        (
            "timeout = \"soon\"",
            "shop.toml:3: timeout: \"soon\" is not a duration; write a number and a unit, such as \"30s\", \"10min\" or \"2h\"",
        ),
        ("timeout = \"0s\"", "shop.toml:3: timeout: \"0s\" is no time at all; leave the key out for no limit"),
        (
            "max_size = \"big\"",
            "shop.toml:3: max_size: \"big\" is not a size; write a number and a unit, such as \"512MiB\" or \"10GiB\"",
        ),
        ("max_size = 0", "shop.toml:3: max_size: allows no backup at all; leave the key out for no limit"),
        ("max_size = -1", "shop.toml:3: max_size: must be from 0 to 9223372036854775807, not -1"),
        ("max_size = 1.5", "shop.toml:3: max_size: must be a size such as \"10GiB\", not a floating-point number"),
        ("host = \"\"", "shop.toml:3: host: must not be empty"),
        ("host = \"a\\u0000\"", "shop.toml:3: host: must not contain the character NUL"),
        (
            "host = \"a,b\"",
            "shop.toml:3: host: names several hosts, which is not supported; give the one that is to be backed up",
        ),
        (
            "host = \"a b\"",
            "shop.toml:3: host: must be a host name, an address, or the directory of a socket, which \"a b\" is not",
        ),
        (
            "sslmode = \"on\"",
            "shop.toml:3: sslmode: must be \"disable\" or \"allow\" or \"prefer\" or \"require\" or \"verify-ca\" or \"verify-full\", not \"on\"",
        ),
        (
            "host = \"h\"\nsslmode = \"verify-ca\"",
            "shop.toml:4: sslmode: verify-ca needs sslrootcert, the file with the trusted certificates",
        ),
        ("sslrootcert = \"ca.pem\"", "shop.toml:3: sslrootcert: must be an absolute path, which \"ca.pem\" is not"),
        ("client_bin_dir = \"bin\"", "shop.toml:3: client_bin_dir: must be an absolute path, which \"bin\" is not"),
        ("connect_timeout = false", "shop.toml:3: connect_timeout: must be a duration such as \"30s\", not a boolean"),
        ("lock_timeout = []", "shop.toml:3: lock_timeout: must be a duration such as \"30s\", not an array"),
        ("include_tables = \"a\"", "shop.toml:3: include_tables: must be an array of strings, not a string"),
        ("exclude_schemas = [\"a\", 3]", "shop.toml:3: exclude_schemas: element 2: must be a string, not an integer"),
        ("exclude_tables = [\"\"]", "shop.toml:3: exclude_tables: element 1: must not be empty"),
        (
            "password = \"x\"",
            "shop.toml:3: password: does not belong in this file; use password_credential or password_file",
        ),
        (
            "password_credential = \"../x\"",
            "shop.toml:3: password_credential: \"../x\" is not the name of a systemd credential",
        ),
        ("password_file = \"/nonexistent/pgpass\"", "shop.toml:3: password_file: /nonexistent/pgpass does not exist"),
        ("restore = 1", "shop.toml:3: restore: must be a table, not an integer"),
        (
            "[restore]\ndatabase = \"x\"",
            "shop.toml:4: restore.database: is not known here; `backupctl restore --to` names the new database",
        ),
        ("[restore]\nusr = \"x\"", "shop.toml:4: restore.usr: unknown key; did you mean \"user\"?"),
        (
            "[restore]\nuri = \"postgresql:///x\"",
            "shop.toml:4: restore.uri: names a database, which is not known here; `backupctl restore --to` names the new database",
        ),
        (
            "[limits]\nqueue = 1",
            "shop.toml:3: limits: unknown key; known here: client_bin_dir, connect_database, connect_timeout, database, description, drill, enabled, exclude_databases, exclude_schemas, exclude_tables, health, host, include_schemas, include_tables, lock_timeout, max_size, password_credential, password_file, port, restore, retention, rpo, schedule, sslmode, sslrootcert, suspicious_loss, timeout, type, uri, user",
        ),
        (
            "uri = \"postgresql://h/d\"",
            "shop.toml:2: database: is given beside uri, which stands in its place; keep one of them",
        ),
        ("a = ", "shop.toml:3: this is not TOML: string values must be quoted, expected literal string"),
    ] {
        assert_eq!(problems_of(&format!("{GOOD}{added}\n")), [expected], "{added:?}");
    }
}

#[test]
fn all_databases_of_a_server() {
    let (_, config) = postgres("type = \"postgresql\"\ndatabase = \"all\"\nexclude_databases = [\"test_*\"]");
    assert_eq!(config.all, Some(AllDatabases { exclude: vec!["test_*".to_owned()] }));
    assert_eq!(config.connection.database, "postgres".into());
    let (_, config) = postgres("type = \"postgresql\"\nuri = \"postgresql://h/all\"\nconnect_database = \"x\"");
    assert_eq!((config.all, config.connection.database), (Some(AllDatabases::default()), "x".into()));
    assert_eq!(postgres("type = \"postgresql\"\ndatabase = \"x\"").1.all, None);
}

#[test]
fn sqlite_files() {
    let read = |text: &str| {
        let directory = directory(None, &[("app.toml", text)]);
        let config = load(directory.path()).unwrap();
        assert!(config.broken.is_empty(), "{:?}", config.broken);
        match config.sources.into_values().next().unwrap().kind {
            SourceKind::Sqlite(sqlite) => sqlite,
            other => panic!("{other:?}"),
        }
    };
    let defaults = SqliteConfig {
        path: "/srv/app.db".into(),
        check: SqliteCheck::Quick,
        lock_timeout: Duration::from_secs(60),
        read_timeout: Duration::from_secs(3600),
        write_pause: Duration::from_millis(200),
    };
    assert_eq!(read("type = \"sqlite\"\npath = \"/srv/app.db\""), defaults);
    let full = "type = \"sqlite\"\npath = \"/srv/app.db\"\ncheck = \"integrity\"\nlock_timeout = \"5s\"\nread_timeout = \"1min\"\n\
        write_pause = \"1s\"";
    let expected = SqliteConfig {
        check: SqliteCheck::Integrity,
        lock_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(60),
        write_pause: Duration::from_secs(1),
        ..defaults
    };
    assert_eq!(read(full), expected);
}

#[test]
fn problems_of_whole_sources() {
    for (text, expected) in [
        ("", "shop.toml: type: is missing; write type = \"postgresql\" or type = \"sqlite\""),
        ("type = \"sqlite\"", "shop.toml: path: is missing; write the absolute path of the database file to back up"),
        ("type = \"mysql\"", "shop.toml:1: type: must be \"postgresql\" or \"sqlite\", not \"mysql\""),
        ("type = 1", "shop.toml:1: type: must be a string, not an integer"),
        ("type = \"postgresql\"", "shop.toml: database: is missing; write the name of the database to back up"),
        (
            "type = \"postgresql\"\ndatabase = \"all\"\ninclude_tables = [\"a.b\"]",
            "shop.toml:3: include_tables: cannot stand beside database = \"all\"; make a source of its own for that database",
        ),
        (
            "type = \"postgresql\"\ndatabase = \"x\"\nexclude_databases = [\"a\"]",
            "shop.toml:3: exclude_databases: belongs to database = \"all\", which this source does not have",
        ),
        (
            "type = \"postgresql\"\nuri = \"postgresql://h\"",
            "shop.toml:2: uri: must name the database: postgresql://host/database",
        ),
        ("type = \"postgresql\"\nuri = \"h/d\"", "shop.toml:2: uri: a connection URI begins with postgresql://"),
        (
            "type = \"postgresql\"\nuri = \"postgresql://u:secret@h/d\"",
            "shop.toml:2: uri: contains a password, which everybody who reads this file would know; take it out and use password_credential or password_file",
        ),
        (
            "type = \"postgresql\"\nuri = \"postgresql://h/d?passfile=/x\"",
            "shop.toml:2: uri: names a passfile; use the key password_file for it",
        ),
        (
            "type = \"postgresql\"\nuri = \"postgresql://h/d?sslmode=verify-full\"",
            "shop.toml:2: uri: verify-full needs sslrootcert, the file with the trusted certificates",
        ),
    ] {
        assert_eq!(problems_of(text), [expected], "{text:?}");
    }
}

#[test]
fn problems_of_the_main_file() {
    for (text, expected) in [
        ("repositry = 1", "backupd.toml:1: repositry: unknown key; did you mean \"repository\"?"),
        (
            "[repository]\npath = \"relative\"",
            "backupd.toml:2: repository.path: must be an absolute path, which \"relative\" is not",
        ),
        (
            "[repository]\ncodec = \"lzma\"",
            "backupd.toml:2: repository.codec: must be \"gzip\" or \"zstd\", not \"lzma\"",
        ),
        ("[repository]\nlevel = 13", "backupd.toml:2: repository.level: must be from 0 to 9, not 13"),
        (
            "[repository]\nreserve = true",
            "backupd.toml:2: repository.reserve: must be a size such as \"10GiB\", not a boolean",
        ),
        ("[repository]\ncode = 1", "backupd.toml:2: repository.code: unknown key; did you mean \"codec\"?"),
        ("[limits]\nconcurrency = 0", "backupd.toml:2: limits.concurrency: must be from 1 to 64, not 0"),
        ("[limits]\nqueue = -1", "backupd.toml:2: limits.queue: must be from 0 to 10000, not -1"),
        (
            "[limits]\ncompression_threads = 1000",
            "backupd.toml:2: limits.compression_threads: must be from 0 to 256, not 1000",
        ),
        ("[limits]\nhistory = 0", "backupd.toml:2: limits.history: must be from 1 to 1000000, not 0"),
    ] {
        assert_eq!(problems_of_main(text), [expected], "{text:?}");
    }
}

#[test]
fn all_problems_of_a_file_are_shown_in_the_order_of_its_lines() {
    let text = "tipe = 1\ntype = \"postgresql\"\nport = -1\n\n[restore]\nport = 0\nuser = 3\n";
    let problems = problems_of(text);
    assert_eq!(
        problems,
        [
            "shop.toml: database: is missing; write the name of the database to back up",
            "shop.toml:1: tipe: unknown key; did you mean \"type\"?",
            "shop.toml:3: port: must be from 1 to 65535, not -1",
            "shop.toml:6: restore.port: must be from 1 to 65535, not 0",
            "shop.toml:7: restore.user: must be a string, not an integer",
        ]
    );
}

#[test]
fn two_ways_to_the_password_are_one_too_many() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!("{GOOD}password_credential = \"p\"\npassword_file = {:?}\n", file.path());
    assert_eq!(
        problems_of(&text),
        ["shop.toml:4: password_file: is given beside password_credential; keep one of them"]
    );
}

#[test]
fn a_password_file_is_nobody_elses() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!("{GOOD}password_file = {:?}\n", file.path());
    assert_eq!(problems_of(&text), [""; 0]);
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).unwrap();
    let problems = problems_of(&text);
    let expected = "can be accessed by others (mode 0640); run chmod 0600 on it";
    assert!(problems.len() == 1 && problems[0].ends_with(expected), "{problems:?}");
}

#[test]
fn one_broken_source_does_not_stop_the_others() {
    let directory = directory(
        None,
        &[
            ("good.toml", GOOD),
            ("Bad Name.toml", GOOD),
            ("broken.toml", "type = "),
            (".hidden.toml", "no"),
            ("x.bak", "no"),
        ],
    );
    let config = load(directory.path()).unwrap();
    assert_eq!(config.sources.keys().map(SourceName::as_str).collect::<Vec<_>>(), ["good"]);
    assert_eq!(config.broken.keys().collect::<Vec<_>>(), ["Bad Name", "broken"]);
    let message = config.broken["Bad Name"][0].to_string();
    assert!(message.contains("\"Bad Name\" is not a source name: it must match [a-z0-9]"), "{message}");
}

#[test]
fn a_broken_main_file_shows_the_sources_problems_too() {
    let directory = directory(Some("x = 1"), &[("bad.toml", "type = \"mysql\"")]);
    let errors = load(directory.path()).unwrap_err();
    assert_eq!(errors.code(), crate::model::ErrorCode::ConfigInvalid);
    assert_eq!(errors.0.len(), 2);
    assert_eq!(errors.to_string().lines().count(), 2);
}

#[test]
fn files_that_cannot_be_trusted_or_read() {
    let directory = directory(Some(""), &[("shop.toml", GOOD)]);
    let main = directory.path().join("backupd.toml");
    let source = directory.path().join("sources.d/shop.toml");
    fs::set_permissions(&source, fs::Permissions::from_mode(0o646)).unwrap();
    let config = load(directory.path()).unwrap();
    assert!(config.broken["shop"][0].message.contains("can be written by everybody"));
    fs::write(&source, b"type = \"postgresql\"\ndatabase = \"\xff\"").unwrap();
    fs::set_permissions(&source, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(load(directory.path()).unwrap().broken["shop"][0].message, "line 2 is not UTF-8, which TOML has to be");
    fs::remove_file(&main).unwrap();
    fs::create_dir(&main).unwrap();
    assert!(load(directory.path()).unwrap_err().to_string().contains("backupd.toml: is not a regular file"));
    fs::remove_dir(&main).unwrap();
    nix::unistd::mkfifo(&main, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(load(directory.path()).unwrap_err().to_string().contains("backupd.toml: is not a regular file"));
    fs::remove_file(&main).unwrap();
    fs::write(&main, "#".repeat(2 << 20)).unwrap();
    assert!(load(directory.path()).unwrap_err().to_string().contains("is longer than"));
    let missing = directory.path().join("nothing");
    assert!(load(&missing).unwrap_err().to_string().contains("nothing: the configuration directory cannot be used"));
}

proptest! {
    #[test]
    fn any_text_gets_an_answer(text: String) {
        let document = reader::Document::new(Path::new("x"), &text);
        let read = document.root().and_then(source::read);
        let problems = document.into_problems();
        prop_assert!(read.is_some() || !problems.is_empty());
    }

    #[test]
    fn lines_are_right_however_many_stand_before(lines in 0_usize..40, crlf: bool) {
        let end = if crlf { "\r\n" } else { "\n" };
        let text = format!("{}{GOOD}colour = 1{end}", format!("# ü{end}").repeat(lines));
        prop_assert_eq!(problems_of(&text).len(), 1);
        let start = format!("shop.toml:{}: colour: unknown key", lines + 3);
        prop_assert!(problems_of(&text)[0].starts_with(&start));
    }

    #[test]
    fn any_database_name_survives(name in "[^\0]{1,63}") {
        prop_assume!(name != "all");
        let table = toml::Table::from_iter([("type".to_owned(), "postgresql".into()), ("database".to_owned(), name.clone().into())]);
        let (_, config) = postgres(&table.to_string());
        prop_assert_eq!(config.connection.database, Name::from(name));
    }
}
