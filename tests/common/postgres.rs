//! A PostgreSQL server of a test's own.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout, Command, Stdio},
    sync::OnceLock,
    thread,
};

use super::{Finished, LIMIT, Scratch, process::Waited, project_file, run, run_within};

/// SQL that changes the sample database: it doubles some of the events.
pub const MORE_EVENTS: &str = "INSERT INTO shop.event SELECT session, at + interval '1 year', what FROM shop.event WHERE hashtext(session) % 3 = 0";

/// A server in a private folder, reachable by a socket only, superuser `postgres`, without a password.
#[derive(Debug)]
pub struct Server {
    keeper: Waited,
    // Closing it ends the server: `tests/scripts/throwaway-postgres`.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    dir: PathBuf,
    scratch: Scratch,
}

impl Server {
    /// Starts one.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with settings such as `max_connections=10`.
    pub fn start_with(settings: &[&str]) -> Self {
        let scratch = Scratch::new();
        let dir = scratch.join("server");
        let mut keeper = Command::new(project_file("tests/scripts/throwaway-postgres"))
            .arg(&dir)
            .args(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start tests/scripts/throwaway-postgres");
        let commands = keeper.stdin.take();
        let answers = BufReader::new(keeper.stdout.take().expect("piped"));
        let mut server = Self { keeper: Waited::new(keeper), commands, answers, dir, scratch };
        server.expect_answer("ready ");
        server
    }

    /// A server with the sample database `shop`.
    pub fn with_sample() -> Self {
        let server = Self::start();
        server.load_sample("shop", 1);
        server
    }

    /// The folder of its socket: what libpq takes as host.
    pub fn host(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// The server's programs, beside which the extension of the sample database is.
    #[allow(dead_code, reason = "not every test program that has this harness needs it")]
    pub fn server_bin_dir(&self) -> PathBuf {
        let bin = client_bin_dir();
        self.dir.join("tree").join(bin.strip_prefix("/").unwrap_or(bin))
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Makes the sample database.
    pub fn load_sample(&self, database: &str, scale: u32) {
        let file = project_file("tests/fixtures/sample.sql");
        run(self
            .psql_command("postgres")
            .args(["-v", &format!("db={database}"), "-v", &format!("scale={scale}"), "-f"])
            .arg(file))
        .ok();
    }

    /// Runs SQL as the superuser and gives what it prints, unaligned, without headers.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let done = run_within(LIMIT, self.psql_command(database).args(["-f", "-"]), sql.as_bytes());
        done.ok().text().trim_end().to_owned()
    }

    /// psql, quiet, stopping at the first error, as the superuser.
    pub fn psql_command(&self, database: &str) -> Command {
        let mut command = self.client("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database]);
        command
    }

    /// A client program of the newest installation, told how to reach this server as the superuser.
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(client_bin_dir().join(program));
        command.arg("-h").arg(self.host()).args(["-U", "postgres"]).env("LC_ALL", "C");
        command
    }

    /// Whether a database exists.
    pub fn has_database(&self, name: &str) -> bool {
        let names = self.sql("postgres", "SELECT datname FROM pg_database");
        names.lines().any(|line| line == name)
    }

    /// Replaces `pg_hba.conf`; the superuser is always let in.
    pub fn set_hba(&self, rules: &str) {
        fs::write(self.data_dir().join("pg_hba.conf"), format!("local all postgres trust\n{rules}\n"))
            .expect("write pg_hba.conf");
        self.sql("postgres", "SELECT pg_reload_conf()");
    }

    /// Stops the server at once, as a power cut would. [`Server::restart`] brings it back.
    pub fn stop(&mut self) {
        self.command("stop");
        self.expect_answer("stopped");
    }

    /// Stops the server at once and starts it again.
    pub fn restart(&mut self) {
        self.command("restart");
        self.expect_answer("ready ");
    }

    fn command(&mut self, word: &str) {
        let pipe = self.commands.as_mut().expect("the server's keeper runs");
        writeln!(pipe, "{word}").expect("tell the server's keeper");
    }

    fn expect_answer(&mut self, beginning: &str) {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("read from the server's keeper");
        assert!(line.starts_with(beginning), "the throwaway server said {line:?}; see its messages above");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = fs::copy(self.dir.join("server.log"), self.scratch.join("server.log"));
        }
        drop(self.commands.take());
        let _ = self.keeper.within(LIMIT, Some(nix::sys::signal::Signal::SIGTERM));
    }
}

/// The folder of the newest installed PostgreSQL's programs, as `tests/scripts/throwaway-postgres` finds it.
pub fn client_bin_dir() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let found: Finished = run(Command::new(project_file("tests/scripts/throwaway-postgres")).arg("--bin-dir")).ok();
        PathBuf::from(found.text().trim_end())
    })
}
