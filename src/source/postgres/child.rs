//! Running one client program (pg_dump, pg_restore, psql…).
//!
//! Invariants: a child is in a process group of its own, dies with this process, and is always reaped, also when its
//! handle is dropped; a raised cancel flag ends it (SIGTERM or what it ends at, SIGKILL after five seconds); its stderr is
//! always read, so that it never blocks on it, and takes bounded memory; a signal is never sent to a process id that was
//! given back.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    os::{
        fd::AsFd,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::{
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};

use super::environment::LibpqEnvironment;
use crate::{model::ErrorCode, source::SourceError, stream::Cancel};

/// Size of the pipes to and from a child: the most that Linux gives without privileges.
const PIPE_BYTES: i32 = 1 << 20;
/// How long a child may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
/// Lines of stderr that are kept for the error.
const KEPT_LINES: usize = 20;
/// Lines of stderr that are logged; later ones are only counted.
const LOGGED_LINES: u64 = 1000;
/// Bytes of one line that are kept.
const LINE_BYTES: u64 = 4096;

/// What to run.
#[derive(Debug)]
pub struct ClientCommand {
    command: Command,
    name: String,
    failure: ErrorCode,
    stop: Signal,
}

impl ClientCommand {
    /// A run of `program` with libpq's `environment` and nothing else of this process's. stdin and stdout are
    /// `/dev/null` unless asked for. A failure of it has the code `failure`.
    #[must_use]
    pub fn new(program: &Path, environment: &LibpqEnvironment, failure: ErrorCode) -> Self {
        let mut plain = Self::plain(program, failure);
        plain.command.envs(environment.variables());
        plain
    }

    /// As [`ClientCommand::new`], for a program that is none of libpq's: its environment is empty.
    #[must_use]
    pub fn plain(program: &Path, failure: ErrorCode) -> Self {
        let mut command = Command::new(program);
        command.env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
        Self { command, name, failure, stop: Signal::SIGTERM }
    }

    /// Ends it by another signal than SIGTERM, also when this process dies.
    #[must_use]
    pub fn stopped_by(mut self, signal: Signal) -> Self {
        self.stop = signal;
        self
    }

    /// Adds a variable to its environment, which every process of its user can read: no secrets.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Adds an argument. Arguments are visible to every user of the host: no secrets.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments, as [`ClientCommand::arg`].
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.command.args(args.into_iter().map(Into::into));
        self
    }

    /// Gives a pipe to write to the program: [`ClientChild::take_stdin`].
    #[must_use]
    pub fn piped_stdin(mut self) -> Self {
        self.command.stdin(Stdio::piped());
        self
    }

    /// Gives a pipe to read from the program: [`ClientChild::take_stdout`].
    #[must_use]
    pub fn piped_stdout(mut self) -> Self {
        self.command.stdout(Stdio::piped());
        self
    }

    /// Reads the program's stdin from a file.
    #[must_use]
    pub fn stdin_from(mut self, file: File) -> Self {
        self.command.stdin(file);
        self
    }

    /// Starts it. It is ended when `cancel` is raised. The thread that calls this must outlive the child: the kernel
    /// sends the death signal when that thread ends.
    ///
    /// # Errors
    /// `ClientProgramMissing` when there is no such program, `Io` when it cannot be run.
    pub fn spawn(mut self, cancel: &Cancel, runtime: &tokio::runtime::Handle) -> Result<ClientChild, SourceError> {
        cancel.check()?;
        die_with_parent(&mut self.command, self.stop);
        let mut child = self.command.spawn().map_err(|error| {
            let code = match error.kind() {
                io::ErrorKind::NotFound => ErrorCode::ClientProgramMissing,
                _ => ErrorCode::Io,
            };
            SourceError::new(code, format!("cannot run {}: {error}", self.command.get_program().display()))
        })?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        if let Some(pipe) = &stdin {
            enlarge(pipe);
        }
        if let Some(pipe) = &stdout {
            enlarge(pipe);
        }
        let stderr = child.stderr.take();
        let pid = Pid::from_raw(child.id().cast_signed());
        let process = Arc::new(Process { pid, reaped: Mutex::new(false) });
        let name = self.name.clone();
        let reader = thread::Builder::new().name(format!("{name} stderr")).spawn(move || {
            stderr.map_or_else(StderrTail::default, |pipe| read_stderr(&name, BufReader::with_capacity(1 << 16, pipe)))
        });
        let mut started = ClientChild {
            name: self.name,
            failure: self.failure,
            child,
            process: Arc::clone(&process),
            stdin,
            stdout,
            stderr: None,
            watcher: None,
            cancel: cancel.clone(),
            stop: self.stop,
        };
        // From here on, dropping `started` ends and reaps the child.
        started.stderr = Some(reader.map_err(|error| SourceError::io("start a thread", &error))?);
        let (cancel, stop) = (cancel.clone(), self.stop);
        started.watcher = Some(runtime.spawn(async move {
            cancel.cancelled().await;
            process.signal(stop);
            tokio::time::sleep(GRACE).await;
            process.signal(Signal::SIGKILL);
        }));
        Ok(started)
    }
}

/// Has the kernel end the child when this process dies, whatever kills it.
#[allow(unsafe_code)]
fn die_with_parent(command: &mut Command, signal: Signal) {
    let parent = Pid::this();
    // SAFETY: between fork and exec the closure makes only async-signal-safe system calls (prctl, getppid), and
    // allocates nothing.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(signal)?;
            // The parent may have died before the call above.
            if Pid::parent() == parent { Ok(()) } else { Err(io::Error::from_raw_os_error(nix::libc::ESRCH)) }
        });
    }
}

/// Fewer, larger reads. A smaller pipe than asked for works as well.
fn enlarge(pipe: &impl AsFd) {
    let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
}

/// A process group that may be signalled for as long as its leader is not reaped.
#[derive(Debug)]
struct Process {
    pid: Pid,
    reaped: Mutex<bool>,
}

impl Process {
    fn signal(&self, signal: Signal) {
        let reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        if !*reaped {
            let _ = killpg(self.pid, signal);
        }
    }

    /// Waits for the leader's end, ends what is left of its group, and only then gives its process id back.
    fn reap(&self, child: &mut Child) -> io::Result<ExitStatus> {
        loop {
            match waitid(Id::Pid(self.pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
        self.signal(Signal::SIGKILL);
        let mut reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        *reaped = true;
        child.wait()
    }
}

/// A running client program.
#[derive(Debug)]
pub struct ClientChild {
    name: String,
    failure: ErrorCode,
    child: Child,
    process: Arc<Process>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<JoinHandle<StderrTail>>,
    watcher: Option<tokio::task::JoinHandle<()>>,
    cancel: Cancel,
    stop: Signal,
}

impl ClientChild {
    /// The pipe to its stdin. Drop it to say that no more comes.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// The pipe from its stdout.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    /// Its process id, for tests and the journal.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended; it is still to be waited for.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
        !matches!(waitid(Id::Pid(self.process.pid), flags), Ok(nix::sys::wait::WaitStatus::StillAlive))
    }

    /// Waits for its end and judges it: only exit status 0 is success.
    ///
    /// # Errors
    /// [`SourceError::Canceled`] when the cancel flag was raised; otherwise the code given to [`ClientCommand::new`]
    /// (or a narrower one that its messages tell: `DatabasePermission`, `LockTimeout`, `DatabaseUnreachable`), with the
    /// last lines of its stderr.
    pub fn wait(mut self) -> Result<(), SourceError> {
        let (status, tail) = self.finish();
        let status = status.map_err(|error| SourceError::io(format!("wait for {}", self.name), &error))?;
        if status.success() {
            return Ok(());
        }
        self.cancel.check()?;
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("ended with status {code}"),
            (None, Some(number)) => match Signal::try_from(number) {
                Ok(signal) => format!("was killed by {signal}"),
                Err(_) => format!("was killed by signal {number}"),
            },
            (None, None) => "ended abnormally".to_owned(),
        };
        Err(SourceError::new(tail.code().unwrap_or(self.failure), format!("{} {how}{tail}", self.name)))
    }

    fn finish(&mut self) -> (io::Result<ExitStatus>, StderrTail) {
        drop((self.stdin.take(), self.stdout.take()));
        let status = self.process.reap(&mut self.child);
        if let Some(watcher) = self.watcher.take() {
            watcher.abort();
        }
        let tail = self.stderr.take().and_then(|reader| reader.join().ok()).unwrap_or_default();
        (status, tail)
    }
}

impl Drop for ClientChild {
    fn drop(&mut self) {
        let reaped = *self.process.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        if reaped {
            return;
        }
        self.process.signal(self.stop);
        let process = Arc::clone(&self.process);
        let (ended, end) = std::sync::mpsc::channel::<()>();
        // Without the thread the child would only get no SIGKILL; pg_dump and its kin end at SIGTERM.
        let killer = thread::Builder::new().name("child killer".to_owned()).spawn(move || {
            if end.recv_timeout(GRACE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                process.signal(Signal::SIGKILL);
            }
        });
        let _ = self.finish();
        drop(ended);
        if let Ok(killer) = killer {
            let _ = killer.join();
        }
    }
}

/// The end of what a program wrote to stderr.
#[derive(Debug, Default)]
struct StderrTail {
    lines: VecDeque<String>,
    count: u64,
}

impl StderrTail {
    /// The code that the program's own words tell, where they do (its locale is C).
    fn code(&self) -> Option<ErrorCode> {
        const SIGNS: &[(&str, ErrorCode)] = &[
            ("permission denied", ErrorCode::DatabasePermission),
            ("query would be affected by row-level security policy", ErrorCode::DatabasePermission),
            ("canceling statement due to lock timeout", ErrorCode::LockTimeout),
            // How pg_dump carries out --lock-wait-timeout; no other statement of it has a time-out.
            ("canceling statement due to statement timeout", ErrorCode::LockTimeout),
            ("No space left on device", ErrorCode::NoSpace),
        ];
        self.lines
            .iter()
            .filter(|line| line.contains("error") || line.contains("ERROR") || line.contains("FATAL"))
            .find_map(|line| SIGNS.iter().find(|(sign, _)| line.contains(sign)).map(|(_, code)| *code))
    }
}

impl std::fmt::Display for StderrTail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.lines.is_empty() {
            return f.write_str(" and wrote no message");
        }
        f.write_str(":")?;
        if self.count > self.lines.len() as u64 {
            write!(f, " (last of {} lines)", self.count)?;
        }
        for line in &self.lines {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

/// Reads a program's stderr to its end: forwards lines to the journal at their level, and keeps the last.
fn read_stderr(name: &str, mut pipe: impl BufRead) -> StderrTail {
    let mut tail = StderrTail::default();
    let mut level = tracing::Level::INFO;
    while let Some(line) = next_line(&mut pipe) {
        tail.count += 1;
        if tail.count <= LOGGED_LINES {
            level = level_of(&line).unwrap_or(level);
            log(name, level, &line);
        }
        if tail.lines.len() == KEPT_LINES {
            tail.lines.pop_front();
        }
        tail.lines.push_back(line);
    }
    if tail.count > LOGGED_LINES {
        tracing::warn!(
            program = name,
            lines = tail.count - LOGGED_LINES,
            "further lines of its stderr were not logged"
        );
    }
    tail
}

/// The next line, cut at [`LINE_BYTES`]; the rest of a longer one is passed over.
fn next_line(pipe: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    let length = pipe.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line).ok()?;
    if length == 0 {
        return None;
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if length as u64 == LINE_BYTES {
        pipe.skip_until(b'\n').ok()?;
    }
    let text = String::from_utf8_lossy(&line);
    Some(text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect())
}

/// The level of a line `program: level: text` (PostgreSQL's `common/logging.c`); `None` where the line goes on with
/// what the line before it said.
fn level_of(line: &str) -> Option<tracing::Level> {
    let (_, rest) = line.split_once(": ")?;
    match rest.split(':').next()? {
        "error" | "fatal" => Some(tracing::Level::ERROR),
        "warning" => Some(tracing::Level::WARN),
        "detail" | "hint" => None,
        _ => Some(tracing::Level::INFO),
    }
}

fn log(program: &str, level: tracing::Level, line: &str) {
    match level {
        tracing::Level::ERROR => tracing::error!(program, "{line}"),
        tracing::Level::WARN => tracing::warn!(program, "{line}"),
        _ => tracing::info!(program, "{line}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::stream::CancelReason;

    fn shell(script: &str) -> ClientCommand {
        ClientCommand::new(Path::new("/bin/sh"), &LibpqEnvironment::for_tests(), ErrorCode::DumpFailed)
            .arg("-c")
            .arg(script)
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    fn is_gone(pid: u32) -> bool {
        nix::sys::signal::kill(Pid::from_raw(pid.cast_signed()), None).is_err()
    }

    #[test]
    fn the_last_lines_are_in_the_error() {
        let runtime = runtime();
        let child = shell("echo 'pg_dump: error: it broke' >&2; exit 3").spawn(&Cancel::new(), runtime.handle());
        let error = child.unwrap().wait().unwrap_err();
        assert_eq!(error.code(), ErrorCode::DumpFailed);
        assert_eq!(error.to_string(), "sh ended with status 3:\n  pg_dump: error: it broke");
    }

    #[test]
    fn a_killed_child_names_the_signal() {
        let runtime = runtime();
        let error = shell("kill -9 $$").spawn(&Cancel::new(), runtime.handle()).unwrap().wait().unwrap_err();
        assert_eq!(error.to_string(), "sh was killed by SIGKILL and wrote no message");
    }

    #[test]
    fn a_million_lines_neither_block_nor_stay() {
        let runtime = runtime();
        let script = "i=0; while [ $i -lt 10 ]; do yes 'pg_dump: warning: noise' | head -n 100000 >&2; i=$((i+1)); done; \
                      echo 'pg_dump: error: query failed: permission denied for table t' >&2; exit 1";
        let error = shell(script).spawn(&Cancel::new(), runtime.handle()).unwrap().wait().unwrap_err();
        assert_eq!(error.code(), ErrorCode::DatabasePermission);
        let text = error.to_string();
        assert!(text.contains("(last of 1000001 lines)") && text.ends_with("permission denied for table t"), "{text}");
        assert_eq!(text.lines().count(), 1 + KEPT_LINES);
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory() {
        let runtime = runtime();
        let script = "head -c 50000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo last >&2; exit 1";
        let error = shell(script).spawn(&Cancel::new(), runtime.handle()).unwrap().wait().unwrap_err();
        assert!(error.to_string().len() < 2 * LINE_BYTES as usize);
        assert!(error.to_string().ends_with("\n  last"));
    }

    #[test]
    fn cancel_ends_a_child() {
        let runtime = runtime();
        let cancel = Cancel::new();
        let child = shell("sleep 1000 & wait").spawn(&cancel, runtime.handle()).unwrap();
        let pid = child.id();
        cancel.cancel(CancelReason::Requested);
        let before = Instant::now();
        assert_eq!(child.wait().unwrap_err().code(), ErrorCode::Canceled);
        assert!(before.elapsed() < GRACE && is_gone(pid));
    }

    #[test]
    fn a_dropped_child_is_reaped_with_its_group() {
        let runtime = runtime();
        let mut child =
            shell("sleep 1000 & echo $!; wait").piped_stdout().spawn(&Cancel::new(), runtime.handle()).unwrap();
        let mut line = String::new();
        BufReader::new(child.take_stdout().unwrap()).read_line(&mut line).unwrap();
        let pid = child.id();
        drop(child);
        assert!(is_gone(pid));
        // Killed, the grandchild ends when the kernel next runs it; init reaps it in its own time.
        let stat = format!("/proc/{}/stat", line.trim());
        let ended = || {
            std::fs::read_to_string(&stat).is_err() || std::fs::read_to_string(&stat).is_ok_and(|s| s.contains(") Z "))
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !ended() {
            assert!(Instant::now() < deadline, "the grandchild still runs");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_child_that_ignores_sigterm_is_killed() {
        let runtime = runtime();
        let cancel = Cancel::new();
        let mut child = shell("trap '' TERM; echo; while :; do sleep 1; done")
            .piped_stdout()
            .spawn(&cancel, runtime.handle())
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.take_stdout().unwrap()).read_line(&mut line).unwrap();
        cancel.cancel(CancelReason::TimedOut);
        assert_eq!(child.wait().unwrap_err().code(), ErrorCode::TimedOut);
    }

    #[test]
    fn levels_follow_the_program() {
        assert_eq!(level_of("pg_dump: error: x"), Some(tracing::Level::ERROR));
        assert_eq!(level_of("pg_dump: warning: x"), Some(tracing::Level::WARN));
        assert_eq!(level_of("pg_dump: detail: Query was: x"), None);
        assert_eq!(level_of("pg_dump: hint: x"), None);
        assert_eq!(level_of("no level"), None);
    }
}
