//! `create`: take a backup.

use super::{
    super::{
        arguments::CreateArguments,
        client::Client,
        error::CtlError,
        follow::{self, Finished, OnInterrupt},
        human,
        manager::Manager,
        output::{Output, say},
    },
    conclude, took,
};
use crate::{bus::types::create_options_to_wire, model::manifest::Selection, service::operations::CreateOptions};

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
    conclude(output, &job, || sentence(source, &job))?;
    if output.is_quiet() && !output.is_json() {
        return output.line(&job.view.backup);
    }
    // The backup is good whether or not this last question is answered.
    let backup = client.manager().get_backup(&job.view.backup, 0).await.unwrap_or_default();
    if backup.get("incomplete").and_then(|value| u32::try_from(value.clone()).ok()).is_some_and(|number| number > 0) {
        say(format_args!("Not everything could be included; `backupctl show {}` says what.", short(&job.view.backup)));
    }
    Ok(())
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

fn sentence(source: &str, job: &Finished) -> String {
    let id = short(&job.view.backup);
    let number = |name: &str| job.view.statistics.get(name).and_then(serde_json::Value::as_u64);
    let mut text = format!("Backup {id} of {source} taken in {}", took(job));
    if let (Some(raw), Some(stored), Some(new)) = (number("raw_bytes"), number("stored_bytes"), number("new_bytes")) {
        text += &format!(": {} of data, {} stored, {} new", human::size(raw), human::size(stored), human::size(new));
    }
    text + "."
}
