//! The life of a worker: it asks for its order, drills, reports, and takes its folder with it.
//!
//! Invariants: it never runs as root; when the daemon goes away, it ends what it runs and then itself.

use std::{
    env, io,
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    remote::{Link, RemoteSet},
    wire::{Failure, Kind, Order, Verdict},
};
use crate::{
    fail_point,
    model::{ErrorCode, drill::DrillReport, job::Phase, manifest::Kind as BackupKind},
    source::{JobContext, SourceError, postgres::drill as postgres, sqlite::drill as sqlite},
    stream::{Cancel, CancelReason, Progress},
};

/// How often the phase is looked at, milliseconds.
const STEP: u16 = 100;
/// Bytes of a message that are reported.
const MESSAGE: usize = 16 << 10;

/// Drills for the daemon at the other end of this socket; `None` for standard input.
///
/// # Errors
/// What kept it from reporting.
pub fn run(socket: Option<&Path>) -> io::Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "a drill's worker does not run as root"));
    }
    let stream = match socket {
        Some(path) => UnixStream::connect(path)?,
        None => UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?),
    };
    let watched = stream.try_clone()?;
    let link = Link::new(stream)?;
    let (cancel, progress) = (Cancel::new(), Arc::new(Progress::default()));
    let watch = Watch::begin(watched, &link, &cancel, &progress)?;
    let verdict = match link.order() {
        Ok(order) => carry_out(order, &link, &cancel, &progress)?,
        Err(error) => return Err(error),
    };
    watch.end();
    let verdict = serde_json::to_vec(&verdict)?;
    link.tell(Kind::Verdict, &verdict)
}

fn carry_out(order: Order, link: &Arc<Link>, cancel: &Cancel, progress: &Arc<Progress>) -> io::Result<Verdict> {
    if order.version != env!("CARGO_PKG_VERSION") {
        let message = format!(
            "the daemon is of version {} and the program on disk of version {}; restart backupd",
            order.version,
            env!("CARGO_PKG_VERSION")
        );
        return Ok(Verdict { report: DrillReport::default(), failure: Some(Failure { unavailable: true, message }) });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    // Removed when this function ends, however; where the process is killed, by whoever gave it the folder.
    let folder = tempfile::Builder::new().prefix("d").tempdir_in(folder())?;
    let scratch = folder.path().join("scratch");
    std::fs::create_dir(&scratch)?;
    let context =
        JobContext { cancel: cancel.clone(), progress: progress.clone(), scratch, runtime: runtime.handle().clone() };
    let mut report = DrillReport::default();
    let drilled = drill(order, link, folder.path(), &context, &mut report);
    let failure = drilled.err().map(|error| Failure {
        unavailable: error.code() == ErrorCode::DrillUnavailable,
        message: shortened(error.to_string()),
    });
    for check in &mut report.checks {
        check.message = shortened(std::mem::take(&mut check.message));
    }
    folder.close()?;
    Ok(Verdict { report, failure })
}

fn drill(
    order: Order,
    link: &Arc<Link>,
    folder: &Path,
    context: &JobContext,
    report: &mut DrillReport,
) -> Result<(), SourceError> {
    fail_point::hit("drill-began").map_err(|error| SourceError::io("pass drill-began", &error))?;
    let Order { manifest, assertions, server_bin_dir, client_bin_dir, preload_libraries, run_id, .. } = order;
    let kind = manifest.kind;
    let reader = RemoteSet { link: Arc::clone(link), manifest };
    match kind {
        BackupKind::Logical => {
            let request = postgres::DrillRequest {
                folder,
                server_bin_dir,
                client_bin_dir,
                preload_libraries,
                assertions,
                run_id,
            };
            postgres::drill(&request, &reader, context, report)
        }
        BackupKind::Sqlite => sqlite::drill(&sqlite::DrillRequest { folder, assertions }, &reader, context, report),
        BackupKind::Physical | BackupKind::Wal => {
            let message = format!("a backup of kind {} cannot be drilled", kind.as_str());
            Err(SourceError::new(ErrorCode::DrillUnavailable, message))
        }
    }
}

/// Where the worker's folder goes: on a disk, unlike `/tmp` on many hosts.
fn folder() -> PathBuf {
    env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

fn shortened(mut text: String) -> String {
    let mut end = text.len().min(MESSAGE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// Tells the daemon the phase, and raises the cancel flag when it goes away.
struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    fn begin(stream: UnixStream, link: &Arc<Link>, cancel: &Cancel, progress: &Arc<Progress>) -> io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let (ended, link, cancel, progress) = (over.clone(), link.clone(), cancel.clone(), progress.clone());
        let thread = thread::Builder::new().name("watch".to_owned()).spawn(move || {
            let mut told = Phase::Queued;
            while !ended.load(Ordering::Acquire) {
                let mut ends = [PollFd::new(stream.as_fd(), PollFlags::empty())];
                let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
                let _ = poll(&mut ends, PollTimeout::from(STEP));
                if ends[0].revents().is_some_and(|events| events.intersects(gone)) {
                    return cancel.cancel(CancelReason::Shutdown);
                }
                let phase = progress.phase();
                if phase != told && link.tell(Kind::Phase, phase.as_str().as_bytes()).is_ok() {
                    told = phase;
                }
            }
        })?;
        Ok(Self { over, thread })
    }

    fn end(self) {
        self.over.store(true, Ordering::Release);
        let _ = self.thread.join();
    }
}
