//! `schedule`: when each source was and will be backed up.

use serde_json::{Value, json};

use super::super::{
    client::Client,
    error::CtlError,
    human,
    output::Output,
    table::{Column, Table},
    timers::{TimerState, Timers},
};
use crate::{bus::types::SourceRow, clock::now_micros};

pub(super) async fn run(client: &Client, output: &Output) -> Result<(), CtlError> {
    let timers = Timers::connect().await?;
    let mut rows = Vec::new();
    for source in client.manager().list_sources(0).await? {
        let timer = timers.of_source(&source.name).await?;
        rows.push((source, timer));
    }
    if output.is_json() {
        return output.json(&rows.iter().map(|(source, timer)| json(source, timer)).collect::<Vec<_>>());
    }
    output.table(&table(&rows, now_micros()), "source")?;
    output.finish()
}

fn json(source: &SourceRow, timer: &TimerState) -> Value {
    let time = |time: u64| if time == 0 { Value::Null } else { time.into() };
    json!({
        "source": source.name,
        "active": timer.active,
        "calendar": if timer.active { timer.events.clone() } else { Vec::new() },
        "last_run": time(timer.last_run),
        "last_run_failed": timer.failed,
        "last_backup": time(source.last_backup_at),
        "next_run": time(timer.next_run),
    })
}

fn table(rows: &[(SourceRow, TimerState)], now: u64) -> Table {
    let mut table = Table::new(&[
        Column::Left("SOURCE"),
        Column::Left("NEXT RUN"),
        Column::Left("LAST RUN"),
        Column::Left("RESULT"),
        Column::Left("LAST BACKUP"),
        Column::Flexible("CALENDAR"),
    ]);
    let never = |time: u64| if time == 0 { "never".to_owned() } else { human::ago(time, now) };
    for (source, timer) in rows {
        let next = match timer.active {
            true if timer.next_run <= now => "now".to_owned(),
            true => human::ago(timer.next_run, now),
            false => String::new(),
        };
        let result = match (timer.failed, timer.last_run) {
            (true, _) => "failed",
            (false, 0) => "",
            (false, _) => "done",
        };
        table.row([
            source.name.clone(),
            next,
            never(timer.last_run),
            result.to_owned(),
            never(source.last_backup_at),
            if timer.active { timer.events.join(", ") } else { String::new() },
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::table::Style;

    #[test]
    fn a_source_with_a_timer_and_one_without() {
        let source =
            |name: &str, last_backup_at| SourceRow { name: name.to_owned(), last_backup_at, ..SourceRow::default() };
        let minute = 60_000_000;
        let timer = TimerState {
            active: true,
            events: vec!["*-*-* 02:00:00".to_owned()],
            last_run: 5 * minute,
            next_run: 9 * minute,
            failed: true,
        };
        let rows = [(source("app", 0), TimerState::default()), (source("shop", 3 * minute), timer)];
        let text = table(&rows, 7 * minute).render(Style { header: true, ..Style::default() });
        let expected = "SOURCE NEXT RUN LAST RUN RESULT LAST BACKUP CALENDAR\n\
                        app    -        never    -      never       -\n\
                        shop   in 2min  2min ago failed 4min ago    *-*-* 02:00:00\n";
        assert_eq!(text, expected);
        assert_eq!(json(&rows[0].0, &rows[0].1)["next_run"], Value::Null);
        assert_eq!(json(&rows[1].0, &rows[1].1)["last_run_failed"], true);
    }
}
