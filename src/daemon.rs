//! The daemon's life: serve, say so, reload, watch itself, stop cleanly.
//!
//! Invariants: READY=1 comes after the socket and the name, and again after every reload, also one that failed; no
//! timer runs while no job does, except the watchdog's and that of health; what stops the daemon first ends its jobs, then its connections.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::broadcast,
    time::{Instant, timeout},
};
use zbus::Connection;

use crate::{
    bus::{
        log_control::Logging,
        proxy::{ManagerProxy, service_error},
        server::{Bus, Server},
    },
    model::{ErrorCode, job::JobNumber, message_id},
    service::{
        ServiceError,
        operations::{Caller, Operations},
    },
    systemd::{logging, notify},
};

/// How long jobs may take to clean up when the daemon stops.
const STOP_LIMIT: Duration = Duration::from_secs(80);
/// How often systemd is asked for more time while they do.
const STOP_STEP: Duration = Duration::from_secs(5);
/// How long a reload may take before it counts as failed.
const RELOAD_LIMIT: Duration = Duration::from_secs(30);
/// How long connections may take to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// The exit code by which the unit knows that the daemon wants to be started again.
pub const RESTART_EXIT_CODE: u8 = 44;

/// Why the daemon ended, if nothing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to stop.
    Stopped,
    /// It was asked to restart as soon as it is idle, and is: see [`RESTART_EXIT_CODE`].
    Restart,
}

/// Where the daemon is reached.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// On a message bus.
    pub bus: Option<Bus>,
    /// On a socket of its own, `unix:path=…`.
    pub listen: Option<String>,
}

/// Serves until SIGTERM or SIGINT, the loss of the bus, or `fatal`. SIGHUP reloads; SIGUSR1 ends it as soon as no job
/// runs or waits, for a restart with another program or other credentials.
///
/// # Errors
/// What kept the daemon from serving, or ended it: `fatal`'s error; `Failed` for the bus; `TimedOut` when a job did not
/// end in time.
pub async fn run(
    reach: &Reach,
    operations: Arc<dyn Operations>,
    fatal: impl Future<Output = ServiceError>,
) -> Result<Ended, ServiceError> {
    let mut signals = Signals::new()?;
    let mut server = Server::new(Arc::clone(&operations));
    if let Some(control) = logging::control() {
        server = server.with_logging(Arc::new(control));
    }
    if let Some(address) = &reach.listen {
        server.listen(address)?;
    }
    let bus = match &reach.bus {
        Some(bus) => Some(server.join_bus(bus).await?),
        None => None,
    };
    let mut daemon =
        Daemon { events: operations.jobs().subscribe(), operations, server, bus, restart_when_idle: false };
    let watchdog = daemon.start_watchdog().await?;
    notify::ready(&daemon.status());
    let ended = daemon.serve(&mut signals, fatal).await;
    let stopped = daemon.stop(&mut signals).await;
    if let Some(watchdog) = watchdog {
        watchdog.abort();
    }
    ended.and_then(|ended| stopped.map(|()| ended))
}

impl Logging for &'static logging::Control {
    fn level(&self) -> String {
        logging::Control::level(self).to_owned()
    }

    fn set_level(&self, level: &str) -> Result<(), String> {
        logging::Control::set_level(self, level)
    }

    fn target(&self) -> String {
        logging::Control::target(self).to_owned()
    }

    fn set_target(&self, target: &str) -> Result<(), String> {
        logging::Control::set_target(self, target)
    }
}

struct Daemon {
    operations: Arc<dyn Operations>,
    server: Server,
    bus: Option<Connection>,
    events: broadcast::Receiver<crate::service::jobs::JobEvent>,
    restart_when_idle: bool,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    restart: Signal,
}

impl Signals {
    fn new() -> Result<Self, ServiceError> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| ServiceError::new(ErrorCode::Internal, format!("cannot listen to signals: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
            restart: listen(SignalKind::user_defined1())?,
        })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl Daemon {
    async fn serve(
        &mut self,
        signals: &mut Signals,
        fatal: impl Future<Output = ServiceError>,
    ) -> Result<Ended, ServiceError> {
        let mut fatal = pin!(fatal);
        let bus = self.bus.clone();
        let mut bus_lost = pin!(async move {
            match bus {
                Some(connection) => connection.closed().await,
                None => std::future::pending().await,
            }
        });
        loop {
            // From here on jobs are refused, so that none begins between the look and the end.
            if self.restart_when_idle && self.operations.jobs().close_if_idle() {
                tracing::info!("no job runs: restarting, as asked");
                return Ok(Ended::Restart);
            }
            let Signals { terminate, interrupt, hangup, restart } = signals;
            tokio::select! {
                _ = terminate.recv() => return Ok(Ended::Stopped),
                _ = interrupt.recv() => return Ok(Ended::Stopped),
                _ = hangup.recv() => self.reload().await,
                _ = restart.recv() => {
                    self.restart_when_idle = true;
                    notify::status(&self.status());
                }
                error = &mut fatal => return Err(error),
                () = &mut bus_lost => {
                    return Err(ServiceError::new(ErrorCode::Failed, "the connection to the message bus is lost"));
                }
                _ = self.events.recv() => notify::status(&self.status()),
            }
        }
    }

    async fn reload(&self) {
        notify::reloading();
        let operations = Arc::clone(&self.operations);
        let reload = tokio::task::spawn_blocking(move || operations.reload());
        let failed = |failure: String| {
            tracing::error!(
                MESSAGE_ID = message_id::RELOAD_FAILED,
                "the reload failed, the old configuration stays: {failure}"
            );
            Some(failure)
        };
        let failure = match timeout(RELOAD_LIMIT, reload).await {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(error))) => Some(error.to_string()), // Written down by the service.
            Ok(Err(defect)) => failed(defect.to_string()),
            Err(_) => failed("the configuration cannot be read in time".to_owned()),
        };
        match failure {
            None => {
                notify::ready(&self.status());
            }
            Some(failure) => {
                notify::ready(&format!("Reload failed: {failure}"));
            }
        }
    }

    /// Pings the dispatcher through a connection of its own, down to the table of jobs, and tells systemd of the answer.
    async fn start_watchdog(&self) -> Result<Option<tokio::task::JoinHandle<()>>, ServiceError> {
        let Some(interval) = notify::watchdog_interval() else { return Ok(None) };
        let failed =
            |error: zbus::Error| ServiceError::new(ErrorCode::Internal, format!("cannot set the watchdog up: {error}"));
        let (ours, theirs) =
            std::os::unix::net::UnixStream::pair().map_err(|error| failed(zbus::Error::from(error)))?;
        let own = Caller { uid: nix::unistd::geteuid().as_raw() };
        let client = zbus::connection::Builder::unix_stream(ours).p2p().build();
        let (served, client) = tokio::join!(self.server.serve_peer(theirs, own), client);
        drop(served.map_err(failed)?); // The server keeps it.
        let client = client.map_err(failed)?;
        Ok(Some(tokio::spawn(async move {
            let Ok(manager) = ManagerProxy::new(&client).await else { return };
            let mut ticks = tokio::time::interval(interval / 2);
            loop {
                ticks.tick().await;
                // There is no job 0, and an answer that says so came all the way.
                let answer = timeout(interval / 4, manager.describe_job(0, 0)).await;
                match answer.map(|answer| answer.map_err(|error| service_error(error).code())) {
                    Ok(Err(ErrorCode::NoSuchJob)) => notify::watchdog(),
                    other => tracing::warn!(?other, "the dispatcher does not answer; systemd will notice"),
                }
            }
        })))
    }

    async fn stop(&mut self, signals: &mut Signals) -> Result<(), ServiceError> {
        notify::stopping(&format!("Stopping; {}", self.status()));
        let deadline = Instant::now() + STOP_LIMIT;
        let left = tokio::select! {
            left = self.end_jobs(deadline) => left,
            () = signals.stop() => {
                tracing::warn!("asked to stop a second time: not waiting for the jobs any longer");
                Vec::new()
            }
        };
        if timeout(CLOSE_LIMIT, self.server.stop()).await.is_err() {
            tracing::warn!("some clients did not let their connections be closed");
        }
        if left.is_empty() {
            return Ok(());
        }
        let list: Vec<_> = left.iter().map(JobNumber::to_string).collect();
        let message = format!("jobs did not end in {} seconds: {}", STOP_LIMIT.as_secs(), list.join(", "));
        Err(ServiceError::new(ErrorCode::TimedOut, message))
    }

    async fn end_jobs(&self, deadline: Instant) -> Vec<JobNumber> {
        loop {
            notify::extend_timeout(STOP_STEP * 3);
            let operations = Arc::clone(&self.operations);
            let ending = tokio::task::spawn_blocking(move || operations.jobs().shutdown(STOP_STEP));
            let left = ending.await.unwrap_or_default();
            if left.is_empty() || Instant::now() >= deadline {
                return left;
            }
            notify::status(&format!("Stopping; {}", self.status()));
        }
    }

    /// A sentence for `systemctl status`.
    fn status(&self) -> String {
        let jobs = self.operations.jobs().active();
        match jobs.as_slice() {
            [] => "Idle".to_owned(),
            [first, rest @ ..] => {
                let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
                let then = if self.restart_when_idle { "; restarts when no job runs" } else { "" };
                let record = &first.record;
                format!("Job {}: {} {} ({}){more}{then}", record.number, record.job_type, record.source, record.phase)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = include_str!("../systemd/backupd.service");

    fn unit_has(line: &str) -> bool {
        UNIT.lines().any(|found| found == line)
    }

    #[test]
    fn the_unit_waits_longer_for_a_stop_than_the_daemon_does() {
        let seconds = UNIT.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")?.strip_suffix('s'));
        let limit = Duration::from_secs(seconds.unwrap().parse().unwrap());
        assert!(limit >= STOP_LIMIT + CLOSE_LIMIT, "{limit:?}");
        assert!(unit_has("KillMode=mixed"), "the daemon ends its own children");
    }

    #[test]
    fn the_unit_starts_again_what_ended_for_a_restart() {
        assert!(unit_has(&format!("RestartForceExitStatus={RESTART_EXIT_CODE}")));
        assert!(unit_has(&format!("SuccessExitStatus={RESTART_EXIT_CODE}")));
    }

    #[test]
    fn no_error_has_the_exit_code_of_a_restart() {
        assert!(crate::model::error_code::TABLE.iter().all(|row| row.exit_code != RESTART_EXIT_CODE));
    }
}
