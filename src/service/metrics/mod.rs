//! Figures for Prometheus, as a file for node_exporter's textfile collector, written whenever health was looked at.
//!
//! - `families`: the figures and their names; `text`: the format.
//!
//! Invariants: a reader sees a whole file, the old one or the new one; a file that cannot be written is logged once, and
//! delays nothing.

mod families;
mod text;

use std::{
    collections::BTreeMap,
    fs::Permissions,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::broadcast;

use self::families::{Figures, render};
use super::{engine::Engine, jobs::JobEvent};
use crate::{
    health::Report,
    model::job::{JobResult, JobType},
};

/// Sources that jobs are counted of; more means that configurations came and went.
const MOST_COUNTERS: usize = 10_000;

type Counters = Arc<Mutex<BTreeMap<(String, JobType, JobResult), u64>>>;

/// Writes the file for as long as the engine lives, in the background, where one is configured.
pub(super) fn begin(engine: &Arc<Engine>) {
    let weak = Arc::downgrade(engine);
    let mut reports = engine.health_watch().reports();
    let counters = Counters::default();
    count(engine, counters.clone());
    let runtime = engine.runtime().clone();
    runtime.clone().spawn(async move {
        let mut reported = None;
        while reports.changed().await.is_ok() {
            let report = reports.borrow_and_update().clone();
            let Some(engine) = weak.upgrade() else { return };
            let counters = counters.clone();
            let written = runtime.spawn_blocking(move || write(&engine, &report, &counters)).await;
            let problem = match written {
                Ok(result) => result.err(),
                Err(defect) => Some(defect.to_string()),
            };
            if problem.is_some() && problem != reported {
                tracing::error!("the metrics are not written: {}", problem.as_deref().unwrap_or_default());
            }
            reported = problem;
        }
    });
}

/// Counts the jobs that end from now on.
fn count(engine: &Arc<Engine>, counters: Counters) {
    let mut events = engine.jobs().subscribe();
    engine.runtime().spawn(async move {
        loop {
            match events.recv().await {
                Ok(JobEvent::Finished(record)) => {
                    let mut counters = counters.lock().unwrap_or_else(PoisonError::into_inner);
                    let Some(result) = record.result else { continue };
                    let key = (record.source.clone(), record.job_type, result);
                    if counters.len() < MOST_COUNTERS || counters.contains_key(&key) {
                        *counters.entry(key).or_default() += 1;
                    }
                }
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    });
}

fn write(engine: &Engine, report: &Report, counters: &Counters) -> Result<(), String> {
    let config = engine.config();
    let Some(path) = &config.metrics.textfile else { return Ok(()) };
    let opened = engine.repository().ok();
    let figures = Figures {
        report: report.clone(),
        backups: opened.as_ref().map(|opened| opened.backups().to_vec()).unwrap_or_default(),
        jobs: counters.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        packs: opened.as_ref().and_then(|opened| opened.reading().packs_size().ok()),
        free: opened.as_ref().and_then(|opened| opened.free_bytes().ok()).flatten(),
    };
    replace(path, render(&figures).as_bytes()).map_err(|error| {
        format!(
            "cannot write {}: {error}. The folder must be there, and the daemon's user may write to it",
            path.display()
        )
    })
}

/// Puts a file that everybody may read in the place of the old one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    // node_exporter passes over what does not end in .prom.
    let mut file = tempfile::Builder::new().prefix(".backupd-").suffix(".tmp").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn promtool(arguments: &[&str], input: &str) {
        let mut child = Command::new("promtool")
            .args(arguments)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/prometheus"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{said}");
    }

    #[test]
    fn prometheus_has_nothing_to_say_of_the_figures() {
        promtool(&["check", "metrics"], &render(&families::tests::everything()));
        promtool(&["check", "metrics"], &render(&Figures::default()));
    }

    #[test]
    fn the_alert_rules_are_good_and_fire() {
        promtool(&["check", "rules", "backupd.rules.yml"], "");
        promtool(&["test", "rules", "backupd.rules.test.yml"], "");
    }

    /// A rule about a figure that is not written would never fire.
    #[test]
    fn the_alert_rules_know_only_figures_that_there_are() {
        let rules = include_str!("../../../packaging/prometheus/backupd.rules.yml");
        let figures = render(&families::tests::everything());
        let names = rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names: Vec<&str> = names.filter(|word| word.starts_with("backupd_")).collect();
        assert!(names.len() > 5);
        for name in names {
            assert!(figures.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }

    #[test]
    fn everybody_may_read_the_file_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backupd.prom");
        for text in ["one", "two"] {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
