//! `jobs`: what runs, waits, and ran.

use serde_json::{Value, json};

use super::super::{
    arguments::JobsArguments,
    client::Client,
    error::CtlError,
    follow::{self, Finished},
    human,
    output::Output,
    progress::state,
    table::{Column, Table, visible},
};
use crate::{bus::types::JobRow, clock::now_micros, model::ErrorCode};

/// How many of the newest jobs the table shows unless told otherwise.
const SHOWN: usize = 20;

pub(super) async fn run(client: &Client, output: &Output, arguments: &JobsArguments) -> Result<(), CtlError> {
    if let Some(number) = arguments.job {
        let job = follow::describe(client.manager(), number).await?;
        return if output.is_json() { output.json(&job.json) } else { output.text(&one(number, &job)) };
    }
    let rows = client.manager().list_jobs(0).await?;
    let wanted = arguments.lines.unwrap_or(if output.is_json() { rows.len() } else { SHOWN });
    let shown = &rows[rows.len().saturating_sub(wanted)..];
    if output.is_json() {
        return output.json(&shown.iter().map(json).collect::<Vec<_>>());
    }
    if shown.len() == rows.len() {
        return output.table(&table(shown), "job");
    }
    output.text(&table(shown).render(output.style()))?;
    output.legend(&format!("{} of {} listed.", shown.len(), human::plural(rows.len(), "job")))
}

/// A row as JSON: null where there is no value.
pub(super) fn json(row: &JobRow) -> Value {
    let text = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
    let number = |number: u64| if number == 0 { Value::Null } else { number.into() };
    // The stable name, as `DescribeJob` and the journal have it.
    let name = ErrorCode::from_dbus_name(&row.error_name).map_or(row.error_name.as_str(), |code| code.name());
    let error = (!row.error_name.is_empty()).then(|| json!({ "name": name, "message": row.error_message }));
    json!({
        "number": row.id,
        "run_id": row.run_id,
        "type": row.job_type,
        "source": text(&row.source),
        "backup": text(&row.backup),
        "started_by_uid": row.started_by_uid,
        "start_time": row.start_time,
        "end_time": number(row.end_time),
        "state": state(&row.result, &row.phase),
        "phase": row.phase,
        "result": text(&row.result),
        "error": error,
        "bytes_done": row.bytes_done,
        "bytes_total": number(row.bytes_total),
    })
}

pub(super) fn table(rows: &[JobRow]) -> Table {
    let now = now_micros();
    let mut table = Table::new(&[
        Column::Right("JOB"),
        Column::Left("TYPE"),
        Column::Left("SOURCE"),
        Column::Left("BACKUP"),
        Column::Left("STARTED"),
        Column::Right("TOOK"),
        Column::Left("STATE"),
        Column::Flexible("ERROR"),
    ]);
    for row in rows {
        let end = if row.end_time == 0 { now } else { row.end_time };
        table.row([
            row.id.to_string(),
            row.job_type.clone(),
            row.source.clone(),
            row.backup.chars().take(8).collect(),
            human::time(row.start_time),
            human::duration(end.saturating_sub(row.start_time)),
            progress(row),
            row.error_message.clone(),
        ]);
    }
    table
}

/// The result of a job that ended; the phase of one that runs, and how far it is.
fn progress(row: &JobRow) -> String {
    if !row.result.is_empty() {
        return row.result.clone();
    }
    match (row.bytes_done * 100).checked_div(row.bytes_total) {
        Some(percent) if row.bytes_done > 0 => format!("{} {}%", row.phase, percent.min(100)),
        _ => row.phase.clone(),
    }
}

fn one(number: u64, job: &Finished) -> String {
    use std::fmt::Write as _;
    let view = &job.view;
    let mut text = String::new();
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:>10}: {}", visible(value));
        }
    };
    fact("Job", &number.to_string());
    fact("Type", &view.job_type);
    fact("Source", &view.source);
    fact("Backup", &view.backup);
    fact("Started", &human::time(view.start_time));
    if view.is_over() {
        fact("Ended", &human::time(view.end_time));
        fact("Took", &human::duration(view.end_time.saturating_sub(view.start_time)));
        fact("Result", view.result.as_deref().unwrap_or_default());
    }
    // Of a job that did what it should, the last phase says nothing.
    if view.result.as_deref() != Some("done") {
        fact("Phase", &view.phase);
    }
    if !view.is_over() {
        fact("Progress", &view.figures(now_micros()));
    }
    if let Some(error) = &view.error {
        fact("Error", &format!("{}: {}", error.name, error.message));
    }
    for (name, value) in &view.statistics {
        let value = match value {
            Value::Number(number) if name == "duration" => human::duration(number.as_u64().unwrap_or_default()),
            Value::Number(number) if name.ends_with("bytes") => human::size(number.as_u64().unwrap_or_default()),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        fact(&name.replace('_', " "), &value);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::table::Style;

    fn row(result: &str, done: u64) -> JobRow {
        JobRow {
            id: 7,
            run_id: "0199".to_owned(),
            job_type: "create".to_owned(),
            source: "shop".to_owned(),
            backup: String::new(),
            started_by_uid: 0,
            start_time: 1_000_000,
            end_time: if result.is_empty() { 0 } else { 3_500_000 },
            phase: "data".to_owned(),
            result: result.to_owned(),
            error_name: if result == "failed" { "org.backupd1.Error.NoSpace".to_owned() } else { String::new() },
            error_message: if result == "failed" { "full".to_owned() } else { String::new() },
            bytes_done: done,
            bytes_total: 200,
            object: zbus::OwnedObjectPath::try_from("/").unwrap(),
        }
    }

    #[test]
    fn states() {
        assert_eq!(progress(&row("done", 3)), "done");
        assert_eq!(progress(&row("", 0)), "data");
        assert_eq!(progress(&row("", 50)), "data 25%");
        assert_eq!(progress(&row("", 500)), "data 100%");
    }

    #[test]
    fn a_past_job() {
        let row = row("failed", 0);
        let text = table(std::slice::from_ref(&row)).render(Style::default());
        assert!(text.contains(" 2.5s failed full"), "{text}");
        let json = json(&row);
        assert_eq!(json["error"], json!({"name": "NoSpace", "message": "full"}));
        assert_eq!(json["state"], "failed");
        assert_eq!([state("", "queued"), state("", "data"), state("done", "data")], ["queued", "running", "done"]);
        assert_eq!((&json["backup"], &json["end_time"]), (&Value::Null, &3_500_000_u64.into()));
    }
}
