//! `notify`: whether notices arrive, and what waits to be told.

use serde::Deserialize;

use super::super::{
    arguments::NotifyVerb,
    client::Client,
    error::CtlError,
    human,
    output::{Output, say},
    table::{Column, Table, visible},
};
use crate::model::ErrorCode;

pub(super) async fn run(client: &Client, output: &Output, verb: &NotifyVerb) -> Result<(), CtlError> {
    match verb {
        NotifyVerb::Test { notifier } => test(client, output, notifier.as_deref().unwrap_or_default()).await,
        NotifyVerb::Queue => queue(client, output).await,
    }
}

#[derive(Deserialize)]
struct Tested {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    ok: bool,
    error: String,
}

#[derive(Deserialize)]
struct Waiting {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    waiting: Vec<serde_json::Value>,
    #[serde(default)]
    tries: u32,
    #[serde(default)]
    try_at: u64,
    #[serde(default)]
    error: String,
    #[serde(default)]
    dropped: u64,
}

#[derive(Deserialize)]
struct Answer<T> {
    notifiers: Vec<T>,
}

/// Reads an answer, and prints it where JSON is wanted.
fn read<T: serde::de::DeserializeOwned>(output: &Output, text: &str) -> Result<Vec<T>, CtlError> {
    let unreadable = |error: serde_json::Error| {
        CtlError::new(ErrorCode::Failed, format!("the daemon's answer cannot be read: {error}"))
    };
    if output.is_json() {
        output.json(&serde_json::from_str::<serde_json::Value>(text).map_err(unreadable)?)?;
    }
    serde_json::from_str::<Answer<T>>(text).map(|answer| answer.notifiers).map_err(unreadable)
}

async fn test(client: &Client, output: &Output, notifier: &str) -> Result<(), CtlError> {
    let text = client.manager().test_notice(notifier, 0).await?;
    let tested: Vec<Tested> = read(output, &text)?;
    let mut failed = Vec::new();
    for one in &tested {
        let Tested { name, kind, ok, error } = one;
        if !ok {
            failed.push(format!("{name}: {}", visible(error)));
        } else if !output.is_json() && !output.is_quiet() {
            output.line(format_args!("{name} ({kind}): taken"))?;
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    output.finish()?;
    let message = format!(
        "{} of {} could not be told: {}",
        failed.len(),
        human::plural(tested.len(), "notifier"),
        failed.join("; ")
    );
    Err(CtlError::new(ErrorCode::Failed, message))
}

async fn queue(client: &Client, output: &Output) -> Result<(), CtlError> {
    let text = client.manager().list_notices(0).await?;
    let queues: Vec<Waiting> = read(output, &text)?;
    if output.is_json() {
        return Ok(());
    }
    if queues.is_empty() {
        say(format_args!("No notifier is configured; [notify.NAME] in backupd.toml makes one."));
        return Ok(());
    }
    let columns = [
        Column::Left("NOTIFIER"),
        Column::Left("TYPE"),
        Column::Right("WAITING"),
        Column::Right("DROPPED"),
        Column::Right("TRIES"),
        Column::Left("NEXT TRY"),
        Column::Flexible("LAST ERROR"),
    ];
    let mut table = Table::new(&columns);
    for one in &queues {
        let next = if one.waiting.is_empty() || one.try_at == 0 { String::new() } else { human::time(one.try_at) };
        table.row([
            one.name.clone(),
            one.kind.clone(),
            one.waiting.len().to_string(),
            one.dropped.to_string(),
            one.tries.to_string(),
            next,
            visible(&one.error),
        ]);
    }
    output.text(&table.render(output.style()))
}
