//! A daemon that is not root, and a database that belongs to another user: what is missing is said as commands, these
//! commands are enough, and the application is not locked out of what SQLite makes beside its database.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::Path,
    process::Command,
};

use backupd::model::error_code::ErrorCode;
use nix::unistd::User;

use super::sqlite::sqlite3;
use crate::common::{Daemon, Finished, World, run, sqlite_source};

/// Two users that every Debian has and that own nothing that matters.
const DAEMON: &str = "nobody";
const APPLICATION: &str = "games";

fn user(name: &str) -> (u32, u32) {
    let user = User::from_name(name).expect("the users").unwrap_or_else(|| panic!("there is no user {name}"));
    (user.uid.as_raw(), user.gid.as_raw())
}

fn as_user(name: &str, program: &str) -> Command {
    let (uid, gid) = user(name);
    let mut command = Command::new(program);
    command.uid(uid).gid(gid);
    command
}

fn give(path: &Path, name: &str) {
    let (uid, gid) = user(name);
    std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("chown");
}

fn application(path: &Path, sql: &str) -> Finished {
    run(as_user(APPLICATION, "sqlite3").arg("-bail").arg(path).arg(sql))
}

/// The job that can be undone.
fn undoable_job(daemon: &Daemon) -> String {
    daemon.ctl(&["restore", "undo", "--json"]).ok().json()[0]["job"].to_string()
}

/// The commands in the message of a refused backup or restore.
fn commands_in(message: &str) -> String {
    let start = message.find("setfacl").unwrap_or_else(|| panic!("no command in {message}"));
    message[start..].lines().next().expect("a line").to_owned()
}

#[test]
fn the_rights_that_are_printed_are_enough_and_lock_nobody_out() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not run: only root can be two users");
        return;
    }
    for mode in ["WAL", "DELETE"] {
        let mut world = World::without_sources();
        let outer = world.path().join("srv of the app");
        let folder = outer.join("data");
        fs::create_dir_all(&folder).expect("make a folder");
        for path in [&outer, &folder] {
            give(path, APPLICATION);
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("chmod");
        }
        let path = folder.join("app.db");
        application(&path, &format!("PRAGMA journal_mode = {mode}; CREATE TABLE t(x); INSERT INTO t VALUES (1)")).ok();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        world.source("app", &sqlite_source(&path));
        give(world.path(), DAEMON);
        world.run_as(user(DAEMON));
        let daemon = world.start();

        let refused = daemon.ctl(&["create", "app"]);
        refused.fails_with(ErrorCode::DatabasePermission);
        // One refusal may show only what can be seen without the rights it asks for.
        let mut granted = 0;
        let mut last = refused;
        while !last.status.success() {
            assert!(granted < 3, "the commands are not enough: {last}");
            run(Command::new("sh").args(["-e", "-c", &commands_in(&last.stderr)])).ok();
            granted += 1;
            last = daemon.ctl(&["create", "app"]);
        }
        application(&path, "INSERT INTO t VALUES (2)").ok();
        assert_eq!(sqlite3(&path, "SELECT count(*) FROM t"), "2");
        daemon.create("app", &[]);
        application(&path, "INSERT INTO t VALUES (3); PRAGMA integrity_check").ok();
        // They are enough to restore into the file, too, which stays its owner's.
        let owner = || fs::metadata(&path).map(|m| (m.uid(), m.gid(), m.mode(), m.ino())).expect("stat");
        let before = owner();
        daemon.ctl(&["restore", "app@latest", "--yes"]).ok();
        assert_eq!(owner(), before);
        application(&path, "INSERT INTO t VALUES (4)").ok();
        assert_eq!(sqlite3(&path, "SELECT group_concat(x) FROM t"), "1,2,4");
        daemon.ctl(&["restore", "undo", &undoable_job(&daemon), "--yes"]).ok();
        application(&path, "INSERT INTO t VALUES (5)").ok();
        assert_eq!(sqlite3(&path, "SELECT group_concat(x) FROM t"), "1,2,3,5");
        // Without the right to write, the plan says what helps.
        run(Command::new("setfacl").args(["-m", &format!("u:{DAEMON}:r")]).arg(&path)).ok();
        let refused = daemon.ctl(&["restore", "app@latest", "--yes"]);
        refused.fails_with(ErrorCode::RestoreRefused);
        run(Command::new("sh").args(["-e", "-c", &commands_in(&refused.stderr)])).ok();
        daemon.ctl(&["restore", "app@latest", "--yes"]).ok();
        run(Command::new("setfacl").args(["-m", &format!("u:{DAEMON}:rx")]).arg(&folder)).ok();
        let plan = daemon.ctl(&["restore", "app@latest", "--dry-run"]);
        plan.fails_with(ErrorCode::RestoreRefused);
        assert!(plan.text().contains("setfacl -m u:nobody:rwx"), "{plan}");
    }
}

#[test]
fn files_that_would_lock_the_application_out_are_never_made() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not run: only root can be two users");
        return;
    }
    let mut world = World::without_sources();
    let folder = world.path().join("open");
    fs::create_dir(&folder).expect("make a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("chmod");
    let path = folder.join("app.db");
    application(&path, "PRAGMA journal_mode = WAL; CREATE TABLE t(x)").ok();
    // Everybody may read it and make files beside it, but what the daemon makes would be its own.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
    world.source("app", &sqlite_source(&path));
    give(world.path(), DAEMON);
    world.run_as(user(DAEMON));
    let daemon = world.start();
    let refused = daemon.ctl(&["create", "app"]);
    refused.fails_with(ErrorCode::DatabasePermission);
    assert!(refused.stderr.contains("could not be used by its owner's application"), "{refused}");
    assert_eq!(fs::read_dir(&folder).expect("list").count(), 1, "nothing was left beside the database");
    application(&path, "INSERT INTO t VALUES (1)").ok();
}
