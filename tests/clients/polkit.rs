//! The built daemon, not as root, with the real polkitd: the policy file and the sample rule that are shipped, by user.
//!
//! polkitd runs in a mount namespace of its own, in which the folders of actions and rules are the test's.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{
    common::{Daemon, Finished, Scratch, World, project_file, run, sqlite_source, wait_until},
    message_bus::MessageBus,
};

/// Users that Debian always has, each in a group of its own name: who runs the daemon, who is in the operators' group,
/// and who is nothing.
const DAEMON: &str = "daemon";
const OPERATOR: &str = "games";
const PLAIN: &str = "nobody";

fn number(user: &str, what: &str) -> u32 {
    let output = run(Command::new("id").args([what, user]));
    output.ok().text().trim().parse().expect("a number")
}

/// polkitd on a bus of its own, with our actions and rules.
struct Polkit {
    process: Child,
    _folder: Scratch,
}

impl Polkit {
    fn start(bus: &MessageBus) -> Self {
        let folder = Scratch::new();
        for name in ["actions", "rules", "none"] {
            fs::create_dir(folder.join(name)).expect("a folder");
            fs::set_permissions(folder.join(name), Permissions::from_mode(0o755)).expect("open it");
        }
        let policy = fs::read_to_string(project_file("systemd/org.backupd1.policy")).expect("the policy");
        // The user that owns the actions is the one that runs the daemon.
        let policy = policy.replace("unix-user:backupd", &format!("unix-user:{DAEMON}"));
        fs::write(folder.join("actions/org.backupd1.policy"), policy).expect("write the policy");
        let rule = fs::read_to_string(project_file("docs/examples/50-backup-operators.rules")).expect("the rule");
        let rule = rule.replace("\"backup-operators\"", &format!("\"{OPERATOR}\""));
        fs::write(folder.join("rules/50-backup-operators.rules"), rule).expect("write the rule");
        let polkitd = ["/usr/lib/polkit-1/polkitd", "/usr/libexec/polkitd"];
        let polkitd = polkitd.into_iter().find(|path| Path::new(path).exists()).expect("polkitd is installed");
        let script = "mount --bind \"$1/actions\" /usr/share/polkit-1/actions && \
            mount --bind \"$1/rules\" /etc/polkit-1/rules.d && mount --bind \"$1/none\" /usr/share/polkit-1/rules.d && \
            exec \"$2\" --no-debug";
        let process = Command::new("unshare")
            .args(["--mount", "sh", "-ec", script, "sh"])
            .arg(folder.path())
            .arg(polkitd)
            .env("DBUS_SYSTEM_BUS_ADDRESS", &bus.address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start polkitd");
        let started = Self { process, _folder: folder };
        wait_until("polkitd is on the bus", || {
            let name = ["org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameHasOwner", "s"];
            let mut command = bus.client("busctl");
            command.args([&format!("--address={}", bus.address), "call"]).args(name);
            run(command.arg("org.freedesktop.PolicyKit1")).ok().text().contains("true")
        });
        started
    }
}

impl Drop for Polkit {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Dropped from the top: the daemon first.
struct Host {
    daemon: Daemon,
    _polkit: Polkit,
    bus: MessageBus,
    world: World,
    backupctl: PathBuf,
}

impl Host {
    /// A daemon of a user of its own with the databases `shop` and `other`.
    fn start() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root can become another user");
            return None;
        }
        let bus = MessageBus::start();
        let polkit = Polkit::start(&bus);
        let mut world = World::without_sources();
        let (user, group) = (number(DAEMON, "-u"), number(DAEMON, "-g"));
        for name in ["shop", "other"] {
            let database = world.path().join(format!("{name}.db"));
            run(Command::new("sqlite3").arg(&database).arg("CREATE TABLE t(n); INSERT INTO t VALUES (1), (2);")).ok();
            chown(&database, Some(user), Some(group)).expect("give the database away");
            world.source(name, &sqlite_source(&database));
        }
        chown(world.path(), Some(user), Some(group)).expect("give the folder away");
        world.set_env("DBUS_SYSTEM_BUS_ADDRESS", &bus.address);
        world.run_as((user, group));
        // Where every user may run it.
        let backupctl = world.path().join("backupctl");
        fs::copy(env!("CARGO_BIN_EXE_backupctl"), &backupctl).expect("copy backupctl");
        let daemon = world.start_on_system_bus();
        Some(Self { daemon, _polkit: polkit, bus, world, backupctl })
    }

    /// `backupctl` on the bus, as this user.
    fn ctl(&self, user: &str, arguments: &[&str]) -> Finished {
        let mut command = self.bus.client("setpriv");
        command.args([
            format!("--reuid={user}"),
            format!("--regid={}", number(user, "-g")),
            "--init-groups".to_owned(),
        ]);
        run(command.arg(&self.backupctl).args(arguments).current_dir("/"))
    }

    /// The lines of the journal, were it one, about calls.
    fn audit(&self) -> Vec<String> {
        let log = self.world.log();
        log.lines().filter(|line| line.contains("BACKUPD_POLKIT_ACTION")).map(ToOwned::to_owned).collect()
    }
}

#[test]
fn on_a_terminal_an_agent_is_there_while_the_daemon_is_called() {
    let Some(host) = Host::start() else { return };
    let folder = Scratch::new();
    // pkttyagent as far as it matters here: it says that it is registered, and ends when it is told to.
    let agent = "#!/bin/bash\necho \"$*\" >> \"$LOG\"\ntrap 'echo ended >> \"$LOG\"; exit 0' TERM\n\
        eval \"exec $4>&-\"\nwhile :; do sleep 0.02; done\n";
    fs::write(folder.join("pkttyagent"), agent).expect("write an agent");
    fs::set_permissions(folder.join("pkttyagent"), Permissions::from_mode(0o755)).expect("let it run");
    let log = folder.join("log");
    fs::write(&log, "").expect("a log");
    fs::set_permissions(&log, Permissions::from_mode(0o666)).expect("let it be written");
    let on_terminal = |user: &str, options: &str| {
        let backupctl = host.backupctl.display();
        let line =
            format!("setpriv --reuid={user} --regid={} --init-groups {backupctl} jobs {options}", number(user, "-g"));
        let mut command = host.bus.client("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("LOG", &log);
        command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", folder.path().display()));
        run(command.stdin(Stdio::null()));
        fs::read_to_string(&log).expect("the log")
    };
    assert_eq!(on_terminal(PLAIN, "--no-ask-password"), "");
    assert_eq!(on_terminal("root", ""), "", "root is never asked");
    let seen = on_terminal(PLAIN, "");
    let words: Vec<&str> = seen.split_whitespace().collect();
    // Whether --fallback is there depends on where the test runs.
    assert_eq!([words[0], words[2], words[words.len() - 1]], ["--process", "--notify-fd", "ended"], "{seen}");
    // Without a terminal nobody is there to be asked.
    host.ctl(PLAIN, &["jobs"]);
    assert_eq!(fs::read_to_string(&log).expect("the log"), seen);
}

#[test]
fn the_shipped_policy_and_the_sample_rule_hold_with_the_real_polkit() {
    let Some(host) = Host::start() else { return };
    // root and the daemon's own user need nobody's leave.
    host.ctl("root", &["create", "shop"]).ok();
    host.ctl(DAEMON, &["create", "other"]).ok();

    // A user without a session or agent must authenticate, and cannot; and that is said.
    let wanted: [&[&str]; 9] = [
        &["list"],
        &["sources"],
        &["create", "shop"],
        &["verify", "--source", "shop"],
        &["restore", "shop@latest", "--to", "/nowhere", "--yes"],
        &["delete", "shop@latest", "--yes"],
        &["export", "shop@latest"],
        &["jobs"],
        &["reload"],
    ];
    for arguments in wanted {
        for option in ["--no-ask-password", "--quiet"] {
            let refused = host.ctl(PLAIN, &[arguments, &[option]].concat());
            assert_eq!(refused.status.code(), Some(77), "{arguments:?}: {}", refused.stderr);
            assert!(refused.stderr.contains("needs authentication for org.backupd1."), "{}", refused.stderr);
            let flag = refused.stderr.contains("ALLOW_INTERACTIVE_AUTHORIZATION");
            assert_eq!(flag, option == "--no-ask-password", "the flag of the message: {}", refused.stderr);
        }
    }
    let refused = host.ctl(PLAIN, &["cancel", "1"]);
    assert!(refused.stderr.contains("org.backupd1.create"), "the action of the job's kind: {}", refused.stderr);

    // The group may do what the rule says, and no more.
    host.ctl(OPERATOR, &["create", "other"]).ok();
    host.ctl(OPERATOR, &["verify", "--source", "shop"]).ok();
    let status = host.ctl(OPERATOR, &["status"]);
    assert!(status.ok().text().contains("Backups: 3"), "properties, too");
    let copy = host.world.path().join("copy.db");
    let copy = copy.to_str().expect("UTF-8");
    host.ctl(OPERATOR, &["restore", "shop@latest", "--to", copy, "--yes"]).ok();
    assert!(fs::metadata(copy).is_ok());
    for arguments in [
        &["restore", "other@latest", "--to", "/nowhere", "--yes"][..],
        &["restore", "shop@latest", "--yes"],
        &["restore", "shop@latest", "--to", copy, "--replace", "--yes"],
        &["delete", "shop@latest", "--yes"],
        &["export", "shop@latest"],
        &["reload"],
    ] {
        let refused = host.ctl(OPERATOR, arguments);
        assert_eq!(refused.status.code(), Some(77), "{arguments:?}: {refused}");
    }
    assert_eq!(host.daemon.ids().len(), 3);

    let audit = host.audit();
    let operator = format!("BACKUPD_CALLER_UID={} ", number(OPERATOR, "-u"));
    let line = |call: &str, who: &str, result: &str| {
        let parts = [format!("BACKUPD_CALL=\"{call}\""), who.to_owned(), format!("BACKUPD_RESULT=\"{result}\"")];
        let found = audit.iter().find(|line| parts.iter().all(|part| line.contains(part)));
        found.unwrap_or_else(|| panic!("no line of {parts:?} in {audit:#?}")).clone()
    };
    let restored = line("RestoreBackup", &operator, "done");
    for part in
        ["org.backupd1.restore", "BACKUPD_SOURCE=\"shop\"", "BACKUPD_BACKUP=", "BACKUPD_JOB=", "BACKUPD_CALLER_PID="]
    {
        assert!(restored.contains(part), "no {part} in {restored}");
    }
    line("DeleteBackup", &operator, "refused");
    line("CreateBackup", "BACKUPD_CALLER_UID=0 ", "done");
}
