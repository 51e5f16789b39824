//! `retention explain`: why backups stay or go, and when. `prune` shows the same of what goes.

use serde::Deserialize;

use super::super::{
    arguments::ExplainArguments,
    client::Client,
    error::CtlError,
    human,
    manager::Manager,
    output::Output,
    table::{Column, Table, visible},
};
use crate::{
    bus::types::explain_options_to_wire,
    clock::{micros, now_micros},
    config::RetentionPolicy,
    model::ErrorCode,
};

/// What the daemon says.
#[derive(Debug, Deserialize)]
pub(super) struct Explanation {
    pub(super) sources: Vec<OfSource>,
    not_configured: Vec<String>,
}

/// The backups of a source.
#[derive(Debug, Deserialize)]
pub(super) struct OfSource {
    pub(super) source: String,
    policy: RetentionPolicy,
    pub(super) held: Option<String>,
    pub(super) backups: Vec<OfBackup>,
}

/// What becomes of a backup.
#[derive(Debug, Deserialize)]
pub(super) struct OfBackup {
    id: String,
    source: String,
    sequence: u64,
    snapshot_at: u64,
    suspect: bool,
    damaged: bool,
    pub(super) stays: bool,
    why: Vec<String>,
    goes_at: Option<u64>,
    frees_bytes: Option<u64>,
}

/// Asks the daemon; gives the JSON as well, as it came.
pub(super) async fn ask(
    manager: &Manager,
    source: Option<&str>,
    despite_clock: bool,
) -> Result<(serde_json::Value, Explanation), CtlError> {
    let options = explain_options_to_wire(despite_clock);
    let text = manager.explain_retention(source.unwrap_or_default(), &options, 0).await?;
    let unreadable = |error: serde_json::Error| {
        CtlError::new(
            ErrorCode::NotSupported,
            format!("the daemon's explanation of retention is not readable: {error}"),
        )
    };
    let json: serde_json::Value = serde_json::from_str(&text).map_err(unreadable)?;
    let explanation = Explanation::deserialize(&json).map_err(unreadable)?;
    Ok((json, explanation))
}

pub(super) async fn explain(client: &Client, output: &Output, arguments: &ExplainArguments) -> Result<(), CtlError> {
    let (json, explanation) = ask(client.manager(), arguments.source.as_deref(), arguments.despite_clock).await?;
    if output.is_json() {
        return output.json(&json);
    }
    for of in &explanation.sources {
        output.line(format_args!("{}: {}", of.source, policy(&of.policy)))?;
        output.table(&table(of.backups.iter()), "backup")?;
        if let Some(held) = &of.held {
            output.line(held)?;
        }
        output.line("")?;
    }
    for name in &explanation.not_configured {
        output.line(format_args!("{name}: not configured, so all of its backups stay."))?;
    }
    Ok(())
}

/// A row for each backup.
pub(super) fn table<'a>(backups: impl Iterator<Item = &'a OfBackup>) -> Table {
    let mut table = Table::new(&[
        Column::Left("ID"),
        Column::Left("SOURCE"),
        Column::Right("NO"),
        Column::Left("TAKEN"),
        Column::Left(""),
        Column::Left("UNTIL"),
        Column::Right("FREES"),
        Column::Flexible("WHY"),
    ]);
    let now = now_micros();
    for backup in backups {
        let until = match (backup.stays, backup.goes_at) {
            (false, _) => String::new(),
            (true, Some(at)) => human::time(at.max(now)).chars().take(10).collect(),
            (true, None) => "-".to_owned(),
        };
        let mut why = backup.why.join(", ");
        for (is, word) in [(backup.suspect, "suspect"), (backup.damaged, "damaged")] {
            if is {
                why.push_str(&format!("; {word}"));
            }
        }
        table.row([
            backup.id.chars().take(8).collect(),
            visible(&backup.source),
            format!("#{}", backup.sequence),
            human::time(backup.snapshot_at),
            if backup.stays { "stays" } else { "goes" }.to_owned(),
            until,
            backup.frees_bytes.map_or_else(|| "-".to_owned(), human::size),
            visible(&why),
        ]);
    }
    table
}

/// A policy in words.
fn policy(policy: &RetentionPolicy) -> String {
    let mut words: Vec<String> = Vec::new();
    let numbers = [
        ("last", policy.keep_last),
        ("hourly", policy.keep_hourly),
        ("daily", policy.keep_daily),
        ("weekly", policy.keep_weekly),
        ("monthly", policy.keep_monthly),
        ("yearly", policy.keep_yearly),
    ];
    for (word, number) in numbers.into_iter().filter(|(_, number)| *number > 0) {
        words.push(format!("{number} {word}"));
    }
    let time = |duration: std::time::Duration| human::duration(micros(duration));
    words.extend(policy.keep_within.map(|within| format!("all within {}", time(within))));
    if words.is_empty() {
        words.push("all".to_owned());
    }
    words.extend(policy.max_age.map(|age| format!("none older than {}", time(age))));
    words.extend((policy.max_count > 0).then(|| format!("at most {}", policy.max_count)));
    words.extend(policy.max_size.map(|size| format!("at most {}", human::size(size))));
    format!("keeps {}", words.join(", "))
}
