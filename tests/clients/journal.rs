//! What journald gets of the built daemon, and what `backupctl log` asks it for.
//!
//! Programs run in a mount namespace whose /run has a socket of the test's in journald's place.

use std::{
    cell::RefCell,
    collections::HashMap,
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::UnixDatagram,
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use backupd::model::message_id;

use crate::common::{Finished, LIMIT, Scratch, World, run, sqlite_source, wait_until};

type Fields = HashMap<String, String>;

/// A socket that a program takes for journald's.
struct Journal {
    socket: UnixDatagram,
    folder: Scratch,
    waiting: RefCell<Vec<Fields>>,
}

impl Journal {
    fn start() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root can put another journal in its place");
            return None;
        }
        let folder = Scratch::new();
        let socket = UnixDatagram::bind(folder.join("socket")).expect("bind the journal's socket");
        socket.set_read_timeout(Some(LIMIT)).expect("set a limit");
        Some(Self { socket, folder, waiting: RefCell::default() })
    }

    /// The same command, with that journal.
    fn with(&self, command: &Command) -> Command {
        let script = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal /run/log/journal && \
            mount --bind \"$1\" /run/systemd/journal && shift && exec \"$@\"";
        let mut inside = Command::new("unshare");
        inside.args(["--mount", "sh", "-ec", script, "sh"]).arg(self.folder.path());
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// The next message with this id; others are kept for later, as a call and its job are written down by two threads.
    fn next(&self, id: &str) -> Fields {
        let mut waiting = self.waiting.borrow_mut();
        let is_it = |fields: &Fields| fields.get("MESSAGE_ID").is_some_and(|known| known == id);
        if let Some(position) = waiting.iter().position(is_it) {
            return waiting.remove(position);
        }
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("waiting for {id}: {error}"));
            let fields = parse(&buffer[..length]);
            if is_it(&fields) {
                return fields;
            }
            waiting.push(fields);
        }
    }
}

/// The fields of a message in journald's native protocol: `NAME=value`, or `NAME`, a length and the value.
fn parse(mut message: &[u8]) -> Fields {
    let mut fields = Fields::new();
    while let Some(end) = message.iter().position(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(&message[..end]).into_owned();
        message = &message[end + 1..];
        if let Some((name, value)) = line.split_once('=') {
            fields.insert(name.to_owned(), value.to_owned());
            continue;
        }
        let (length, rest) = message.split_first_chunk::<8>().expect("a length");
        let length = usize::try_from(u64::from_le_bytes(*length)).expect("a length");
        fields.insert(line, String::from_utf8_lossy(&rest[..length]).into_owned());
        message = &rest[length + 1..];
    }
    fields
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_story_of_a_job_is_in_the_journal_with_its_fields() {
    let Some(journal) = Journal::start() else { return };
    let world = World::without_sources();
    let database = world.path().join("shop.db");
    run(Command::new("sqlite3").arg(&database).arg("CREATE TABLE t(n); INSERT INTO t VALUES (1), (2);")).ok();
    world.source("shop", &sqlite_source(&database));
    world.source("broken", "type = \"nothing\"\n");
    // The daemon writes to the journal where its standard error does.
    let log = fs::File::create(world.path().join("stderr.log")).expect("a log");
    let identity = log.metadata().expect("its metadata");
    let mut command = journal.with(&world.backupd());
    command.env("JOURNAL_STREAM", format!("{}:{}", identity.dev(), identity.ino()));
    let _running = Running(command.stderr(log).stdin(Stdio::null()).spawn().expect("start backupd"));
    let ctl = |arguments: &[&str]| -> Finished {
        let address = format!("unix:path={}", world.socket().display());
        run(Command::new(env!("CARGO_BIN_EXE_backupctl")).args(["--address", &address]).args(arguments))
    };

    let disabled = journal.next(message_id::SOURCE_DISABLED);
    assert_eq!((disabled["BACKUPD_SOURCE"].as_str(), disabled["PRIORITY"].as_str()), ("broken", "3"));
    journal.next(message_id::REPOSITORY_OPENED);
    wait_until("the daemon serves", || ctl(&["jobs"]).status.success());
    let created = ctl(&["create", "shop", "--json=short"]).ok().json();

    let started = journal.next(message_id::JOB_STARTED);
    let accepted = journal.next(message_id::CALL_ACCEPTED);
    let succeeded = journal.next(message_id::JOB_SUCCEEDED);
    for message in [&started, &accepted, &succeeded] {
        assert_eq!(message["BACKUPD_SOURCE"], "shop");
        assert_eq!(message["BACKUPD_JOB_NUMBER"], "1");
        assert_eq!(message["BACKUPD_JOB"], created["run_id"].as_str().expect("a run"));
        assert_eq!(message["SYSLOG_IDENTIFIER"], "backupd");
        assert_eq!(message["PRIORITY"], "6");
    }
    assert_eq!([&started["BACKUPD_JOB_TYPE"], &started["BACKUPD_CALLER_UID"]], ["create", "0"]);
    assert_eq!(
        [succeeded["BACKUPD_RESULT"].as_str(), succeeded["BACKUPD_BACKUP"].as_str()],
        ["done", created["backup"].as_str().expect("a backup")]
    );
    assert!(succeeded["BACKUPD_DURATION_USEC"].parse::<u64>().is_ok());
    assert_eq!(accepted["BACKUPD_CALL"], "CreateBackup");
    assert_eq!(accepted["BACKUPD_POLKIT_ACTION"], "org.backupd1.create");
    assert!(accepted["BACKUPD_CALLER_PID"].parse::<u32>().is_ok());

    fs::remove_file(&database).expect("take the database away");
    assert!(!ctl(&["create", "shop"]).status.success());
    let failed = journal.next(message_id::CALL_ACCEPTED);
    assert_eq!([&failed["BACKUPD_RESULT"], &failed["BACKUPD_ERROR"]], ["failed", "NoSuchDatabase"]);
    fs::write(world.path().join("config/backupd.toml"), "nonsense").expect("break the configuration");
    assert!(!ctl(&["reload"]).status.success());
    assert_eq!(journal.next(message_id::RELOAD_FAILED)["BACKUPD_ERROR"], "ConfigInvalid");
}

#[test]
fn backupctl_log_is_journalctl_with_the_matches() {
    let Some(journal) = Journal::start() else { return };
    let tools = Scratch::new();
    let fake = tools.join("journalctl");
    fs::write(&fake, "#!/bin/sh\necho \"$*\"\n").expect("write a journalctl");
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).expect("let it run");
    let log = |path: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backupctl"));
        command.args(["log", "12", "-n", "3"]);
        run(journal.with(&command).env("PATH", path))
    };
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", tools.path().display());
    assert_eq!(log(&path).ok().text(), "--unit backupd.service --lines=3 BACKUPD_JOB_NUMBER=12\n");
    if !JOURNALS.iter().any(|folder| Path::new(folder).exists()) {
        let missing = run(Command::new(env!("CARGO_BIN_EXE_backupctl")).arg("log"));
        assert_eq!(missing.status.code(), Some(36));
        assert!(missing.stderr.contains("there is no journal on this host"), "{missing}");
    }
}

const JOURNALS: [&str; 2] = ["/var/log/journal", "/run/log/journal"];
