//! `backupctl source`: what is missing is named, the SQL that is printed is enough for a backup and for a restore by a role
//! that is no superuser, and nothing is written that would not work.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use backupd::model::error_code::ErrorCode;

use super::sqlite::sqlite3;
use crate::common::{Daemon, Finished, Server, World, assert_same_database, run};

/// A database of an ordinary role, with what ordinary databases have.
const SHOP: &str = "
CREATE ROLE keeper LOGIN; CREATE ROLE \"the \"\"clerk\"\"\"; GRANT \"the \"\"clerk\"\"\" TO keeper;
CREATE DATABASE shop OWNER keeper;
\\connect shop keeper
CREATE SCHEMA private;
CREATE TABLE private.orders (n serial PRIMARY KEY, what text NOT NULL);
INSERT INTO private.orders (what) SELECT md5(n::text) FROM generate_series(1, 3000) n;
ALTER TABLE private.orders ENABLE ROW LEVEL SECURITY;
ALTER TABLE private.orders FORCE ROW LEVEL SECURITY;
CREATE POLICY nobody ON private.orders USING (false);
CREATE FUNCTION private.twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n';
CREATE SCHEMA desk AUTHORIZATION \"the \"\"clerk\"\"\";
CREATE TABLE desk.clerks (name text);
ALTER TABLE desk.clerks OWNER TO \"the \"\"clerk\"\"\";
GRANT SELECT ON desk.clerks TO PUBLIC;
SELECT lo_from_bytea(4711, 'a large object');
";

/// A server, and a daemon without sources.
struct Bench {
    server: Server,
    world: World,
    daemon: Daemon,
}

impl Bench {
    fn new() -> Self {
        let server = Server::start();
        server.sql("postgres", SHOP);
        let world = World::without_sources();
        let daemon = world.start();
        Self { server, world, daemon }
    }

    /// `backupctl source VERB` for this daemon's configuration.
    fn source(&self, arguments: &[&str]) -> Finished {
        let config = self.world.path().join("config");
        run(self.daemon.ctl_command().arg("source").args(arguments).arg("--config-dir").arg(config))
    }

    /// `source add shop` with a reading and a restoring role of the test's own.
    fn add(&self, options: &[&str]) -> Finished {
        let host = self.server.host();
        let base = ["add", "shop", "--database", "shop", "--user", "reader", "--restore-user", "restorer", "--host"];
        self.source(&[&base[..], &[host.to_str().expect("UTF-8")], options].concat())
    }

    /// The files of sources.
    fn files(&self) -> Vec<String> {
        names_in(&self.world.path().join("config/sources.d"))
    }

    fn file(&self) -> String {
        fs::read_to_string(self.world.path().join("config/sources.d/shop.toml")).expect("the source's file")
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("list").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

#[test]
fn the_printed_sql_is_enough_to_back_up_and_to_restore() {
    let bench = Bench::new();
    let refused = bench.add(&[]);
    refused.fails_with(ErrorCode::AuthenticationFailed);
    refused.says(&["Reading: ", "role \"reader\" does not exist", "Restoring: ", "role \"restorer\" does not exist"]);
    assert_eq!(bench.files(), [""; 0]);

    // What is printed with the refusal is what --print-sql prints.
    let printed = bench.add(&["--print-sql"]).ok();
    assert_eq!(refused.text(), printed.text());
    bench.server.sql("postgres", printed.text());
    let added = bench.add(&["--schedule", "daily"]).ok();
    assert!(
        added.text().contains("Source shop was added") && added.text().contains("1 database can be read"),
        "{added}"
    );
    assert_eq!(added.stderr, "");
    assert_eq!(bench.files(), ["shop.toml"]);

    bench.daemon.create("shop", &[]);
    bench.daemon.ctl(&["restore", "shop@latest", "--to", "copy", "--yes"]).ok();
    assert_same_database((&bench.server, "shop"), (&bench.server, "copy"));
    let owner = |database: &str| {
        bench.server.sql(
            database,
            "SELECT pg_get_userbyid(datdba), tableowner FROM pg_database, pg_tables WHERE datname = current_database() AND tablename = 'clerks'",
        )
    };
    assert_eq!(owner("copy"), "keeper|the \"clerk\"");
    let superusers =
        "SELECT count(*) FROM pg_roles WHERE rolname IN ('reader', 'restorer') AND (rolsuper OR rolcreaterole)";
    assert_eq!(bench.server.sql("postgres", superusers), "0");

    // The same again changes nothing; another text is refused.
    let before = bench.file();
    assert!(bench.add(&["--schedule", "daily"]).ok().text().contains("was there already"));
    let other = bench.add(&["--schedule", "weekly"]);
    other.fails_with(ErrorCode::InvalidArgs);
    other.says(&["configured already", "source remove shop"]);
    assert_eq!(bench.file(), before);
}

#[test]
fn each_missing_privilege_is_named_and_nothing_is_written() {
    let bench = Bench::new();
    let sql = bench.add(&["--print-sql"]).ok();
    bench.server.sql("postgres", sql.text());
    let take_away = [
        ("REVOKE pg_read_all_data FROM reader", "GRANT pg_read_all_data TO reader", ErrorCode::DatabasePermission),
        ("ALTER ROLE reader NOBYPASSRLS", "ALTER ROLE reader BYPASSRLS", ErrorCode::DatabasePermission),
        ("ALTER ROLE restorer NOCREATEDB", "ALTER ROLE \"restorer\" CREATEDB", ErrorCode::DatabasePermission),
        ("REVOKE keeper FROM restorer", "GRANT \"keeper\" TO \"restorer\"", ErrorCode::DatabasePermission),
        ("ALTER ROLE restorer NOLOGIN", "is not permitted to log in", ErrorCode::AuthenticationFailed),
    ];
    for (revoke, said, code) in take_away {
        bench.server.sql("postgres", revoke);
        let refused = bench.add(&[]);
        refused.fails_with(code);
        refused.says(&[said]);
        assert_eq!(bench.files(), [""; 0], "{revoke}");
        let dry = bench.add(&["--dry-run"]);
        dry.fails_with(code);
        assert!(dry.text().contains("Would be done:") && dry.text().contains("\\gexec"), "{dry}");
        // What is printed then mends it.
        bench.server.sql("postgres", refused.text());
        let dry = bench.add(&["--dry-run"]).ok();
        assert!(dry.text().contains("write ") && dry.text().contains("type = \"postgresql\""), "{dry}");
        assert_eq!(bench.files(), [""; 0]);
    }
    bench.server.sql("shop", "REVOKE SELECT ON LARGE OBJECT 4711 FROM reader");
    let refused = bench.add(&[]);
    refused.fails_with(ErrorCode::DatabasePermission);
    refused.says(&["large objects, such as 4711"]);
    // Whoever wants it all the same gets it, and learns later.
    bench.add(&["--no-check"]).ok();
    assert_eq!(bench.files(), ["shop.toml"]);
    bench.daemon.ctl(&["create", "shop"]).fails_with(ErrorCode::DatabasePermission);
}

#[test]
fn what_a_superuser_owns_is_said_to_be_beyond_the_restoring_role() {
    let bench = Bench::new();
    bench.server.sql("shop", "CREATE TABLE of_postgres (n int)");
    bench.server.sql("shop", "CREATE ROLE guest; GRANT CREATE ON SCHEMA private TO guest; CREATE TABLE private.guests (); ALTER TABLE private.guests OWNER TO guest");
    let sql = bench.add(&["--print-sql"]).ok();
    bench.server.sql("postgres", sql.text());
    let added = bench.add(&[]).ok();
    added.says(&["objects of the superuser \"postgres\"", "--no-owner"]);
    added.says(&["only a superuser can restore what \"guest\" owns in schema \"private\""]);
    bench.daemon.create("shop", &[]);
    let refused = bench.daemon.ctl(&["restore", "shop@latest", "--to", "copy", "--yes"]);
    refused.fails_with(ErrorCode::RestoreRefused);
    assert!(refused.to_string().contains("role \"guest\" is to own objects in schema \"private\""), "{refused}");
    bench.daemon.ctl(&["restore", "shop@latest", "--to", "copy", "--yes", "--no-owner"]).ok();
}

#[test]
fn a_whole_server_by_roles_that_are_no_superusers() {
    let bench = Bench::new();
    bench.server.sql("postgres", "CREATE DATABASE other OWNER keeper");
    let host = bench.server.host();
    let base = ["add", "server", "--database", "all", "--user", "reader", "--restore-user", "restorer", "--host"];
    let base = [&base[..], &[host.to_str().expect("UTF-8")]].concat();
    let sql = bench.source(&[&base[..], &["--print-sql"]].concat()).ok();
    bench.server.sql("postgres", sql.text());
    let refused = bench.source(&base);
    refused.fails_with(ErrorCode::DatabasePermission);
    refused.says(&["database shop", "large objects, such as 4711"]);
    bench.server.sql("shop", "GRANT SELECT ON LARGE OBJECT 4711 TO reader");
    let added = bench.source(&base).ok();
    assert!(added.text().contains("3 databases can be read"), "{added}");
    bench.daemon.ctl(&["create", "server"]).ok();
    bench.daemon.ctl(&["restore", "server/shop@latest", "--to", "copy", "--yes"]).ok();
    assert_same_database((&bench.server, "shop"), (&bench.server, "copy"));
}

#[test]
fn a_password_is_tested_and_stored_and_never_shown() {
    let bench = Bench::new();
    bench.server.sql("postgres", "CREATE ROLE secretive LOGIN SUPERUSER PASSWORD 'se same'");
    bench.server.set_hba("local all secretive scram-sha-256\nlocal all all trust");
    let host = bench.server.host();
    let password = bench.world.path().join("password");
    let base = ["add", "shop", "--database", "shop", "--user", "secretive", "--host", host.to_str().expect("UTF-8")];
    let with = |options: &[&str]| bench.source(&[&base[..], options].concat());
    let file = ["--password-file", password.to_str().expect("UTF-8")];
    with(&[]).fails_with(ErrorCode::AuthenticationFailed);
    fs::write(&password, "wrong one\n").expect("write");
    let refused = with(&file);
    refused.fails_with(ErrorCode::AuthenticationFailed);
    assert!(!refused.to_string().contains("wrong one"), "{refused}");
    let credentials = bench.world.path().join("config/credentials");
    assert!(!credentials.exists() && bench.files().is_empty());

    fs::write(&password, "se same\n").expect("write");
    let added = with(&file).ok();
    assert!(added.text().contains("Restart the daemon when no job runs"), "{added}");
    let stored = credentials.join("shop.password");
    let metadata = fs::metadata(&stored).expect("the credential");
    assert_eq!((fs::read_to_string(&stored).expect("read").as_str(), metadata.mode() & 0o777), ("se same", 0o600));
    assert!(bench.file().contains("password_credential = \"shop.password\"") && !bench.file().contains("se same"));
    assert!(!added.to_string().contains("se same") && !bench.world.log().contains("se same"));

    // It goes with the source, unless another one names it.
    let text = bench.file();
    bench.world.source("twin", &text);
    let dry = bench.source(&["remove", "shop", "--dry-run"]).ok();
    assert!(dry.text().contains("shop.password stays: another source uses it"), "{dry}");
    fs::remove_file(bench.world.path().join("config/sources.d/twin.toml")).expect("remove");
    bench.source(&["remove", "shop", "--yes"]).ok();
    assert!(!stored.exists());
    assert_eq!(bench.files(), ["shop.toml.removed"]);
}

/// Types an answer when the question is there, on a terminal of its own, and prints what the terminal showed.
const TERMINAL: &str = r"
import os, pty, sys
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[2], sys.argv[2:])
shown = b''
answered = False
while True:
    try:
        piece = os.read(terminal, 4096)
    except OSError:
        break
    if not piece:
        break
    shown += piece
    if not answered and b'Password of the role' in shown:
        os.write(terminal, sys.argv[1].encode() + b'\n')
        answered = True
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
";

#[test]
fn a_password_is_asked_for_on_the_terminal_and_not_shown() {
    let bench = Bench::new();
    bench.server.sql("postgres", "CREATE ROLE secretive LOGIN SUPERUSER PASSWORD 'se same'");
    bench.server.set_hba("local all secretive scram-sha-256\nlocal all all trust");
    let host = bench.server.host();
    let mut wanted = bench.daemon.ctl_command();
    wanted.args(["source", "add", "shop", "--database", "shop", "--user", "secretive", "--ask-password", "--host"]);
    wanted.arg(host).arg("--config-dir").arg(bench.world.path().join("config"));
    let on_terminal = |password: &str| {
        let mut command = std::process::Command::new("python3");
        run(command.args(["-c", TERMINAL, password]).arg(wanted.get_program()).args(wanted.get_args()))
    };
    let refused = on_terminal("wr ong");
    assert_eq!(refused.status.code(), Some(i32::from(ErrorCode::AuthenticationFailed.row().exit_code)), "{refused}");
    assert!(!refused.text().contains("wr ong"), "{refused}");
    let added = on_terminal("se same").ok();
    assert!(
        added.text().contains("Password of the role \"secretive\"") && !added.text().contains("se same"),
        "{added}"
    );
    let stored = bench.world.path().join("config/credentials/shop.password");
    assert_eq!(fs::read_to_string(stored).expect("the credential"), "se same");
    // Without a terminal nobody can be asked, and nothing waits. (setsid takes it away.)
    let mut command = std::process::Command::new("setsid");
    let nobody = run(command.arg("--wait").arg(wanted.get_program()).args(wanted.get_args()));
    nobody.fails_with(ErrorCode::Io);
    nobody.says(&["on the terminal"]);
}

#[test]
fn an_sqlite_database_is_added_disabled_enabled_and_removed() {
    let bench = Bench::new();
    let path = bench.world.path().join("app.db");
    sqlite3(&path, "CREATE TABLE t(x); INSERT INTO t VALUES (1)");
    let shown = path.to_str().expect("UTF-8");
    bench.source(&["add", "app", "--sqlite", "/nowhere.db"]).fails_with(ErrorCode::NoSuchDatabase);
    bench.source(&["add", "app", "--sqlite", "relative.db"]).fails_with(ErrorCode::InvalidArgs);
    bench.source(&["add", "app", "--sqlite", shown, "--schedule", "dayly"]).fails_with(ErrorCode::InvalidArgs);
    assert!(bench.files().is_empty());
    bench.source(&["add", "app", "--sqlite", shown]).ok();
    let backup = bench.daemon.create("app", &[]);

    let file = bench.world.path().join("config/sources.d/app.toml");
    let text = format!("# mine\n{}", fs::read_to_string(&file).expect("read"));
    fs::write(&file, &text).expect("write");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("chmod");
    bench.source(&["disable", "app"]).ok();
    assert_eq!(fs::read_to_string(&file).expect("read"), format!("{text}enabled = false\n"));
    assert_eq!(fs::metadata(&file).expect("there").mode() & 0o777, 0o640);
    bench.daemon.ctl(&["create", "app"]).fails_with(ErrorCode::SourceDisabled);
    assert!(bench.source(&["disable", "app"]).ok().text().contains("disabled already"));
    bench.source(&["enable", "app"]).ok();
    bench.daemon.create("app", &[]);

    // Nobody can answer here.
    bench.source(&["remove", "app"]).fails_with(ErrorCode::InvalidArgs);
    assert_eq!(bench.files(), ["app.toml"]);
    bench.source(&["remove", "app", "--yes"]).ok();
    assert_eq!(bench.files(), ["app.toml.removed"]);
    bench.daemon.ctl(&["create", "app"]).fails_with(ErrorCode::NoSuchSource);
    assert!(bench.daemon.ids().contains(&backup["id"].as_str().expect("id").to_owned()), "backups stay");
    for verb in ["enable", "disable", "remove"] {
        bench.source(&[verb, "app"]).fails_with(ErrorCode::NoSuchSource);
    }
    bench.source(&["add", "app", "--sqlite", shown]).ok();
    bench.source(&["remove", "app", "--yes"]).ok();
    assert_eq!(bench.files(), ["app.toml.removed", "app.toml.removed.1"]);
}

#[test]
fn a_configuration_that_the_daemon_would_refuse_is_not_added_to() {
    let bench = Bench::new();
    let path = bench.world.path().join("app.db");
    sqlite3(&path, "CREATE TABLE t(x)");
    let arguments = ["add", "app", "--sqlite", path.to_str().expect("UTF-8")];
    bench.world.configure("nonsense = 1\n");
    let refused = bench.source(&arguments);
    refused.fails_with(ErrorCode::ConfigInvalid);
    refused.says(&["backupd.toml:1", "nonsense"]);
    assert!(bench.files().is_empty());
    // A daemon that is not there leaves the file, and a way on and back.
    bench.world.configure(&format!("[repository]\npath = \"{}\"\n", bench.world.repository().display()));
    let nobody = "unix:path=/nonexistent/socket";
    let config = bench.world.path().join("config");
    let mut command = bench.daemon.ctl_command();
    command.env("BACKUPD_ADDRESS", nobody).arg("source").args(arguments).arg("--config-dir").arg(config);
    let mut alone = std::process::Command::new(command.get_program());
    alone.args(["--address", nobody]).args(command.get_args().skip(2));
    let refused = run(&mut alone);
    refused.fails_with(ErrorCode::DaemonUnreachable);
    refused.says(&["app.toml is written", "backupctl reload", "source remove app"]);
    bench.daemon.ctl(&["reload"]).ok();
    bench.daemon.create("app", &[]);
}
