//! `diff`: what changed between two backups.

use std::fmt::Write as _;

use serde_json::Value;

use super::super::{
    arguments::DiffArguments,
    client::Client,
    error::CtlError,
    human,
    output::Output,
    selector,
    table::{Column, Table, visible},
};
use crate::{
    model::{ErrorCode, manifest::Kind},
    statistics::diff::{BackupDiff, Change, Side},
};

/// How many tables are shown; `--json` has them all.
const TABLES_SHOWN: usize = 50;

pub(super) async fn run(client: &Client, output: &Output, arguments: &DiffArguments) -> Result<(), CtlError> {
    let (from, to) = (selector::selector(&arguments.from)?, selector::selector(&arguments.to)?);
    let text = client.manager().diff_backups(&from, &to, 0).await?;
    print(output, serde_json::from_str(&text).map_err(odd)?)
}

fn odd(error: serde_json::Error) -> CtlError {
    CtlError::new(ErrorCode::NotSupported, format!("cannot read what is said of the difference: {error}"))
}

/// Prints a difference as `DiffBackups` gives it.
pub(in crate::ctl) fn print(output: &Output, json: Value) -> Result<(), CtlError> {
    if output.is_json() {
        return output.json(&json);
    }
    let diff: BackupDiff = serde_json::from_value(json).map_err(odd)?;
    let style = output.style();
    output.text(&head(&diff))?;
    output.text("\n")?;
    output.text(&totals(&diff).render(style))?;
    if diff.is_empty() {
        return output.line("\nNothing differs.");
    }
    if !diff.tables.is_empty() {
        output.text("\n")?;
        output.text(&tables(&diff).render(style))?;
    }
    let more = diff.tables.len().saturating_sub(TABLES_SHOWN);
    let more = if more == 0 { String::new() } else { format!("{} more differ; ", human::plural(more, "table")) };
    let unchanged = usize::try_from(diff.unchanged_tables).unwrap_or(usize::MAX);
    output.line(format_args!(
        "\n{more}{} with as many rows and bytes as before{}.",
        human::plural(unchanged, "table"),
        if diff.same_data { ", and all data the same byte for byte" } else { "" }
    ))?;
    output.text(&came_and_went(&diff))
}

fn head(diff: &BackupDiff) -> String {
    let mut text = String::new();
    let product = if diff.kind == Kind::Sqlite { "SQLite" } else { "PostgreSQL" };
    for (name, side) in [("From", &diff.from), ("To", &diff.to)] {
        let version =
            if side.server_version.is_empty() { String::new() } else { format!(", {product} {}", side.server_version) };
        let line = format!(
            "{} ({} #{}), {}{version}",
            side.id.short(),
            side.source,
            side.sequence,
            human::time(side.snapshot_at)
        );
        let _ = writeln!(text, "{name:>4}: {}", visible(&line));
    }
    if !diff.same_source {
        text += "The backups are of different sources.\n";
    }
    if !diff.same_selection {
        text += "The backups were taken with different choices of tables and schemas; what is missing may not have been chosen.\n";
    }
    text
}

/// How a number changed: `+1.5K`, `-3`, or nothing.
fn change(from: u64, to: u64, show: fn(u64) -> String) -> String {
    match to.checked_sub(from) {
        Some(0) => String::new(),
        Some(more) => format!("+{}", show(more)),
        None => format!("-{}", show(from - to)),
    }
}

fn totals(diff: &BackupDiff) -> Table {
    let mut table =
        Table::new(&[Column::Left("TOTAL"), Column::Right("FROM"), Column::Right("TO"), Column::Right("CHANGE")]);
    type Row = (&'static str, fn(&Side) -> u64, fn(u64) -> String);
    let rows: [Row; 8] = [
        ("Tables", |side| side.tables, human::count),
        ("Rows", |side| side.rows, human::count),
        ("Large objects", |side| side.large_objects, human::count),
        ("Data", |side| side.raw_bytes, human::size),
        ("Database", |side| side.database_bytes, human::size),
        ("Stored", |side| side.stored_bytes, human::size),
        ("New", |side| side.new_bytes, human::size),
        ("Took", |side| side.duration, human::duration),
    ];
    for (name, of, show) in rows {
        let (from, to) = (of(&diff.from), of(&diff.to));
        if (from, to) == (0, 0) {
            continue;
        }
        table.row([name.to_owned(), show(from), show(to), change(from, to, show)]);
    }
    table
}

fn tables(diff: &BackupDiff) -> Table {
    let mut table = Table::new(&[
        Column::Flexible("TABLE"),
        Column::Left("CHANGE"),
        Column::Right("ROWS"),
        Column::Right("+/-"),
        Column::Right("SIZE"),
        Column::Right("+/-"),
    ]);
    // Which page is whose is not counted in SQLite.
    let size = |text: String| if diff.kind == Kind::Sqlite { String::new() } else { text };
    for each in diff.tables.iter().take(TABLES_SHOWN) {
        table.row([
            format!("{}.{}", each.schema, each.name),
            each.change.as_str().to_owned(),
            human::count(each.rows_to),
            change(each.rows_from, each.rows_to, human::count),
            size(human::size(each.bytes_to)),
            size(change(each.bytes_from, each.bytes_to, human::size)),
        ]);
    }
    table
}

fn came_and_went(diff: &BackupDiff) -> String {
    let mut text = String::new();
    let mut line = |change: Change, what: String| {
        let _ = writeln!(text, "{:>7}: {}", change.as_str(), visible(&what));
    };
    for extension in &diff.extensions {
        let version = match extension.change {
            Change::Added => extension.version_to.clone(),
            Change::Removed => extension.version_from.clone(),
            Change::Changed => format!("{} to {}", extension.version_from, extension.version_to),
        };
        line(extension.change, format!("extension {} {version}", extension.name));
    }
    for object in &diff.objects {
        line(object.change, format!("{} {}", object.object_type, object.name));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_a_sign() {
        assert_eq!(change(1, 1, human::count), "");
        assert_eq!(change(1, 1501, human::count), "+1 500");
        assert_eq!(change(2048, 0, human::size), "-2.0K");
    }
}
