//! `sources`: what is configured, and when it was backed up last.

use serde_json::{Value, json};

use super::super::{
    client::Client,
    error::CtlError,
    human,
    output::{Output, say},
    table::{Column, Table, visible},
};
use crate::bus::types::SourceRow;
use crate::clock::now_micros;

pub(super) async fn run(client: &Client, output: &Output) -> Result<(), CtlError> {
    let rows = client.manager().list_sources(0).await?;
    if output.is_json() {
        return output.json(&rows.iter().map(json).collect::<Vec<_>>());
    }
    output.table(&table(&rows, now_micros()), "source")?;
    output.finish()?;
    for row in rows.iter().filter(|row| !row.problem.is_empty()) {
        say(visible(&row.problem));
    }
    Ok(())
}

fn json(row: &SourceRow) -> Value {
    let text = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
    let number = |number: u64| if number == 0 { Value::Null } else { number.into() };
    json!({
        "name": row.name,
        "type": text(&row.source_type),
        "state": row.state,
        "location": text(&row.location),
        "description": text(&row.description),
        "problem": text(&row.problem),
        "last_backup": text(&row.last_backup),
        "last_backup_at": number(row.last_backup_at),
        "running_job": number(row.running_job),
    })
}

fn table(rows: &[SourceRow], now: u64) -> Table {
    let mut table = Table::new(&[
        Column::Left("SOURCE"),
        Column::Left("TYPE"),
        Column::Left("STATE"),
        Column::Left("LAST BACKUP"),
        Column::Left("ID"),
        Column::Right("JOB"),
        Column::Flexible("LOCATION"),
        Column::Flexible("DESCRIPTION"),
    ]);
    for row in rows {
        let when = if row.last_backup_at == 0 { "never".to_owned() } else { human::ago(row.last_backup_at, now) };
        table.row([
            row.name.clone(),
            row.source_type.clone(),
            row.state.clone(),
            when,
            row.last_backup.chars().take(8).collect(),
            if row.running_job == 0 { String::new() } else { row.running_job.to_string() },
            row.location.clone(),
            row.description.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::table::Style;

    #[test]
    fn a_source_that_was_never_backed_up() {
        let row = SourceRow {
            name: "shop".to_owned(),
            source_type: "postgresql".to_owned(),
            state: "enabled".to_owned(),
            location: "/run/postgresql:5432 shop".to_owned(),
            description: String::new(),
            problem: String::new(),
            last_backup: String::new(),
            last_backup_at: 0,
            running_job: 0,
        };
        let expected = "SOURCE TYPE       STATE   LAST BACKUP ID JOB LOCATION                  DESCRIPTION\n\
                        shop   postgresql enabled never       -    - /run/postgresql:5432 shop -\n";
        let style = Style { header: true, ..Style::default() };
        assert_eq!(table(std::slice::from_ref(&row), 0).render(style), expected);
        let json = json(&row);
        assert_eq!((&json["last_backup_at"], &json["problem"]), (&Value::Null, &Value::Null));
    }
}
