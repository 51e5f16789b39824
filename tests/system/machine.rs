//! A booted system, what runs in it, and the packages that are installed there.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::common::{Finished, LIMIT, project_file, run, wait_until};

/// How long a system may take to be up, its image included where it is not there yet.
const UP_LIMIT: Duration = Duration::from_secs(400);

/// The version of the tree's package, and one below it.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "-1");
pub const OLDER: &str = "0.0.1-1";

/// A booted system. Dropping it shuts it down and removes what it wrote.
#[derive(Debug)]
pub struct System {
    keeper: Child,
    /// The system goes down when this is closed, also by our death.
    life: Option<ChildStdin>,
    folder: PathBuf,
}

impl System {
    /// Boots one, if this machine can.
    pub fn boot(suite: &str) -> Option<Self> {
        static CHECKED: OnceLock<Option<String>> = OnceLock::new();
        let why_not = CHECKED.get_or_init(|| {
            let check = run(script().arg("check"));
            (!check.status.success()).then(|| check.text().trim().to_owned())
        });
        if let Some(why) = why_not {
            assert!(std::env::var_os("CI").is_none(), "no system can be booted here: {why}");
            // Not the macro: its output would be kept back, as the test does not fail.
            let _ = writeln!(std::io::stderr(), "SKIPPED: no system can be booted here: {why}");
            return None;
        }
        let mut keeper = script()
            .args(["up", suite])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start tests/scripts/boot-system");
        let life = keeper.stdin.take();
        let answer = BufReader::new(keeper.stdout.take().expect("piped"));
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(answer.lines().next()));
        let mut system = Self { keeper, life, folder: PathBuf::new() };
        let line = receiver.recv_timeout(UP_LIMIT).expect("booted in time");
        system.folder = PathBuf::from(line.expect("booted; its messages are above").expect("a path"));
        Some(system)
    }

    /// Runs a shell script as root, in a unit of its own. It ends at the first command that fails.
    pub fn try_sh(&self, commands: &str) -> Finished {
        run(script().arg("exec").arg(&self.folder).args(["bash", "-euc", commands]))
    }

    /// The same, of which success is expected; gives what it printed.
    #[track_caller]
    pub fn sh(&self, commands: &str) -> String {
        let finished = self.try_sh(commands);
        assert!(finished.status.success(), "{finished}\n--- the journal\n{}", self.journal_tail());
        finished.text().trim_end().to_owned()
    }

    /// The same, whose output is JSON.
    #[track_caller]
    pub fn json(&self, commands: &str) -> Value {
        let text = self.sh(commands);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The same in the background, until it ends or the system does.
    pub fn sh_in_background(&self, commands: &str) -> std::thread::JoinHandle<Finished> {
        let mut command = script();
        command.arg("exec").arg(&self.folder).args(["bash", "-euc", commands]);
        std::thread::spawn(move || run(&mut command))
    }

    /// Waits until a condition of the shell holds.
    #[track_caller]
    pub fn wait_for(&self, condition: &str) {
        // One unit that asks again and again, rather than a unit for each time.
        let limit = LIMIT.as_secs() - 20;
        let looping = format!("timeout {limit} bash -c 'until {condition}; do sleep 0.1; done' </dev/null");
        assert!(!condition.contains('\''), "would end the quotes: {condition}");
        let finished = self.try_sh(&looping);
        assert!(finished.status.success(), "never true: {condition}\n{finished}\n{}", self.journal_tail());
    }

    /// Reboots; what was written stays.
    pub fn reboot(&self) {
        run(script().arg("reboot").arg(&self.folder)).ok();
    }

    /// Writes a file, and the folders that it needs.
    pub fn write(&self, path: &str, text: &str) {
        let name = format!("file-{}", uuid::Uuid::now_v7());
        fs::write(self.share().join(&name), text).expect("write to the shared folder");
        self.sh(&format!("install -D -m 644 /run/share/{name} {path} && rm /run/share/{name}"));
    }

    /// A property of a unit.
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.sh(&format!("systemctl show --value -p {name} {unit}"))
    }

    /// The daemon's process.
    pub fn daemon(&self) -> String {
        self.property("backupd", "MainPID")
    }

    /// Installs the package of this version.
    pub fn install(&self, version: &'static str) -> Finished {
        let package = self.hand_in(&package(version));
        self.try_sh(&format!(
            "DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 \
             --allow-downgrades {package} 2>&1"
        ))
        .ok()
    }

    /// Copies a file in; gives its path there.
    pub fn hand_in(&self, file: &Path) -> String {
        let name = file.file_name().expect("a name").to_str().expect("UTF-8");
        fs::copy(file, self.share().join(name)).expect("hand a file in");
        format!("/run/share/{name}")
    }

    /// A PostgreSQL server with the database `shop`, which belongs to an ordinary role, as those of applications do.
    pub fn with_database(&self) {
        self.sh("systemctl start postgresql
            cd / && runuser -u postgres -- psql -qX -v ON_ERROR_STOP=1 \
                -c 'CREATE ROLE keeper' -c 'CREATE DATABASE shop OWNER keeper' -c '\\c shop' -c 'SET ROLE keeper' \
                -c 'CREATE TABLE orders AS SELECT n, md5(n::text) AS text FROM generate_series(1, 20000) n'");
    }

    /// The same, and the reading role, by the SQL that the package prints.
    pub fn with_server(&self) {
        self.with_database();
        self.sh("set -o pipefail; cd / && backupctl source add shop --database shop --print-sql \
            | runuser -u postgres -- psql -qX -v ON_ERROR_STOP=1");
    }

    /// The same, and the source `shop`.
    pub fn with_source(&self) {
        self.with_server();
        self.write("/etc/backupd/sources.d/shop.toml", "type = \"postgresql\"\ndatabase = \"shop\"\n");
        self.sh("systemctl reload backupd");
    }

    /// Holds a lock on a table of `shop`, so that a backup that begins now cannot go on.
    pub fn hold_backups(&self) {
        self.sh("cd / && systemd-run --quiet --collect --unit=hold --uid=postgres \
            psql -qX shop -c 'BEGIN; LOCK TABLE orders; SELECT pg_sleep(600)'");
        self.wait_for(
            "runuser -u postgres -- psql -AtX shop -c \"SELECT mode FROM pg_locks\" | grep -q AccessExclusive",
        );
    }

    /// Begins a backup that waits for the lock of [`System::hold_backups`].
    pub fn begin_held_backup(&self) {
        self.hold_backups();
        self.sh("backupctl create --no-block shop");
        self.wait_for(
            "runuser -u postgres -- psql -AtX shop -c \"SELECT count(*) FROM pg_locks WHERE NOT granted\" | grep -q 1",
        );
    }

    /// Lets such a backup go on.
    pub fn let_backups_go_on(&self) {
        // The server would not notice that the client is gone.
        self.sh("cd / && runuser -u postgres -- psql -qAtX -c \
            \"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()\"");
        self.wait_for("! systemctl --quiet is-active hold");
    }

    /// The ids of the backups, newest first.
    pub fn backups(&self) -> Vec<String> {
        let list = self.json("backupctl list --json=short");
        list.as_array().expect("an array").iter().map(|row| row["id"].as_str().expect("id").to_owned()).collect()
    }

    /// What the newest job came to.
    pub fn last_result(&self) -> String {
        let jobs = self.json("backupctl jobs --json=short");
        let newest = jobs.as_array().expect("an array").iter().max_by_key(|job| job["number"].as_u64());
        newest.expect("a job")["result"].as_str().unwrap_or_default().to_owned()
    }

    fn share(&self) -> PathBuf {
        self.folder.join("share")
    }

    fn journal_tail(&self) -> String {
        self.try_sh("journalctl --no-pager -n 40 -o short-precise").text().to_owned()
    }
}

impl Drop for System {
    fn drop(&mut self) {
        drop(self.life.take());
        let end = Instant::now() + LIMIT;
        while !matches!(self.keeper.try_wait(), Ok(Some(_))) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn script() -> Command {
    let mut command = Command::new(project_file("tests/scripts/boot-system"));
    command.stderr(Stdio::inherit());
    command
}

/// The package of the programs under test, under this version. Made once.
pub fn package(version: &'static str) -> PathBuf {
    static MADE: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
    made.entry(version).or_insert_with(|| build_package(version, &folder)).clone()
}

/// The folder of the programs under test.
pub fn programs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_backupd")).parent().expect("a folder")
}

/// Builds the package of the programs under test into a folder.
pub fn build_package(version: &str, folder: &Path) -> PathBuf {
    let mut command = Command::new(project_file("packaging/build-deb"));
    command.args(["--fast", "--version", version]).arg("--programs").arg(programs()).arg("--output").arg(folder);
    PathBuf::from(run(&mut command).ok().text().trim_end())
}

/// The block of README's section "Install" that begins with these fences, without what makes an administrator root.
pub fn block_of_readme(fence: &str, number: usize) -> String {
    let readme = fs::read_to_string(project_file("README.md")).expect("README.md");
    let section = readme.split("\n## Install\n").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("a section");
    let block = section.split(&format!("\n```{fence}\n")).nth(number).and_then(|rest| rest.split("\n```").next());
    block.expect("a block").replace("sudo -u ", "runuser -u ").replace("sudo ", "")
}
