//! `delete`: delete backups, one job after the other; those of a whole run in one.

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
    list, took,
};
use crate::{
    bus::types::delete_options_to_wire,
    model::{ErrorCode, summary::BackupSummary},
};

pub(super) async fn run(mut client: Client, output: &Output, arguments: &DeleteArguments) -> Result<(), CtlError> {
    // Resolved first: SOURCE@latest must mean the same before and after the first deletion.
    let mut targets: Vec<Target> = Vec::new();
    for backup in &arguments.backups {
        let target = Target::resolve(client.manager(), &selector::selector(backup)?).await?;
        if let Some(other) = targets.iter().find(|other| other.ids.iter().any(|id| target.ids.contains(id))) {
            let message = format!("{backup} names what {} names as well, which was named before", other.selector);
            return Err(CtlError::usage(message));
        }
        if !arguments.yes {
            target.lines.iter().for_each(say);
        }
        targets.push(target);
    }
    if !arguments.yes {
        let number = targets.iter().map(|target| target.ids.len()).sum();
        confirm::ask(&format!("Delete {}?", human::plural(number, "backup")), "the deletion").await?;
    }
    let mut records = Vec::new();
    let mut outcome = Ok(());
    for Target { selector, ids, .. } in &targets {
        let start = async |manager: Manager| {
            manager.delete_backup(selector, &delete_options_to_wire(arguments.no_undelete), 0).await
        };
        let (what, title) = match ids.as_slice() {
            [id] => (id.clone(), format!("deletion of {}", &id[..8.min(id.len())])),
            _ => {
                let what = format!("{} of {selector}", human::plural(ids.len(), "backup"));
                (what.clone(), format!("deletion of {what}"))
            }
        };
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
            let freed = match freed.filter(|_| arguments.no_undelete) {
                Some(bytes) => format!(", {} freed", human::size(bytes)),
                None => ". `backupctl undelete` brings back what was deleted lately".to_owned(),
            };
            output.line(format_args!("Deleted {what} in {}{freed}.", took(&job)))?;
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

/// What is deleted by one job.
struct Target {
    /// How the daemon is told: an id, or SOURCE@RUN.
    selector: String,
    ids: Vec<String>,
    /// A line about each.
    lines: Vec<String>,
}

impl Target {
    async fn resolve(manager: &Manager, selector: &str) -> Result<Self, CtlError> {
        let backups = list::of_selector(manager, selector).await?;
        let Some(first) = backups.first() else {
            return Err(CtlError::new(ErrorCode::NoSuchBackup, format!("{selector} means no backup")));
        };
        let ids: Vec<String> = backups.iter().map(|backup| backup.id.to_string()).collect();
        let lines = backups.iter().map(line).collect();
        let selector = match ids.as_slice() {
            [id] => id.clone(),
            [id, ..] => {
                let run = manager.get_backup(id, 0).await?.remove("run-id").and_then(|run| String::try_from(run).ok());
                let run = run.ok_or_else(|| {
                    CtlError::new(ErrorCode::NotSupported, "the daemon does not say which run took a backup")
                })?;
                format!("{}@{run}", first.source.source)
            }
            [] => selector.to_owned(),
        };
        Ok(Self { selector, ids, lines })
    }
}

fn line(backup: &BackupSummary) -> String {
    let BackupSummary { id, source, snapshot_at, description, .. } = backup;
    let line = format!("{} of {source}, {} {}", id.short(), human::time(*snapshot_at), visible(description));
    line.trim_end().to_owned()
}
