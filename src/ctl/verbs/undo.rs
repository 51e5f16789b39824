//! `restore undo` and `restore forget`: the way back from a restore in place.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    super::{
        arguments::UndoArguments,
        client::Client,
        confirm,
        error::CtlError,
        follow::{self, OnInterrupt},
        human,
        manager::Manager,
        output::{Output, say},
        table::{Column, Table, visible},
    },
    conclude, took,
};
use crate::{
    bus::types::{UndoRow, undo_options_to_wire},
    clock::now_micros,
    model::{ErrorCode, Name},
    service::operations::UndoOptions,
};

/// Undoes what a job did, or lists what can be undone.
pub(super) async fn run(mut client: Client, output: &Output, arguments: &UndoArguments) -> Result<(), CtlError> {
    let Some(number) = arguments.job else { return list(&client, output).await };
    if arguments.dry_run || !arguments.yes {
        let plan = Plan::parse(&client.manager().plan_undo(number, 0).await?)?;
        if arguments.dry_run {
            match output.is_json() {
                true => output.json(&plan.json)?,
                false => output.text(&plan.view.for_people())?,
            }
            return plan.view.check();
        }
        say(plan.view.for_people().trim_end());
        plan.view.check()?;
        confirm::ask("Undo now?", "the undo").await?;
    }
    let options = undo_options_to_wire(&UndoOptions { break_replication: arguments.break_replication });
    let start = async |manager: Manager| manager.undo_restore(number, &options, 0).await;
    if arguments.waiting.no_block {
        return follow::start_only(&client, output, start).await;
    }
    let job = follow::run(&mut client, output, "undo", OnInterrupt::Detach, start).await?;
    conclude(output, &job, || {
        let name = |key: &str| {
            let name = job.view.statistics.get(key).and_then(|name| serde_json::from_value::<Name>(name.clone()).ok());
            name.map(|name| visible(&name.to_string())).unwrap_or_default()
        };
        format!(
            "{} is as it was before job {number}, in {}.\nWhat was there is kept as {}; `backupctl restore undo {}` \
             brings that back.",
            match name("path") {
                file if file.is_empty() => format!("Database {}", name("database")),
                file => format!("File {file}"),
            },
            took(&job),
            name("kept"),
            job.view.number
        )
    })
}

/// Drops what a job keeps.
pub(super) async fn forget(mut client: Client, output: &Output, number: u64, yes: bool) -> Result<(), CtlError> {
    if !yes {
        let rows = client.manager().list_undo(0).await?;
        if let Some(row) = rows.iter().find(|row| row.job == number) {
            say(format!(
                "{} holds {} as it was until {}. It would be dropped for good.",
                visible(&row.kept),
                visible(&row.target),
                human::time(row.made_at)
            ));
            confirm::ask("Drop it now?", "dropping it").await?;
        }
    }
    let start = async |manager: Manager| manager.forget_undo(number, 0).await;
    let job = follow::run(&mut client, output, "forget", OnInterrupt::Detach, start).await?;
    conclude(output, &job, || format!("Job {number} cannot be undone any more."))
}

async fn list(client: &Client, output: &Output) -> Result<(), CtlError> {
    let rows = client.manager().list_undo(0).await?;
    if output.is_json() {
        return output.json(&rows.iter().map(json).collect::<Vec<_>>());
    }
    output.table(&table(&rows), "undo")
}

/// A row as JSON.
fn json(row: &UndoRow) -> Value {
    json!({
        "job": row.job,
        "run_id": row.run_id,
        "source": row.source,
        "backup": row.backup,
        "target": row.target,
        "kept": row.kept,
        "undid": row.undid,
        "made_at": row.made_at,
        "until": row.until,
        "bytes": if row.bytes == 0 { Value::Null } else { row.bytes.into() },
    })
}

fn table(rows: &[UndoRow]) -> Table {
    let now = now_micros();
    let mut table = Table::new(&[
        Column::Right("JOB"),
        Column::Left("SOURCE"),
        Column::Left("REPLACED"),
        Column::Left("KEPT AS"),
        Column::Right("SIZE"),
        Column::Left("SINCE"),
        Column::Left("FOR"),
    ]);
    for row in rows {
        table.row([
            row.job.to_string(),
            row.source.clone(),
            row.target.clone(),
            row.kept.clone(),
            if row.bytes == 0 { "-".to_owned() } else { human::size(row.bytes) },
            human::time(row.made_at),
            human::duration(row.until.saturating_sub(now)),
        ]);
    }
    table
}

/// What an undo would do.
struct Plan {
    json: Value,
    view: View,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct View {
    source: String,
    target: Option<Name>,
    kept: Option<Name>,
    kept_since: u64,
    until: u64,
    bytes: Option<u64>,
    steps: Vec<String>,
    obstacles: Vec<String>,
}

impl Plan {
    fn parse(text: &str) -> Result<Self, CtlError> {
        let odd = |error| CtlError::new(ErrorCode::NotSupported, format!("cannot read the plan of the undo: {error}"));
        let json: Value = serde_json::from_str(text).map_err(odd)?;
        let view = serde_json::from_value(json.clone()).map_err(odd)?;
        Ok(Self { json, view })
    }
}

impl View {
    fn for_people(&self) -> String {
        let name = |name: &Option<Name>| name.as_ref().map(|name| visible(&name.to_string())).unwrap_or_default();
        let mut text = format!(
            "  Source: {}\nReplaced: {}\n Kept as: {}, {}, since {}, until {}\n",
            visible(&self.source),
            name(&self.target),
            name(&self.kept),
            self.bytes.map_or_else(|| "which is gone".to_owned(), human::size),
            human::time(self.kept_since),
            human::time(self.until)
        );
        if self.obstacles.is_empty() {
            for (number, step) in self.steps.iter().enumerate() {
                let _ = writeln!(text, "{:>8}. {}", number + 1, visible(step));
            }
        }
        for obstacle in &self.obstacles {
            let _ = writeln!(text, "Stands in the way: {}", visible(obstacle));
        }
        text
    }

    fn check(&self) -> Result<(), CtlError> {
        match self.obstacles.first() {
            None => Ok(()),
            Some(first) => Err(CtlError::new(ErrorCode::RestoreRefused, format!("the undo would fail: {first}"))),
        }
    }
}
