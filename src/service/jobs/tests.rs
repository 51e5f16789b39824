//! The table with real threads.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use proptest::prelude::*;
use tokio::{runtime::Runtime, sync::broadcast};

use super::*;
use crate::{
    model::{ErrorCode, job::JobResult, job::Phase},
    stream::CancelReason,
};

const LIMITS: JobLimits = JobLimits { concurrency: 1, queue: 2, history: 50 };
const LONG: Duration = Duration::from_secs(20);

struct Bench {
    jobs: Jobs,
    events: broadcast::Receiver<JobEvent>,
    runtime: Runtime,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(limits: JobLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let jobs = Jobs::open(folder.path(), limits, runtime.handle().clone()).unwrap();
        Self { events: jobs.subscribe(), jobs, runtime, folder }
    }

    fn wait_for(&mut self, number: JobNumber) -> JobRecord {
        loop {
            let event = self.runtime.block_on(async { tokio::time::timeout(LONG, self.events.recv()).await });
            if let JobEvent::Finished(record) = event.expect("a job hangs").unwrap()
                && record.number == number
            {
                return *record;
            }
        }
    }

    /// What a daemon finds that starts after this one was killed now.
    fn after_a_crash(&self) -> (Jobs, tempfile::TempDir) {
        let copy = tempfile::tempdir().unwrap();
        for name in ["jobs.jsonl", "next-job"] {
            std::fs::copy(self.folder.path().join(name), copy.path().join(name)).unwrap();
        }
        (Jobs::open(copy.path(), LIMITS, self.runtime.handle().clone()).unwrap(), copy)
    }
}

fn request(source: &str) -> JobRequest {
    JobRequest {
        job_type: JobType::Create,
        source: source.to_owned(),
        exclusive: vec![source.to_owned()],
        backup: String::new(),
        uid: 7,
        timeout: None,
    }
}

/// Work that says when it began and goes on until it is cancelled.
fn until_cancelled(began: mpsc::Sender<JobNumber>) -> Work {
    Box::new(move |job| {
        began.send(job.number).unwrap();
        let reason = job.context.runtime.block_on(job.context.cancel.cancelled());
        Err(ServiceError::from(reason))
    })
}

fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[test]
fn a_job_leaves_its_outcome_and_no_scratch() {
    let mut bench = Bench::new(LIMITS);
    let work: Work = Box::new(|job| {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&job.context.scratch).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(std::thread::current().name(), Some(format!("job-{}", job.number).as_str()));
        std::fs::write(job.context.scratch.join("spool"), b"x").unwrap();
        job.context.progress.enter(Phase::Data);
        let statistics = serde_json::Map::from_iter([("rows".to_owned(), 3.into())]);
        Ok(JobOutcome { backup: Some(BackupId([1; 16])), statistics, failure: None })
    });
    let number = bench.jobs.submit(request("shop"), work).unwrap();
    let record = bench.wait_for(number);
    assert_eq!((record.result, record.phase, record.error.as_ref()), (Some(JobResult::Done), Phase::Data, None));
    assert_eq!(record.backup, BackupId([1; 16]).to_string());
    assert_eq!(record.statistics["rows"], 3);
    assert_eq!((record.started_by_uid, record.source.as_str()), (7, "shop"));
    assert_eq!(entries(&bench.folder.path().join("scratch")), 0);
    let (later, _folder) = bench.after_a_crash();
    assert_eq!(later.get(number).unwrap().record, record);
    assert!(later.submit(request("shop"), Box::new(|_| Ok(JobOutcome::default()))).unwrap() > number);
}

#[test]
fn the_second_job_of_a_source_is_refused_and_the_queue_has_an_end() {
    let mut bench = Bench::new(LIMITS);
    let (began, begun) = mpsc::channel();
    let first = bench.jobs.submit(request("a"), until_cancelled(began.clone())).unwrap();
    begun.recv_timeout(LONG).unwrap();
    let busy = bench.jobs.submit(request("a"), until_cancelled(began.clone())).unwrap_err();
    assert_eq!(busy.code(), ErrorCode::SourceBusy);
    assert!(busy.to_string().contains(&format!("job {first} (create a) runs")), "{busy}");
    assert_eq!(bench.jobs.holder("a"), Some(first));

    let second = bench.jobs.submit(request("b"), until_cancelled(began.clone())).unwrap();
    let third = bench.jobs.submit(request("c"), until_cancelled(began.clone())).unwrap();
    let full = bench.jobs.submit(request("d"), until_cancelled(began.clone())).unwrap_err();
    assert_eq!(full.code(), ErrorCode::LimitsExceeded);
    let busy = bench.jobs.submit(request("b"), until_cancelled(began)).unwrap_err();
    assert!(busy.to_string().contains(&format!("job {second} (create b) waits")), "{busy}");
    assert_eq!(bench.jobs.get(second).unwrap().record.phase, Phase::Queued);

    bench.jobs.cancel(second).unwrap();
    let record = bench.wait_for(second);
    assert_eq!((record.result, record.phase), (Some(JobResult::Canceled), Phase::Queued));
    bench.jobs.cancel(first).unwrap();
    assert_eq!(bench.wait_for(first).result, Some(JobResult::Canceled));
    assert_eq!(begun.recv_timeout(LONG).unwrap(), third);
    assert!(bench.jobs.get(third).unwrap().cancelable);
    bench.jobs.cancel(third).unwrap();
    bench.wait_for(third);
    assert_eq!(bench.jobs.cancel(third).unwrap_err().code(), ErrorCode::NoSuchJob);
    assert_eq!(bench.jobs.cancel(999).unwrap_err().code(), ErrorCode::NoSuchJob);
    let numbers: Vec<_> = bench.jobs.list().iter().map(|job| job.record.number).collect();
    assert_eq!(numbers, [first, second, third]);
}

#[test]
fn a_defect_in_the_work_fails_the_job_only() {
    let mut bench = Bench::new(LIMITS);
    let number = bench.jobs.submit(request("a"), Box::new(|_| panic!("boom {}", 1))).unwrap();
    let record = bench.wait_for(number);
    let error = record.error.unwrap();
    assert_eq!((record.result, error.name.as_str()), (Some(JobResult::Failed), "Internal"));
    assert!(error.message.contains("boom 1"));
    assert_eq!(entries(&bench.folder.path().join("scratch")), 0);
    let number = bench.jobs.submit(request("a"), Box::new(|_| Ok(JobOutcome::default()))).unwrap();
    assert_eq!(bench.wait_for(number).result, Some(JobResult::Done));
}

#[test]
fn the_flag_explains_the_error_that_follows_it_but_not_a_success() {
    let mut bench = Bench::new(LIMITS);
    let killed: Work = Box::new(|job| {
        job.context.cancel.cancel(CancelReason::Requested);
        Err(ServiceError::new(ErrorCode::DumpFailed, "pg_dump was killed"))
    });
    let number = bench.jobs.submit(request("a"), killed).unwrap();
    let record = bench.wait_for(number);
    let error = record.error.unwrap();
    assert_eq!((record.result, error.name.as_str()), (Some(JobResult::Canceled), "Canceled"));
    assert_eq!(error.message, "the job was cancelled: pg_dump was killed");
    let done: Work = Box::new(|job| {
        job.context.cancel.cancel(CancelReason::Requested);
        Ok(JobOutcome::default())
    });
    let number = bench.jobs.submit(request("a"), done).unwrap();
    assert_eq!(bench.wait_for(number).result, Some(JobResult::Done));
}

#[test]
fn a_job_that_takes_too_long_is_ended() {
    let mut bench = Bench::new(LIMITS);
    let (began, _begun) = mpsc::channel();
    let timed = JobRequest { timeout: Some(Duration::from_millis(20)), ..request("a") };
    let number = bench.jobs.submit(timed, until_cancelled(began)).unwrap();
    let record = bench.wait_for(number);
    assert_eq!((record.result, record.error.unwrap().name.as_str()), (Some(JobResult::Failed), "TimedOut"));
}

#[test]
fn a_shutdown_ends_all_and_says_what_did_not_end() {
    let bench = Bench::new(LIMITS);
    let (began, begun) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    let stubborn: Work = Box::new(move |_| {
        began.send(0).unwrap();
        let _ = held.recv();
        Ok(JobOutcome::default())
    });
    let first = bench.jobs.submit(request("a"), stubborn).unwrap();
    let second = bench.jobs.submit(request("b"), Box::new(|_| Ok(JobOutcome::default()))).unwrap();
    begun.recv_timeout(LONG).unwrap();
    assert_eq!(bench.jobs.shutdown(Duration::from_millis(10)), [first]);
    let record = bench.jobs.get(second).unwrap().record;
    assert_eq!((record.result, record.error.unwrap().name.as_str()), (Some(JobResult::Interrupted), "ShuttingDown"));
    let refused = bench.jobs.submit(request("c"), Box::new(|_| Ok(JobOutcome::default()))).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::ShuttingDown);
    release.send(()).unwrap();
    assert!(bench.jobs.shutdown(LONG).is_empty());
}

#[test]
fn a_table_is_closed_for_a_restart_only_when_it_is_empty() {
    let mut bench = Bench::new(LIMITS);
    let (began, begun) = mpsc::channel();
    let number = bench.jobs.submit(request("a"), until_cancelled(began)).unwrap();
    begun.recv_timeout(LONG).unwrap();
    assert!(!bench.jobs.close_if_idle());
    bench.jobs.cancel(number).unwrap();
    bench.wait_for(number);
    assert!(bench.jobs.close_if_idle());
    let refused = bench.jobs.submit(request("c"), Box::new(|_| Ok(JobOutcome::default()))).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::ShuttingDown);
}

#[test]
fn what_a_killed_daemon_leaves_is_closed_and_swept() {
    let bench = Bench::new(LIMITS);
    let (began, begun) = mpsc::channel();
    let number = bench.jobs.submit(request("a"), until_cancelled(began)).unwrap();
    begun.recv_timeout(LONG).unwrap();
    let (later, folder) = bench.after_a_crash();
    assert_eq!(later.get(number).unwrap().record.result, Some(JobResult::Interrupted));
    assert!(later.submit(request("a"), Box::new(|_| Ok(JobOutcome::default()))).unwrap() > number);
    drop(later);

    let scratch = folder.path().join("scratch");
    std::fs::create_dir_all(scratch.join("3/deep")).unwrap();
    std::fs::write(scratch.join("3/deep/spool"), b"x").unwrap();
    std::os::unix::fs::symlink("/etc", scratch.join("link")).unwrap();
    while Jobs::open(folder.path(), LIMITS, bench.runtime.handle().clone()).is_err() {
        std::thread::yield_now(); // The last job's thread still holds the folder.
    }
    assert_eq!(entries(&scratch), 0);
    assert!(Path::new("/etc/passwd").exists());
    let second = Jobs::open(bench.folder.path(), LIMITS, bench.runtime.handle().clone()).unwrap_err();
    assert_eq!(second.code(), ErrorCode::RepositoryLocked);
    assert!(bench.jobs.shutdown(LONG).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn limits_and_the_order_of_events_hold(
        concurrency in 1_usize..4, queue in 0_usize..6, plan in proptest::collection::vec((0_u8..6, any::<bool>()), 1..30),
    ) {
        let mut bench = Bench::new(JobLimits { concurrency, queue, history: 100 });
        let running = Arc::new(AtomicUsize::new(0));
        let mut accepted = Vec::new();
        for (key, cancel) in plan {
            let count = Arc::clone(&running);
            let work: Work = Box::new(move |_| {
                let now = count.fetch_add(1, Ordering::SeqCst) + 1;
                std::thread::yield_now();
                count.fetch_sub(1, Ordering::SeqCst);
                if now > concurrency { Err(ServiceError::new(ErrorCode::Internal, "too many")) } else { Ok(JobOutcome::default()) }
            });
            match bench.jobs.submit(request(&format!("s{key}")), work) {
                Ok(number) => {
                    accepted.push(number);
                    if cancel {
                        let _ = bench.jobs.cancel(number);
                    }
                }
                Err(error) => prop_assert!(matches!(error.code(), ErrorCode::SourceBusy | ErrorCode::LimitsExceeded)),
            }
            let active = bench.jobs.active();
            prop_assert!(active.len() <= concurrency + queue);
        }
        let mut stage = std::collections::BTreeMap::new();
        let mut open = accepted.len();
        while open > 0 {
            let event = bench.runtime.block_on(async { tokio::time::timeout(LONG, bench.events.recv()).await });
            match event.expect("a job hangs").unwrap() {
                JobEvent::Added(number) => prop_assert_eq!(stage.insert(number, 0), None),
                JobEvent::Started(number) => prop_assert_eq!(stage.insert(number, 1), Some(0)),
                JobEvent::Finished(record) => {
                    prop_assert!(matches!(record.result, Some(JobResult::Done | JobResult::Canceled)), "{:?}", record);
                    prop_assert!(stage.insert(record.number, 2) < Some(2));
                    prop_assert!(bench.jobs.get(record.number).is_some());
                    open -= 1;
                }
                JobEvent::BackupAdded { .. } | JobEvent::BackupRemoved { .. } => prop_assert!(false, "no backup is made"),
            }
        }
        prop_assert!(bench.jobs.active().is_empty());
        prop_assert_eq!(bench.jobs.list().len(), accepted.len());
    }
}
