//! `list`: the backups.

use serde_json::Value;

use super::super::{
    arguments::ListArguments,
    client::Client,
    error::CtlError,
    human,
    manager::Manager,
    output::{Output, say},
    selector,
    table::{Column, Table, visible},
};
use crate::{
    bus::types::list_filter_to_wire,
    clock::now_micros,
    model::{
        ErrorCode,
        summary::{BackupSummary, Proof},
    },
    service::operations::ListFilter,
};

pub(super) async fn run(client: &Client, output: &Output, arguments: &ListArguments) -> Result<(), CtlError> {
    let filter = filter(arguments)?;
    let backups = all(client.manager(), &filter).await?;
    // A list that lacks backups says so, but is a list all the same.
    let problem = client.manager().repository_problem().await?;
    if !problem.is_empty() {
        say(format_args!("Not all backups can be listed: {}", visible(&problem)));
    }
    print(output, &backups)
}

/// The backups that a selector of the daemon's means: one, or those of a whole run.
pub(super) async fn of_selector(manager: &Manager, selector: &str) -> Result<Vec<BackupSummary>, CtlError> {
    all(manager, &ListFilter { backup: selector.to_owned(), ..ListFilter::default() }).await
}

/// All parts of a listing.
pub(super) async fn all(manager: &Manager, filter: &ListFilter) -> Result<Vec<BackupSummary>, CtlError> {
    let mut backups: Vec<BackupSummary> = Vec::new();
    let mut cursor = String::new();
    loop {
        let (rows, next) = manager.list_backups(&list_filter_to_wire(filter), 0, &cursor, 0).await?;
        backups.reserve(rows.len());
        for row in rows {
            backups.push(row.try_into()?);
        }
        if next.is_empty() {
            return Ok(backups);
        }
        if next == cursor {
            return Err(CtlError::new(ErrorCode::Internal, "the daemon's listing does not get on"));
        }
        cursor = next;
    }
}

/// The filter for the service.
pub(in crate::ctl) fn filter(arguments: &ListArguments) -> Result<ListFilter, CtlError> {
    Ok(ListFilter {
        source: arguments.source.as_ref().or(arguments.source_option.as_ref()).cloned().unwrap_or_default(),
        tag: arguments.tag.clone(),
        since: arguments.since.as_deref().map(selector::since).transpose()?.unwrap_or_default(),
        until: arguments.until.as_deref().map(selector::until).transpose()?.unwrap_or_default(),
        damaged: arguments.damaged,
        suspect: arguments.suspect,
        ..ListFilter::default()
    })
}

/// Prints a listing.
pub(in crate::ctl) fn print(output: &Output, backups: &[BackupSummary]) -> Result<(), CtlError> {
    if output.is_json() {
        let rows: Result<Vec<Value>, CtlError> = backups.iter().map(json).collect();
        return output.json(&rows?);
    }
    output.table(&table(backups, now_micros()), "backup")
}

/// A backup as JSON: every field is always there, null where it has no value.
pub(super) fn json(backup: &BackupSummary) -> Result<Value, CtlError> {
    let odd = |error: serde_json::Error| CtlError::new(ErrorCode::Internal, error.to_string());
    let mut value = serde_json::to_value(backup).map_err(odd)?;
    if let Value::Object(fields) = &mut value {
        // Only the repository itself gives these, the bus does not: a listing is the same either way.
        fields.remove("run_id");
        fields.remove("whole_run");
        fields.entry("child").or_insert(Value::Null);
        fields.insert("suspect".to_owned(), backup.suspect.into());
        let times = [
            ("verified_at", backup.verified_at),
            ("drilled_at", backup.drilled_at),
            ("recovery", backup.recovery),
            ("drill_failed_at", backup.drill_failed_at),
        ];
        for (name, _) in times.iter().filter(|(_, time)| *time == 0) {
            fields.insert((*name).to_owned(), Value::Null);
        }
    }
    Ok(value)
}

fn table(backups: &[BackupSummary], now: u64) -> Table {
    let mut table = Table::new(&[
        Column::Left("ID"),
        Column::Left("SOURCE"),
        Column::Left("TAKEN"),
        Column::Left("AGE"),
        Column::Right("SIZE"),
        Column::Right("STORED"),
        Column::Right("NEW"),
        Column::Left("PROOF"),
        Column::Flexible("NOTES"),
    ]);
    for backup in backups {
        table.row([
            backup.id.short(),
            backup.source.to_string(),
            human::time(backup.snapshot_at),
            human::ago(backup.snapshot_at, now),
            human::size(backup.raw_bytes),
            human::size(backup.stored_bytes),
            human::size(backup.new_bytes),
            proof(backup, now),
            notes(backup),
        ]);
    }
    table
}

/// How far it is known to restore; of a drill also when, and how long the restore took.
fn proof(backup: &BackupSummary, now: u64) -> String {
    match backup {
        _ if backup.damaged => "DAMAGED".to_owned(),
        _ if backup.drill_failed_at != 0 => "DRILL FAILED".to_owned(),
        _ if backup.proof == Proof::Drilled => {
            format!("drilled {}, {}", human::ago(backup.drilled_at, now), human::duration(backup.recovery))
        }
        _ => backup.proof.as_str().to_owned(),
    }
}

/// What else is worth a glance: what is missing, the tags, the description.
fn notes(backup: &BackupSummary) -> String {
    let mut notes = Vec::new();
    if backup.suspect {
        notes.push("SUSPECT".to_owned());
    }
    if backup.incomplete > 0 {
        notes.push(format!("incomplete ({})", backup.incomplete));
    }
    notes.extend(backup.tags.iter().map(|tag| format!("#{tag}")));
    if !backup.description.is_empty() {
        notes.push(backup.description.clone());
    }
    notes.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ctl::table::Style, model::BackupId};

    fn backup(byte: u8) -> BackupSummary {
        BackupSummary {
            id: BackupId([byte; 16]),
            sequence: u64::from(byte),
            started_at: 1,
            snapshot_at: 1_000_000,
            finished_at: 3_000_000,
            raw_bytes: 5 << 30,
            stored_bytes: 1 << 30,
            new_bytes: 4096,
            rows: 1_000_000,
            damaged: byte == 2,
            suspect: byte == 3,
            incomplete: 1,
            description: "before the\nupgrade".to_owned(),
            tags: vec!["weekly".to_owned()],
            ..BackupSummary::nothing()
        }
    }

    #[test]
    fn the_table() {
        let text = table(&[backup(1), backup(2)], 7_201_000_000).render(Style { header: true, ..Style::default() });
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("ID       SOURCE TAKEN "), "{text}");
        assert!(lines[0].ends_with(" AGE    SIZE STORED  NEW PROOF   NOTES"), "{text}");
        assert!(lines[1].starts_with("01010101 shop   19"), "{text}");
        assert!(
            lines[1].ends_with(" 2h ago 5.0G   1.0G 4.0K stored  incomplete (1) #weekly before the\\nupgrade"),
            "{text}"
        );
        assert!(lines[2].contains(" DAMAGED "), "{text}");
    }

    #[test]
    fn json_has_numbers_and_null() {
        let golden = r##"{"child":null,"damaged":false,"description":"before the\nupgrade","drill_failed_at":null,"drilled_at":null,"finished_at":3000000,"id":"01010101010101010101010101010101","incomplete":1,"kind":"logical","new_bytes":4096,"proof":"stored","raw_bytes":5368709120,"recovery":null,"rows":1000000,"sequence":1,"snapshot_at":1000000,"source":"shop","started_at":1,"stored_bytes":1073741824,"suspect":false,"tags":["weekly"],"verified_at":null}"##;
        let json = json(&BackupSummary { run_id: Some(crate::model::RunId::new()), ..backup(1) }).unwrap();
        assert_eq!(json, serde_json::from_str::<Value>(golden).unwrap());
    }

    #[test]
    fn ten_thousand_backups_are_printed_quickly() {
        let backups: Vec<BackupSummary> = (0..10_000).map(|i| backup(u8::try_from(i % 200).unwrap())).collect();
        let began = std::time::Instant::now();
        let text = table(&backups, 7_201_000_000).render(Style { width: Some(100), header: true, underline: true });
        assert_eq!(text.lines().count(), 10_001);
        // Generous for an unoptimised build on a busy machine; a release build takes a few milliseconds.
        assert!(began.elapsed() < std::time::Duration::from_secs(2), "{:?}", began.elapsed());
    }
}
