//! `status`: the daemon, its repository, what is wrong, and what runs.

use serde_json::json;

use super::{
    super::{client::Client, error::CtlError, human, output::Output, table::visible},
    jobs,
};

pub(super) async fn run(client: &Client, output: &Output) -> Result<(), CtlError> {
    let manager = client.manager();
    // First: who must authenticate is asked at a method, not at a property.
    let mut rows = manager.list_jobs(0).await?;
    let version = manager.version().await?;
    let (path, state) = (manager.repository_path().await?, manager.repository_state().await?);
    let problem = manager.repository_problem().await?;
    let (backups, free) = (manager.backups().await?, manager.free_bytes().await?);
    let problems = manager.config_problems().await?;
    rows.retain(|job| job.result.is_empty());
    let ready = state == "ready";
    if output.is_json() {
        return output.json(&json!({
            "version": version,
            "repository": path,
            "repository_state": state,
            "repository_problem": if problem.is_empty() { None } else { Some(problem) },
            "backups": ready.then_some(backups),
            "free_bytes": ready.then_some(free),
            "config_problems": problems,
            "jobs": rows.iter().map(jobs::json).collect::<Vec<_>>(),
        }));
    }
    output.line(format_args!("backupd {version}"))?;
    output.line(format_args!("  Repository: {path} ({state})"))?;
    if !problem.is_empty() {
        output.line(format_args!("              {}", visible(&problem)))?;
    }
    if ready {
        output.line(format_args!("     Backups: {}", human::count(backups)))?;
        output.line(format_args!("        Free: {}", human::size(free)))?;
    }
    for (i, problem) in problems.iter().enumerate() {
        let label = if i == 0 { "    Problems:" } else { "             " };
        output.line(format_args!("{label} {}", visible(problem)))?;
    }
    match rows.len() {
        0 => output.line("        Jobs: none"),
        number => {
            output.line(format_args!("        Jobs: {number} running or waiting\n"))?;
            output.text(&jobs::table(&rows).render(output.style()))
        }
    }
}
