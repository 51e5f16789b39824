//! What the administrator wants run around a swap: a pooler paused and resumed, an application told.

use std::{os::unix::process::ExitStatusExt as _, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
};

use super::swap::Swap;
use crate::{
    model::{ErrorCode, RunId},
    source::{JobContext, SourceError},
};

/// How long a hook may take: the old database still serves while the first runs, and nobody is served while it hangs.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of a hook's output that an error quotes.
const QUOTED: u64 = 2000;

/// When a hook runs, and what it is told.
#[derive(Debug, Clone, Copy)]
pub(super) enum When {
    /// Before the sessions are ended.
    Before,
    /// After the swap, or after it was given up.
    After {
        /// Whether the name has passed to the other database.
        swapped: bool,
    },
}

/// Runs a command, without a shell, and waits for it. An empty one does nothing.
///
/// # Errors
/// `RestoreFailed` when it cannot be run, fails, or takes longer than a minute, with the end of its output.
pub(super) fn run(
    command: &[String],
    when: When,
    swap: &Swap,
    run: RunId,
    context: &JobContext,
) -> Result<(), SourceError> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let (key, result) = match when {
        When::Before => ("pre_swap", ""),
        When::After { swapped: true } => ("post_swap", "swapped"),
        When::After { swapped: false } => ("post_swap", "unchanged"),
    };
    let failed = |why: String| {
        let message = format!("the {key} command {program} of the source failed: {why}");
        SourceError::new(ErrorCode::RestoreFailed, message)
    };
    context.runtime.block_on(async {
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "LANG" || name == "HOME"))
            .env("BACKUPD_DATABASE", swap.name.lossy().as_ref())
            .env("BACKUPD_KEPT_DATABASE", swap.kept.lossy().as_ref())
            .env("BACKUPD_JOB", run.to_string())
            .env("BACKUPD_RESULT", result)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let said = child.stderr.take().map(|pipe| tokio::spawn(quote(pipe)));
        let status = match tokio::time::timeout(TIMEOUT, child.wait()).await {
            Ok(status) => status.map_err(|error| failed(error.to_string()))?,
            Err(_) => {
                // Reaped here, as whatever else is dropped is by the runtime.
                let _ = child.kill().await;
                return Err(failed(format!("it did not end within {} s", TIMEOUT.as_secs())));
            }
        };
        if status.success() {
            return Ok(());
        }
        let said = match said {
            // A process that it left behind may hold the pipe.
            Some(said) => tokio::time::timeout(Duration::from_secs(1), said).await.ok().and_then(Result::ok),
            None => None,
        };
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "unknown".to_owned(),
        };
        Err(failed(format!("{how}: {}", said.unwrap_or_default().trim())))
    })
}

async fn quote(pipe: impl AsyncRead + Unpin) -> String {
    let mut text = Vec::new();
    let mut pipe = pipe;
    let _ = (&mut pipe).take(QUOTED).read_to_end(&mut text).await;
    // The rest is read so that the child does not block on it.
    let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&text).into_owned()
}
