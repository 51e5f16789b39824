//! `space`: who needs how much of the repository.

use serde_json::Value;

use super::super::{
    client::Client,
    error::CtlError,
    human,
    output::Output,
    table::{Column, Table, visible},
};
use crate::model::ErrorCode;

/// The parts of the whole, and what they are.
const PARTS: [(&str, &str); 6] = [
    ("unique_bytes", "data of one backup"),
    ("shared_bytes", "data that several backups share"),
    ("own_bytes", "manifests and indexes"),
    ("deleted_bytes", "deleted, and can be brought back"),
    ("unreferenced_bytes", "freed later, or used by a retry"),
    ("other_bytes", "all else"),
];

pub(super) async fn run(client: &Client, output: &Output) -> Result<(), CtlError> {
    let text = client.manager().describe_space(0).await?;
    let space: Value = serde_json::from_str(&text).map_err(|error| {
        CtlError::new(ErrorCode::NotSupported, format!("the daemon's account of space is not readable: {error}"))
    })?;
    if output.is_json() {
        return output.json(&space);
    }
    let number = |of: &Value, name: &str| of.get(name).and_then(Value::as_u64).unwrap_or_default();
    let mut sources = Table::new(&[
        Column::Flexible("SOURCE"),
        Column::Right("OWN"),
        Column::Right("UNIQUE"),
        Column::Right("SHARED"),
    ]);
    for of in space.get("sources").and_then(Value::as_array).into_iter().flatten() {
        let name = of.get("source").and_then(Value::as_str).unwrap_or_default();
        let size = |field| human::size(number(of, field));
        sources.row([visible(name), size("own_bytes"), size("unique_bytes"), size("shared_bytes")]);
    }
    output.table(&sources, "source")?;
    let mut parts = Table::new(&[Column::Right("SIZE"), Column::Flexible("WHAT")]);
    for (field, what) in PARTS {
        parts.row([human::size(number(&space, field)), what.to_owned()]);
    }
    parts.row([human::size(number(&space, "total_bytes")), format!("in all, in {} packs", number(&space, "packs"))]);
    output.line("")?;
    output.text(&parts.render(output.style()))
}
