//! `status`: the daemon, its repository, what is wrong, and what runs.

use serde_json::json;

use super::{
    super::{client::Client, error::CtlError, human, output::Output, table::visible},
    jobs, list,
};
use crate::{
    bus::types::SourceRow, clock::now_micros, config, model::summary::BackupSummary, service::operations::ListFilter,
};

/// How many sources are named with their drills.
const DRILLS_NAMED: usize = 6;

pub(super) async fn run(client: &Client, output: &Output) -> Result<(), CtlError> {
    let manager = client.manager();
    // First: who must authenticate is asked at a method, not at a property.
    let mut rows = manager.list_jobs(0).await?;
    let version = manager.version().await?;
    let (path, state) = (manager.repository_path().await?, manager.repository_state().await?);
    let problem = manager.repository_problem().await?;
    let (backups, free) = (manager.backups().await?, manager.free_bytes().await?);
    let problems = manager.config_problems().await?;
    let sources = manager.list_sources(0).await?;
    let undos = manager.list_undo(0).await?;
    let listed = if ready(&state) { list::all(manager, &ListFilter::default()).await? } else { Vec::new() };
    let drills = drills(&sources, &listed);
    let damaged = listed.iter().filter(|backup| backup.damaged).count();
    let suspect = listed.iter().filter(|backup| backup.suspect).count();
    rows.retain(|job| job.result.is_empty());
    let ready = ready(&state);
    if output.is_json() {
        return output.json(&json!({
            "version": version,
            "repository": path,
            "repository_state": state,
            "repository_problem": if problem.is_empty() { None } else { Some(problem) },
            "sources": sources.len(),
            "backups": ready.then_some(backups),
            "free_bytes": ready.then_some(free),
            "config_problems": problems,
            "damaged_backups": ready.then_some(damaged),
            "suspect_backups": ready.then_some(suspect),
            "drills": drills.iter().map(Drill::json).collect::<Vec<_>>(),
            "undo_copies": undos.len(),
            "undo_bytes": undos.iter().map(|undo| undo.bytes).sum::<u64>(),
            "jobs": rows.iter().map(jobs::json).collect::<Vec<_>>(),
        }));
    }
    output.line(format_args!("backupd {version}"))?;
    output.line(format_args!("  Repository: {path} ({state})"))?;
    if !problem.is_empty() {
        output.line(format_args!("              {}", visible(&problem)))?;
    }
    output.line(format_args!("     Sources: {}", human::count(sources.len() as u64)))?;
    if ready {
        output.line(format_args!("     Backups: {}", human::count(backups)))?;
        output.line(format_args!("        Free: {}", human::size(free)))?;
    }
    if damaged > 0 {
        let number = human::plural(damaged, "backup");
        output.line(format_args!(
            "     Damaged: {number}; `backupctl list --damaged` names them, a new backup stores what they lack again"
        ))?;
    }
    if suspect > 0 {
        let number = human::plural(suspect, "backup");
        output.line(format_args!("     Suspect: {number}; `backupctl list --suspect` names them, `show` says why"))?;
    }
    if let Some(line) = drills_line(&drills, now_micros()) {
        output.line(format_args!("      Drills: {line}"))?;
    }
    if let Some(first) = undos.iter().map(|undo| undo.until).min() {
        let size = human::size(undos.iter().map(|undo| undo.bytes).sum());
        let number = human::plural(undos.len(), "replaced database");
        let until = human::time(first);
        output.line(format_args!("        Undo: {number} kept, {size}; the next is dropped at {until}"))?;
    }
    for (i, problem) in problems.iter().enumerate() {
        let label = if i == 0 { "    Problems:" } else { "             " };
        output.line(format_args!("{label} {}", visible(problem)))?;
    }
    match rows.len() {
        0 => output.line("        Jobs: none")?,
        number => {
            output.line(format_args!("        Jobs: {number} running or waiting\n"))?;
            output.text(&jobs::table(&rows).render(output.style()))?;
        }
    }
    match next_step(&sources).filter(|_| ready) {
        Some(step) => output.line(format_args!("        Next: {step}")),
        None => Ok(()),
    }
}

fn ready(state: &str) -> bool {
    state == "ready"
}

/// What is known of the drills of a source.
#[derive(Debug, PartialEq, Eq)]
struct Drill {
    source: String,
    /// The last one that passed: when, and how long its restore took.
    passed: Option<(u64, u64)>,
    /// The one of the newest backup that was drilled at all, if it failed: when.
    failed: Option<u64>,
}

/// Of each source that is enabled and has a backup.
fn drills(sources: &[SourceRow], backups: &[BackupSummary]) -> Vec<Drill> {
    let enabled = sources.iter().filter(|source| source.state == "enabled" && !source.last_backup.is_empty());
    enabled
        .map(|source| {
            let of_it = || backups.iter().filter(|backup| backup.source.source.as_str() == source.name);
            let passed = of_it().filter(|backup| backup.drilled_at != 0).max_by_key(|backup| backup.drilled_at);
            let passed = passed.map(|backup| (backup.drilled_at, backup.recovery));
            let failed = of_it().map(|backup| backup.drill_failed_at).max().filter(|at| *at != 0);
            let failed = failed.filter(|at| passed.is_none_or(|(passed, _)| *at > passed));
            Drill { source: source.name.clone(), passed, failed }
        })
        .collect()
}

impl Drill {
    fn json(&self) -> serde_json::Value {
        json!({
            "source": self.source,
            "drilled_at": self.passed.map(|(at, _)| at),
            "recovery": self.passed.map(|(_, recovery)| recovery),
            "drill_failed_at": self.failed,
        })
    }
}

/// Failures first, then what passed, then how many sources never were; none where there is no source.
fn drills_line(drills: &[Drill], now: u64) -> Option<String> {
    let failed =
        drills.iter().filter_map(|drill| Some(format!("{} FAILED {}", drill.source, human::ago(drill.failed?, now))));
    let passed = drills.iter().filter(|drill| drill.failed.is_none()).filter_map(|drill| {
        let (at, recovery) = drill.passed?;
        Some(format!("{} {}, restored in {}", drill.source, human::ago(at, now), human::duration(recovery)))
    });
    let mut parts: Vec<String> = failed.chain(passed).collect();
    let more = parts.len().saturating_sub(DRILLS_NAMED);
    parts.truncate(DRILLS_NAMED);
    if more > 0 {
        parts.push(format!("{more} more"));
    }
    match drills.iter().filter(|drill| drill.passed.is_none() && drill.failed.is_none()).count() {
        0 => {}
        never => parts.push(format!("{} never", human::plural(never, "source"))),
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// What is left to do until every source has a backup.
fn next_step(sources: &[SourceRow]) -> Option<String> {
    if sources.is_empty() {
        return Some(format!(
            "`backupctl source add NAME --database DATABASE` (or --sqlite PATH); its file will be {}/sources.d/NAME.toml",
            config::DEFAULT_DIRECTORY
        ));
    }
    let new = |row: &&SourceRow| row.state == "enabled" && row.last_backup.is_empty() && row.running_job == 0;
    sources.iter().find(new).map(|row| {
        let name = &row.name;
        format!("`backupctl create {name}`; `schedule` in the file of the source makes it a habit (backupd.toml(5))")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(state: &str, last_backup: &str, running_job: u64) -> SourceRow {
        SourceRow {
            name: "shop".to_owned(),
            state: state.to_owned(),
            last_backup: last_backup.to_owned(),
            running_job,
            ..SourceRow::default()
        }
    }

    #[test]
    fn failures_come_first_and_what_never_was_drilled_is_counted() {
        let drill = |source: &str, passed, failed| Drill { source: source.to_owned(), passed, failed };
        let (hour, now) = (3_600_000_000, 100 * 3_600_000_000);
        let drills = [
            drill("app", Some((now - 2 * hour, 1_500_000)), None),
            drill("new", None, None),
            drill("shop", Some((hour, 1)), Some(now - hour)),
        ];
        let line = drills_line(&drills, now).unwrap();
        assert_eq!(line, "shop FAILED 1h ago; app 2h ago, restored in 1.5s; 1 source never");
        assert_eq!(drills_line(&[], now), None);
    }

    #[test]
    fn the_next_step_is_a_source_then_a_backup_then_none() {
        assert!(next_step(&[]).unwrap().contains("/etc/backupd/sources.d/NAME.toml"));
        assert!(
            next_step(&[row("enabled", "ab", 0), row("enabled", "", 0)]).unwrap().contains("backupctl create shop")
        );
        for done in [row("enabled", "ab", 0), row("disabled", "", 0), row("broken", "", 0), row("enabled", "", 7)] {
            assert_eq!(next_step(&[done]), None);
        }
    }
}
