//! A small service with real jobs and simulated work, and a server for it.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use backupd::{
    bus::server::Server,
    model::{
        BackupId, ErrorCode,
        job::{JobNumber, JobType, Phase},
        summary::BackupSummary,
    },
    service::{
        ServiceError,
        jobs::{JobEvent, JobHandle, JobLimits, JobOutcome, JobRequest, Jobs, Work},
        operations::{
            Caller, CreateOptions, ListFilter, Operations, Page, RestoreOptions, SourceSummary, Status, VerifyRequest,
        },
    },
};
use tokio::sync::watch;

/// How long a test waits for anything.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Operations whose jobs run until they are released or cancelled.
pub(crate) struct Simulation {
    jobs: Jobs,
    released: watch::Sender<bool>,
}

impl Simulation {
    pub(crate) fn new(state: &Path) -> Arc<Self> {
        let limits = JobLimits { concurrency: 2, queue: 2, history: 20 };
        let jobs = Jobs::open(state, limits, tokio::runtime::Handle::current()).unwrap();
        Arc::new(Self { jobs, released: watch::Sender::new(false) })
    }

    /// Lets all jobs, running and future, come to their end.
    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }

    fn start(&self, caller: Caller, job_type: JobType, about: &str, work: Work) -> Result<JobNumber, ServiceError> {
        let request = JobRequest {
            job_type,
            source: about.to_owned(),
            exclusive: Some(about.to_owned()),
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

    fn restore(&self, _: Caller, _: &str, _: RestoreOptions) -> Result<JobNumber, ServiceError> {
        Err(ServiceError::new(ErrorCode::RestoreRefused, "the role may not create databases"))
    }

    fn verify(&self, caller: Caller, request: VerifyRequest) -> Result<JobNumber, ServiceError> {
        self.start(caller, JobType::Verify, &request.source, self.held())
    }

    fn delete(&self, _: Caller, backup: &str) -> Result<JobNumber, ServiceError> {
        Err(ServiceError::new(ErrorCode::NoSuchBackup, format!("no backup {backup:?}")))
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

    fn list(&self, filter: &ListFilter, _: usize, cursor: &str) -> Result<Page, ServiceError> {
        if !cursor.is_empty() {
            return Err(ServiceError::new(ErrorCode::InvalidArgs, "not a cursor"));
        }
        let summary = serde_json::json!({
            "id": "00ff10a5deadbeef0123456789abcdef", "source": "shop", "child": "caf\u{e9}", "sequence": 3,
            "run_id": "01a1f972-b701-769b-a723-393f6179df4a", "kind": "logical",
            "started_at": 1, "snapshot_at": 2, "finished_at": 3, "raw_bytes": 4, "stored_bytes": 5, "new_bytes": 6,
            "rows": 7, "proof": "checked", "verified_at": 8, "damaged": false, "incomplete": 1,
            "description": filter.source, "tags": [filter.tag],
        });
        let summary: BackupSummary = serde_json::from_value(summary).unwrap();
        Ok(Page { backups: vec![summary], cursor: "next".to_owned() })
    }

    fn get(&self, _: &str) -> Result<BackupSummary, ServiceError> {
        Ok(self.list(&ListFilter::default(), 0, "")?.backups.remove(0))
    }

    fn describe(&self, backup: &str) -> Result<serde_json::Value, ServiceError> {
        Ok(serde_json::json!({ "summary": backup }))
    }

    fn sources(&self) -> Vec<SourceSummary> {
        Vec::new()
    }

    fn status(&self) -> Status {
        Status {
            version: "1".to_owned(),
            repository: PathBuf::from("/repository"),
            repository_state: "ready".to_owned(),
            repository_problem: String::new(),
            backups: 1,
            free_bytes: 2,
            config_problems: vec!["a problem".to_owned()],
        }
    }

    fn reload(&self) -> Result<(), ServiceError> {
        Err(ServiceError::new(ErrorCode::ConfigInvalid, "backupd.toml:3: codec: no such codec"))
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
