//! `status`: the daemon, its repository, what is wrong, and what runs.

use serde_json::json;

use super::{
    super::{client::Client, error::CtlError, human, output::Output, table::visible},
    jobs, list,
};
use crate::{bus::types::SourceRow, config, service::operations::ListFilter};

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
    let (mut damaged, mut suspect) = (0, 0);
    if state == "ready" {
        damaged = list::count(manager, &ListFilter { damaged: true, ..ListFilter::default() }).await?;
        suspect = list::count(manager, &ListFilter { suspect: true, ..ListFilter::default() }).await?;
    }
    rows.retain(|job| job.result.is_empty());
    let ready = state == "ready";
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
