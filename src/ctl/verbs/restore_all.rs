//! What `restore --all` shows: the plan over all databases of a run, and what became of each.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Deserialize;

use super::{
    super::{human, table::visible},
    restore::{Remark, check},
};
use crate::{ctl::error::CtlError, model::Name};

/// How many databases or roles a line names.
const NAMED: usize = 20;

/// A plan as `PlanRestore` gives it with the option `all`, as far as people are shown it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AllPlan {
    source: String,
    run_id: Option<String>,
    server: String,
    server_version: String,
    create_roles: Vec<Name>,
    databases: Vec<Database>,
    skipped: Vec<Name>,
    obstacles: Vec<Remark>,
    notices: Vec<Remark>,
    rows: u64,
    bytes: u64,
    space_needed: u64,
    space_free: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Database {
    target: Option<Name>,
    replaces_vacant: bool,
}

impl AllPlan {
    pub(super) fn for_people(&self) -> String {
        let mut text = String::new();
        let mut fact = |name: &str, value: String| {
            let _ = writeln!(text, "{name:>8}: {}", visible(&value));
        };
        let run = self.run_id.as_ref().map_or_else(String::new, |run| format!(", run {run}"));
        fact("Backups", format!("{} of {}{run}", self.databases.len() + self.skipped.len(), self.source));
        fact("Holds", format!("{} rows, {} of SQL", human::count(self.rows), human::size(self.bytes)));
        fact("Server", format!("{}, PostgreSQL {}", self.server, self.server_version));
        let free = self.space_free.map_or_else(
            || "how much is free is not known here".to_owned(),
            |free| format!("{} free", human::size(free)),
        );
        fact("Space", format!("about {} needed, {free}", human::size(self.space_needed)));
        if self.obstacles.is_empty() {
            for (number, step) in self.steps().into_iter().enumerate() {
                let _ = writeln!(text, "{:>8}. {}", number + 1, visible(&step));
            }
        }
        if !self.skipped.is_empty() {
            let names = names(&self.skipped);
            let _ = writeln!(text, "Left as they are, since the backups of them hold nothing: {}", visible(&names));
        }
        for (label, remarks) in [("Stands in the way", &self.obstacles), ("Note", &self.notices)] {
            for remark in remarks {
                let _ = writeln!(text, "{label}: {}", visible(&remark.message));
            }
        }
        text
    }

    fn steps(&self) -> Vec<String> {
        let targets = |vacant: bool| {
            let some = self.databases.iter().filter(move |database| database.replaces_vacant == vacant);
            some.filter_map(|database| database.target.clone()).collect::<Vec<_>>()
        };
        let (new, vacant) = (targets(false), targets(true));
        let mut steps = Vec::new();
        if !self.create_roles.is_empty() {
            steps.push(format!(
                "create {}: {}",
                human::plural(self.create_roles.len(), "role"),
                names(&self.create_roles)
            ));
        }
        if !new.is_empty() {
            steps.push(format!("restore and compare {}: {}", human::plural(new.len(), "new database"), names(&new)));
        }
        if !vacant.is_empty() {
            steps.push(format!("restore in place of what is empty: {}", names(&vacant)));
        }
        steps
    }

    /// What stands in the way, as the error of the restore.
    pub(super) fn check(&self) -> Result<(), CtlError> {
        check(&self.obstacles)
    }
}

/// The first names, and how many more there are.
fn names(names: &[Name]) -> String {
    let mut named: Vec<String> = names.iter().take(NAMED).map(Name::display).collect();
    if names.len() > NAMED {
        named.push(format!("and {} more", names.len() - NAMED));
    }
    named.join(", ")
}

/// What the statistics of the job say, as far as people are shown it.
#[derive(Debug, Deserialize)]
pub(in crate::ctl) struct AllRestored {
    databases: u64,
    done: u64,
    /// Rows by database.
    restored: BTreeMap<String, u64>,
    failures: Vec<Failure>,
    #[serde(default)]
    skipped: Vec<Name>,
    #[serde(default)]
    created_roles: Vec<Name>,
    #[serde(default)]
    notices: Vec<Remark>,
    rows: u64,
}

#[derive(Debug, Deserialize)]
struct Failure {
    database: Name,
    message: String,
}

impl AllRestored {
    /// Nothing for a job that was about a single database.
    pub(in crate::ctl) fn of(statistics: &serde_json::Map<String, serde_json::Value>) -> Option<Self> {
        serde_json::from_value(serde_json::Value::Object(statistics.clone())).ok()
    }

    /// A line for each database, and one about all.
    pub(in crate::ctl) fn lines(&self, took: &str) -> String {
        let mut text = String::new();
        for (name, rows) in &self.restored {
            let _ = writeln!(text, "Restored {}: {} rows, counted.", visible(name), human::count(*rows));
        }
        for Failure { database, message } in &self.failures {
            let _ = writeln!(text, "Not restored {database}: {}", visible(message));
        }
        if !self.skipped.is_empty() {
            let names = names(&self.skipped);
            let _ = writeln!(text, "Left as they are, since the backups of them hold nothing: {}", visible(&names));
        }
        for notice in &self.notices {
            let _ = writeln!(text, "Note: {}", visible(&notice.message));
        }
        let roles = human::plural(self.created_roles.len(), "role");
        let (done, all, rows) = (self.done, self.databases, human::count(self.rows));
        let _ = writeln!(text, "{done} of {all} databases restored in {took}: {rows} rows, {roles} created.");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_plan_for_people() {
        let many: Vec<String> = (0..25).map(|n| format!("r{n:02}")).collect();
        let json = json!({
            "source": "all", "run_id": "01a1", "server": "/run:5432 as user \"p\"", "server_version": "15.14",
            "create_roles": many, "skipped": ["template"], "rows": 12345, "bytes": 2048, "space_needed": 4096,
            "databases": [{"target": "a"}, {"target": "b\n"}, {"target": "postgres", "replaces_vacant": true}],
            "obstacles": [], "notices": [{"what": "x", "message": "never\nmind"}],
        });
        let plan: AllPlan = serde_json::from_value(json.clone()).unwrap();
        let text = plan.for_people();
        for part in [
            " Backups: 4 of all, run 01a1\n",
            "   Holds: 12 345 rows, 2.0K of SQL\n",
            "1. create 25 roles: r00, r01, ",
            ", r19, and 5 more\n",
            "2. restore and compare 2 new databases: a, b\\n\n",
            "3. restore in place of what is empty: postgres\n",
            "Left as they are, since the backups of them hold nothing: template\n",
            "Note: never\\nmind\n",
        ] {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
        assert!(plan.check().is_ok());
        let mut blocked = json;
        blocked["obstacles"] = json!([{"what": "target-exists", "message": "a: it exists"}]);
        let blocked: AllPlan = serde_json::from_value(blocked).unwrap();
        assert_eq!(blocked.check().unwrap_err().exit_code(), 31);
        assert!(
            blocked.for_people().contains("Stands in the way: a: it exists") && !blocked.for_people().contains("1. ")
        );
    }

    #[test]
    fn a_line_for_each_database() {
        let statistics = json!({
            "databases": 2, "done": 1, "restored": {"a\n": 3}, "rows": 3, "created_roles": ["r"],
            "failures": [{"database": "b", "error": "RestoreFailed", "message": "no\nroom"}],
        });
        let restored = AllRestored::of(statistics.as_object().unwrap()).unwrap();
        let expected = "Restored a\\n: 3 rows, counted.\nNot restored b: no\\nroom\n\
                        1 of 2 databases restored in 2s: 3 rows, 1 role created.\n";
        assert_eq!(restored.lines("2s"), expected);
        assert!(AllRestored::of(json!({"database": "a", "rows": 1}).as_object().unwrap()).is_none());
    }
}
