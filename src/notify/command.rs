//! Programs of the host that are given a text: one that is configured, and sendmail.
//!
//! Invariants: nothing secret is in their arguments or environment, whose variables are all set here; a program that does not end in
//! time is killed with all it started, and reaped.

use std::{ffi::OsStr, path::Path, process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    time::timeout,
};

use super::error::SendError;

/// What programs find programs with.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// So much of what a program writes is read and shown; the rest is thrown away.
const SHOWN: u64 = 1 << 10;

/// How long is read what a program wrote before its end.
const GRACE: Duration = Duration::from_millis(500);

/// Kills a program and what it started, when it is given up. The runtime reaps it.
struct Group(Option<i32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

/// Runs a program with a text on its standard input, and takes exit code 0 for success. Dropped before its end, it kills the program.
///
/// # Errors
/// Always one after which it may go better.
pub(super) async fn run<'e>(
    program: &Path,
    arguments: &[impl AsRef<OsStr>],
    environment: impl IntoIterator<Item = (&'e str, String)>,
    input: &[u8],
) -> Result<(), SendError> {
    let shown = program.display();
    let failed = |error: &dyn std::fmt::Display| SendError::passing(format!("{shown}: {error}"));
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .envs(environment)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(&format_args!("cannot be started: {error}")))?;
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()));
    let errors = talk(&mut child, input).await;
    let status = child.wait().await.map_err(|error| failed(&error))?;
    if status.success() {
        // What it left in the background is meant to stay.
        group.0 = None;
        return Ok(());
    }
    let mut message = format!("ended with {status}");
    if !errors.is_empty() {
        message = format!("{message}: {errors}");
    }
    Err(failed(&message))
}

/// Writes the input and reads what the program complains about.
async fn talk(child: &mut Child, input: &[u8]) -> String {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A program need not read what it is given; its exit code says how it went.
            let _ = stdin.write_all(input).await;
            let _ = stdin.shutdown().await;
        }
    };
    let read = async {
        let mut text = Vec::new();
        if let Some(stderr) = stderr {
            let mut beginning = stderr.take(SHOWN);
            let _ = beginning.read_to_end(&mut text).await;
            let _ = tokio::io::copy(&mut beginning.into_inner(), &mut tokio::io::sink()).await;
        }
        let text = String::from_utf8_lossy(&text);
        text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    };
    // What it left in the background may keep the pipe open for ever: its own end is what counts.
    let both = async { tokio::join!(write, read).1 };
    tokio::pin!(both);
    tokio::select! {
        text = &mut both => text,
        _ = child.wait() => timeout(GRACE, both).await.unwrap_or_default(),
    }
}
