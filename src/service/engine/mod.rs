//! The engine: configuration, repository and jobs of one daemon, and the verbs over them (`verbs`).
//!
//! Invariants: an engine is the only writer of its repository (the lease is in [`Opening`]); every verb takes one
//! snapshot of the configuration and uses that to its end, so a reload never changes a running job.

mod verbs;

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use tokio::runtime::Handle;

use super::{
    changes::Changes,
    create, drill,
    drill::DrillUnits,
    early::EarlyChecks,
    error::ServiceError,
    health,
    jobs::{JobLimits, Jobs},
    metrics,
    notices::{self, Notices},
    opening::{Opened, Opening, RepositoryStatus},
    operations::SourceSummary,
    prune,
    prune::Accepted,
    restore,
    selector::{Chosen, Selector},
    statistics,
    steady_clock::SteadyClock,
};
use crate::{
    clock::micros,
    config::{self, Config, ConfigProblem, SourceConfig, SourceKind},
    model::{ErrorCode, SourceName, message_id, summary::BackupSummary},
    repository::GcOptions,
};

/// How long a verb waits for the repository's first opening.
const OPENING_PATIENCE: Duration = Duration::from_secs(8);

/// What work that belongs to no job may take.
const HOUSEKEEPING: Duration = Duration::from_secs(180);

/// So many backups are looked through in less time than another thread takes to wake up and answer.
const FEW_BACKUPS: usize = 2_000;

/// The folders of a daemon.
#[derive(Debug, Clone)]
pub struct Folders {
    /// Configuration, read only.
    pub config: PathBuf,
    /// Job history, restore journals, scratch: not deletable.
    pub state: PathBuf,
    /// What can be made again from the repository.
    pub cache: PathBuf,
}

/// Configuration, repository and jobs of one daemon.
#[derive(Debug)]
pub struct Engine {
    folders: Folders,
    config: RwLock<Arc<Config>>,
    /// Where the repository is until the next start, whatever the configuration says by now.
    repository: PathBuf,
    changes: Changes,
    opening: Opening,
    jobs: Jobs,
    tending: Arc<restore::Tending>,
    accepted: Accepted,
    clock: SteadyClock,
    statistics: statistics::History,
    notices: Notices,
    health: Arc<health::Watch>,
    /// What starts the units of drills; absent where systemd is not reached.
    units: OnceLock<Arc<dyn DrillUnits>>,
    runtime: Handle,
}

impl Engine {
    /// Reads the configuration, restores the table of jobs and begins to open the repository in the background.
    ///
    /// # Errors
    /// `ConfigInvalid` for the main file; `Io` for the state folder. A repository that cannot be opened is no error:
    /// it is tried again, and [`super::operations::Operations::status`] says so.
    pub fn start(folders: Folders, runtime: Handle) -> Result<Arc<Self>, ServiceError> {
        let config = Arc::new(config::load(&folders.config)?);
        report_broken(&config, None);
        let jobs = Jobs::open(&folders.state, job_limits(&config), runtime.clone())?;
        DirBuilder::new().recursive(true).mode(0o700).create(&folders.cache).map_err(|error| {
            ServiceError::new(ErrorCode::Io, format!("cannot make the folder {}: {error}", folders.cache.display()))
        })?;
        let changes = Changes::new();
        let opening = Opening::begin(&config.repository, &folders, &runtime, changes.clone());
        let repository = config.repository.path.clone();
        let config = RwLock::new(config);
        let tending = Arc::default();
        let accepted = Accepted::open(&folders.state);
        let clock = SteadyClock::start();
        let health = Arc::default();
        let units = OnceLock::new();
        let statistics = statistics::open(&folders.state, &jobs);
        let (notices, to_tell) = Notices::new(&folders.state);
        let engine = Arc::new(Self {
            folders,
            config,
            repository,
            changes,
            opening,
            jobs,
            tending,
            accepted,
            clock,
            statistics,
            notices,
            health,
            units,
            runtime,
        });
        // Before anything else can start a job.
        notices::begin(&engine, to_tell);
        drill::sweep(&engine);
        prune::begin_automatic(&engine);
        restore::begin_tending(&engine);
        statistics::begin(&engine);
        // First, so that it has the first report too.
        metrics::begin(&engine);
        health::begin(&engine);
        Ok(engine)
    }

    /// The configuration as it is now.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The runtime on which SQL and child processes run.
    #[must_use]
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The table of jobs.
    #[must_use]
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// The folders of this daemon.
    #[must_use]
    pub fn folders(&self) -> &Folders {
        &self.folders
    }

    /// The opened repository. While the first attempt to open it runs, this waits for it a while: whoever calls right
    /// after the start shall not be turned away.
    ///
    /// # Errors
    /// `RepositoryUnavailable`, `RepositoryLocked`: why it is not open.
    pub fn repository(&self) -> Result<Arc<Opened>, ServiceError> {
        if let Ok(opened) = self.opening.get() {
            return Ok(opened);
        }
        // Whether it settled in time or not, `get` knows what there is.
        let _ = self.runtime.block_on(async { tokio::time::timeout(OPENING_PATIENCE, self.opening.settled()).await });
        self.opening.get()
    }

    /// Waits until another owner of the repository is found, which ends the daemon. Never returns otherwise.
    pub async fn locked_by_another(&self) -> ServiceError {
        self.opening.locked_by_another().await
    }

    /// The configuration of an enabled source.
    pub(super) fn enabled_source(&self, name: &str) -> Result<(SourceName, SourceConfig), ServiceError> {
        let config = self.config();
        if let Some(problems) = config.broken.get(name) {
            let list: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return Err(ServiceError::new(
                ErrorCode::SourceDisabled,
                format!("source {name} is disabled by errors in its file: {}", list.join("; ")),
            ));
        }
        let found = name.parse::<SourceName>().ok().and_then(|name| config.sources.get_key_value(&name));
        let (name, source) =
            found.ok_or_else(|| ServiceError::new(ErrorCode::NoSuchSource, format!("there is no source {name:?}")))?;
        if !source.enabled {
            return Err(ServiceError::new(
                ErrorCode::SourceDisabled,
                format!("source {name} is disabled by `enabled = false` in its file"),
            ));
        }
        Ok((name.clone(), source.clone()))
    }

    /// The one backup that a selector means.
    pub(super) fn find(&self, selector: &str) -> Result<(Arc<Opened>, BackupSummary), ServiceError> {
        let (opened, chosen) = self.choose(selector)?;
        Ok((opened, chosen.into_one()?))
    }

    /// What a selector means: a backup, or the backups of a whole run.
    pub(super) fn choose(&self, selector: &str) -> Result<(Arc<Opened>, Chosen), ServiceError> {
        let opened = self.repository()?;
        let backups = opened.backups();
        let chosen = Selector::parse(selector)?.find_or_explain(&backups, || opened.problems().to_vec())?;
        Ok((opened, chosen))
    }

    /// Under which policies prunes were let run.
    pub(super) fn accepted_policies(&self) -> &Accepted {
        &self.accepted
    }

    /// How space is freed, at this time. A clock that was set forward while the daemon runs ends no window early.
    pub(super) fn gc_options(&self, now: u64) -> GcOptions {
        let window = self.config().pruning.undelete;
        let now = self.clock.believed(now, window);
        GcOptions { now, undelete_window: micros(window), force: false }
    }

    /// What wakes the one that looks after what restores leave.
    pub(super) fn tending(&self) -> &Arc<restore::Tending> {
        &self.tending
    }

    /// What is remembered for statistics.
    pub(super) fn statistics_history(&self) -> &statistics::History {
        &self.statistics
    }

    /// What is told of all that happens.
    #[must_use]
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// Is told that something which the overview or the configuration shows may have changed.
    pub(super) fn changes_subscribed(&self) -> tokio::sync::watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The health of the backups.
    #[must_use]
    pub fn health_watch(&self) -> &Arc<health::Watch> {
        &self.health
    }

    /// Where the repository is.
    pub(super) fn repository_path(&self) -> &std::path::Path {
        &self.repository
    }

    /// What is known of the repository; asks nobody.
    pub(super) fn repository_status(&self) -> RepositoryStatus {
        self.opening.status()
    }

    /// Waits until the first attempt to open the repository is over.
    pub(super) async fn opened(&self) {
        self.opening.settled().await;
    }

    /// States what starts the units of drills. Later calls change nothing.
    pub fn drill_in_units(&self, units: Arc<dyn DrillUnits>) {
        let _ = self.units.set(units);
    }

    /// What starts the units of drills.
    pub(super) fn drill_units(&self) -> Option<Arc<dyn DrillUnits>> {
        self.units.get().cloned()
    }

    /// Something that the overview shows may have changed.
    pub(super) fn changes_noted(&self) {
        self.changes.note();
    }

    /// The surroundings of work that belongs to no job.
    pub(super) fn housekeeping(&self) -> Result<EarlyChecks, ServiceError> {
        EarlyChecks::within(HOUSEKEEPING, &self.folders.state, &self.runtime)
    }

    /// The surroundings of early checks.
    pub(super) fn early_checks(&self) -> Result<EarlyChecks, ServiceError> {
        EarlyChecks::begin(&self.folders.state, &self.runtime)
    }

    fn source_summary(
        &self,
        name: &SourceName,
        source: &SourceConfig,
        newest: Option<&BackupSummary>,
    ) -> SourceSummary {
        let location = match &source.kind {
            SourceKind::Postgres(postgres) => {
                let connection = &postgres.connection;
                let database = if postgres.all.is_some() { "all" } else { &*connection.database.lossy() };
                format!("{}:{} {database}", connection.host, connection.port)
            }
            SourceKind::Sqlite(sqlite) => sqlite.path.display().to_string(),
        };
        SourceSummary {
            name: name.to_string(),
            source_type: source.kind.as_str().to_owned(),
            state: if source.enabled { "enabled" } else { "disabled" }.to_owned(),
            location,
            description: source.description.clone(),
            problem: String::new(),
            last_backup: newest.map(|backup| backup.id.to_string()).unwrap_or_default(),
            last_backup_at: newest.map_or(0, |backup| backup.snapshot_at),
            running_job: self.jobs.holder(&create::exclusive_key(name)).unwrap_or_default(),
        }
    }

    /// The summary of a source in whose file these problems are.
    fn broken_summary(&self, name: &str, problems: &[ConfigProblem], newest: Option<&BackupSummary>) -> SourceSummary {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        // A job that began before the file broke may still run.
        let running = name.parse().ok().and_then(|name| self.jobs.holder(&create::exclusive_key(&name)));
        SourceSummary {
            name: name.to_owned(),
            source_type: String::new(),
            state: "broken".to_owned(),
            location: String::new(),
            description: String::new(),
            problem: problems.join("; "),
            last_backup: newest.map(|backup| backup.id.to_string()).unwrap_or_default(),
            last_backup_at: newest.map_or(0, |backup| backup.snapshot_at),
            running_job: running.unwrap_or_default(),
        }
    }

    /// The backups that are listed, none while the repository is not open.
    pub(super) fn listed_backups(&self) -> Arc<Vec<BackupSummary>> {
        self.known_backups().unwrap_or_default()
    }

    /// The backups that are listed, if the repository is open.
    pub(super) fn known_backups(&self) -> Option<Arc<Vec<BackupSummary>>> {
        self.opening.get().ok().map(|opened| opened.backups())
    }
}

/// Writes down which sources are disabled by errors in their files, and were not already by the same.
fn report_broken(config: &Config, before: Option<&Config>) {
    for (name, problems) in &config.broken {
        let list = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let known = before.and_then(|before| before.broken.get(name));
        let known = known.map(|known| known.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
        if known.as_ref() != Some(&list) {
            tracing::error!(
                MESSAGE_ID = message_id::SOURCE_DISABLED,
                BACKUPD_SOURCE = name,
                BACKUPD_ERROR = ErrorCode::SourceDisabled.name(),
                "source {name} is disabled by errors in its file: {list}"
            );
        }
    }
}

fn job_limits(config: &Config) -> JobLimits {
    JobLimits::from(&config.limits)
}
