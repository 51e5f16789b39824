//! `show`: everything about one backup, and the commands that restore it without this program; of a whole run, the
//! backups that it took.

use std::fmt::Write as _;

use serde::Deserialize;

use super::{
    super::{
        arguments::BackupArguments,
        client::Client,
        error::CtlError,
        human,
        output::Output,
        table::{Column, Table, visible},
    },
    list,
};
use crate::{
    clock::now_micros,
    model::{
        ErrorCode,
        manifest::{Manifest, Table as ManifestTable},
        summary::BackupSummary,
    },
    repository::Record,
};

/// How many tables are shown; `--json` has them all.
const TABLES_SHOWN: usize = 20;

pub(super) async fn run(client: &Client, output: &Output, arguments: &BackupArguments) -> Result<(), CtlError> {
    let selector = arguments.selector()?;
    match client.manager().describe_backup(&selector, 0).await.map_err(CtlError::from) {
        // A whole run is no single backup.
        Err(error) if error.is_usage() => match list::of_selector(client.manager(), &selector).await {
            Ok(run) => list::print(output, &run),
            Err(_) => Err(error),
        },
        text => print(output, serde_json::from_str(&text?).map_err(odd)?),
    }
}

fn odd(error: serde_json::Error) -> CtlError {
    CtlError::new(ErrorCode::NotSupported, format!("cannot read what is said of the backup: {error}"))
}

/// What `DescribeBackup` says.
#[derive(Debug, Deserialize)]
struct Description {
    summary: BackupSummary,
    manifest: Manifest,
    /// As they are: newer ones are none of this program's business.
    #[serde(default)]
    records: Vec<serde_json::Value>,
    #[serde(default)]
    by_hand: Vec<String>,
}

/// What makes a backup suspect.
fn suspicions(records: &[serde_json::Value]) -> impl Iterator<Item = String> {
    let known = records.iter().filter_map(|record| serde_json::from_value::<Record>(record.clone()).ok());
    known.flat_map(|record| match record {
        Record::Suspect { findings, .. } => findings,
        _ => Vec::new(),
    })
}

/// Prints a description as `DescribeBackup` gives it.
pub(in crate::ctl) fn print(output: &Output, json: serde_json::Value) -> Result<(), CtlError> {
    if output.is_json() {
        return output.json(&json);
    }
    let description: Description = serde_json::from_value(json).map_err(odd)?;
    output.text(&facts(&description))?;
    let style = output.style();
    output.text("\nFiles:\n")?;
    output.text(&files(&description.manifest).render(style))?;
    let (table, total) = tables(&description.manifest);
    if total > 0 {
        let which =
            if table.len() < total { format!(" (the {} largest of {total})", table.len()) } else { String::new() };
        output.text(&format!("\nTables{which}:\n"))?;
        output.text(&table.render(style))?;
    }
    output.text(&drills(&description.records))?;
    if !description.manifest.incomplete.is_empty() {
        output.text("\nNot included:\n")?;
        for missing in &description.manifest.incomplete {
            output.line(format_args!("  {}: {}", missing.what, visible(&missing.message)))?;
        }
    }
    if !description.by_hand.is_empty() {
        output.text("\nTo restore by hand, without this program:\n")?;
        for command in &description.by_hand {
            output.line(format_args!("  {command}"))?;
        }
    }
    Ok(())
}

fn facts(description: &Description) -> String {
    let (summary, manifest) = (&description.summary, &description.manifest);
    let statistics = &manifest.statistics;
    let mut text = String::new();
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:>11}: {}", visible(&value));
        }
    };
    fact("Backup", summary.id.to_string());
    fact("Source", format!("{} #{}", summary.source, summary.sequence));
    fact("Taken", format!("{} ({})", human::time(summary.snapshot_at), human::ago(summary.snapshot_at, now_micros())));
    fact("Took", human::duration(statistics.duration));
    fact("Description", summary.description.clone());
    fact("Tags", summary.tags.join(", "));
    let verified = match summary.verified_at {
        0 => String::new(),
        time => format!(", verified {}", human::time(time)),
    };
    let damage = if summary.damaged { "DAMAGED, " } else { "" };
    let drill = if summary.drill_failed_at == 0 { "" } else { "DRILL FAILED, " };
    fact("Proof", format!("{damage}{drill}{}{verified}", summary.proof.as_str()));
    for finding in suspicions(&description.records) {
        fact("Suspect", finding);
    }
    if let Some(pin) = &summary.pin {
        let end =
            pin.until.map_or_else(|| "without an end".to_owned(), |until| format!("until {}", human::time(until)));
        let why = if pin.reason.is_empty() { String::new() } else { format!(": {}", pin.reason) };
        fact("Pinned", format!("{end}{why}"));
    }
    fact("Written by", format!("{} {} on {}", manifest.writer.program, manifest.writer.version, manifest.writer.host));
    if let Some(facts) = &manifest.postgresql {
        fact("Server", format!("PostgreSQL {}, dumped by {}", facts.server_version, facts.pg_dump_version));
        let database = &facts.database;
        let locale = format!("{}, {}", database.encoding, database.locale.as_ref().unwrap_or(&database.collate));
        fact("Database", format!("{} ({locale}), {}", database.name, human::size(statistics.database_bytes)));
        let extensions: Vec<String> = facts.extensions.iter().map(|e| format!("{} {}", e.name, e.version)).collect();
        fact("Extensions", extensions.join(", "));
        let roles: Vec<String> = facts.roles.iter().map(ToString::to_string).collect();
        fact("Roles", roles.join(", "));
    }
    if let Some(facts) = &manifest.sqlite {
        fact("Database", format!("{} ({}, {} mode)", facts.path, facts.encoding, facts.journal_mode));
        let free = if facts.free_pages == 0 {
            String::new()
        } else {
            format!(", {} of them free", human::count(facts.free_pages))
        };
        let pages = format!("{} of {} bytes{free}", human::count(facts.pages), human::count(facts.page_size.into()));
        fact("Pages", pages);
        fact("Versions", format!("user_version {}, application_id {}", facts.user_version, facts.application_id));
        let checked = if facts.checked_by.is_empty() { "not checked" } else { facts.checked_by.as_str() };
        fact("Read by", format!("SQLite {}, {checked}", facts.sqlite_version));
        if facts.wal_bytes != [0, 0] {
            let [before, after] = facts.wal_bytes.map(human::size);
            fact("Log", format!("{before} when the backup began, {after} when it let go"));
        }
    }
    fact("Rows", human::count(statistics.rows));
    fact(
        "Size",
        format!(
            "{} of data, {} stored ({})",
            human::size(statistics.raw_bytes),
            human::size(statistics.stored_bytes),
            manifest.codec.name.as_str()
        ),
    );
    fact(
        "New",
        format!(
            "{} ({} of {} chunks were there already)",
            human::size(statistics.new_bytes),
            human::count(statistics.reused_chunks),
            human::count(statistics.chunks)
        ),
    );
    text
}

/// The drills that are remembered, the newest first and with what it looked at.
fn drills(records: &[serde_json::Value]) -> String {
    // Records of a newer daemon may be of kinds that are not known here.
    let known = records.iter().rev().filter_map(|record| serde_json::from_value(record.clone()).ok());
    let mut text = String::new();
    for (number, record) in
        known.filter(|record| matches!(record, Record::Drilled { .. } | Record::DrillFailed { .. })).enumerate()
    {
        let (at, by, report, how) = match &record {
            Record::Drilled { at, by, report } => {
                (*at, by, report, format!("restored in {}", human::duration(report.recovery)))
            }
            Record::DrillFailed { at, by, report, message } => (*at, by, report, format!("FAILED: {message}")),
            _ => continue,
        };
        if number == 0 {
            text += "\nDrills:\n";
        }
        let line = format!("{} with {}, by {by}: {how}", human::time(at), report.server);
        let _ = writeln!(text, "  {}", visible(&line));
        for check in report.checks.iter().filter(|_| number == 0) {
            let took = human::duration(check.duration);
            let _ = writeln!(
                text,
                "    {}",
                visible(&format!("{}: {}, {took}, {}", check.name, check.result.word(), check.message))
            );
        }
    }
    text
}

fn files(manifest: &Manifest) -> Table {
    let mut table = Table::new(&[
        Column::Left("  FILE"),
        Column::Right("SIZE"),
        Column::Right("STORED"),
        Column::Flexible("SHA-256"),
    ]);
    for file in &manifest.files {
        table.row([
            format!("  {}", file.name),
            human::size(file.raw_length),
            human::size(file.stored_length),
            file.raw_sha256.to_string(),
        ]);
    }
    table
}

/// The largest tables, and how many there are.
fn tables(manifest: &Manifest) -> (Table, usize) {
    let mut all: Vec<&ManifestTable> = manifest.tables().collect();
    all.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| (&a.schema, &a.name).cmp(&(&b.schema, &b.name))));
    let mut table = Table::new(&[Column::Flexible("  TABLE"), Column::Right("ROWS"), Column::Right("SIZE")]);
    for each in all.iter().take(TABLES_SHOWN) {
        table.row([format!("  {}.{}", each.schema, each.name), human::count(each.rows), human::size(each.bytes)]);
    }
    (table, all.len())
}
