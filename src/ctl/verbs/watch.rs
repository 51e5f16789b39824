//! `watch`, the dead-man's switch: whether the daemon runs and answers, and whether the newest good backup of each source
//! is not too old. It asks systemd and reads the repository; the daemon is only asked whether it answers.
//!
//! Invariants: whatever cannot be found out counts as wrong; every wait ends; nothing is written but to a folder of its own.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::super::{
    arguments::{Bus, Common, WatchArguments},
    client::Client,
    error::CtlError,
    human,
    output::{Output, say},
    systemd,
    table::visible,
};
use super::watch_notices;
use crate::{
    clock::{modified_at, now_micros},
    config::{self, Config, SourceConfig},
    health::{
        age_limit,
        watch::{
            DaemonState, Finding, Told, Watched, broken_finding, daemon_finding, newest_good, source_finding,
            usual_duration,
        },
    },
    model::{SourceName, message_id, summary::BackupSummary},
    repository::{Catalog, Repository},
    service::ServiceError,
    state_file,
    systemd::{calendar, logging},
};

/// The daemon's unit.
const UNIT: &str = "backupd.service";
/// A stop may take 90 seconds, and a start that fails comes again within a minute.
const PASSING: Duration = Duration::from_secs(120);
/// How often is looked meanwhile.
const STEP: Duration = Duration::from_secs(1);
/// How long the daemon may take to answer. It does within 20 seconds, or is killed by its watchdog after 3 minutes.
const ANSWER: Duration = Duration::from_secs(30);
/// How long systemd may take.
const SYSTEMD: Duration = Duration::from_secs(30);
/// How long the repository may take to be read: a file system that hangs must not silence the watch.
const READING: Duration = Duration::from_secs(120);
/// What is still wrong is told again so often.
const REPEAT: Duration = Duration::from_secs(24 * 3600);
/// The file of what was told.
const TOLD: &str = "told.json";
/// The file of the backups that were seen, which may be deleted at any time.
const CATALOG: &str = "catalog.jsonl";

pub(super) async fn run(arguments: &WatchArguments, common: &Common, output: &Output) -> Result<(), CtlError> {
    if common.no_daemon || common.address.is_some() || common.bus.is_some() {
        let message = "watch asks systemd for the daemon of this host, and reads the repository of its configuration; \
                       --skip-daemon leaves the daemon out";
        return Err(CtlError::usage(message));
    }
    let to_journal = logging::connected_to_journal() && logging::init_critical("info").is_ok();
    let state = arguments.state_dir.clone().or_else(|| std::env::var_os("STATE_DIRECTORY").map(PathBuf::from));
    let (findings, sources) = look(arguments, state.clone()).await;
    let (due, over) = remember(state.as_deref(), &findings);
    if to_journal {
        log(&findings, &due, &over);
    }
    if arguments.notify {
        // One that cannot be read is among the findings, and says whom to tell no more than who is to be told.
        let notifiers = config::load(&arguments.config_dir).map(|config| config.notify).unwrap_or_default();
        watch_notices::tell(&notifiers, &findings, state.as_deref(), REPEAT).await;
    }
    if output.is_json() {
        output.json(&json!({ "sources": sources, "findings": findings }))?;
    } else if !to_journal && !output.is_quiet() {
        for finding in &findings {
            output.line(format_args!("{}: {}", finding.code, visible(&finding.message)))?;
        }
        if findings.is_empty() {
            output.line(format_args!("Nothing is wrong, {} looked at.", human::plural(sources, "source")))?;
        }
    }
    output.finish()?;
    match findings.len() {
        0 => Ok(()),
        count => {
            let verb = if count == 1 { "is" } else { "are" };
            Err(CtlError::findings(format!("{} {verb} wrong", human::plural(count, "thing"))))
        }
    }
}

/// All that is wrong, and how many sources were looked at.
async fn look(arguments: &WatchArguments, state: Option<PathBuf>) -> (Vec<Finding>, usize) {
    let config = match config::load(&arguments.config_dir) {
        Ok(config) => config,
        Err(errors) => {
            let message = format!("the configuration cannot be read, so the daemon cannot start again: {errors}");
            return (vec![Finding::general("configuration-broken", message)], 0);
        }
    };
    let watched = config.sources.values().filter(|source| source.enabled).count() + config.broken.len();
    if watched == 0 {
        // There is nothing to protect; whoever stopped the daemon may have meant it.
        return (Vec::new(), 0);
    }
    let mut findings = Vec::new();
    if !arguments.skip_daemon {
        findings.extend(daemon().await);
    }
    for (name, problems) in &config.broken {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        findings.push(broken_finding(name, &problems.join("; ")));
    }
    findings.extend(backups(config, arguments.config_dir.clone(), state).await);
    (findings, watched)
}

/// What is wrong with the daemon.
async fn daemon() -> Option<Finding> {
    let asked = timeout(PASSING + SYSTEMD, settled_state()).await;
    let state = match asked {
        Ok(Ok(state)) => state,
        Ok(Err(error)) => {
            return Some(Finding::general("systemd-silent", format!("cannot ask systemd for {UNIT}: {error}")));
        }
        Err(_) => {
            return Some(Finding::general("systemd-silent", format!("systemd does not answer when asked for {UNIT}")));
        }
    };
    let silence = if state.active == "active" { answer().await.err() } else { None };
    daemon_finding(UNIT, &state, silence.as_deref())
}

/// What systemd says of the daemon, when that does not start or stop just now, or has for long.
async fn settled_state() -> zbus::Result<DaemonState> {
    let manager = systemd::connect().await?;
    let deadline = Instant::now() + PASSING;
    loop {
        let state = systemd::daemon_state(&manager, UNIT).await?;
        if !state.is_passing() || Instant::now() >= deadline {
            return Ok(state);
        }
        sleep(STEP).await;
    }
}

/// Whether the daemon answers: a call that goes the way of all calls, and waits for nothing.
async fn answer() -> Result<(), String> {
    let ask = async {
        let manager = Client::for_completion(None, Some(Bus::System)).await?;
        manager.list_sources(0).await.map_err(CtlError::from)
    };
    match timeout(ANSWER, ask).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("not within {} s", ANSWER.as_secs())),
    }
}

/// What is wrong with the backups.
async fn backups(config: Config, config_dir: PathBuf, state: Option<PathBuf>) -> Vec<Finding> {
    let path = config.repository.path.clone();
    let work = tokio::task::spawn_blocking(move || too_old(&config, &config_dir, state.as_deref()));
    let unreadable = |why: String| vec![Finding::general("repository-unreadable", why)];
    match timeout(READING, work).await {
        Ok(Ok(findings)) => findings,
        Ok(Err(defect)) => unreadable(format!("cannot read the repository {}: {defect}", path.display())),
        Err(_) => unreadable(format!(
            "cannot read the repository {}: not done after {} s; does its file system hang?",
            path.display(),
            READING.as_secs()
        )),
    }
}

fn too_old(config: &Config, config_dir: &Path, state: Option<&Path>) -> Vec<Finding> {
    let path = &config.repository.path;
    let now = now_micros();
    let mut findings = Vec::new();
    // A repository that was never made is empty: the sources have their time for the first backup.
    let listed = match listed(path, state) {
        Ok(listed) => listed,
        Err(_) if is_missing(path) => Vec::new(),
        Err(error) => {
            findings.push(Finding::general("repository-unreadable", format!("cannot read the repository: {error}")));
            return findings;
        }
    };
    for (name, source) in config.sources.iter().filter(|(_, source)| source.enabled) {
        let file = config::source_file(config_dir, name);
        findings.extend(source_finding(&watched(name, source, &file, &listed, now), now));
    }
    findings
}

/// Whether nothing has ever been at the place of the repository, or only an empty folder.
fn is_missing(path: &Path) -> bool {
    match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// The backups. Where something can be remembered, only manifests that are new are read the next time.
fn listed(path: &Path, state: Option<&Path>) -> Result<Vec<BackupSummary>, ServiceError> {
    let repository = Repository::open_path(path)?;
    let cache = state.map(|state| state.join(CATALOG));
    let catalog = Catalog::open(&repository, cache.as_deref())?;
    if let Some(cache) = cache
        && let Err(error) = catalog.save(&repository, &cache)
    {
        say(format_args!("Cannot write {}: {error}", cache.display()));
    }
    Ok(catalog.backups().into_iter().cloned().collect())
}

fn watched(name: &SourceName, source: &SourceConfig, file: &Path, listed: &[BackupSummary], now: u64) -> Watched {
    let gap = if source.schedule.is_empty() { None } else { calendar::longest_gap(&source.schedule) };
    Watched {
        name: name.to_string(),
        limit: age_limit(source, gap, usual_duration(listed, name)),
        newest_good: newest_good(listed, name, now),
        configured_at: modified_at(file),
    }
}

/// Which findings are to be told now, and what is over. What cannot be remembered is told each time.
fn remember(folder: Option<&Path>, findings: &[Finding]) -> (Vec<bool>, Vec<String>) {
    let file = folder.map(|folder| folder.join(TOLD));
    let read = file.as_deref().and_then(|file| std::fs::read(file).ok());
    let mut told: Told = read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let before = told.clone();
    let (due, over) = told.update(findings, now_micros(), REPEAT);
    if let Some(file) = file.filter(|_| told != before)
        && let Err(error) =
            serde_json::to_vec(&told).map_err(Into::into).and_then(|bytes| state_file::replace(&file, &bytes))
    {
        say(format_args!("Cannot write {}: {error}", file.display()));
    }
    (due, over)
}

/// Writes down what is wrong: as critical what was not told within the last day, as a warning what was.
fn log(findings: &[Finding], due: &[bool], over: &[String]) {
    for (finding, due) in findings.iter().zip(due) {
        let (code, source) = (finding.code, finding.source.as_deref());
        let message = &finding.message;
        if *due {
            tracing::error!(
                MESSAGE_ID = message_id::WATCH_FOUND,
                BACKUPD_FINDING = code,
                BACKUPD_SOURCE = source,
                "{message}"
            );
        } else {
            tracing::warn!(
                MESSAGE_ID = message_id::WATCH_FOUND,
                BACKUPD_FINDING = code,
                BACKUPD_SOURCE = source,
                "still: {message}"
            );
        }
    }
    for key in over {
        let (code, source) = key.split_once(' ').unwrap_or((key, ""));
        let of = if source.is_empty() { String::new() } else { format!(" of {source}") };
        tracing::info!(
            MESSAGE_ID = message_id::WATCH_OVER,
            BACKUPD_FINDING = code,
            BACKUPD_SOURCE = Some(source).filter(|source| !source.is_empty()),
            "{code}{of} is over"
        );
    }
}
