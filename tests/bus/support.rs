//! A small service with real jobs and simulated work, and a server for it.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use backupd::{
    bus::server::Server,
    health::Report as HealthReport,
    model::{
        BackupId, ErrorCode,
        job::{JobNumber, JobType, Phase},
        manifest::Kind,
        summary::BackupSummary,
    },
    repository::DeletedBackup,
    service::{
        ServiceError, Undeletable,
        changes::Changes,
        jobs::{JobEvent, JobHandle, JobLimits, JobOutcome, JobRequest, Jobs, Work},
        listing,
        operations::{
            Caller, CreateOptions, ListFilter, Operations, Overview, Page, PruneOptions, RestoreOptions, SourceSummary,
            Status, UndoOptions, UndoSummary, VerifyRequest,
        },
    },
    statistics::{
        diff::{BackupDiff, Side},
        report::{Figures, Report},
    },
};
use tokio::sync::watch;

/// How long a test waits for anything.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Operations whose jobs run until they are released or cancelled.
pub(crate) struct Simulation {
    jobs: Jobs,
    released: watch::Sender<bool>,
    overview: Mutex<Overview>,
    next: Mutex<Option<Vec<SourceSummary>>>,
    backups: Mutex<Vec<BackupSummary>>,
    listings: AtomicUsize,
    changes: Changes,
}

/// A source without backups.
pub(crate) fn source(name: &str) -> SourceSummary {
    SourceSummary {
        name: name.to_owned(),
        source_type: "postgresql".to_owned(),
        state: "enabled".to_owned(),
        location: "/run/postgresql:5432 shop".to_owned(),
        description: "orders".to_owned(),
        problem: String::new(),
        last_backup: String::new(),
        last_backup_at: 0,
        running_job: 0,
    }
}

impl Simulation {
    pub(crate) fn new(state: &Path) -> Arc<Self> {
        let limits = JobLimits { concurrency: 2, queue: 2, history: 20 };
        let jobs = Jobs::open(state, limits, tokio::runtime::Handle::current()).unwrap();
        let broken = SourceSummary { state: "broken".to_owned(), problem: "no type".to_owned(), ..source("Bad Name") };
        let overview = Overview {
            sources: vec![broken, source("shop")],
            repository_state: "ready".to_owned(),
            repository_problem: String::new(),
            backups: 1,
            health: backupd::health::Severity::Warning,
            config_problems: vec!["a problem".to_owned()],
        };
        let (overview, next) = (Mutex::new(overview), Mutex::new(None));
        let (backups, listings, changes) = (Mutex::default(), AtomicUsize::new(0), Changes::new());
        Arc::new(Self { jobs, released: watch::Sender::new(false), overview, next, backups, listings, changes })
    }

    /// How often the kept backups were listed.
    pub(crate) fn listings(&self) -> usize {
        self.listings.load(Ordering::Relaxed)
    }

    /// The backups that are listed from now on, as the service lists its own.
    pub(crate) fn keep(&self, mut backups: Vec<BackupSummary>) {
        listing::sort(&mut backups);
        *self.backups.lock().unwrap() = backups;
    }

    /// Makes something look different, as what happens in the daemon does.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Overview)) {
        change(&mut self.overview.lock().unwrap());
        self.changes.note();
    }

    /// The sources that the next reload finds; without it a reload finds an error.
    pub(crate) fn configure(&self, sources: Vec<SourceSummary>) {
        *self.next.lock().unwrap() = Some(sources);
    }

    /// Lets all jobs, running and future, come to their end.
    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }

    fn start(&self, caller: Caller, job_type: JobType, about: &str, work: Work) -> Result<JobNumber, ServiceError> {
        let request = JobRequest {
            job_type,
            source: about.to_owned(),
            exclusive: vec![about.to_owned()],
            backup: String::new(),
            uid: caller.uid,
            timeout: None,
        };
        self.jobs.submit(request, work)
    }

    fn held(&self) -> Work {
        let mut released = self.released.subscribe();
        let jobs = self.jobs.clone();
        Box::new(move |job: &JobHandle| {
            job.context.progress.enter(Phase::Data);
            job.context.progress.expect_bytes(1000);
            job.context.progress.add_bytes(250);
            job.context.runtime.block_on(async {
                tokio::select! {
                    reason = job.context.cancel.cancelled() => Err(ServiceError::from(reason)),
                    _ = released.wait_for(|released| *released) => Ok(()),
                }
            })?;
            let statistics = serde_json::Map::from_iter([("rows".to_owned(), 5.into())]);
            let id = BackupId([0xab; 16]);
            jobs.tell(JobEvent::BackupAdded { id, source: "shop".to_owned() });
            Ok(JobOutcome { backup: Some(id), statistics, failure: None })
        })
    }

    /// Past the point of no return until it is released.
    fn committing(&self) -> Work {
        let mut released = self.released.subscribe();
        Box::new(move |job: &JobHandle| {
            job.context.progress.enter(Phase::Committing);
            job.context.runtime.block_on(async { released.wait_for(|released| *released).await.map(drop) }).unwrap();
            Ok(JobOutcome::default())
        })
    }

    /// Moves bytes all the time.
    fn busy(&self) -> Work {
        let released = self.released.subscribe();
        Box::new(move |job: &JobHandle| {
            job.context.progress.enter(Phase::Data);
            while !*released.borrow() {
                job.context.cancel.check()?;
                job.context.progress.add_bytes(1);
                std::thread::yield_now();
            }
            Ok(JobOutcome::default())
        })
    }
}

impl Operations for Simulation {
    fn create(&self, caller: Caller, source: &str, options: CreateOptions) -> Result<JobNumber, ServiceError> {
        match source {
            "missing" => Err(ServiceError::new(ErrorCode::NoSuchSource, "there is no source \"missing\"")),
            "quick" => self.start(caller, JobType::Create, source, Box::new(|_| Ok(JobOutcome::default()))),
            "failing" => self.start(
                caller,
                JobType::Create,
                source,
                Box::new(move |_| Err(ServiceError::new(ErrorCode::DumpFailed, format!("{}\0", options.description)))),
            ),
            "committing" => self.start(caller, JobType::Create, source, self.committing()),
            "busy" => self.start(caller, JobType::Create, source, self.busy()),
            _ => self.start(caller, JobType::Create, source, self.held()),
        }
    }

    fn plan_restore(
        &self,
        _: Caller,
        backup: &str,
        options: &RestoreOptions,
    ) -> Result<serde_json::Value, ServiceError> {
        Ok(serde_json::json!({ "backup": backup, "to": options.to }))
    }

    fn restore(&self, caller: Caller, backup: &str, _: RestoreOptions) -> Result<JobNumber, ServiceError> {
        if backup == "kept" {
            return self.start(caller, JobType::Restore, backup, self.held());
        }
        Err(ServiceError::new(ErrorCode::RestoreRefused, "the role may not create databases"))
    }

    fn planned(&self, plan: &str) -> Result<(String, RestoreOptions), ServiceError> {
        let options = RestoreOptions { to: "copy".to_owned(), replace: true, ..RestoreOptions::default() };
        match plan {
            "kept" => Ok((plan.to_owned(), options)),
            _ => Err(ServiceError::new(ErrorCode::NoSuchPlan, format!("no plan {plan:?}"))),
        }
    }

    fn undo_copies(&self) -> Result<Vec<UndoSummary>, ServiceError> {
        Ok(Vec::new())
    }

    /// Job 1 has replaced something.
    fn undo_source(&self, job: JobNumber) -> Result<String, ServiceError> {
        match job {
            1 => Ok("shop".to_owned()),
            _ => Err(ServiceError::new(ErrorCode::NoSuchJob, format!("job {job} left nothing that can be undone"))),
        }
    }

    fn plan_undo(&self, job: JobNumber) -> Result<serde_json::Value, ServiceError> {
        Ok(serde_json::json!({ "job": job }))
    }

    fn undo(&self, caller: Caller, _: JobNumber, _: UndoOptions) -> Result<JobNumber, ServiceError> {
        self.start(caller, JobType::Undo, "shop", self.held())
    }

    fn forget(&self, caller: Caller, _: JobNumber) -> Result<JobNumber, ServiceError> {
        self.start(caller, JobType::Forget, "shop", self.held())
    }

    fn verify(&self, caller: Caller, request: VerifyRequest) -> Result<JobNumber, ServiceError> {
        self.start(caller, JobType::Verify, &request.source, self.held())
    }

    fn drill(&self, caller: Caller, backup: &str) -> Result<JobNumber, ServiceError> {
        self.start(caller, JobType::Drill, backup, self.held())
    }

    fn delete(&self, caller: Caller, backup: &str, _: bool) -> Result<JobNumber, ServiceError> {
        if backup == "kept" {
            return self.start(caller, JobType::Delete, backup, self.held());
        }
        Err(ServiceError::new(ErrorCode::NoSuchBackup, format!("no backup {backup:?}")))
    }

    fn health(&self, source: &str) -> Result<HealthReport, ServiceError> {
        if !source.is_empty() && self.source(source).is_none() {
            return Err(ServiceError::new(ErrorCode::NoSuchSource, format!("there is no source {source:?}")));
        }
        Ok(HealthReport { severity: self.overview.lock().unwrap().health, ..HealthReport::default() })
    }

    fn pin(&self, backup: &str, _: u64, _: &str) -> Result<(), ServiceError> {
        self.get(backup).map(drop)
    }

    fn unpin(&self, backup: &str) -> Result<(), ServiceError> {
        self.get(backup).map(drop)
    }

    fn deleted(&self) -> Result<Vec<Undeletable>, ServiceError> {
        let summary = self.get("shop@latest")?;
        let deleted = DeletedBackup { summary, at: 11, by_name: true, at_once: false };
        Ok(vec![Undeletable { deleted, until: 12 }])
    }

    fn undelete(&self, backup: &str) -> Result<BackupId, ServiceError> {
        self.get(backup).map(|summary| summary.id)
    }

    fn prune(&self, caller: Caller, options: PruneOptions) -> Result<JobNumber, ServiceError> {
        self.start(caller, JobType::Prune, &options.source, self.held())
    }

    fn explain_retention(&self, source: &str, _: bool) -> Result<serde_json::Value, ServiceError> {
        Ok(serde_json::json!({ "sources": [source] }))
    }

    fn describe_space(&self) -> Result<serde_json::Value, ServiceError> {
        Ok(serde_json::json!({ "total_bytes": 1 }))
    }

    fn export(&self, caller: Caller, backup: &str, mut output: File) -> Result<JobNumber, ServiceError> {
        let write: Work = Box::new(move |job| {
            loop {
                job.context.cancel.check()?;
                if let Err(error) = output.write_all(&[0; 65536]) {
                    return Err(ServiceError::new(ErrorCode::Io, format!("cannot write the export: {error}")));
                }
            }
        });
        self.start(caller, JobType::Export, backup, write)
    }

    fn list(&self, filter: &ListFilter, limit: usize, cursor: &str) -> Result<Page, ServiceError> {
        if filter.backup == "missing" {
            return Err(ServiceError::new(ErrorCode::NoSuchBackup, "no backup \"missing\""));
        }
        let backups = self.backups.lock().unwrap();
        if !backups.is_empty() {
            self.listings.fetch_add(1, Ordering::Relaxed);
            return listing::page(&backups, filter, limit, cursor);
        }
        if !cursor.is_empty() {
            return Err(ServiceError::new(ErrorCode::InvalidArgs, "not a cursor"));
        }
        let summary = serde_json::json!({
            "id": "00ff10a5deadbeef0123456789abcdef", "source": "shop", "child": "caf\u{e9}", "sequence": 3,
            "run_id": "01a1f972-b701-769b-a723-393f6179df4a", "kind": "logical",
            "started_at": 1, "snapshot_at": 2, "finished_at": 3, "raw_bytes": 4, "stored_bytes": 5, "new_bytes": 6,
            "rows": 7, "proof": "checked", "verified_at": 8, "drilled_at": 9, "recovery": 10, "drill_failed_at": 0, "damaged": false, "incomplete": 1,
            "description": filter.source, "tags": [filter.tag], "whole_run": filter.backup.starts_with("server"),
        });
        let summary: BackupSummary = serde_json::from_value(summary).unwrap();
        // The name of a source that is a whole server means all backups of a run.
        let count = if filter.backup == "server@latest" { 2 } else { 1 };
        Ok(Page { backups: vec![summary; count], cursor: "next".to_owned() })
    }

    fn get(&self, backup: &str) -> Result<BackupSummary, ServiceError> {
        let filter = ListFilter { backup: backup.to_owned(), ..ListFilter::default() };
        Ok(self.list(&filter, 0, "")?.backups.remove(0))
    }

    fn describe(&self, backup: &str) -> Result<serde_json::Value, ServiceError> {
        Ok(serde_json::json!({ "summary": backup }))
    }

    fn statistics(&self, _: &str) -> Result<Report, ServiceError> {
        Ok(Report { now: 1, jobs_since: 1, total: Figures::default(), sources: Vec::new() })
    }

    fn test_notifier(&self, _notifier: &str) -> Result<serde_json::Value, ServiceError> {
        Ok(serde_json::json!({ "notifiers": [] }))
    }

    fn waiting_notices(&self) -> serde_json::Value {
        serde_json::json!({ "notifiers": [] })
    }

    fn diff(&self, from: &str, to: &str) -> Result<BackupDiff, ServiceError> {
        let side = |summary: BackupSummary| Side {
            id: summary.id,
            source: summary.source,
            sequence: summary.sequence,
            snapshot_at: summary.snapshot_at,
            server_version: String::new(),
            tables: 0,
            rows: summary.rows,
            raw_bytes: summary.raw_bytes,
            stored_bytes: summary.stored_bytes,
            new_bytes: summary.new_bytes,
            database_bytes: 0,
            large_objects: 0,
            duration: 0,
        };
        Ok(BackupDiff {
            kind: Kind::Logical,
            from: side(self.get(from)?),
            to: side(self.get(to)?),
            same_source: true,
            same_selection: true,
            same_data: true,
            tables: Vec::new(),
            unchanged_tables: 0,
            extensions: Vec::new(),
            objects: Vec::new(),
        })
    }

    fn sources(&self) -> Vec<SourceSummary> {
        let mut sources = self.overview.lock().unwrap().sources.clone();
        for source in &mut sources {
            source.running_job = self.jobs.holder(&source.name).unwrap_or_default();
        }
        sources
    }

    fn source(&self, name: &str) -> Option<SourceSummary> {
        self.sources().into_iter().find(|source| source.name == name)
    }

    fn answers_at_once(&self) -> bool {
        self.backups.lock().unwrap().is_empty()
    }

    fn status(&self) -> Status {
        let overview = self.overview();
        Status {
            version: "1".to_owned(),
            repository: PathBuf::from("/repository"),
            repository_state: overview.repository_state,
            repository_problem: overview.repository_problem,
            backups: overview.backups,
            free_bytes: 2,
            config_problems: overview.config_problems,
        }
    }

    fn overview(&self) -> Overview {
        let sources = self.sources();
        Overview { sources, ..self.overview.lock().unwrap().clone() }
    }

    fn changes(&self) -> &Changes {
        &self.changes
    }

    fn reload(&self) -> Result<(), ServiceError> {
        let Some(sources) = self.next.lock().unwrap().take() else {
            return Err(ServiceError::new(ErrorCode::ConfigInvalid, "backupd.toml:3: codec: no such codec"));
        };
        self.change(|overview| overview.sources = sources);
        Ok(())
    }

    fn jobs(&self) -> &Jobs {
        &self.jobs
    }
}

/// A server on a socket in a folder of its own.
pub(crate) struct Daemon {
    pub(crate) service: Arc<Simulation>,
    pub(crate) server: Server,
    pub(crate) folder: tempfile::TempDir,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let service = Simulation::new(&folder.path().join("state"));
        let server = Server::new(Arc::clone(&service) as Arc<dyn Operations>);
        server.listen(&address(&folder.path().join("socket"))).unwrap();
        Self { service, server, folder }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub(crate) async fn connect(&self) -> zbus::Connection {
        let connecting = backupd::bus::proxy::connect_peer(&address(&self.socket())).await;
        connecting.unwrap()
    }
}

pub(crate) fn address(socket: &Path) -> String {
    format!("unix:path={}", socket.display())
}
