//! Where a worker runs.
//!
//! - A daemon that is no root, as the shipped unit runs it, asks systemd for `backupd-drill@ID.service`, whose user,
//!   sandbox and end are written down there. The worker connects to a socket of the daemon's; the kernel says who it is.
//! - A daemon that is root starts it with another user's id and, where the kernel lets it, in namespaces of its own:
//!   without network, and with a number space for processes that ends with it.
//!
//! Invariant: there is no third way. The worker is never root, and never who can read the repository.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{
            fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::Signal,
    unistd::{User, geteuid},
};

use super::folders::Folder;
use crate::{
    config::{DEFAULT_DRILL_USER, DrillHost},
    model::{ErrorCode, RunId},
    service::{ServiceError, engine::Engine},
    source::{
        JobContext,
        postgres::{
            child::{ClientChild, ClientCommand},
            environment::LibpqEnvironment,
        },
    },
};

/// How long a unit may take until its worker connects.
const CONNECT_LIMIT: Duration = Duration::from_secs(90);
/// How often is looked whether the unit still starts.
const LOOK: Duration = Duration::from_millis(500);
/// How long a worker may take to end after its last word.
const END_LIMIT: Duration = Duration::from_secs(15);
/// How often is looked whether it has.
const END_STEP: Duration = Duration::from_millis(10);
/// The user of drills where the package's is not there.
const FALLBACK_USER: &str = "nobody";
/// A shell's path, for programs of util-linux.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Namespaces of its own; what is in them ends with the first process.
const UNSHARE: [&str; 7] = ["--net", "--ipc", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--"];

/// Starts and stops units, blocking; the errors are sentences.
pub trait DrillUnits: Send + Sync + std::fmt::Debug {
    /// Begins to start a unit.
    ///
    /// # Errors
    /// Why systemd refuses.
    fn start(&self, unit: &str) -> Result<(), String>;

    /// Stops a unit and all that runs in it; waits for that.
    ///
    /// # Errors
    /// Why systemd refuses.
    fn stop(&self, unit: &str) -> Result<(), String>;

    /// Its `ActiveState`, as systemd words it.
    ///
    /// # Errors
    /// Why systemd refuses.
    fn state(&self, unit: &str) -> Result<String, String>;
}

/// A way to run workers.
#[derive(Debug)]
pub(super) enum Runner {
    /// In units.
    Unit {
        units: Arc<dyn DrillUnits>,
        /// Where sockets for their workers are.
        sockets: PathBuf,
        uid: u32,
    },
    /// As another user.
    OtherUser { user: (u32, u32), scratch: PathBuf, state: PathBuf },
}

fn unavailable(message: impl Into<String>) -> ServiceError {
    ServiceError::new(ErrorCode::DrillUnavailable, message)
}

impl Runner {
    /// The way that there is for this daemon.
    pub(super) fn choose(engine: &Engine) -> Result<Self, ServiceError> {
        let config = engine.config();
        if geteuid().is_root() {
            let user = other_user(&config.drill, engine.repository()?.reading().storage().name().as_ref())?;
            let scratch = config.drill.scratch.clone();
            return Ok(Self::OtherUser { user, scratch, state: engine.folders().state.clone() });
        }
        let Some(units) = engine.drill_units() else {
            return Err(unavailable(
                "a drill runs foreign code, and this daemon can give it to no other user: it is neither root nor on the \
                 system bus of a host that runs systemd. Run it as the shipped unit does, or as root",
            ));
        };
        let runtime = std::env::var("RUNTIME_DIRECTORY").unwrap_or_default();
        let Some(runtime) = runtime.split(':').next().filter(|folder| !folder.is_empty()) else {
            return Err(unavailable(
                "drills need the daemon's folder below /run: RuntimeDirectory=backupd in its unit",
            ));
        };
        let user = User::from_name(DEFAULT_DRILL_USER).ok().flatten().ok_or_else(|| {
            unavailable(format!(
                "there is no user {DEFAULT_DRILL_USER}: run systemd-sysusers, or install the package again"
            ))
        })?;
        Ok(Self::Unit { units, sockets: Path::new(runtime).join("drill"), uid: user.uid.as_raw() })
    }

    /// Starts a worker.
    pub(super) fn start(&self, context: &JobContext) -> Result<Worker, ServiceError> {
        let instance = RunId::new();
        match self {
            Self::Unit { units, sockets, uid } => in_unit(units, sockets, *uid, instance, context),
            Self::OtherUser { user, scratch, state } => {
                as_other_user(*user, Folder::make(state, scratch, instance, *user)?, context)
            }
        }
    }
}

/// A worker, and what ends it. Dropping it does, too.
#[derive(Debug)]
pub(super) struct Worker {
    socket: UnixStream,
    running: Running,
}

#[derive(Debug)]
enum Running {
    Unit(Unit),
    /// The folder goes after the process.
    Child(Option<ClientChild>, #[allow(dead_code, reason = "owned until the worker is gone")] Folder),
}

impl Worker {
    /// The daemon's end.
    pub(super) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Ends it with all that it runs; the error is what its own end looked like.
    pub(super) fn end(&mut self) -> Result<(), String> {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        match &mut self.running {
            Running::Unit(unit) => unit.stop(),
            Running::Child(child, _) => child.take().map_or(Ok(()), end_child),
        }
    }
}

/// Waits for a worker that has lost its socket. Foreign code of the same user may have stopped it: then it is killed.
fn end_child(child: ClientChild) -> Result<(), String> {
    let end = Instant::now() + END_LIMIT;
    while !child.has_ended() {
        if Instant::now() >= end {
            drop(child);
            return Err("it did not end, and was killed".to_owned());
        }
        std::thread::sleep(END_STEP);
    }
    child.wait().map_err(|error| error.to_string())
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Err(why) = self.end() {
            tracing::debug!(why, "the worker of a drill ended");
        }
    }
}

/// A unit that was started.
#[derive(Debug)]
struct Unit {
    units: Arc<dyn DrillUnits>,
    name: String,
    socket: PathBuf,
    stopped: bool,
}

impl Unit {
    fn stop(&mut self) -> Result<(), String> {
        if std::mem::replace(&mut self.stopped, true) {
            return Ok(());
        }
        let _ = fs::remove_file(&self.socket);
        self.units.stop(&self.name).inspect_err(|why| {
            tracing::error!(unit = self.name, why, "the unit of a drill was not stopped");
        })
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn in_unit(
    units: &Arc<dyn DrillUnits>,
    sockets: &Path,
    uid: u32,
    instance: RunId,
    context: &JobContext,
) -> Result<Worker, ServiceError> {
    let path = sockets.join(instance.to_string());
    let failed = |error: io::Error| unavailable(format!("cannot make the socket {}: {error}", path.display()));
    DirBuilder::new().recursive(true).mode(0o711).create(sockets).map_err(failed)?;
    fs::set_permissions(sockets, Permissions::from_mode(0o711)).map_err(failed)?;
    let listener = {
        let _guard = context.runtime.enter();
        tokio::net::UnixListener::bind(&path).map_err(failed)?
    };
    // Anybody may knock; the kernel says who it is, and only the unit's user is let in.
    fs::set_permissions(&path, Permissions::from_mode(0o666)).map_err(failed)?;
    let name = format!("backupd-drill@{instance}.service");
    let unit = Unit { units: Arc::clone(units), name, socket: path.clone(), stopped: false };
    unit.units.start(&unit.name).map_err(|why| unavailable(format!("systemd does not start {}: {why}", unit.name)))?;
    let stream = accept(&listener, &unit, uid, context)?;
    let socket = stream.into_std().and_then(|socket| socket.set_nonblocking(false).map(|()| socket)).map_err(failed)?;
    Ok(Worker { socket, running: Running::Unit(unit) })
}

/// Waits for the unit's worker.
fn accept(
    listener: &tokio::net::UnixListener,
    unit: &Unit,
    uid: u32,
    context: &JobContext,
) -> Result<tokio::net::UnixStream, ServiceError> {
    let end = Instant::now() + CONNECT_LIMIT;
    loop {
        let came = context.runtime.block_on(async {
            tokio::select! {
                reason = context.cancel.cancelled() => Err(ServiceError::from(reason)),
                came = tokio::time::timeout(LOOK, listener.accept()) => Ok(came.ok()),
            }
        })?;
        match came {
            Some(Ok((stream, _))) => match stream.peer_cred() {
                Ok(peer) if peer.uid() == uid => return Ok(stream),
                peer => tracing::warn!(?peer, "somebody else connected to the socket of a drill"),
            },
            Some(Err(error)) => return Err(unavailable(format!("cannot be connected to by {}: {error}", unit.name))),
            None => {
                let state = unit.units.state(&unit.name).unwrap_or_default();
                if state == "failed" || Instant::now() > end {
                    let message =
                        format!("{} did not come up ({state}); `journalctl -u {}` says why", unit.name, unit.name);
                    return Err(unavailable(message));
                }
            }
        }
    }
}

/// The user that drills run as, who must not be able to read what the daemon keeps.
fn other_user(config: &DrillHost, repository: &Path) -> Result<(u32, u32), ServiceError> {
    let named = |name: &str| User::from_name(name).ok().flatten();
    let user = match &config.user {
        Some(name) => {
            named(name).ok_or_else(|| unavailable(format!("there is no user {name:?}: [drill] user names it")))
        }
        None => named(DEFAULT_DRILL_USER)
            .or_else(|| named(FALLBACK_USER))
            .ok_or_else(|| unavailable(format!("there is no user {DEFAULT_DRILL_USER} to run drills as; make one"))),
    }?;
    let owner = fs::metadata(repository).map(|metadata| metadata.uid()).unwrap_or_default();
    let uid = user.uid.as_raw();
    if uid == 0 || uid == owner {
        let message = format!(
            "drills cannot run as {:?}, to whom the repository belongs; name another as [drill] user",
            user.name
        );
        return Err(unavailable(message));
    }
    Ok((uid, user.gid.as_raw()))
}

fn as_other_user(user: (u32, u32), folder: Folder, context: &JobContext) -> Result<Worker, ServiceError> {
    let failed = |error: io::Error| unavailable(format!("cannot start the worker of a drill: {error}"));
    let (socket, theirs) = UnixStream::pair().map_err(failed)?;
    // This very program, wherever it lies and whatever is there by now. The copy of the descriptor survives an exec.
    let program = File::open("/proc/self/exe").map_err(failed)?;
    let program: OwnedFd = rustix::io::dup(&program).map_err(|error| failed(error.into()))?;
    let environment = LibpqEnvironment::base(folder.path());
    let mut command = if can_unshare() {
        let command = ClientCommand::new(Path::new("unshare"), &environment, ErrorCode::DrillUnavailable);
        command.args(UNSHARE).arg("setpriv")
    } else {
        tracing::warn!("no namespaces can be made here: the drill has the host's network");
        ClientCommand::new(Path::new("setpriv"), &environment, ErrorCode::DrillUnavailable)
    };
    command = command
        .env("PATH", PATH)
        .stopped_by(Signal::SIGKILL)
        .arg(format!("--reuid={}", user.0))
        .arg(format!("--regid={}", user.1))
        .args(["--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--pdeathsig=KILL", "--"])
        .arg(format!("/proc/self/fd/{}", program.as_raw_fd()))
        .arg("--drill-worker=-")
        .stdin_from(File::from(OwnedFd::from(theirs)));
    if cfg!(feature = "failpoints") {
        command = command.env("BACKUPD_FAIL_POINT", std::env::var_os("BACKUPD_FAIL_POINT").unwrap_or_default());
    }
    let child = command.spawn(&context.cancel, &context.runtime).map_err(ServiceError::from)?;
    Ok(Worker { socket, running: Running::Child(Some(child), folder) })
}

/// Whether the kernel lets this process make the namespaces; in some containers it does not.
fn can_unshare() -> bool {
    let mut command = Command::new("unshare");
    command.args(UNSHARE).arg("true").env_clear().env("PATH", PATH);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
