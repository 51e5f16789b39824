//! A restore into a live SQLite file, and its undo. Whatever is killed at whatever step, the file holds either all that it
//! held or all that was restored, and what it held can be had back. Applications are Debian's own `sqlite3`.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::MetadataExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use backupd::model::ErrorCode;
use nix::sys::signal::Signal;

use super::sqlite::{Writer, accounts, sqlite3};
use crate::common::{Daemon, World, sqlite_source, wait_until};

const MODES: [&str; 2] = ["WAL", "DELETE"];

/// The steps of a restore, before and after the commit.
const BEFORE: &[&str] = &[
    "image-created",
    "image-written",
    "image-checked",
    "file-swap-planned",
    "file-locked",
    "file-copied",
    "file-kept",
    "file-half-written",
];
const AFTER: &[&str] = &["file-written", "file-noted"];

/// The steps of an undo.
const UNDO_BEFORE: &[&str] = &["undo-planned", "file-locked", "file-copied", "file-kept", "file-half-written"];
const UNDO_AFTER: &[&str] = &["file-written", "undo-swapped", "undo-noted"];

/// A database that was backed up and changed, and how it looked at both times.
struct Changed {
    world: World,
    path: PathBuf,
    id: String,
    backed_up: String,
    changed: String,
}

impl Changed {
    /// Large enough that SQLite writes to the file before it commits.
    fn new(mode: &str) -> Self {
        let world = World::without_sources();
        let folder = world.path().join("srv");
        fs::create_dir(&folder).expect("make a folder");
        let path = folder.join("app.db");
        let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)
                    INSERT INTO t SELECT i, hex(randomblob(500)) FROM n";
        sqlite3(&path, &format!("PRAGMA journal_mode = {mode}; CREATE TABLE t(id INTEGER PRIMARY KEY, body); {rows}"));
        world.source("app", &format!("{}lock_timeout = \"2s\"\n", sqlite_source(&path)));
        let id = world.start().create("app", &[])["id"].as_str().expect("id").to_owned();
        let backed_up = contents(&path);
        sqlite3(
            &path,
            "DELETE FROM t WHERE id > 4000; UPDATE t SET body = hex(randomblob(500)); CREATE TABLE later(n); INSERT INTO later VALUES (7)",
        );
        let changed = contents(&path);
        Self { world, path, id, backed_up, changed }
    }

    fn now(&self) -> String {
        contents(&self.path)
    }

    /// Whether nobody is at work with it any more.
    fn is_settled(&self) -> bool {
        fs::read_dir(self.world.path().join("state/restores")).map_or(0, Iterator::count) == 0
    }

    /// The files beside the database, but for those of SQLite.
    fn beside(&self) -> Vec<PathBuf> {
        let folder = fs::read_dir(self.path.parent().expect("a folder")).expect("list");
        let files = folder.map(|file| file.expect("a file").path());
        files.filter(|file| !file.to_str().expect("UTF-8").contains("/app.db")).collect()
    }

    fn undo(&self, daemon: &Daemon, job: u64) {
        daemon.ctl(&["restore", "undo", &job.to_string(), "--yes"]).ok();
    }

    /// Puts everything back as it was after [`Changed::new`].
    fn reset(&self, daemon: &Daemon) {
        for job in undoable(daemon) {
            if self.now() != self.changed {
                self.undo(daemon, job);
            }
        }
        for job in undoable(daemon) {
            daemon.ctl(&["restore", "forget", &job.to_string(), "--yes"]).ok();
        }
        assert!(self.now() == self.changed);
        assert_eq!(self.beside(), Vec::<PathBuf>::new());
    }
}

/// Everything in it, its journal mode, and that SQLite finds it sound.
fn contents(path: &Path) -> String {
    sqlite3(path, "PRAGMA journal_mode; PRAGMA integrity_check") + &sqlite3(path, ".dump")
}

/// The jobs that can be undone.
fn undoable(daemon: &Daemon) -> Vec<u64> {
    let list = daemon.ctl(&["restore", "undo", "--json"]).ok().json();
    list.as_array().expect("a list").iter().map(|undo| undo["job"].as_u64().expect("a number")).collect()
}

/// An application with the database open: a sqlite3 that is told what to do, line by line.
struct Application {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Application {
    fn open(path: &Path) -> Self {
        let mut command = Command::new("sqlite3");
        command.args(["-bail", "-cmd", ".timeout 20000"]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("start sqlite3");
        let (input, output) = (process.stdin.take().expect("piped"), process.stdout.take().expect("piped"));
        Self { process, input, output: BufReader::new(output) }
    }

    /// Runs SQL and gives the last line that it prints.
    fn ask(&mut self, sql: &str) -> String {
        writeln!(self.input, "{sql};\n.print end").expect("write");
        let mut last = String::new();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).expect("read") > 0, "sqlite3 ended at {sql}");
            if line == "end\n" {
                return last.trim_end().to_owned();
            }
            last = line;
        }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_restore_in_place_is_undone_and_redone() {
    for mode in MODES {
        let it = Changed::new(mode);
        let daemon = it.world.start();
        let mut application = Application::open(&it.path);
        assert_eq!(application.ask("SELECT count(*) FROM t"), "4000");
        let inode = fs::metadata(&it.path).expect("stat").ino();
        let plan = daemon.ctl(&["restore", "app@latest", "--dry-run"]).ok();
        for words in [
            "in place of the present file",
            "main.later: 1 rows now, no table in the backup",
            "main.t: 4 000 rows now",
            "one transaction",
            "Undo: for 3d",
        ] {
            assert!(plan.text().contains(words), "{words}: {plan}");
        }
        assert!(it.now() == it.changed, "a plan touches nothing");

        let restored = daemon.ctl(&["restore", &it.id, "--yes"]).ok();
        for words in ["kept as ", "srv/.app.db.before_", "backupctl restore undo "] {
            assert!(restored.text().contains(words), "{restored}");
        }
        assert!(it.now() == it.backed_up);
        assert_eq!(application.ask("SELECT count(*) FROM t"), "6000", "in mode {mode}");
        application.ask("INSERT INTO t VALUES (9000, 'x'); DELETE FROM t WHERE id = 9000");
        assert_eq!(fs::metadata(&it.path).expect("stat").ino(), inode);
        // What was replaced was backed up first, too.
        let newest = daemon.list().into_iter().next().expect("a backup");
        assert_eq!(newest["tags"], serde_json::json!(["pre-restore"]));
        let copy = it.world.path().join("copy.db");
        daemon
            .ctl(&["restore", newest["id"].as_str().expect("id"), "--to", copy.to_str().expect("path"), "--yes"])
            .ok();
        assert!(contents(&copy) == it.changed);

        let status = daemon.ctl(&["status"]).ok();
        assert!(status.text().contains("Undo: 1 replaced database kept, "), "{status}");
        let listed = daemon.ctl(&["restore", "undo", "--json"]).ok().json();
        assert!(listed[0]["bytes"].as_u64() > Some(1 << 20), "{listed}");
        assert_eq!(listed[0]["target"].as_str(), it.path.to_str());
        let job = undoable(&daemon)[0].to_string();
        let plan = daemon.ctl(&["restore", "undo", &job, "--dry-run"]).ok();
        assert!(plan.text().contains(".app.db.before_") && plan.text().contains("keep what it holds"), "{plan}");
        let undone = daemon.ctl(&["restore", "undo", &job, "--yes"]).ok();
        assert!(undone.text().contains("app.db is as it was before job"), "{undone}");
        assert!(it.now() == it.changed);
        assert_eq!(application.ask("SELECT count(*) FROM t"), "4000");
        daemon.ctl(&["restore", "undo", &job, "--yes"]).fails_with(ErrorCode::NoSuchJob);
        it.undo(&daemon, undoable(&daemon)[0]);
        assert_eq!(application.ask("SELECT count(*) FROM t"), "6000");
        assert!(it.now() == it.backed_up);
        assert_eq!(it.beside().len(), 1);
        it.reset(&daemon);
        assert!(daemon.stop().success());
        assert_eq!(it.world.leftovers(), Vec::<PathBuf>::new());
    }
}

#[test]
fn another_file_is_replaced_only_when_that_is_said_and_has_no_backup() {
    let it = Changed::new("WAL");
    let daemon = it.world.start();
    let other = it.world.path().join("other.db");
    sqlite3(&other, "CREATE TABLE o(x); INSERT INTO o VALUES (1)");
    let to = other.to_str().expect("UTF-8");
    let before = daemon.ids().len();
    daemon.ctl(&["restore", &it.id, "--to", to, "--yes"]).fails_with(ErrorCode::TargetExists);
    daemon
        .ctl(&["restore", &it.id, "--to", to, "--replace", "--no-undo", "--yes"])
        .fails_with(ErrorCode::RestoreRefused);
    daemon
        .ctl(&["restore", &it.id, "--to", to, "--replace", "--owner", "root", "--yes"])
        .fails_with(ErrorCode::RestoreRefused);
    assert_eq!(sqlite3(&other, "SELECT x FROM o"), "1");
    daemon.ctl(&["restore", &it.id, "--to", to, "--replace", "--yes"]).ok();
    assert_eq!(sqlite3(&other, "PRAGMA journal_mode; SELECT count(*) FROM t"), "delete\n6000");
    assert_eq!(daemon.ids().len(), before, "it is not what the source backs up");
    it.undo(&daemon, undoable(&daemon)[0]);
    assert_eq!(sqlite3(&other, "SELECT x FROM o"), "1");
    it.world.offline(&["restore", &it.id, "--to", to, "--yes"]).fails_with(ErrorCode::TargetExists);
    it.world.offline(&["restore", &it.id, "--to", to, "--replace", "--yes"]).fails_with(ErrorCode::InvalidArgs);
}

#[test]
fn a_plan_is_carried_out_as_it_was_shown_or_not_at_all() {
    let it = Changed::new("WAL");
    let daemon = it.world.start();
    let plan = || {
        daemon.ctl(&["restore", &it.id, "--no-backup", "--dry-run", "--json"]).ok().json()["id"]
            .as_str()
            .expect("id")
            .to_owned()
    };
    let stale = plan();
    let aside = it.path.with_extension("aside");
    fs::rename(&it.path, &aside).expect("rename");
    sqlite3(&it.path, "CREATE TABLE another(x)");
    let refused = daemon.ctl(&["restore", "--apply", &stale]);
    refused.fails_with(ErrorCode::RestoreRefused);
    refused.says(&["has changed", "replaces"]);
    fs::rename(&aside, &it.path).expect("rename");
    let fresh = plan();
    // Rows come and go; that makes no other plan of it.
    sqlite3(&it.path, "INSERT INTO later VALUES (8)");
    daemon.ctl(&["restore", "--apply", &fresh]).ok();
    assert!(it.now() == it.backed_up);
    it.undo(&daemon, undoable(&daemon)[0]);
    assert_eq!(sqlite3(&it.path, "SELECT count(*) FROM later"), "2");
}

#[test]
fn a_writer_meets_no_error_and_none_of_its_transactions_is_cut() {
    for mode in MODES {
        let world = World::without_sources();
        let path = accounts(&world, "bank", mode);
        let daemon = world.start();
        let writer = Writer::start(&path);
        let highest = || sqlite3(&path, "SELECT coalesce(max(id), 0) FROM account").parse::<u64>().expect("a number");
        wait_until("the writer writes", || highest() > 20);
        let id = daemon.create("bank", &[])["id"].as_str().expect("id").to_owned();
        let backed_up = highest();
        wait_until("the writer goes on", || highest() > backed_up + 20);
        daemon.ctl(&["restore", &id, "--no-backup", "--yes"]).ok();
        let restored = highest();
        wait_until("the writer goes on", || highest() > restored);
        assert_eq!(writer.kill(), "", "the writer met no error in mode {mode}");
        let sound = "SELECT sum(amount) FROM account; PRAGMA integrity_check";
        assert_eq!(sqlite3(&path, sound), "0\nok", "in mode {mode}");
        it_is_sound_after_the_undo(&daemon, &path, sound);
    }
}

fn it_is_sound_after_the_undo(daemon: &Daemon, path: &Path, sound: &str) {
    let job = undoable(daemon)[0].to_string();
    daemon.ctl(&["restore", "undo", &job, "--yes"]).ok();
    assert_eq!(sqlite3(path, sound), "0\nok");
}

#[test]
fn who_holds_a_transaction_is_waited_for() {
    for (mode, held) in
        [("DELETE", "BEGIN; SELECT count(*) FROM t"), ("DELETE", "BEGIN IMMEDIATE"), ("WAL", "BEGIN IMMEDIATE")]
    {
        let it = Changed::new(mode);
        let daemon = it.world.start();
        let mut application = Application::open(&it.path);
        application.ask(held);
        daemon.ctl(&["restore", &it.id, "--no-backup", "--yes"]).fails_with(ErrorCode::DatabaseBusy);
        assert!(it.is_settled() && it.beside().is_empty(), "{:?}", it.beside());
        application.ask("COMMIT");
        assert!(it.now() == it.changed);
        application.ask(held);
        let client = daemon.ctl_in_background(&["restore", &it.id, "--no-backup", "--yes"]);
        application.ask("COMMIT");
        client.join().expect("client").ok();
        assert!(it.now() == it.backed_up);
    }
}

#[test]
fn an_undo_copy_is_dropped_when_its_time_is_over() {
    let it = Changed::new("WAL");
    let repository = it.world.repository();
    it.world.configure(&format!("[repository]\npath = \"{}\"\n[undo]\nkeep = \"2s\"\n", repository.display()));
    let daemon = it.world.start();
    daemon.ctl(&["restore", &it.id, "--yes"]).ok();
    wait_until("the undo copy is dropped", || it.beside().is_empty() && undoable(&daemon).is_empty());
    assert!(it.now() == it.backed_up);
}

#[test]
fn what_is_missing_or_no_database_gets_a_file() {
    let it = Changed::new("WAL");
    let daemon = it.world.start();
    fs::remove_file(&it.path).expect("lose it");
    daemon.ctl(&["restore", &it.id, "--yes"]).ok();
    assert!(it.now() == it.backed_up);
    assert_eq!(undoable(&daemon), Vec::<u64>::new());
    fs::write(&it.path, "a text\n".repeat(1000)).expect("write");
    let plan = daemon.ctl(&["restore", &it.id, "--dry-run"]).ok();
    assert!(plan.text().contains("is no database"), "{plan}");
    daemon.ctl(&["restore", &it.id, "--no-undo", "--yes"]).fails_with(ErrorCode::RestoreRefused);
    daemon.ctl(&["restore", &it.id, "--yes"]).ok();
    assert!(it.now() == it.backed_up);
    it.undo(&daemon, undoable(&daemon)[0]);
    assert_eq!(fs::read_to_string(&it.path).expect("read"), "a text\n".repeat(1000));
    it.undo(&daemon, undoable(&daemon)[0]);
    // A file that another takes the name of is closed first, which ends its WAL mode.
    sqlite3(&it.path, "PRAGMA journal_mode = WAL");
    assert!(it.now() == it.backed_up);
    // What is damaged cannot be backed up, but replaced.
    let mut bytes = fs::read(&it.path).expect("read");
    bytes[40_960..45_000].fill(0x5a);
    fs::write(&it.path, &bytes).expect("damage");
    let refused = daemon.ctl(&["restore", &it.id, "--yes"]);
    refused.fails_with(ErrorCode::RestoreRefused);
    refused.says(&["malformed", "--no-backup"]);
    assert!(fs::read(&it.path).expect("read") == bytes);
    daemon.ctl(&["restore", &it.id, "--no-backup", "--yes"]).ok();
    assert!(it.now() == it.backed_up);
}

#[test]
fn a_full_disk_changes_nothing() {
    for mode in MODES {
        let mut it = Changed::new(mode);
        for place in ["image-written", "file-copied", "file-half-written"] {
            it.world.set_env("BACKUPD_FAIL_POINT", format!("{place}=full"));
            let daemon = it.world.start();
            daemon.ctl(&["restore", &it.id, "--no-backup", "--yes"]).fails_with(ErrorCode::NoSpace);
            assert!(it.now() == it.changed, "at {place} in mode {mode}");
            assert!(it.is_settled() && it.beside().is_empty(), "at {place}: {:?}", it.beside());
            assert!(undoable(&daemon).is_empty());
        }
    }
}

/// Kills the daemon at a place of `command`, and lets the next one settle.
fn kill_at(it: &mut Changed, place: &str, command: &[&str]) -> Daemon {
    it.world.set_env("BACKUPD_FAIL_POINT", format!("{place}=kill"));
    let mut daemon = it.world.start();
    let client = daemon.ctl_in_background(command);
    assert_eq!(daemon.wait().signal(), Some(Signal::SIGKILL as i32), "at {place}");
    drop(daemon);
    it.world.unset_env("BACKUPD_FAIL_POINT");
    let daemon = it.world.start();
    assert!(!client.join().expect("client").status.success(), "the job was killed at {place}");
    wait_until("everything is settled", || it.is_settled());
    daemon
}

#[test]
fn the_daemon_is_killed_at_every_step_of_a_restore() {
    for mode in MODES {
        let mut it = Changed::new(mode);
        let id = it.id.clone();
        for place in BEFORE.iter().chain(AFTER) {
            let after = AFTER.contains(place);
            let mut application = Application::open(&it.path);
            application.ask("SELECT count(*) FROM t");
            let daemon = kill_at(&mut it, place, &["restore", &id, "--yes", "--no-backup"]);
            assert!(it.now() == *if after { &it.backed_up } else { &it.changed }, "after {place} in mode {mode}");
            assert_eq!(application.ask("SELECT count(*) FROM t"), if after { "6000" } else { "4000" }, "at {place}");
            assert_eq!(undoable(&daemon).len(), usize::from(after), "after {place}");
            it.reset(&daemon);
            assert!(daemon.stop().success());
        }
    }
}

#[test]
fn the_daemon_is_killed_at_every_step_of_an_undo() {
    for mode in MODES {
        let mut it = Changed::new(mode);
        for place in UNDO_BEFORE.iter().chain(UNDO_AFTER) {
            let after = UNDO_AFTER.contains(place);
            let daemon = it.world.start();
            daemon.ctl(&["restore", &it.id, "--yes", "--no-backup"]).ok();
            let job = undoable(&daemon)[0].to_string();
            assert!(daemon.stop().success());
            let daemon = kill_at(&mut it, place, &["restore", "undo", &job, "--yes"]);
            assert!(it.now() == *if after { &it.changed } else { &it.backed_up }, "after {place} in mode {mode}");
            assert_eq!(undoable(&daemon).len(), 1, "after {place}");
            assert_eq!(it.beside().len(), 1, "after {place}: {:?}", it.beside());
            it.reset(&daemon);
            assert!(daemon.stop().success());
        }
    }
}
