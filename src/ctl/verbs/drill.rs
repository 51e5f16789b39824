//! `drill`: restore backups where nothing depends on them, and see what came out.

use serde_json::{Map, Value};

use super::{
    super::{
        arguments::DrillArguments,
        client::Client,
        error::CtlError,
        follow::{self, Finished, OnInterrupt},
        human,
        manager::Manager,
        output::{Output, say},
        selector,
        table::visible,
    },
    conclude, took,
};
use crate::{
    bus::types::Options,
    model::{ErrorCode, drill::DrillReport},
};

pub(super) async fn run(mut client: Client, output: &Output, arguments: &DrillArguments) -> Result<(), CtlError> {
    if arguments.all {
        return all(&mut client, output, arguments.waiting.no_block).await;
    }
    let Some(backup) = &arguments.backup else {
        return Err(CtlError::usage("name a source or a backup, or give --all"));
    };
    let selector = selector_of(client.manager(), backup).await?;
    let start = async |manager: Manager| manager.drill_backup(&selector, &Options::new(), 0).await;
    if arguments.waiting.no_block {
        return follow::start_only(&client, output, start).await;
    }
    let job = follow::run(&mut client, output, "drill", OnInterrupt::Detach, start).await?;
    conclude(output, &job, || sentence(&job))
}

/// The name of a source means its newest backup, or those of its newest run.
async fn selector_of(manager: &Manager, text: &str) -> Result<String, CtlError> {
    if text.contains('@') {
        return selector::selector(text);
    }
    if !is_like_an_id(text) || manager.list_sources(0).await?.iter().any(|source| source.name == text) {
        return Ok(format!("{text}@latest"));
    }
    Ok(text.to_owned())
}

/// Whether a text may be the beginning of a backup's id; a source may be called so, too.
fn is_like_an_id(text: &str) -> bool {
    (4..=32).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

/// The newest backup of every source that has one, one after the other; a failure stops no other.
async fn all(client: &mut Client, output: &Output, no_block: bool) -> Result<(), CtlError> {
    let sources = client.manager().list_sources(0).await?;
    let with_backup = sources.iter().filter(|source| source.state == "enabled" && !source.last_backup.is_empty());
    let names: Vec<String> = with_backup.map(|source| source.name.clone()).collect();
    if names.is_empty() {
        say(format_args!("No source has a backup to drill."));
        return Ok(());
    }
    let mut failed = Vec::new();
    for name in &names {
        let latest = format!("{name}@latest");
        let start = async |manager: Manager| manager.drill_backup(&latest, &Options::new(), 0).await;
        let drilled = match no_block {
            true => follow::start_only(client, output, start).await,
            false => match follow::run(client, output, "drill", OnInterrupt::Detach, start).await {
                Ok(job) => conclude(output, &job, || format!("{name}: {}", sentence(&job))),
                Err(error) => Err(error),
            },
        };
        match drilled {
            Err(error) if error.is_unreachable() => return Err(error),
            Err(error) => {
                say(format_args!("{name}: {}", visible(&error.to_string())));
                failed.push((name.clone(), error));
            }
            Ok(()) => {}
        }
    }
    if let (1, Some((_, error))) = (names.len(), failed.pop_if(|_| names.len() == 1)) {
        return Err(error);
    }
    match failed.as_slice() {
        [] => Ok(()),
        _ => {
            let sources: Vec<&str> = failed.iter().map(|(name, _)| name.as_str()).collect();
            let message = format!("{} of {} drills did not pass: {}", failed.len(), names.len(), sources.join(", "));
            Err(CtlError::new(ErrorCode::PartlyFailed, message))
        }
    }
}

fn sentence(job: &Finished) -> String {
    match report(&job.view.statistics) {
        Some(report) if !report.server.is_empty() => passed(&report, &took(job)),
        _ => {
            let passed = job.view.statistics.get("passed").and_then(Value::as_u64).unwrap_or_default();
            format!(
                "{} drilled in {}.",
                human::plural(usize::try_from(passed).unwrap_or(usize::MAX), "backup"),
                took(job)
            )
        }
    }
}

fn report(statistics: &Map<String, Value>) -> Option<DrillReport> {
    serde_json::from_value(Value::Object(statistics.clone())).ok()
}

fn passed(report: &DrillReport, took: &str) -> String {
    let mut text = format!(
        "Restored in {} with {}: {} rows of {}. The drill took {took}.",
        human::duration(report.recovery),
        visible(&report.server),
        human::count(report.rows),
        human::plural(usize::try_from(report.tables).unwrap_or(usize::MAX), "table"),
    );
    for check in &report.checks {
        text += &format!("\n  {}: {}, {}", visible(&check.name), check.result.word(), visible(&check.message));
    }
    text
}
