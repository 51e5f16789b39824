//! `undelete`: brings deleted backups back, or lists those that can be.

use serde_json::json;

use super::super::{
    arguments::UndeleteArguments,
    client::Client,
    error::CtlError,
    human,
    output::Output,
    table::{Column, Table, visible},
};
use crate::{bus::types::DeletedRow, model::Name};

pub(super) async fn run(client: &Client, output: &Output, arguments: &UndeleteArguments) -> Result<(), CtlError> {
    if arguments.backups.is_empty() {
        return list(output, &client.manager().list_deleted(0).await?);
    }
    let mut back = Vec::new();
    let mut outcome = Ok(());
    for backup in &arguments.backups {
        match client.manager().undelete_backup(backup, 0).await {
            Ok(id) => {
                if !output.is_json() && !output.is_quiet() {
                    let short: String = id.chars().take(8).collect();
                    output.line(format_args!("{short} is back, and pinned for a week."))?;
                }
                back.push(id);
            }
            Err(error) => {
                outcome = Err(error.into());
                break;
            }
        }
    }
    if output.is_json() {
        output.json(&back)?;
    }
    outcome
}

fn list(output: &Output, deleted: &[DeletedRow]) -> Result<(), CtlError> {
    if output.is_json() {
        let row = |row: &DeletedRow| {
            json!({
                "id": row.id, "source": row.source,
                "child": (!row.database.is_empty()).then(|| Name::from(row.database.clone())),
                "sequence": row.sequence, "snapshot_at": row.snapshot_at, "raw_bytes": row.raw_bytes,
                "deleted_at": row.deleted_at, "until": row.until, "by_name": row.by_name,
            })
        };
        return output.json(&deleted.iter().map(row).collect::<Vec<_>>());
    }
    let mut table = Table::new(&[
        Column::Left("ID"),
        Column::Flexible("SOURCE"),
        Column::Left("TAKEN"),
        Column::Right("SIZE"),
        Column::Left("DELETED"),
        Column::Left("BY"),
        Column::Left("UNTIL"),
    ]);
    for row in deleted {
        let source = match row.database.is_empty() {
            true => row.source.clone(),
            false => format!("{}/{}", row.source, Name::from(row.database.clone()).lossy()),
        };
        table.row([
            row.id.chars().take(8).collect(),
            visible(&source),
            human::time(row.snapshot_at),
            human::size(row.raw_bytes),
            human::time(row.deleted_at),
            if row.by_name { "name" } else { "retention" }.to_owned(),
            human::time(row.until),
        ]);
    }
    output.table(&table, "deleted backup")
}
