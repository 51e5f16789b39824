//! Programs that are asked something and answer.

use std::{
    io,
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{io::AsyncWriteExt as _, process::Command};

/// Runs a program with this input and takes its output; its standard error too where the command pipes it. `None` where it
/// does not end in time; it is killed then.
///
/// # Errors
/// When it cannot be run, or its pipes break.
pub(super) async fn answer(command: &mut Command, input: &[u8], limit: Duration) -> io::Result<Option<Output>> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut pipe = child.stdin.take();
    let work = async {
        if let Some(pipe) = &mut pipe {
            pipe.write_all(input).await?;
        }
        drop(pipe);
        child.wait_with_output().await
    };
    tokio::time::timeout(limit, work).await.ok().transpose()
}
