//! Running a program to its end, within a time limit.

use std::{
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use backupd::model::error_code::ErrorCode;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long any one step of a test may take.
pub const LIMIT: Duration = Duration::from_secs(120);

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// The standard output as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("UTF-8")
    }

    /// The standard output as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|e| panic!("{e}: not JSON: {self}"))
    }

    /// Itself, after making sure that the program succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }

    /// Makes sure that the program failed with this code of the error table, and said something.
    #[track_caller]
    pub fn fails_with(&self, code: ErrorCode) {
        assert_eq!(self.status.code(), Some(i32::from(code.row().exit_code)), "expected {code}: {self}");
        assert!(!self.stderr.trim().is_empty(), "no message: {self}");
        assert!(!self.stderr.contains("panicked"), "{self}");
    }

    /// Makes sure that standard error has each of these words.
    #[track_caller]
    pub fn says(&self, words: &[&str]) {
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is missing: {self}");
        }
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, signal) => format!("signal {signal:?}"),
        };
        let stdout: String = String::from_utf8_lossy(&self.stdout).chars().take(4000).collect();
        let stderr: String = self.stderr.chars().take(4000).collect();
        write!(f, "{}\n{end}\n--- stdout\n{stdout}\n--- stderr\n{stderr}", self.command)
    }
}

/// Runs a program within [`LIMIT`].
pub fn run(command: &mut Command) -> Finished {
    run_within(LIMIT, command, b"")
}

/// Runs a program within a limit, with `input` on its standard input; kills it and panics when the time is up.
pub fn run_within(limit: Duration, command: &mut Command, input: &[u8]) -> Finished {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start {shown}: {e}"));
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    // A program that does not read its input is no failure.
    let feeder = thread::spawn(move || drop(stdin.write_all(&input)));
    let stdout = collect(child.stdout.take().expect("piped"));
    let stderr = collect(child.stderr.take().expect("piped"));
    let status = Waited::new(child)
        .within(limit, Some(Signal::SIGKILL))
        .unwrap_or_else(|| panic!("still running after {limit:?}: {shown}"));
    feeder.join().expect("feeder");
    Finished {
        command: shown,
        status,
        stdout: stdout.join().expect("reader"),
        stderr: String::from_utf8_lossy(&stderr.join().expect("reader")).into_owned(),
    }
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// A child that a thread waits for, so that one can wait for its end with a limit.
#[derive(Debug)]
pub(super) struct Waited {
    pid: Pid,
    end: mpsc::Receiver<ExitStatus>,
    ended: Option<ExitStatus>,
}

impl Waited {
    pub(super) fn new(mut child: Child) -> Self {
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("pid"));
        let (sender, end) = mpsc::channel();
        thread::spawn(move || {
            if let Ok(status) = child.wait() {
                let _ = sender.send(status);
            }
        });
        Self { pid, end, ended: None }
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    pub(super) fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            let _ = kill(self.pid, signal);
        }
    }

    /// How it ended, if it did so within the limit. Otherwise it gets `last_resort`, and is waited for, and `None`.
    pub(super) fn within(&mut self, limit: Duration, last_resort: Option<Signal>) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.end.recv_timeout(limit).ok();
        }
        if self.ended.is_none()
            && let Some(signal) = last_resort
        {
            self.signal(signal);
            self.ended = self.end.recv_timeout(LIMIT).ok();
            return None;
        }
        self.ended
    }
}
