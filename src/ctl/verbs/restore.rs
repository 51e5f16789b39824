//! `restore`: a plan for the user, a question, and the job.

use std::fmt::Write as _;

use serde::Deserialize;

use super::{
    super::{
        arguments::{RestoreArguments, RestoreVerb},
        client::Client,
        confirm,
        error::CtlError,
        follow::{self, Finished, OnInterrupt},
        human,
        manager::Manager,
        output::{Output, say},
        table::visible,
    },
    conclude,
    restore_all::{AllPlan, AllRestored},
    took, undo,
};
use crate::{
    bus::types::restore_options_to_wire,
    model::{ErrorCode, Name},
    service::operations::RestoreOptions,
};

pub(super) async fn run(mut client: Client, output: &Output, arguments: &RestoreArguments) -> Result<(), CtlError> {
    match &arguments.verb {
        Some(RestoreVerb::Undo(undo)) => return undo::run(client, output, undo).await,
        Some(RestoreVerb::Forget { job, yes }) => return undo::forget(client, output, *job, *yes).await,
        None => {}
    }
    let (selector, options) = match &arguments.apply {
        // What was shown has been read: there is nothing to ask.
        Some(plan) => (String::new(), RestoreOptions { plan: plan.clone(), ..RestoreOptions::default() }),
        None => (arguments.selector()?, arguments.options()),
    };
    if arguments.dry_run {
        let text = client.manager().plan_restore(&selector, &restore_options_to_wire(&options), 0).await?;
        return print_plan(output, &text);
    }
    if !arguments.yes && arguments.apply.is_none() {
        let text = client.manager().plan_restore(&selector, &restore_options_to_wire(&options), 0).await?;
        ask(&text).await?;
    }
    let start = async |manager: Manager| manager.restore_backup(&selector, &restore_options_to_wire(&options), 0).await;
    if arguments.waiting.no_block {
        return follow::start_only(&client, output, start).await;
    }
    let job = follow::run(&mut client, output, "restore", OnInterrupt::Detach, start).await?;
    match AllRestored::of(&job.view.statistics) {
        Some(restored) => print_all(output, &job, &restored),
        None => conclude(output, &job, || {
            let text = sentence(&job.view.statistics, &took(&job));
            match kept(&job.view.statistics) {
                Some(kept) => format!(
                    "{text}\nWhat was there before is kept as {kept}; `backupctl restore undo {}` brings it back.",
                    job.view.number
                ),
                None => text + &beside(&job.view.statistics),
            }
        }),
    }
}

/// Prints what became of each database. That some failed is the error.
fn print_all(output: &Output, job: &Finished, restored: &AllRestored) -> Result<(), CtlError> {
    if output.is_json() {
        output.json(&job.json)?;
    } else if !output.is_quiet() {
        output.text(&restored.lines(&took(job)))?;
    }
    job.check()
}

/// Shows a plan and asks whether to carry it out; does not ask about one that would fail.
pub(in crate::ctl) async fn ask(plan: &str) -> Result<(), CtlError> {
    let plan = Plan::parse(plan)?;
    say(plan.for_people().trim_end());
    plan.check()?;
    confirm::ask("Restore now?", "the restore").await
}

/// Prints the plan of `--dry-run`; what stands in the way is the error.
pub(in crate::ctl) fn print_plan(output: &Output, text: &str) -> Result<(), CtlError> {
    let plan = Plan::parse(text)?;
    if output.is_json() {
        output.json(&plan.json)?;
    } else {
        output.text(&plan.for_people())?;
    }
    plan.check()
}

/// What was restored, from the report of the restore.
pub(in crate::ctl) fn sentence(statistics: &serde_json::Map<String, serde_json::Value>, took: &str) -> String {
    let file = statistics.get("path").and_then(serde_json::Value::as_str);
    let database = statistics.get("database").and_then(|name| serde_json::from_value::<Name>(name.clone()).ok());
    let mut text = "Restored".to_owned();
    if let Some(database) = database {
        let _ = write!(text, " into the database {database}");
    }
    if let Some(file) = file {
        let _ = write!(text, " into the file {}", visible(file));
    }
    let _ = write!(text, " in {took}");
    if let Some(rows) = statistics.get("rows").and_then(serde_json::Value::as_u64) {
        let _ = write!(text, ": {} rows, counted", human::count(rows));
    }
    text + "."
}

/// The tables that were put beside the live ones, a line each with the way to get rid of it.
fn beside(statistics: &serde_json::Map<String, serde_json::Value>) -> String {
    let tables = statistics.get("tables_beside").cloned().unwrap_or_default();
    let tables: Vec<(Name, Name)> = serde_json::from_value(tables).unwrap_or_default();
    tables.iter().map(|(schema, name)| format!("\n  {}", visible(&format!("{schema}.{name}")))).collect()
}

/// Under which name what was replaced is kept.
fn kept(statistics: &serde_json::Map<String, serde_json::Value>) -> Option<String> {
    let name: Option<Name> = statistics.get("kept").and_then(|name| serde_json::from_value(name.clone()).ok());
    name.map(|name| visible(&name.to_string()))
}

/// A plan as `PlanRestore` gives it, as far as people are shown it.
#[derive(Debug)]
struct Plan {
    json: serde_json::Value,
    view: View,
}

#[derive(Debug)]
enum View {
    One(Box<PlanView>),
    All(Box<AllPlan>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PlanView {
    server: String,
    server_version: String,
    target: Option<Name>,
    to: String,
    backup: PlannedBackup,
    steps: Vec<String>,
    obstacles: Vec<Remark>,
    notices: Vec<Remark>,
    space_needed: u64,
    space_free: Option<u64>,
    id: String,
    estimated_seconds: Option<u64>,
    kept_for_seconds: Option<u64>,
    beside: bool,
    replaces: Option<Replaced>,
}

/// What the plan says of a database that is replaced.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Replaced {
    /// Of a file.
    path: Option<Name>,
    is_database: Option<bool>,
    rows_compared: Option<bool>,
    bytes: u64,
    sessions: u64,
    changed_tables: Vec<ChangedTable>,
    changed_table_count: u64,
}

#[derive(Debug, Deserialize)]
struct ChangedTable {
    schema: Name,
    name: Name,
    rows_now: Option<u64>,
    rows_in_backup: Option<u64>,
    counted: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PlannedBackup {
    source: String,
    child: Option<Name>,
    sequence: u64,
    snapshot_at: u64,
    server_version: String,
    sqlite_version: String,
    rows: u64,
    bytes: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Remark {
    pub(super) what: String,
    pub(super) message: String,
}

impl Plan {
    fn parse(text: &str) -> Result<Self, CtlError> {
        let odd =
            |error| CtlError::new(ErrorCode::NotSupported, format!("cannot read the plan of the restore: {error}"));
        let json: serde_json::Value = serde_json::from_str(text).map_err(odd)?;
        // Only a plan for all databases of a run has several.
        let view = match json.get("databases") {
            Some(_) => View::All(serde_json::from_value(json.clone()).map_err(odd)?),
            None => View::One(serde_json::from_value(json.clone()).map_err(odd)?),
        };
        Ok(Self { json, view })
    }

    fn for_people(&self) -> String {
        match &self.view {
            View::One(view) => view.for_people(),
            View::All(view) => view.for_people(),
        }
    }

    /// What stands in the way, as the error that the restore would give.
    fn check(&self) -> Result<(), CtlError> {
        match &self.view {
            View::One(view) => check(&view.obstacles),
            View::All(view) => view.check(),
        }
    }
}

impl PlanView {
    fn for_people(&self) -> String {
        let Self { server, server_version, target, to, backup, steps, obstacles, notices, .. } = self;
        let is_file = !backup.sqlite_version.is_empty();
        let from = match is_file {
            true => format!("an SQLite database, read by {}", backup.sqlite_version),
            false => format!("from PostgreSQL {}", backup.server_version),
        };
        let mut text = String::new();
        let mut fact = |name: &str, value: String| {
            let _ = writeln!(text, "{name:>8}: {}", visible(&value));
        };
        let child = backup.child.as_ref().map_or_else(String::new, |child| format!("/{child}"));
        fact("Backup", format!("{}{child} #{} of {}", backup.source, backup.sequence, human::time(backup.snapshot_at)));
        fact("Holds", format!("{} rows, {} of data, {from}", human::count(backup.rows), human::size(backup.bytes)));
        if let Some(target) = target {
            let what = match (&self.replaces, self.beside) {
                (Some(_), _) => "in place of the present",
                (None, true) => "beside the tables of",
                (None, false) => "new",
            };
            fact("Into", format!("{what} database {target}"));
        }
        if is_file {
            let what = if self.replaces.is_some() { "in place of the present" } else { "new" };
            fact("Into", format!("{what} file {to}"));
        } else {
            fact("Server", format!("{server}, PostgreSQL {server_version}"));
        }
        let free = self.space_free.map_or_else(
            || "how much is free is not known here".to_owned(),
            |free| format!("{} free", human::size(free)),
        );
        fact("Space", format!("about {} needed, {free}", human::size(self.space_needed)));
        if let Some(seconds) = self.estimated_seconds {
            fact("Takes", format!("about {}", human::duration(seconds.saturating_mul(1_000_000))));
        }
        if let Some(seconds) = self.kept_for_seconds {
            let days = human::duration(seconds.saturating_mul(1_000_000));
            fact("Undo", format!("for {days} after it, by `backupctl restore undo`"));
        }
        if !self.id.is_empty() {
            fact("Plan", self.id.clone());
        }
        if let Some(replaced) = &self.replaces {
            text += &replaced.for_people();
        }
        if obstacles.is_empty() {
            for (i, step) in steps.iter().enumerate() {
                let _ = writeln!(text, "{:>8}. {}", i + 1, visible(step));
            }
        }
        for (label, remarks) in [("Stands in the way", obstacles), ("Note", notices)] {
            for remark in remarks {
                let _ = writeln!(text, "{label}: {}", visible(&remark.message));
            }
        }
        text
    }
}

impl Replaced {
    /// What is lost with it.
    fn for_people(&self) -> String {
        let size = human::size(self.bytes);
        let mut text = match (&self.path, self.is_database) {
            (Some(path), Some(false)) => format!("{} has {size} and is no database.\n", visible(&path.to_string())),
            (Some(path), _) => {
                format!("{} has {size}; those who use it are waited for, not ended.\n", visible(&path.to_string()))
            }
            (None, _) => format!(
                "The present database has {size}; {} will be ended.\n",
                human::plural(usize::try_from(self.sessions).unwrap_or(usize::MAX), "session")
            ),
        };
        if self.rows_compared == Some(false) {
            return text;
        }
        if self.changed_tables.is_empty() {
            return text + "Every table has as many rows now as in the backup.\n";
        }
        text += "Tables of which there are not as many rows now as in the backup:\n";
        for table in &self.changed_tables {
            let rows =
                |rows: Option<u64>| rows.map_or_else(|| "no table".to_owned(), |rows| human::count(rows) + " rows");
            let about = if table.counted { "" } else { "about " };
            let line = format!(
                "{}.{}: {about}{} now, {} in the backup",
                table.schema,
                table.name,
                rows(table.rows_now),
                rows(table.rows_in_backup)
            );
            let _ = writeln!(text, "  {}", visible(&line));
        }
        let more = self.changed_table_count.saturating_sub(self.changed_tables.len() as u64);
        if more > 0 {
            let _ = writeln!(text, "  and {} more", human::count(more));
        }
        text
    }
}

/// What stands in the way, as the error that the restore would give.
pub(super) fn check(obstacles: &[Remark]) -> Result<(), CtlError> {
    let Some(first) = obstacles.first() else { return Ok(()) };
    let exists = obstacles.iter().any(|obstacle| obstacle.what == "target-exists");
    let code = if exists { ErrorCode::TargetExists } else { ErrorCode::RestoreRefused };
    let rest = match obstacles.len() {
        1 => String::new(),
        number => format!(" (and {} more)", number - 1),
    };
    Err(CtlError::new(code, format!("the restore would fail: {}{rest}", first.message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = r#"{
        "server": "/run/postgresql:5432 as user \"postgres\"", "server_version": "15.14", "server_version_num": 150014,
        "target": "shop", "backup": {"source": "shop", "sequence": 7, "snapshot_at": 0, "database": "shop",
        "server_version": "15.14", "rows": 12345, "bytes": 2048},
        "steps": ["Create the database", "Load the data"], "missing_roles": [], "obstacles": [],
        "notices": [{"what": "space", "message": "never\nmind"}], "space_needed": 4096, "space_free": null}"#;

    #[test]
    fn a_plan_for_people() {
        let plan = Plan::parse(PLAN).unwrap();
        let expected = "  Backup: shop #7 of -\n   \
               Holds: 12 345 rows, 2.0K of data, from PostgreSQL 15.14\n    \
                Into: new database shop\n  \
              Server: /run/postgresql:5432 as user \"postgres\", PostgreSQL 15.14\n   \
               Space: about 4.0K needed, how much is free is not known here\n       \
                   1. Create the database\n       \
                   2. Load the data\n\
            Note: never\\nmind\n";
        assert_eq!(plan.for_people(), expected);
        assert!(plan.check().is_ok());
    }

    #[test]
    fn obstacles_are_errors_with_the_code_of_the_restore() {
        for (what, code) in [("target-exists", 31), ("missing-role", 32)] {
            let text =
                PLAN.replace(r#""obstacles": []"#, &format!(r#""obstacles": [{{"what": "{what}", "message": "no"}}]"#));
            let plan = Plan::parse(&text).unwrap();
            assert_eq!(plan.check().unwrap_err().exit_code(), code);
            assert!(plan.for_people().contains("Stands in the way: no"));
            assert!(!plan.for_people().contains("1. Create"));
        }
    }
}
