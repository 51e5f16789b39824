//! Whom the daemon's own socket lets in: root and the daemon's user, by what the kernel says of the other end.

use std::{
    fs::Permissions,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
};

use backupd::bus::proxy::{ManagerProxy, connect_peer};

use crate::{
    process::Process,
    support::{Daemon, address},
};

/// The user of the daemon, and one who has nothing to do with it.
const DAEMON: u32 = 65533;
const OTHER: u32 = 65534;

/// Not a test: what other tests run as another user.
#[test]
#[ignore = "run by other tests"]
fn probe() {
    let Ok(socket) = std::env::var("BACKUPD_TEST_PROBE") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let asked = runtime.block_on(async { ManagerProxy::new(&connect_peer(&socket).await?).await?.list_jobs(0).await });
    match asked {
        Ok(_) => println!("probe: answered"),
        Err(error) => println!("probe: {error}"),
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A copy of this program where other users may run it. Another process makes it: while this one has it open for writing,
/// a child that another test starts inherits that, and "text file busy" is what running it then gives.
pub(crate) fn copy_of_this_program(folder: &Path) -> PathBuf {
    let program = folder.join("program");
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status().unwrap();
    assert!(copied.success());
    set_mode(&program, 0o755);
    program
}

/// This program, as a user; it must be where that one may read it.
pub(crate) fn as_user(uid: u32, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={uid}"), &format!("--regid={uid}"), "--clear-groups"]).arg(program);
    command
}

/// What a user gets to see who connects to this socket. File permissions keep nobody away: they are opened.
async fn probe_as(uid: u32, folder: &Path) -> String {
    let (program, socket) = (folder.join("program"), folder.join("socket"));
    if !program.exists() {
        copy_of_this_program(folder);
    }
    set_mode(folder, 0o755);
    set_mode(&socket, 0o666);
    let mut command = as_user(uid, &program);
    command.args(["--exact", "users::probe", "--ignored", "--nocapture"]);
    command.env("BACKUPD_TEST_PROBE", address(&socket));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.split_once("probe: ")).unwrap_or_else(|| panic!("{text}"));
    line.1.to_owned()
}

/// The connection was made, and closed by the daemon before it was of use.
fn is_rejection(seen: &str) -> bool {
    ["rejected by the server", "Broken pipe", "Connection reset"].iter().any(|how| seen.contains(how))
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root can become another user");
    }
    root
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roots_daemon_turns_everybody_else_away() {
    if !is_root() {
        return;
    }
    let daemon = Daemon::start();
    let seen = probe_as(OTHER, daemon.folder.path()).await;
    assert!(is_rejection(&seen), "another user was not turned away: {seen}");
    assert_eq!(probe_as(0, daemon.folder.path()).await, "answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_daemon_lets_that_user_and_root_in() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = copy_of_this_program(folder.path());
    set_mode(folder.path(), 0o755);
    chown(folder.path(), Some(DAEMON), Some(DAEMON)).unwrap();
    let process = Process::start_by(as_user(DAEMON, &program), folder, &[]);
    process.manager().await.list_jobs(0).await.expect("root is let in");
    assert_eq!(probe_as(DAEMON, process.folder.path()).await, "answered");
    let seen = probe_as(OTHER, process.folder.path()).await;
    assert!(is_rejection(&seen), "another user was not turned away: {seen}");
}
