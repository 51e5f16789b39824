//! A restore in place and its undo. Whatever is killed at whatever step, the name belongs to a complete database, either
//! the one before or the one after, and the one before can be had back.

use std::{fs, os::unix::process::ExitStatusExt, path::Path};

use backupd::model::ErrorCode;
use nix::sys::signal::Signal;

use crate::common::{Daemon, Finished, Server, World, dump_of, postgres_source, wait_until};

/// What somebody did to the sample after the backup, and what the restore shall undo.
const CHANGE: &str = "CREATE TABLE later (n int); INSERT INTO later SELECT generate_series(1, 7); CREATE VIEW odd AS SELECT * FROM later";

/// The steps of a restore in place, before and after the instant of the swap.
const BEFORE: &[&str] = &[
    "restore-created",
    "restore-data",
    "restore-postdata",
    "swap-planned",
    "swap-closed",
    "swap-disconnected",
    "swap-renamed",
];
const AFTER: &[&str] = &["swap-committed", "restore-renamed"];

/// The steps of an undo.
const UNDO_BEFORE: &[&str] = &["undo-planned", "swap-closed", "swap-disconnected", "swap-renamed"];
const UNDO_AFTER: &[&str] = &["undo-swapped", "undo-noted"];

/// The database without what a crash of the server changes: the values of sequences, which skip ahead, and the rows of
/// unlogged tables.
fn state(server: &Server) -> String {
    let dump = dump_of(server, "shop", &["--no-unlogged-table-data"]);
    dump.lines().filter(|line| !line.contains("pg_catalog.setval(")).collect::<Vec<_>>().join("\n")
}

/// A server with a database that was backed up and changed, and how it looked at both times.
struct Changed {
    server: Server,
    world: World,
    id: String,
    backed_up: String,
    changed: String,
}

impl Changed {
    fn new() -> Self {
        let server = Server::with_sample();
        let world = World::new(&server);
        let daemon = world.start();
        let id = daemon.create("shop", &[])["id"].as_str().expect("id").to_owned();
        let backed_up = state(&server);
        server.sql("shop", CHANGE);
        let changed = state(&server);
        drop(daemon);
        Self { server, world, id, backed_up, changed }
    }

    fn shop(&self) -> String {
        state(&self.server)
    }

    /// Whether nobody is at work with the databases any more.
    fn is_settled(&self) -> bool {
        let entries = fs::read_dir(self.world.path().join("state/restores")).map_or(0, Iterator::count);
        let half = r"SELECT count(*) FROM pg_database WHERE datname LIKE '%\_\_restore\_%'";
        entries == 0 && self.server.sql("postgres", half) == "0"
    }

    /// The jobs that can be undone.
    fn undoable(daemon: &Daemon) -> Vec<u64> {
        let list = daemon.ctl(&["restore", "undo", "--json"]).ok().json();
        list.as_array().expect("a list").iter().map(|undo| undo["job"].as_u64().expect("a number")).collect()
    }

    /// Restores in place, with a daemon of its own; gives the job.
    fn restored(&self) -> String {
        let daemon = self.world.start();
        daemon.ctl(&["restore", &self.id, "--yes", "--no-backup"]).ok();
        let job = Self::undoable(&daemon)[0].to_string();
        assert!(daemon.stop().success());
        job
    }

    /// How many databases are kept.
    fn kept(&self) -> String {
        self.server.sql("postgres", r"SELECT count(*) FROM pg_database WHERE datname LIKE '%\_\_before\_%'")
    }

    /// Puts everything back as it was after [`Changed::new`].
    fn reset(&self, daemon: &Daemon) {
        for job in Self::undoable(daemon) {
            if self.shop() != self.changed {
                daemon.ctl(&["restore", "undo", &job.to_string(), "--yes"]).ok();
            }
        }
        for job in Self::undoable(daemon) {
            daemon.ctl(&["restore", "forget", &job.to_string(), "--yes"]).ok();
        }
        assert_eq!(self.shop(), self.changed);
        assert_eq!(self.kept(), "0");
    }
}

#[test]
fn a_restore_in_place_is_undone_and_redone() {
    let it = Changed::new();
    let daemon = it.world.start();
    let plan = daemon.ctl(&["restore", "shop@latest", "--dry-run"]).ok();
    for words in
        ["in place of the present database shop", "public.later: 7 rows now, no table in the backup", "one transaction"]
    {
        assert!(plan.text().contains(words), "{plan}");
    }
    assert_eq!(it.shop(), it.changed, "a plan touches nothing");

    let restored = daemon.ctl(&["restore", &it.id, "--yes"]).ok();
    for words in ["kept as shop__before_", "backupctl restore undo "] {
        assert!(restored.text().contains(words), "{restored}");
    }
    assert_eq!(it.shop(), it.backed_up);
    // What was replaced was backed up first, too.
    let newest = daemon.list().into_iter().next().expect("a backup");
    assert_eq!(newest["tags"], serde_json::json!(["pre-restore"]));
    let again = daemon.ctl(&["restore", "shop@latest", "--dry-run"]).ok();
    assert!(again.text().contains("what an earlier restore was about to replace"), "{again}");
    daemon.ctl(&["restore", newest["id"].as_str().expect("id"), "--to", "copy", "--yes"]).ok();
    assert_eq!(it.server.sql("copy", "SELECT count(*) FROM odd"), "7");

    let status = daemon.ctl(&["status"]).ok();
    assert!(status.text().contains("Undo: 1 replaced database kept, "), "{status}");
    assert!(daemon.ctl(&["restore", "undo", "--json"]).ok().json()[0]["bytes"].as_u64() > Some(1 << 20));
    let job = Changed::undoable(&daemon)[0];
    let plan = daemon.ctl(&["restore", "undo", &job.to_string(), "--dry-run"]).ok();
    assert!(plan.text().contains("Kept as: shop__before_") && plan.text().contains("keep what is"), "{plan}");
    daemon.ctl(&["restore", "undo", &job.to_string(), "--yes"]).ok();
    assert_eq!(it.shop(), it.changed);
    daemon.ctl(&["restore", "undo", &job.to_string(), "--yes"]).fails_with(ErrorCode::NoSuchJob);
    let undo = Changed::undoable(&daemon)[0];
    daemon.ctl(&["restore", "undo", &undo.to_string(), "--yes"]).ok();
    assert_eq!(it.shop(), it.backed_up);
    it.reset(&daemon);
    assert!(daemon.stop().success());
    assert_eq!(it.world.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_plan_is_carried_out_as_it_was_shown_or_not_at_all() {
    let it = Changed::new();
    let daemon = it.world.start();
    let plan = |options: &[&str]| {
        let words = [&["restore", &it.id, "--dry-run", "--json"], options].concat();
        daemon.ctl(&words).ok().json()["id"].as_str().expect("an id").to_owned()
    };
    let stale = plan(&[]);
    it.server.sql("postgres", "ALTER DATABASE shop RENAME TO other; CREATE DATABASE shop");
    let refused = daemon.ctl(&["restore", "--apply", &stale]);
    refused.fails_with(ErrorCode::RestoreRefused);
    refused.says(&["has changed", "replaces"]);
    it.server.sql("postgres", "DROP DATABASE shop; ALTER DATABASE other RENAME TO shop");
    it.server.sql("shop", "INSERT INTO later VALUES (8)");
    let fresh = plan(&["--no-backup"]);
    let before = daemon.ids().len();
    // Rows come and go; that makes no other plan of it.
    it.server.sql("shop", "INSERT INTO later VALUES (9)");
    daemon.ctl(&["restore", "--apply", &fresh]).ok();
    assert_eq!(it.shop(), it.backed_up);
    assert_eq!(daemon.ids().len(), before, "--no-backup was part of the plan");
    daemon.ctl(&["restore", "--apply", "no-such-plan"]).fails_with(ErrorCode::NoSuchPlan);
    daemon.ctl(&["restore", "--apply", &fresh, "--to", "x"]).fails_with(ErrorCode::InvalidArgs);
    let job = Changed::undoable(&daemon)[0].to_string();
    daemon.ctl(&["restore", "undo", &job, "--yes"]).ok();
    assert_eq!(it.server.sql("shop", "SELECT count(*) FROM later"), "9");
}

#[test]
fn without_an_undo_there_is_a_backup() {
    let it = Changed::new();
    let daemon = it.world.start();
    daemon.ctl(&["restore", &it.id, "--no-undo", "--yes"]).ok();
    assert_eq!(it.shop(), it.backed_up);
    assert_eq!((it.kept().as_str(), Changed::undoable(&daemon).len()), ("0", 0));
    let newest = daemon.list()[0]["id"].as_str().expect("id").to_owned();
    daemon.ctl(&["restore", &newest, "--yes"]).ok();
    assert_eq!(it.shop(), it.changed);
    // Where the backup cannot be taken, nothing is touched.
    it.server.sql("shop", "UPDATE pg_class SET relfilenode = 1 WHERE relname = 'later'");
    let before = it.server.sql("postgres", "SELECT oid FROM pg_database WHERE datname = 'shop'");
    let refused = daemon.ctl(&["restore", &it.id, "--yes"]);
    refused.fails_with(ErrorCode::RestoreRefused);
    refused.says(&["--no-backup"]);
    assert_eq!(it.server.sql("postgres", "SELECT oid FROM pg_database WHERE datname = 'shop'"), before);
    daemon.ctl(&["restore", &it.id, "--no-backup", "--yes"]).ok();
    assert_eq!(it.shop(), it.backed_up);
}

#[test]
fn an_undo_copy_is_dropped_when_its_time_is_over() {
    let it = Changed::new();
    let repository = it.world.repository();
    it.world.configure(&format!("[repository]\npath = \"{}\"\n[undo]\nkeep = \"2s\"\n", repository.display()));
    let daemon = it.world.start();
    daemon.ctl(&["restore", &it.id, "--yes"]).ok();
    wait_until("the undo copy is dropped", || it.kept() == "0" && Changed::undoable(&daemon).is_empty());
    assert_eq!(it.shop(), it.backed_up);
}

#[test]
fn hooks_run_around_the_swap() {
    let it = Changed::new();
    let log = it.world.path().join("hooks");
    let hook = |name: &str, rest: &str| {
        let script = format!("echo {name} $BACKUPD_DATABASE $BACKUPD_RESULT >>{}; {rest}", log.display());
        format!("[\"/bin/sh\", \"-c\", {script:?}]")
    };
    let configure = |before: &str| {
        let source = postgres_source(&it.server, "shop");
        let hooks =
            format!("{source}\n[restore]\npre_swap = {}\npost_swap = {}\n", hook("pre", before), hook("post", "true"));
        it.world.source("shop", &hooks);
    };
    configure("echo the pooler does not answer >&2; false");
    let daemon = it.world.start();
    let failed = daemon.ctl(&["restore", &it.id, "--yes"]);
    failed.fails_with(ErrorCode::RestoreFailed);
    failed.says(&["pre_swap", "the pooler does not answer"]);
    assert_eq!(it.shop(), it.changed);
    assert_eq!(fs::read_to_string(&log).expect("log"), "pre shop\npost shop unchanged\n");
    fs::remove_file(&log).expect("log");
    configure("true");
    daemon.ctl(&["reload"]).ok();
    daemon.ctl(&["restore", &it.id, "--yes"]).ok();
    assert_eq!(it.shop(), it.backed_up);
    assert_eq!(fs::read_to_string(&log).expect("log"), "pre shop\npost shop swapped\n");
}

/// Kills the daemon at a place of `command`, and starts the next, which settles what there is to settle.
fn kill_at(it: &mut Changed, place: &str, command: &[&str]) -> Daemon {
    it.world.set_env("BACKUPD_FAIL_POINT", format!("{place}=kill"));
    let mut daemon = it.world.start();
    let client = daemon.ctl_in_background(command);
    assert_eq!(daemon.wait().signal(), Some(Signal::SIGKILL as i32), "at {place}");
    drop(daemon);
    assert!(it.server.has_database("shop"), "at {place}");
    it.world.unset_env("BACKUPD_FAIL_POINT");
    let daemon = it.world.start();
    assert!(!client.join().expect("client").status.success(), "the job was killed at {place}");
    wait_until("everything is settled", || it.is_settled());
    daemon
}

#[test]
fn the_daemon_is_killed_at_every_step_of_a_restore() {
    let mut it = Changed::new();
    let id = it.id.clone();
    for place in BEFORE.iter().chain(AFTER) {
        let after = AFTER.contains(place);
        let daemon = kill_at(&mut it, place, &["restore", &id, "--yes", "--no-backup"]);
        assert_eq!(it.shop(), *if after { &it.backed_up } else { &it.changed }, "after {place}");
        assert_eq!(Changed::undoable(&daemon).len(), usize::from(after), "after {place}");
        it.reset(&daemon);
        assert!(daemon.stop().success());
    }
}

#[test]
fn the_daemon_is_killed_at_every_step_of_an_undo() {
    let mut it = Changed::new();
    for place in UNDO_BEFORE.iter().chain(UNDO_AFTER) {
        let after = UNDO_AFTER.contains(place);
        let job = it.restored();
        let daemon = kill_at(&mut it, place, &["restore", "undo", &job, "--yes"]);
        assert_eq!(it.shop(), *if after { &it.changed } else { &it.backed_up }, "after {place}");
        assert_eq!(Changed::undoable(&daemon).len(), 1, "after {place}");
        it.reset(&daemon);
        assert!(daemon.stop().success());
    }
}

/// Holds the daemon at a place of `command`, lets the server crash and come back, and lets the daemon go on.
fn crash_at(it: &mut Changed, place: &str, command: &[&str]) -> Finished {
    let folder = it.world.path().join("hold");
    fs::create_dir_all(&folder).expect("folder");
    it.world.set_env("BACKUPD_FAIL_POINT", format!("{place}=hold:{}", folder.display()));
    let daemon = it.world.start();
    let client = daemon.ctl_in_background(command);
    let file = |end: &str| Path::new(&folder).join(format!("{place}.{end}"));
    wait_until("the place is reached", || file("reached").exists());
    it.server.restart();
    fs::write(file("go"), "").expect("go");
    let finished = client.join().expect("client");
    wait_until("everything is settled", || it.is_settled());
    it.world.unset_env("BACKUPD_FAIL_POINT");
    assert!(daemon.stop().success());
    fs::remove_dir_all(&folder).expect("folder");
    finished
}

/// The sessions of a restore commit without waiting for the disk: what a crash of the server takes of that must never be
/// published, although the server is there again when the restore goes on.
#[test]
fn what_a_crash_of_the_server_may_have_lost_is_not_published() {
    let mut it = Changed::new();
    let id = it.id.clone();
    for place in ["restore-created", "restore-data", "restore-compared", "restore-postdata"] {
        for command in [&["restore", &id, "--yes", "--to", "copy"][..], &["restore", &id, "--yes", "--no-backup"]] {
            let finished = crash_at(&mut it, place, command);
            assert!(!finished.status.success(), "at {place}: {finished}");
            assert!(!it.server.has_database("copy"), "at {place}");
            assert!(it.shop() == it.changed, "at {place}");
        }
    }
    let beside = crash_at(&mut it, "restore-postdata", &["restore", &id, "--yes", "--table", "shop.customer"]);
    beside.fails_with(ErrorCode::RestoreFailed);
    assert!(it.shop() == it.changed, "tables were added");
}

#[test]
fn the_server_crashes_at_every_step_of_a_restore_and_of_an_undo() {
    let mut it = Changed::new();
    let id = it.id.clone();
    for place in ["swap-planned", "swap-closed", "swap-disconnected", "swap-renamed", "swap-committed"] {
        crash_at(&mut it, place, &["restore", &id, "--yes", "--no-backup"]);
        let daemon = it.world.start();
        let shop = it.shop();
        assert!(shop == it.changed || shop == it.backed_up, "after {place} it is neither");
        it.reset(&daemon);
        assert!(daemon.stop().success());
    }
    for place in ["undo-planned", "swap-closed", "swap-renamed", "undo-swapped"] {
        let job = it.restored();
        crash_at(&mut it, place, &["restore", "undo", &job, "--yes"]);
        let daemon = it.world.start();
        let shop = it.shop();
        assert!(shop == it.changed || shop == it.backed_up, "after {place} it is neither");
        it.reset(&daemon);
        assert!(daemon.stop().success());
    }
}
