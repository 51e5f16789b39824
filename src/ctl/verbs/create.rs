//! `create`: take a backup, or one of each database of a server.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    super::{
        arguments::CreateArguments,
        client::Client,
        error::CtlError,
        follow::{self, Finished, OnInterrupt},
        human,
        manager::Manager,
        output::{Output, say},
        table::visible,
    },
    conclude, took,
};
use crate::{
    bus::types::create_options_to_wire,
    model::{Name, manifest::Selection},
    service::operations::CreateOptions,
};

pub(super) async fn run(mut client: Client, output: &Output, arguments: &CreateArguments) -> Result<(), CtlError> {
    let options = CreateOptions {
        description: arguments.description.clone(),
        tags: arguments.tags.clone(),
        selection: Selection {
            schema_only: arguments.schema_only,
            include_tables: arguments.tables.clone(),
            exclude_tables: arguments.exclude_tables.clone(),
            include_schemas: arguments.schemas.clone(),
            exclude_schemas: arguments.exclude_schemas.clone(),
        },
    };
    let source = arguments.source.as_str();
    let start = async |manager: Manager| manager.create_backup(source, &create_options_to_wire(&options), 0).await;
    if arguments.waiting.no_block {
        return follow::start_only(&client, output, start).await;
    }
    let title = format!("backup of {source}");
    let job = follow::run(&mut client, output, &title, OnInterrupt::Detach, start).await?;
    if let Some(run) = WholeRun::of(&job) {
        return run.print(output, source, &job);
    }
    conclude(output, &job, || sentence(source, &job))?;
    if output.is_quiet() && !output.is_json() {
        return output.line(&job.view.backup);
    }
    // The backup is good whether or not this last question is answered.
    let backup = client.manager().get_backup(&job.view.backup, 0).await.unwrap_or_default();
    if backup.get("incomplete").and_then(|value| u32::try_from(value.clone()).ok()).is_some_and(|number| number > 0) {
        say(format_args!("Not everything could be included; `backupctl show {}` says what.", short(&job.view.backup)));
    }
    if backup.get("suspect").and_then(|value| bool::try_from(value.clone()).ok()).unwrap_or_default() {
        say(format_args!(
            "It holds suspiciously less than the one before; `backupctl show {}` has the numbers.",
            short(&job.view.backup)
        ));
    }
    Ok(())
}

/// What the statistics of a run over all databases of a server say, as far as people are shown it.
#[derive(Debug, Deserialize)]
struct WholeRun {
    databases: u64,
    done: u64,
    /// Ids by database.
    backups: BTreeMap<String, String>,
    failures: Vec<Failure>,
    vanished: Vec<Name>,
}

#[derive(Debug, Deserialize)]
struct Failure {
    database: Name,
    message: String,
}

impl WholeRun {
    /// Nothing for a job that was about a single database.
    fn of(job: &Finished) -> Option<Self> {
        serde_json::from_value(serde_json::Value::Object(job.view.statistics.clone())).ok()
    }

    /// Prints a line for each database, or for each that was backed up its id. That some failed is the error.
    fn print(&self, output: &Output, source: &str, job: &Finished) -> Result<(), CtlError> {
        if output.is_json() {
            output.json(&job.json)?;
        } else if output.is_quiet() {
            self.backups.values().try_for_each(|id| output.line(id))?;
        } else {
            output.text(&self.lines(source))?;
            for gone in &self.vanished {
                say(format_args!("{source}/{gone} is not on the server any more; its backups stay."));
            }
            let took = took(job);
            let done = format!("{} of {} databases of {source} backed up in {took}", self.done, self.databases);
            output.line(done + &sizes(job) + ".")?;
        }
        job.check()
    }

    fn lines(&self, source: &str) -> String {
        let done =
            self.backups.iter().map(|(name, id)| format!("Backup {} of {source}/{}.\n", short(id), visible(name)));
        let failed = self
            .failures
            .iter()
            .map(|failure| format!("No backup of {source}/{}: {}\n", failure.database, visible(&failure.message)));
        done.chain(failed).collect()
    }
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

fn sentence(source: &str, job: &Finished) -> String {
    let id = short(&job.view.backup);
    format!("Backup {id} of {} taken in {}{}.", visible(source), took(job), sizes(job))
}

/// What it amounts to, from the statistics.
fn sizes(job: &Finished) -> String {
    let number = |name: &str| job.view.statistics.get(name).and_then(serde_json::Value::as_u64);
    match (number("raw_bytes"), number("stored_bytes"), number("new_bytes")) {
        (Some(raw), Some(stored), Some(new)) => {
            format!(": {} of data, {} stored, {} new", human::size(raw), human::size(stored), human::size(new))
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_over_all_databases_has_a_line_for_each() {
        let statistics = serde_json::json!({
            "databases": 3, "done": 1, "backups": {"a\nb": "0123456789abcdef"}, "vanished": [],
            "failures": [{"database": "c", "error": "LockTimeout", "message": "it is\nlocked"},
                         {"database": {"base64": "/w=="}, "error": "NotSupported", "message": "no"}],
        });
        let run: WholeRun = serde_json::from_value(statistics).unwrap();
        let expected =
            "Backup 01234567 of all/a\\nb.\nNo backup of all/c: it is\\nlocked\nNo backup of all/\u{fffd}: no\n";
        assert_eq!(run.lines("all"), expected);
    }
}
