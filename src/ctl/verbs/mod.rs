//! The verbs, one file each, and the way from the command line to them.

mod cancel;
mod config;
mod create;
mod delete;
pub(super) mod diff;
mod drill;
pub(super) mod export;
mod health;
mod jobs;
pub(super) mod list;
mod log;
mod notify;
mod pin;
mod prune;
mod reload;
pub(super) mod restore;
pub(super) mod restore_all;
mod retention;
mod schedule;
pub(super) mod show;
mod source;
mod sources;
mod space;
pub(super) mod stats;
mod status;
mod undelete;
mod undo;
pub(super) mod verify;
mod watch;
mod watch_notices;

use super::{
    arguments::{Arguments, RetentionVerb, Verb},
    client::Client,
    error::CtlError,
    follow::Finished,
    human, no_daemon,
    output::Output,
};

/// Carries out the command line.
///
/// # Errors
/// What the verb meets.
pub(super) async fn run(arguments: &Arguments, output: &Output) -> Result<(), CtlError> {
    let verb = arguments.verb.as_ref().unwrap_or(&Verb::Status);
    if let Verb::Config(verb) = verb {
        return config::run(verb, output);
    }
    if let Verb::Log(log) = verb {
        return Err(log::run(log, &arguments.common));
    }
    if let Verb::Watch(watch) = verb {
        return watch::run(watch, &arguments.common, output).await;
    }
    if let Verb::Source(verb) = verb {
        return source::run(verb, &arguments.common, output).await;
    }
    if let Some(repository) = arguments.offline_repository().map_err(CtlError::usage)? {
        return no_daemon::run(verb, repository, output).await;
    }
    if let Verb::Health(health) = verb {
        return health::run(&arguments.common, output, health).await;
    }
    let client = Client::connect(&arguments.common).await?;
    match verb {
        Verb::Status => status::run(&client, output).await,
        Verb::Sources => sources::run(&client, output).await,
        Verb::Health(health) => health::run(&arguments.common, output, health).await,
        Verb::Notify(verb) => notify::run(&client, output, verb).await,
        Verb::Schedule => schedule::run(&client, output).await,
        Verb::Create(arguments) => create::run(client, output, arguments).await,
        Verb::List(arguments) => list::run(&client, output, arguments).await,
        Verb::Show(arguments) => show::run(&client, output, arguments).await,
        Verb::Diff(arguments) => diff::run(&client, output, arguments).await,
        Verb::Stats(arguments) => stats::run(&client, output, arguments).await,
        Verb::Restore(arguments) => restore::run(client, output, arguments).await,
        Verb::Verify(arguments) => verify::run(client, output, arguments).await,
        Verb::Drill(arguments) => drill::run(client, output, arguments).await,
        Verb::Delete(arguments) => delete::run(client, output, arguments).await,
        Verb::Undelete(arguments) => undelete::run(&client, output, arguments).await,
        Verb::Prune(arguments) => prune::run(client, output, arguments).await,
        Verb::Retention(RetentionVerb::Explain(arguments)) => retention::explain(&client, output, arguments).await,
        Verb::Space => space::run(&client, output).await,
        Verb::Pin(arguments) => pin::pin(&client, output, arguments).await,
        Verb::Unpin(arguments) => pin::unpin(&client, output, arguments).await,
        Verb::Export(arguments) => export::run(client, output, arguments).await,
        Verb::Jobs(arguments) => jobs::run(&client, output, arguments).await,
        Verb::Cancel { jobs } => cancel::run(&client, output, jobs).await,
        Verb::Log(log) => Err(log::run(log, &arguments.common)),
        Verb::Config(verb) => config::run(verb, output),
        Verb::Source(verb) => source::run(verb, &arguments.common, output).await,
        Verb::Watch(watch) => watch::run(watch, &arguments.common, output).await,
        Verb::Reload => reload::run(&client, output).await,
    }
}

/// Prints how a job ended: its record as JSON, or a sentence. Its failure, if it failed, is the error.
fn conclude(output: &Output, job: &Finished, sentence: impl FnOnce() -> String) -> Result<(), CtlError> {
    if output.is_json() {
        output.json(&job.json)?;
    }
    job.check()?;
    if output.is_json() || output.is_quiet() { Ok(()) } else { output.line(sentence()) }
}

/// How long a job took, for a sentence.
fn took(job: &Finished) -> String {
    human::duration(job.view.end_time.saturating_sub(job.view.start_time))
}
