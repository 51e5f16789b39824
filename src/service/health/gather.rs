//! Gathers the facts. Nothing here decides anything. Blocks, for no longer than a file system takes to answer.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use nix::{sys::statvfs::FsFlags, unistd::AccessFlags};

use super::{clients::Clients, host::Host, memory::Memory};
use crate::{
    clock::{modified_at, now_micros},
    config::{self, Config, SourceConfig, SourceKind, Within},
    health::{
        Facts,
        facts::{RepositoryFacts, SourceFacts, TimerFacts, UndoFacts},
    },
    model::{SourceKey, SourceName, job::JobRecord, summary::BackupSummary},
    service::{
        engine::Engine,
        opening::{Opened, RepositoryStatus},
        prune, restore,
    },
    source::{postgres::password, space},
};

/// Jobs of a source that are looked at.
const JOBS: usize = 50;

/// Everything that the checks look at.
pub(super) fn gather(engine: &Engine, memory: &Memory, clients: &Clients, host: Option<&dyn Host>) -> Facts {
    let config = engine.config();
    let jobs = engine.jobs().past();
    let (repository, opened) = repository(engine, &config, memory);
    let (mut timers, systemd_problem) = timers(&config, host);
    let mut held = opened.as_ref().map(|opened| prune::held(engine, opened)).unwrap_or_default();
    let mut sources: Vec<SourceFacts> = Vec::new();
    for (name, source) in &config.sources {
        let timer = timers.remove(name);
        let gap = gap(source, timer.as_ref(), host);
        sources.push(SourceFacts {
            name: name.to_string(),
            config: Some(Arc::new(source.clone())),
            configured_at: modified_at(&config::source_file(&engine.folders().config, name)),
            health: source.health.or(&config.health.sources),
            backups: opened.as_ref().map(|opened| backups_of(opened, name)),
            jobs: jobs_of(&jobs, name.as_str()),
            gap,
            timer,
            credential_problem: source.enabled.then(|| credential_problem(&source.kind)).flatten(),
            client_problem: clients.problem(name),
            retention_problem: held.remove(name),
            ..SourceFacts::default()
        });
    }
    for (name, problems) in &config.broken {
        let broken = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        sources.push(SourceFacts { name: name.clone(), broken, ..SourceFacts::default() });
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    let last_job = jobs.last().map_or(0, |job| job.end_time);
    Facts {
        now: now_micros(),
        latest_known: memory.report().at.max(last_job),
        repository,
        sources,
        undo: undo(engine),
        max_undo: config.health.max_undo,
        systemd_problem,
    }
}

fn repository(engine: &Engine, config: &Config, memory: &Memory) -> (RepositoryFacts, Option<Arc<Opened>>) {
    let path = engine.repository_path();
    let mut facts = RepositoryFacts {
        name: path.display().to_string(),
        reserve: config.repository.reserve,
        free_history: memory.free().to_vec(),
        full_within: config.health.full_within,
        ..RepositoryFacts::default()
    };
    let RepositoryStatus { state, .. } = engine.repository_status();
    if state == "opening" {
        facts.opening = true;
        return (facts, None);
    }
    let opened = match engine.repository() {
        Ok(opened) => opened,
        Err(error) => {
            facts.trouble = Some((error.code(), error.to_string()));
            return (facts, None);
        }
    };
    let present = opened.reading().check_present().map_err(|error| (error.code(), error.to_string()));
    let free = opened.free_bytes().map_err(|error| (error.code(), error.to_string()));
    match present.and(free) {
        Ok(free) => facts.free = free,
        Err(trouble) => facts.trouble = Some(trouble),
    }
    facts.not_writable = not_writable(path);
    let backups = opened.backups();
    let mut newest: BTreeMap<&SourceKey, &BackupSummary> = BTreeMap::new();
    for backup in backups.iter() {
        let entry = newest.entry(&backup.source).or_insert(backup);
        if backup.sequence > entry.sequence {
            *entry = backup;
        }
    }
    facts.next_round = newest.values().map(|backup| backup.new_bytes).sum();
    let problems = opened.problems();
    facts.unreadable = problems.iter().map(|it| (it.folder.source.source.to_string(), it.message.clone())).collect();
    (facts, Some(opened))
}

/// Why nothing can be written there, as far as that can be told without writing.
fn not_writable(path: &Path) -> Option<String> {
    match nix::sys::statvfs::statvfs(path) {
        Ok(stat) if stat.flags().contains(FsFlags::ST_RDONLY) => {
            return Some("its file system is mounted read-only".to_owned());
        }
        _ => {}
    }
    match nix::unistd::access(path, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => None,
        Err(nix::errno::Errno::ENOENT) => None, // That it is gone is said elsewhere.
        Err(errno) => Some(format!("the daemon's user has no right to: {}", errno.desc())),
    }
}

fn backups_of(opened: &Opened, name: &SourceName) -> Vec<BackupSummary> {
    opened.backups().iter().filter(|backup| backup.source.source == *name).cloned().collect()
}

/// The newest first.
fn jobs_of(jobs: &[JobRecord], name: &str) -> Vec<JobRecord> {
    let about =
        |job: &&JobRecord| job.source.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    jobs.iter().rev().filter(about).take(JOBS).cloned().collect()
}

/// The timers of the sources, where systemd can be asked, and why it does not answer.
fn timers(config: &Config, host: Option<&dyn Host>) -> (BTreeMap<SourceName, TimerFacts>, Option<String>) {
    let Some(host) = host else { return (BTreeMap::new(), None) };
    let names: Vec<&SourceName> =
        config.sources.iter().filter(|(_, source)| source.enabled).map(|(name, _)| name).collect();
    let units: Vec<String> = names.iter().map(|name| format!("backupd-create@{name}.timer")).collect();
    match host.timers(&units) {
        Ok(Some(timers)) => (names.into_iter().cloned().zip(timers).collect(), None),
        Ok(None) => (BTreeMap::new(), None),
        Err(problem) => (BTreeMap::new(), Some(problem)),
    }
}

/// By the schedule of the source, else by that of a timer that somebody enabled by hand.
fn gap(source: &SourceConfig, timer: Option<&TimerFacts>, host: Option<&dyn Host>) -> Option<std::time::Duration> {
    if source.rpo.is_some_and(|rpo| rpo == Within::Off) || !source.enabled {
        return None;
    }
    let by_hand = || timer.filter(|timer| timer.active).map(|timer| timer.events.as_slice());
    let events = if source.schedule.is_empty() { by_hand()? } else { &source.schedule };
    host.filter(|_| !events.is_empty())?.longest_gap(events)
}

fn credential_problem(kind: &SourceKind) -> Option<String> {
    let SourceKind::Postgres(postgres) = kind else { return None };
    let connections = std::iter::once(&postgres.connection).chain(&postgres.restore);
    connections.filter_map(|connection| password::resolve(connection).err()).map(|error| error.to_string()).next()
}

fn undo(engine: &Engine) -> Vec<UndoFacts> {
    let copies = restore::undo::list(engine).unwrap_or_else(|error| {
        tracing::warn!("the undo copies cannot be looked at: {error}");
        Vec::new()
    });
    let facts = |copy: crate::service::operations::UndoSummary| {
        // A database has a name, a file a path; where a server keeps its databases is not known.
        let folder = Path::new(&copy.kept).parent().filter(|folder| folder.is_absolute());
        UndoFacts {
            source: copy.source,
            target: copy.target,
            until: copy.until,
            bytes: copy.bytes,
            free: folder.and_then(space::free_bytes),
        }
    };
    copies.into_iter().map(facts).collect()
}
