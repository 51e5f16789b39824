//! `backupctl`: the client of the daemon.
//!
//! - `arguments`: the command line; `verbs`: one file per verb; `selector`: how a backup is named on it.
//! - `client`: the way to the daemon; `manager`: its interface; `agent`: who asks for a password meanwhile; `follow`: waiting for a job without missing or inventing its end.
//! - `no_daemon`: the verbs that only read, on a repository where nothing runs.
//! - `complete`: what the completion scripts of shells ask.
//! - `output`, `table`, `human`, `sparkline`, `progress`, `confirm`: what people and scripts see.
//! - `child`: programs that are asked and answer;
//! - `systemd`: the system's systemd on the bus; `timers`: what systemd knows of the backups to come.
//! - `error`: what went wrong, with the exit code and the hint of the one table of errors.
//!
//! Only data goes to standard output; progress, questions and errors go to standard error. Whoever reads standard
//! output may go away at any time; that is no failure.

mod agent;
pub mod arguments;
mod child;
mod client;
mod complete;
mod confirm;
mod error;
mod follow;
mod human;
mod manager;
mod no_daemon;
mod output;
mod progress;
mod selector;
mod sparkline;
mod systemd;
mod table;
mod timers;
mod verbs;

use std::process::ExitCode;

use clap::Parser as _;

use self::{arguments::Arguments, error::CtlError, output::Output};
use crate::model::ErrorCode;

/// Runs `backupctl` with the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(code) = complete::answer(&std::env::args_os().collect::<Vec<_>>()) {
        return code;
    }
    let arguments = Arguments::parse();
    let output = Output::new(&arguments.common);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = CtlError::new(ErrorCode::Internal, format!("cannot start the runtime: {error}"));
            return report(&error);
        }
    };
    let result = runtime.block_on(verbs::run(&arguments, &output)).and_then(|()| output.finish());
    // A blocked read of standard input must not hold up the end.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

/// Says on standard error what went wrong and what helps; gives the exit code.
fn report(error: &CtlError) -> ExitCode {
    use std::io::Write as _;
    if !error.is_silent() {
        // Nobody is left to be told if standard error is closed.
        let mut stderr = std::io::stderr().lock();
        let _ = writeln!(stderr, "backupctl: {error}");
        if let Some(hint) = error.hint() {
            let _ = writeln!(stderr, "Hint: {hint}");
        }
    }
    ExitCode::from(error.exit_code())
}
