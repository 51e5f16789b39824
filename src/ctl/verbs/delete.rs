//! `delete`: delete backups, one job after the other.

use super::{
    super::{
        arguments::DeleteArguments,
        client::Client,
        confirm,
        error::CtlError,
        follow::{self, OnInterrupt},
        human,
        manager::Manager,
        output::{Output, say},
        selector,
        table::visible,
    },
    took,
};
use crate::{bus::types::Options, model::ErrorCode};

pub(super) async fn run(mut client: Client, output: &Output, arguments: &DeleteArguments) -> Result<(), CtlError> {
    // Resolved first: SOURCE@latest must mean the same before and after the first deletion.
    let mut ids: Vec<String> = Vec::new();
    for backup in &arguments.backups {
        let (id, sentence) = resolve(client.manager(), &selector::selector(backup)?).await?;
        if ids.contains(&id) {
            return Err(CtlError::usage(format!("{backup} names the backup {id}, which was named before")));
        }
        if !arguments.yes {
            say(sentence);
        }
        ids.push(id);
    }
    if !arguments.yes {
        let question = format!("Delete {}?", human::plural(ids.len(), "backup"));
        confirm::ask(&question, "the deletion").await?;
    }
    let mut records = Vec::new();
    let mut outcome = Ok(());
    for id in &ids {
        let start = async |manager: Manager| manager.delete_backup(id, &Options::new(), 0).await;
        let title = format!("deletion of {}", &id[..8.min(id.len())]);
        let job = match follow::run(&mut client, output, &title, OnInterrupt::Detach, start).await {
            Ok(job) => job,
            Err(error) => {
                outcome = Err(error);
                break;
            }
        };
        outcome = job.check();
        if outcome.is_ok() && !output.is_quiet() && !output.is_json() {
            let freed = job.view.statistics.get("freed_bytes").and_then(serde_json::Value::as_u64);
            let freed = freed.map_or_else(String::new, |bytes| format!(", {} freed", human::size(bytes)));
            output.line(format_args!("Deleted {id} in {}{freed}.", took(&job)))?;
        }
        records.push(job.json);
        if outcome.is_err() {
            break;
        }
    }
    if output.is_json() {
        output.json(&records)?;
    }
    outcome
}

/// The id of a backup, and a line about it.
async fn resolve(manager: &Manager, selector: &str) -> Result<(String, String), CtlError> {
    let mut properties = manager.get_backup(selector, 0).await?;
    let mut text = |name: &str| properties.remove(name).and_then(|value| String::try_from(value).ok());
    let id =
        text("id").ok_or_else(|| CtlError::new(ErrorCode::NotSupported, "the daemon gave a backup without an id"))?;
    let source = text("source").unwrap_or_default();
    let description = text("description").unwrap_or_default();
    let taken = properties.remove("snapshot-at").and_then(|value| u64::try_from(value).ok()).unwrap_or_default();
    let sentence = format!("{} of {source}, {} {}", &id[..8.min(id.len())], human::time(taken), visible(&description));
    Ok((id, sentence.trim_end().to_owned()))
}
