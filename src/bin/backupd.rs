//! The daemon's program: arguments, messages, the engine, and then [`backupd::daemon::run`].

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use backupd::{
    bus::server::Bus,
    daemon::{self, Ended, RESTART_EXIT_CODE, Reach},
    drill::worker,
    model::{ErrorCode, message_id},
    service::{
        ServiceError,
        engine::{Engine, Folders},
    },
    systemd::{drill_units::Systemd, logging, timers::HostSystemd},
};
use clap::{Parser, ValueEnum};

/// Keeps the backups of this host's databases: takes, verifies and restores them for backupctl and D-Bus clients.
#[derive(Debug, Parser)]
#[command(name = "backupd", version, about)]
struct Arguments {
    /// Where backupd.toml and sources.d are
    #[arg(long, value_name = "DIR", default_value = "/etc/backupd")]
    config_dir: PathBuf,
    /// Where the history of jobs, undo records and scratch are kept
    #[arg(long, value_name = "DIR", default_value = "/var/lib/backupd/state")]
    state_dir: PathBuf,
    /// Where what can be made again is kept [default: /var/cache/backupd; with --state-dir, its folder "cache"]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// The message bus to offer org.backupd1 on
    #[arg(long, value_enum, default_value = "system")]
    bus: BusChoice,
    /// Also serve clients without a bus on this socket; only root and the daemon's own user may connect
    #[arg(long, value_name = "unix:path=SOCKET")]
    listen: Option<String>,
    /// error, warn, info, debug, trace, or a filter like backupd=debug,warn
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
    /// Drill as the unprivileged end of this socket; "-" for standard input
    #[arg(long, value_name = "SOCKET", hide = true)]
    drill_worker: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum BusChoice {
    System,
    Session,
    None,
}

impl Arguments {
    fn folders(&self) -> Folders {
        let default_state = self.state_dir.as_os_str() == "/var/lib/backupd/state";
        let default_cache =
            if default_state { PathBuf::from("/var/cache/backupd") } else { self.state_dir.join("cache") };
        Folders {
            config: self.config_dir.clone(),
            state: self.state_dir.clone(),
            cache: self.cache_dir.clone().unwrap_or(default_cache),
        }
    }

    fn reach(&self) -> Reach {
        let bus = match self.bus {
            BusChoice::System => Some(Bus::System),
            BusChoice::Session => Some(Bus::Session),
            BusChoice::None => None,
        };
        Reach { bus, listen: self.listen.clone() }
    }
}

/// How long notices may take to be written down when the daemon ends.
const NOTICES_LIMIT: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = logging::init(&arguments.log_level) {
        eprintln!("backupd: {error}");
        return ExitCode::from(ErrorCode::InvalidArgs.row().exit_code);
    }
    if let Some(socket) = &arguments.drill_worker {
        return drill(socket);
    }
    match serve(&arguments) {
        Ok(Ended::Stopped) => ExitCode::SUCCESS,
        Ok(Ended::Restart) => ExitCode::from(RESTART_EXIT_CODE),
        Err(error) => {
            let event = match error.code() {
                ErrorCode::RepositoryLocked => message_id::REPOSITORY_LOCKED,
                _ => message_id::DAEMON_FAILED,
            };
            tracing::error!(MESSAGE_ID = event, BACKUPD_ERROR = error.code().name(), "{error}");
            ExitCode::from(error.code().row().exit_code)
        }
    }
}

fn drill(socket: &Path) -> ExitCode {
    let socket = (socket.as_os_str() != "-").then_some(socket);
    match worker::run(socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("the drill ended without a verdict: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> Result<Ended, ServiceError> {
    let reach = arguments.reach();
    if reach.bus.is_none() && reach.listen.is_none() {
        let message = "with --bus none and without --listen nobody could reach the daemon; give one of them";
        return Err(ServiceError::new(ErrorCode::InvalidArgs, message));
    }
    // Two workers keep the bus answering while SQL and children are driven; blocking verbs have threads of their own.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(64)
        .thread_name("backupd-async")
        .enable_all()
        .build()
        .map_err(|error| ServiceError::new(ErrorCode::Internal, format!("cannot start the runtime: {error}")))?;
    let engine = Engine::start(arguments.folders(), runtime.handle().clone())?;
    let on_system_bus = matches!(reach.bus, Some(Bus::System));
    engine.health_watch().ask(Arc::new(HostSystemd::new(runtime.handle().clone(), on_system_bus)));
    if on_system_bus && let Some(systemd) = Systemd::of_this_host(runtime.handle().clone()) {
        engine.drill_in_units(Arc::new(systemd));
    }
    let operations = Arc::new(Arc::clone(&engine));
    let ended = runtime.block_on(daemon::run(&reach, operations, engine.locked_by_another()));
    runtime.block_on(engine.notices().finish(NOTICES_LIMIT));
    // A verb that hangs in a system call must not keep the process.
    runtime.shutdown_background();
    ended
}
