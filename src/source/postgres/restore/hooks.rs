//! What the administrator wants run around a swap: a pooler paused and resumed, an application told.

use std::{path::Path, time::Duration};

use super::swap::Swap;
use crate::{
    model::{ErrorCode, RunId},
    source::{
        JobContext, SourceError,
        postgres::child::{ClientChild, ClientCommand},
    },
    stream::{Cancel, CancelReason},
};

/// How long a hook may take: the old database still serves while the first runs, and nobody is served while it hangs.
const TIMEOUT: Duration = Duration::from_secs(60);
/// What it gets of this process's environment.
const INHERITED: [&str; 3] = ["PATH", "LANG", "HOME"];

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
    // A time of its own: the job's own cancel comes too late here.
    let limit = Cancel::new();
    let timer = context.runtime.spawn({
        let limit = limit.clone();
        async move {
            tokio::time::sleep(TIMEOUT).await;
            limit.cancel(CancelReason::TimedOut);
        }
    });
    let mut hook = ClientCommand::plain(Path::new(program), ErrorCode::RestoreFailed)
        .args(arguments)
        .env("BACKUPD_DATABASE", &*swap.name.lossy())
        .env("BACKUPD_KEPT_DATABASE", &*swap.kept.lossy())
        .env("BACKUPD_JOB", run.to_string())
        .env("BACKUPD_RESULT", result);
    for name in INHERITED {
        if let Some(value) = std::env::var_os(name) {
            hook = hook.env(name, value);
        }
    }
    let ended = hook.spawn(&limit, &context.runtime).and_then(ClientChild::wait);
    timer.abort();
    ended.map_err(|error| match error {
        SourceError::Canceled(_) => failed(format!("it did not end within {} s", TIMEOUT.as_secs())),
        error => failed(error.to_string()),
    })
}
