//! SQLite databases made and written by Debian's own `sqlite3`: backed up, listed, exported, restored by the program and
//! by hand, and compared.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use backupd::model::error_code::ErrorCode;
use serde_json::Value;

use crate::common::{Daemon, World, run, sqlite_source, wait_until};

/// Runs SQL with the sqlite3 of this machine and gives what it prints.
#[track_caller]
pub(crate) fn sqlite3(path: &Path, sql: &str) -> String {
    let mut command = Command::new("sqlite3");
    command.args(["-bail", "-cmd", ".timeout 20000"]).arg(path).arg(sql);
    run(&mut command).ok().text().trim_end().to_owned()
}

/// Everything that a database says of itself: its dump, and what a dump does not hold.
#[track_caller]
fn contents(path: &Path) -> String {
    let settings = "PRAGMA page_size; PRAGMA encoding; PRAGMA auto_vacuum; PRAGMA user_version; PRAGMA application_id; \
                    PRAGMA journal_mode; PRAGMA page_count; PRAGMA integrity_check";
    format!("{}\n{}", sqlite3(path, settings), sqlite3(path, ".dump"))
}

/// One of each kind, as applications make them.
const KINDS: &[(&str, &str)] = &[
    ("wal", "PRAGMA journal_mode = WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT, at REAL, raw BLOB);"),
    ("journal", "CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT, at REAL, raw BLOB);"),
    (
        "utf16",
        "PRAGMA encoding = 'UTF-16be'; PRAGMA journal_mode = WAL;
         CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT COLLATE NOCASE, at REAL, raw BLOB); CREATE INDEX i ON t(body);",
    ),
    (
        "vacuum",
        "PRAGMA page_size = 512; PRAGMA auto_vacuum = FULL; PRAGMA user_version = 42; PRAGMA application_id = 7;
         CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT, at REAL, raw BLOB);",
    ),
    (
        "without_rowid",
        "PRAGMA journal_mode = WAL; PRAGMA page_size = 8192;
         CREATE TABLE t(id INT, body TEXT, at REAL, raw BLOB, double AS (at * 2) STORED, PRIMARY KEY (id, body)) WITHOUT ROWID;
         CREATE TABLE strict(a INT, b ANY) STRICT; INSERT INTO strict VALUES (1, x'00'), (2, 'two');",
    ),
    (
        "fts",
        "PRAGMA journal_mode = WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT, at REAL, raw BLOB);
         CREATE VIRTUAL TABLE search USING fts5(body); CREATE TRIGGER mirror AFTER INSERT ON t
         BEGIN INSERT INTO search(rowid, body) VALUES (new.id, new.body); END;
         CREATE VIEW \"it's \"\"quoted\"\"\" AS SELECT body FROM t; CREATE TABLE \"ünï, table\"(x); CREATE INDEX part ON t(at) WHERE at > 5;",
    ),
];

const ROWS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
    INSERT INTO t(id, body, at, raw) SELECT i, 'row ' || i || ' äöü ' || hex(randomblob(20)), i / 7.0, randomblob(i % 300) FROM n;
    DELETE FROM t WHERE id % 5 = 0;";

/// Makes one of the [`KINDS`] in a folder of the world, and a source of its name.
pub(crate) fn make(world: &World, name: &str) -> PathBuf {
    let sql = KINDS.iter().find(|(kind, _)| *kind == name).expect("a kind").1;
    let path = world.path().join(format!("{name}.db"));
    sqlite3(&path, &format!("{sql}{ROWS}"));
    world.source(name, &sqlite_source(&path));
    path
}

#[test]
fn every_kind_of_database_comes_back_by_every_way() {
    let world = World::without_sources();
    let originals: Vec<(&str, PathBuf)> = KINDS.iter().map(|(name, _)| (*name, make(&world, name))).collect();
    let daemon = world.start();
    for (name, original) in &originals {
        let backup = daemon.create(name, &[]);
        assert_eq!(
            (backup["kind"].as_str(), backup["rows"].as_u64() >= Some(2400)),
            (Some("sqlite"), true),
            "{backup}"
        );
        let id = backup["id"].as_str().expect("id");
        let restored = world.path().join(format!("{name} restored.db"));
        let said = daemon.ctl(&["restore", id, "--to", restored.to_str().expect("path"), "--yes"]).ok();
        assert!(said.text().contains("rows, counted"), "{said}");
        assert_eq!(contents(original), contents(&restored), "{name}");
    }
    daemon.ctl(&["verify", "--level=data"]).ok();
    assert!(daemon.stop().success());
    for (name, original) in &originals {
        let expected = contents(original);
        let target = world.path().join(format!("{name} offline.db"));
        world.offline(&["restore", &format!("{name}@latest"), "--to", target.to_str().expect("path"), "--yes"]).ok();
        assert_eq!(expected, contents(&target), "{name} without a daemon");
        let shell = run(Command::new("sh").arg(world.repository().join("restore.sh")).args([
            "cat",
            &id_of(&world, name),
            "database.sqlite",
        ]))
        .ok();
        let by_hand = world.path().join(format!("{name} by hand.db"));
        fs::write(&by_hand, &shell.stdout).expect("write");
        assert_eq!(expected, contents(&by_hand), "{name} by restore.sh");
        let exported = world.path().join(format!("{name}.sqlite.gz"));
        world.offline(&["export", &format!("{name}@latest"), "-o", exported.to_str().expect("path")]).ok();
        let gunzip = run(Command::new("gunzip").arg("-c").arg(&exported)).ok();
        assert!(gunzip.stdout == shell.stdout, "{name} exported");
        let alone = gunzip_alone(&world, name);
        assert!(alone == shell.stdout, "{name} by gunzip alone");
    }
    assert_eq!(world.leftovers(), Vec::<PathBuf>::new());
}

fn id_of(world: &World, source: &str) -> String {
    let listed = world.offline(&["list", source, "--json=short"]).ok().json();
    listed[0]["id"].as_str().expect("id").to_owned()
}

/// What docs/repository-format.md says of extents: the ranges in order are a gzip file of the database.
fn gunzip_alone(world: &World, source: &str) -> Vec<u8> {
    let script = r#"cd "$1"; folder=$(echo backups/"$2"/_/*); tab=$(printf '\t')
        sed -n '/^file/!p' "$folder/extents.tsv" | while IFS=$tab read -r pack offset length; do
            tail -c "+$((offset + 1))" packs/$(echo "$pack" | cut -c1-2)/"$pack".gz | head -c "$length"
        done | gunzip"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(world.repository()).arg(source);
    run(&mut command).ok().stdout
}

#[test]
fn what_is_known_of_it_is_shown() {
    let world = World::without_sources();
    let path = make(&world, "vacuum");
    let daemon = world.start();
    daemon.create("vacuum", &["--tag", "nightly"]);
    let show = daemon.ctl(&["show", "vacuum@latest"]).ok();
    for words in [
        "512 bytes",
        "UTF-8, rollback mode",
        "user_version 42, application_id 7",
        "quick_check",
        "main.t",
        "restore.sh cat",
    ] {
        assert!(show.text().contains(words), "{words}: {show}");
    }
    let json = daemon.ctl(&["show", "vacuum@latest", "--json=short"]).ok().json();
    let facts = &json["manifest"]["sqlite"];
    assert_eq!((&facts["auto_vacuum"], &facts["page_size"]), (&Value::from("full"), &Value::from(512)));
    let table = &json["manifest"]["files"][0]["tables"][0];
    assert_eq!((table["name"].as_str(), table["rows"].as_u64()), (Some("t"), Some(2400)));
    let sources = daemon.ctl(&["sources", "--json=short"]).ok().json();
    assert_eq!((sources[0]["type"].as_str(), sources[0]["location"].as_str()), (Some("sqlite"), path.to_str()));
    // The commands that are shown work as they stand.
    let folder = world.path().join("by hand");
    fs::create_dir(&folder).expect("make a folder");
    let commands: Vec<&str> = json["by_hand"].as_array().expect("commands").iter().filter_map(Value::as_str).collect();
    let said = run(Command::new("sh").args(["-e", "-c", &commands.join("\n")]).current_dir(&folder)).ok();
    assert_eq!(said.text().trim(), "ok");
    assert_eq!(contents(&path), contents(&folder.join("vacuum.db")));
}

#[test]
fn a_plan_says_what_stands_in_the_way() {
    let world = World::without_sources();
    let path = make(&world, "wal");
    let daemon = world.start();
    let id = daemon.create("wal", &[])["id"].as_str().expect("id").to_owned();
    let before = fs::read(&path).expect("read");
    let plan = daemon.ctl(&["restore", &id, "--no-replace", "--dry-run"]);
    plan.fails_with(ErrorCode::TargetExists);
    assert!(plan.text().contains("Stands in the way") && plan.text().contains("wal.db exists"), "{plan}");
    daemon.ctl(&["restore", &id, "--no-replace", "--yes"]).fails_with(ErrorCode::TargetExists);
    let there = path.to_str().expect("UTF-8");
    daemon.ctl(&["restore", &id, "--to", there, "--yes"]).fails_with(ErrorCode::TargetExists);
    assert!(fs::read(&path).expect("read") == before, "nothing was touched");
    daemon.ctl(&["restore", &id, "--to", "relative.db", "--yes"]).fails_with(ErrorCode::InvalidArgs);
    daemon.ctl(&["restore", &id, "--table", "t", "--yes"]).fails_with(ErrorCode::InvalidArgs);
    daemon.ctl(&["create", "wal", "--table", "t"]).fails_with(ErrorCode::InvalidArgs);
    // The file is lost: it comes back where it was.
    fs::remove_file(&path).expect("lose the database");
    let plan = daemon.ctl(&["restore", &id, "--dry-run"]).ok();
    assert!(plan.text().contains("new file") && plan.text().contains("an SQLite database"), "{plan}");
    daemon.ctl(&["restore", &id, "--yes"]).ok();
    assert!(fs::read(&path).expect("read") == before);
}

/// A process that writes transactions, each of which leaves the sum of all accounts at 0, until it is killed.
pub(crate) struct Writer(Child);

impl Writer {
    pub(crate) fn start(path: &Path) -> Self {
        let script = r#"i=0; while :; do i=$((i + 1))
            echo "BEGIN IMMEDIATE; INSERT INTO account(amount, note) VALUES ($i, hex(randomblob(500)));
                  INSERT INTO account(amount, note) VALUES (-$i, hex(randomblob(500)));
                  DELETE FROM account WHERE id IN (2 * ($i - 300), 2 * ($i - 300) - 1); COMMIT;"
        done | exec sqlite3 -bail -cmd '.timeout 10000' "$1""#;
        let child = Command::new("setsid")
            .args(["sh", "-c", script, "sh"])
            .arg(path)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start a writer");
        Self(child)
    }

    /// Kills the shell and its sqlite3, wherever they are; gives what sqlite3 complained about.
    pub(crate) fn kill(mut self) -> String {
        self.end();
        let mut said = String::new();
        self.0.stderr.take().expect("piped").read_to_string(&mut said).expect("read");
        said
    }

    fn end(&mut self) {
        let group = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).expect("pid"));
        // Reaped once, it has no group any more that would be ours.
        if matches!(self.0.try_wait(), Ok(None)) {
            nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).expect("kill the writer");
            self.0.wait().expect("reap the writer");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

pub(crate) fn accounts(world: &World, name: &str, mode: &str) -> PathBuf {
    let path = world.path().join(format!("{name}.db"));
    sqlite3(
        &path,
        &format!("PRAGMA journal_mode = {mode}; CREATE TABLE account(id INTEGER PRIMARY KEY, amount INT, note TEXT)"),
    );
    world.source(name, &format!("{}lock_timeout = \"20s\"\nwrite_pause = \"2s\"\n", sqlite_source(&path)));
    path
}

/// Restores a backup and gives its number of accounts, after making sure that it is the state between two transactions.
#[track_caller]
fn restored_accounts(world: &World, daemon: &Daemon, backup: &Value) -> u64 {
    let id = backup["id"].as_str().expect("id");
    let to = world.path().join(format!("restored-{id}.db"));
    daemon.ctl(&["restore", id, "--to", to.to_str().expect("path"), "--yes"]).ok();
    assert_eq!(sqlite3(&to, "SELECT coalesce(sum(amount), 0) FROM account; PRAGMA integrity_check"), "0\nok");
    sqlite3(&to, "SELECT max(id) FROM account").parse().expect("a number")
}

#[test]
fn a_running_writer_is_no_hindrance_and_a_killed_one_leaves_a_whole_database() {
    for mode in ["WAL", "DELETE"] {
        let world = World::without_sources();
        let path = accounts(&world, "bank", mode);
        let daemon = world.start();
        for _ in 0..3 {
            let writer = Writer::start(&path);
            let written = |beyond: u64| {
                move |path: &Path| {
                    let highest = sqlite3(path, "SELECT coalesce(max(id), 0) FROM account");
                    highest.parse::<u64>().expect("a number") > beyond
                }
            };
            wait_until("the writer writes", || written(200)(&path));
            let first = restored_accounts(&world, &daemon, &daemon.create("bank", &[]));
            wait_until("the writer goes on", || written(first)(&path));
            assert_eq!(writer.kill(), "", "the writer met no error in mode {mode}");
            // Whatever it left: a log, or a journal that is to be rolled back.
            let after = restored_accounts(&world, &daemon, &daemon.create("bank", &[]));
            assert!(after > first, "{after} {first}");
            assert_eq!(after, sqlite3(&path, "SELECT max(id) FROM account").parse::<u64>().expect("a number"));
        }
    }
}

#[test]
fn unchanged_pages_are_not_stored_again() {
    let world = World::without_sources();
    let path = make(&world, "wal");
    let daemon = world.start();
    let first = daemon.create("wal", &[]);
    let again = daemon.create("wal", &[]);
    sqlite3(&path, "UPDATE t SET body = 'changed' WHERE id = 77");
    let changed = daemon.create("wal", &[]);
    let new = |backup: &Value| backup["new_bytes"].as_u64().expect("a number");
    assert!(new(&again) * 20 < new(&first), "{again}");
    assert!(new(&changed) * 10 < new(&first), "{changed}");
}

#[test]
fn each_kind_of_trouble_is_told_at_once() {
    let world = World::without_sources();
    let path = make(&world, "wal");
    let daemon = world.start();
    let good = fs::read(&path).expect("read");
    let fails = |code: ErrorCode, words: &str| {
        let failed = daemon.ctl(&["create", "wal"]);
        failed.fails_with(code);
        assert!(failed.stderr.contains(words), "{words}: {failed}");
    };
    fs::remove_file(&path).expect("remove");
    fails(ErrorCode::NoSuchDatabase, "there is no file");
    fs::write(&path, "just some text\n".repeat(500)).expect("write");
    fails(ErrorCode::NotADatabase, "no SQLite database");
    let random = run(Command::new("head").args(["-c", "8192", "/dev/urandom"])).ok().stdout;
    fs::write(&path, random).expect("write");
    fails(ErrorCode::DatabaseEncrypted, "SQLCipher");
    let mut damaged = good.clone();
    damaged[12_288..13_312].fill(0x5a);
    fs::write(&path, damaged).expect("write");
    fails(ErrorCode::DatabaseCorrupt, "damaged");
    assert_eq!(daemon.list(), Vec::<Value>::new());
    fs::write(&path, good).expect("write");
    daemon.create("wal", &[]);
    assert_eq!(world.leftovers(), Vec::<PathBuf>::new());
}
