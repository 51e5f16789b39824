//! `config check`: everything that is wrong in the configuration, without a daemon.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use serde_json::json;

use super::super::{arguments::ConfigVerb, error::CtlError, human, output::Output};
use crate::{
    config::{self, ConfigProblem},
    model::ErrorCode,
};

pub(super) fn run(verb: &ConfigVerb, output: &Output) -> Result<(), CtlError> {
    let ConfigVerb::Check { config_dir } = verb;
    let (sources, problems) = check(config_dir);
    if output.is_json() {
        let list: Vec<_> = problems.iter().map(json).collect();
        output.json(&json!({ "sources": sources, "problems": list }))?;
    } else {
        for problem in &problems {
            output.line(problem)?;
        }
    }
    if !problems.is_empty() {
        let count = human::plural(problems.len(), "problem");
        let message = format!("the configuration in {} has {count}", config_dir.display());
        return Err(CtlError::new(ErrorCode::ConfigInvalid, message));
    }
    if output.is_json() || output.is_quiet() {
        return Ok(());
    }
    output.line(format_args!("{}: no problem found, {}.", config_dir.display(), human::plural(sources.len(), "source")))
}

/// The names of the good sources, and all problems.
fn check(config_dir: &Path) -> (Vec<String>, Vec<ConfigProblem>) {
    match config::load(config_dir) {
        Ok(config) => {
            let mut problems: Vec<ConfigProblem> = config.problems().cloned().collect();
            for (name, source) in &config.sources {
                let file = config_dir.join("sources.d").join(format!("{name}.toml"));
                let unread = source.schedule.iter().filter(|event| !systemd_reads(event));
                problems.extend(unread.map(|event| ConfigProblem {
                    file: file.clone(),
                    line: 0,
                    key: "schedule".to_owned(),
                    message: format!("{event:?} is no calendar event that systemd can read; see systemd.time(7)"),
                }));
            }
            (config.sources.into_keys().map(|name| name.to_string()).collect(), problems)
        }
        Err(errors) => (Vec::new(), errors.0),
    }
}

/// Whether systemd takes this for a calendar event. Only systemd knows; where its program is not, it counts as one.
pub(super) fn systemd_reads(event: &str) -> bool {
    let mut command = Command::new("systemd-analyze");
    command.args(["calendar", "--", event]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().map_or(true, |status| status.success())
}

fn json(problem: &ConfigProblem) -> serde_json::Value {
    json!({
        "file": problem.file.to_string_lossy(),
        "line": (problem.line > 0).then_some(problem.line),
        "key": (!problem.key.is_empty()).then_some(&problem.key),
        "message": problem.message,
    })
}
