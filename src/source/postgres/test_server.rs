//! A throwaway PostgreSQL server for tests: a socket in a private folder, no TCP, no fsync; stopped and removed when
//! dropped, also when the test panics.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid, User, chown},
};

use crate::{
    config::{ConnectionSpec, PasswordSource, SslMode},
    model::Name,
};

/// A server, its data and its socket.
#[derive(Debug)]
pub(crate) struct TestServer {
    folder: tempfile::TempDir,
    bin: PathBuf,
    process: Option<Child>,
}

impl TestServer {
    /// Starts a server with encoding UTF8 and these additional lines in its configuration.
    pub(crate) fn start(configuration: &str) -> Self {
        let bin = newest_bin();
        // A socket's path is limited to 107 bytes, so not below a long TMPDIR.
        let folder = tempfile::Builder::new().prefix("pgtest-").tempdir_in("/tmp").unwrap();
        let server = Self { folder, bin, process: None };
        let user = unprivileged();
        if let Some(user) = &user {
            chown(server.folder.path(), Some(user.uid), Some(user.gid)).unwrap();
        }
        fs::set_permissions(server.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let output = server
            .command("initdb")
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-D"])
            .arg(server.data())
            .output()
            .unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let mut text = fs::read_to_string(server.data().join("postgresql.conf")).unwrap();
        text.push_str(
            "\nlisten_addresses = ''\nfsync = off\nsynchronous_commit = off\nfull_page_writes = off\nshared_buffers = 32MB\n\
             max_connections = 40\nwal_level = logical\nautovacuum = off\nlogging_collector = off\nmax_worker_processes = 4\n",
        );
        text.push_str(configuration);
        fs::write(server.data().join("postgresql.conf"), text).unwrap();
        let mut server = server;
        server.launch();
        server
    }

    /// Starts a standby of this server.
    pub(crate) fn standby(&self) -> Self {
        let folder = tempfile::Builder::new().prefix("pgtest-").tempdir_in("/tmp").unwrap();
        if let Some(user) = unprivileged() {
            chown(folder.path(), Some(user.uid), Some(user.gid)).unwrap();
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut standby = Self { folder, bin: self.bin.clone(), process: None };
        let output = self
            .command("pg_basebackup")
            .args(["-U", "postgres", "--write-recovery-conf", "--checkpoint=fast", "--no-sync", "-h"])
            .arg(self.folder())
            .arg("-D")
            .arg(standby.data())
            .output()
            .unwrap();
        assert!(output.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&output.stderr));
        standby.launch();
        standby
    }

    fn launch(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let child = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.folder.path())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(child);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.command("pg_isready").arg("-q").arg("-h").arg(self.folder.path()).status().unwrap().success() {
            assert!(Instant::now() < deadline, "the server does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the server at once, as a crash does.
    pub(crate) fn crash(&self) {
        if let Some(child) = &self.process {
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGQUIT);
        }
    }

    /// Starts it again after it died, or was ended as by a crash.
    pub(crate) fn restart(&mut self) {
        self.stop(Signal::SIGQUIT);
        self.launch();
    }

    fn stop(&mut self, signal: Signal) {
        if let Some(mut child) = self.process.take() {
            let _ = kill(Pid::from_raw(child.id().cast_signed()), signal);
            let _ = child.wait();
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin").current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if let Some(user) = unprivileged() {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    /// The folder of the server's socket, with room for a test's own files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder with the client programs of its version.
    pub(crate) fn bin(&self) -> &Path {
        &self.bin
    }

    /// What the server logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A connection to a database.
    pub(crate) fn spec(&self, user: &str, database: impl Into<Name>) -> ConnectionSpec {
        ConnectionSpec {
            host: self.folder.path().to_str().unwrap().to_owned(),
            port: 5432,
            user: user.to_owned(),
            database: database.into(),
            password: PasswordSource::None,
            sslmode: SslMode::Prefer,
            sslrootcert: None,
            connect_timeout: 10,
        }
    }

    /// psql as superuser in a database, ready to be given input by the caller.
    pub(crate) fn psql_command(&self, database: &str) -> Command {
        let mut command = self.command("psql");
        command.env("PGDATABASE", database).env("PGHOST", self.folder.path()).env("PGUSER", "postgres");
        command.args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1"]);
        command
    }

    /// Runs SQL of any bytes as superuser and gives what it printed.
    pub(crate) fn sql(&self, database: &str, sql: impl AsRef<[u8]>) -> String {
        use std::io::Write as _;
        let mut child = self
            .psql_command(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let sql = sql.as_ref().to_vec();
        let writer = std::thread::spawn(move || input.write_all(&sql));
        let output = child.wait_with_output().unwrap();
        let _ = writer.join().unwrap();
        assert!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop(Signal::SIGQUIT);
    }
}

/// PostgreSQL refuses to run as root.
fn unprivileged() -> Option<User> {
    Uid::effective().is_root().then(|| {
        let named = |name| User::from_name(name).ok().flatten();
        named("postgres").or_else(|| named("nobody")).unwrap()
    })
}

fn newest_bin() -> PathBuf {
    let entries = fs::read_dir("/usr/lib/postgresql").unwrap().flatten();
    let newest = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max();
    let bin = PathBuf::from(format!("/usr/lib/postgresql/{}/bin", newest.unwrap()));
    assert!(bin.join("postgres").exists(), "install the postgresql server package of version {newest:?}");
    bin
}
