//! A daemon of the built program, with folders of its own.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Finished, LIMIT, Scratch, Server, process::Waited, run};

const BACKUPD: &str = env!("CARGO_BIN_EXE_backupd");
const BACKUPCTL: &str = env!("CARGO_BIN_EXE_backupctl");

/// The folders of one daemon: configuration, state, repository, socket. A daemon can be started in it again and again.
#[derive(Debug)]
pub struct World {
    scratch: Scratch,
    environment: Vec<(String, String)>,
    user: Option<(u32, u32)>,
}

impl World {
    /// Folders, with a configuration that has the source `shop`: the database `shop` of this server.
    pub fn new(server: &Server) -> Self {
        let world = Self::without_sources();
        world.source("shop", &postgres_source(server, "shop"));
        world
    }

    /// Folders, with a configuration that has no source.
    pub fn without_sources() -> Self {
        let world = Self { scratch: Scratch::new(), environment: Vec::new(), user: None };
        fs::create_dir_all(world.scratch.join("config/sources.d")).expect("make the configuration's folder");
        world.configure(&format!("[repository]\npath = \"{}\"\n", world.repository().display()));
        world
    }

    /// Writes `backupd.toml`.
    pub fn configure(&self, text: &str) {
        fs::write(self.scratch.join("config/backupd.toml"), text).expect("write backupd.toml");
    }

    /// Writes the file of a source.
    pub fn source(&self, name: &str, text: &str) {
        fs::write(self.scratch.join(format!("config/sources.d/{name}.toml")), text).expect("write a source's file");
    }

    /// Sets a variable for the daemons that are started from now on.
    pub fn set_env(&mut self, name: &str, value: impl Into<String>) {
        self.environment.retain(|(n, _)| n != name);
        self.environment.push((name.to_owned(), value.into()));
    }

    /// Lets daemons run as this user and group from now on, which only root can.
    #[allow(dead_code, reason = "not every test program that has this harness needs another user")]
    pub fn run_as(&mut self, user: (u32, u32)) {
        self.user = Some(user);
    }

    /// Takes such a variable away again.
    pub fn unset_env(&mut self, name: &str) {
        self.environment.retain(|(n, _)| n != name);
    }

    /// The folder of everything.
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// The repository's folder.
    pub fn repository(&self) -> PathBuf {
        self.scratch.join("repository")
    }

    /// The socket of `--listen`.
    pub fn socket(&self) -> PathBuf {
        self.scratch.join("socket")
    }

    /// Starts a daemon and waits until it says that it is ready.
    pub fn start(&self) -> Daemon {
        self.start_timed().0
    }

    /// Starts a daemon that offers its name on the bus of `$DBUS_SYSTEM_BUS_ADDRESS`, too; see [`World::set_env`].
    #[allow(dead_code, reason = "not every test program that has this harness needs a bus")]
    pub fn start_on_system_bus(&self) -> Daemon {
        let mut command = self.backupd_on("system");
        self.start_command(&mut command).0
    }

    /// Starts a daemon; gives it and the time until READY=1.
    pub fn start_timed(&self) -> (Daemon, Duration) {
        self.start_command(&mut self.backupd())
    }

    fn start_command(&self, command: &mut Command) -> (Daemon, Duration) {
        let notify = self.scratch.join("notify");
        let _ = fs::remove_file(&notify);
        let notices = UnixDatagram::bind(&notify).expect("bind the notify socket");
        // A daemon of another user writes to it, too.
        fs::set_permissions(&notify, fs::Permissions::from_mode(0o666)).expect("open the notify socket");
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.scratch.join("daemon.log")).expect("daemon.log");
        let began = Instant::now();
        let child = command
            .env("NOTIFY_SOCKET", &notify)
            .envs(self.environment.iter().map(|(n, v)| (n, v)))
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().expect("daemon.log"))
            .stderr(log)
            .spawn()
            .expect("start backupd");
        let mut daemon = Daemon { process: Waited::new(child), socket: self.socket() };
        daemon.wait_until_ready(&notices, || self.log());
        let took = began.elapsed();
        (daemon, took)
    }

    /// `backupd` with the options that name these folders.
    pub fn backupd(&self) -> Command {
        self.backupd_on("none")
    }

    fn backupd_on(&self, bus: &str) -> Command {
        let mut command = Command::new(BACKUPD);
        command.arg("--config-dir").arg(self.scratch.join("config")).arg("--state-dir").arg(self.scratch.join("state"));
        command.args(["--bus", bus, "--listen", &format!("unix:path={}", self.socket().display())]);
        // Under systemd, as on some build machines, the messages would go to the journal.
        command.env_remove("JOURNAL_STREAM").env_remove("BACKUPD_ADDRESS").env("RUST_BACKTRACE", "0");
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    /// `backupctl --no-daemon --repository …` on this repository.
    pub fn offline(&self, arguments: &[&str]) -> Finished {
        let mut command = Command::new(BACKUPCTL);
        command.arg("--no-daemon").arg("--repository").arg(self.repository()).args(arguments);
        run(&mut command)
    }

    /// What the daemons said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.scratch.join("daemon.log")).unwrap_or_default()
    }

    /// The temporary files in repository and state that stay, which must be none when no job runs. One that a daemon is
    /// about to put in the place of a file of its state, as it does at any time, goes by itself.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            let found = self.temporary_files();
            if found.is_empty() || Instant::now() >= end {
                return found;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn temporary_files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let private =
            [self.scratch.join("state/scratch"), self.repository().join("tmp"), self.repository().join("sessions")];
        for root in [self.repository(), self.scratch.join("state")] {
            walk(&root, &mut |path| {
                let temporary = path.file_name().is_some_and(|name| name.to_string_lossy().contains(".tmp"));
                if temporary || private.iter().any(|folder| path.starts_with(folder)) {
                    found.push(path.to_owned());
                }
            });
        }
        found
    }
}

fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            walk(&entry.path(), visit);
        } else {
            visit(&entry.path());
        }
    }
}

/// The file of a source that is this SQLite database.
pub fn sqlite_source(path: &Path) -> String {
    format!("type = \"sqlite\"\npath = {}\n", toml_string(path.to_str().expect("UTF-8")))
}

/// The file of a source that is this database, read and restored by the superuser.
pub fn postgres_source(server: &Server, database: &str) -> String {
    format!(
        "type = \"postgresql\"\nhost = \"{}\"\nport = 5432\ndatabase = {}\nuser = \"postgres\"\n",
        server.host().display(),
        toml_string(database)
    )
}

/// A TOML basic string; JSON's escapes are a subset of TOML's.
fn toml_string(text: &str) -> String {
    serde_json::to_string(text).expect("a string")
}

/// A running daemon. Dropping it stops it.
#[derive(Debug)]
pub struct Daemon {
    process: Waited,
    socket: PathBuf,
}

impl Daemon {
    fn wait_until_ready(&mut self, notices: &UnixDatagram, log: impl Fn() -> String) {
        notices.set_read_timeout(Some(Duration::from_millis(200))).expect("set a time-out");
        let end = Instant::now() + LIMIT;
        let mut buffer = [0; 4096];
        while Instant::now() < end {
            if let Ok(length) = notices.recv(&mut buffer)
                && String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == "READY=1")
            {
                return;
            }
            if let Some(status) = self.process.within(Duration::ZERO, None) {
                panic!("the daemon ended before it was ready: {status}\n{}", log());
            }
        }
        panic!("the daemon was not ready within {LIMIT:?}\n{}", log());
    }

    /// Runs `backupctl` against this daemon.
    pub fn ctl(&self, arguments: &[&str]) -> Finished {
        run(self.ctl_command().args(arguments))
    }

    /// `backupctl` with the address of this daemon.
    pub fn ctl_command(&self) -> Command {
        let mut command = Command::new(BACKUPCTL);
        command.args(["--address", &format!("unix:path={}", self.socket.display())]).env("LC_ALL", "C.UTF-8");
        command
    }

    /// Runs `backupctl` against this daemon while the test goes on.
    pub fn ctl_in_background(&self, arguments: &[&str]) -> JoinHandle<Finished> {
        let mut command = self.ctl_command();
        command.args(arguments);
        thread::spawn(move || run(&mut command))
    }

    /// The number of the job that runs now.
    #[track_caller]
    pub fn running_job(&self) -> String {
        let jobs = self.ctl(&["jobs", "--json=short"]).ok().json();
        let mut jobs = jobs.as_array().expect("an array").iter();
        jobs.find(|job| job["end_time"].is_null()).expect("a running job")["number"].to_string()
    }

    /// Takes a backup of a source and gives its entry in the listing.
    #[track_caller]
    pub fn create(&self, source: &str, options: &[&str]) -> Value {
        let mut arguments = vec!["create", source];
        arguments.extend(options);
        self.ctl(&arguments).ok();
        self.list()
            .into_iter()
            .filter(|b| b["source"] == source)
            .max_by_key(|b| b["sequence"].as_u64())
            .expect("a backup")
    }

    /// The backups, as `list --json=short` gives them.
    #[track_caller]
    pub fn list(&self) -> Vec<Value> {
        match self.ctl(&["list", "--json=short"]).ok().json() {
            Value::Array(rows) => rows,
            other => panic!("not an array: {other}"),
        }
    }

    /// The ids of the backups, newest first within a source.
    #[track_caller]
    pub fn ids(&self) -> Vec<String> {
        self.list().iter().map(|b| b["id"].as_str().expect("id").to_owned()).collect()
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.process.pid().as_raw()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end, which something else must have caused.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.within(LIMIT, Some(Signal::SIGKILL)).expect("the daemon ended")
    }

    /// Asks it to stop and gives how it ended.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
        let _ = self.process.within(Duration::from_secs(20), Some(Signal::SIGKILL));
    }
}
