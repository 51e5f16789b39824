//! What systemd and the daemon are told after a change of the configuration.

use std::{path::Path, time::Duration};

use nix::libc::SIGUSR1;

use super::{
    super::super::{
        arguments::Common,
        client::Client,
        error::CtlError,
        output::say,
        systemd::{self, SystemdProxy},
    },
    Place,
};
use crate::model::ErrorCode;

const SERVICE: &str = "backupd.service";
/// How long a daemon without jobs may take to restart.
const RESTART_LIMIT: Duration = Duration::from_secs(60);
/// How often systemd is asked whether it did.
const INTERVAL: Duration = Duration::from_millis(100);

/// What has to happen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    /// Whether the source is backed up by a timer from now on.
    pub(super) scheduled: bool,
    /// Whether the daemon needs something that it gets only when it starts: a credential, or a folder.
    pub(super) restart: bool,
}

/// What came of the restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restart {
    NotNeeded,
    Done,
    /// It comes when no job runs.
    Pending,
    /// Nobody here knows how the daemon is started.
    ByHand,
}

impl Restart {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NotNeeded => "not-needed",
            Self::Done => "done",
            Self::Pending => "pending",
            Self::ByHand => "by-hand",
        }
    }

    /// What a person has to know of it.
    pub(super) fn sentence(self) -> Option<&'static str> {
        match self {
            Self::NotNeeded => None,
            Self::Done => Some("The daemon was restarted; no job ran."),
            Self::Pending => {
                Some("Jobs run: the daemon restarts when they have ended, and the source works from then on.")
            }
            Self::ByHand => Some("Restart the daemon when no job runs: the source works from then on."),
        }
    }
}

/// Lets systemd read its units again, which makes timers and opens folders, and the daemon its configuration.
///
/// # Errors
/// What stopped; what was written stays, and the daemon goes on with what it had.
pub(super) async fn take(place: &Place, common: &Common, change: Change) -> Result<Restart, CtlError> {
    let units = match place.has_units() {
        true => Some(Units::connect(place).await?),
        false => None,
    };
    if let Some(units) = &units {
        units.manager.reload().await.map_err(|error| failed("let systemd read its units again", &error))?;
    }
    let client = Client::connect(common).await?;
    client.manager().reload(0).await?;
    let restart = match (change.restart, &units) {
        (false, _) => Restart::NotNeeded,
        (true, None) => Restart::ByHand,
        (true, Some(units)) => {
            let jobs = client.manager().list_jobs(0).await?;
            let idle = jobs.iter().all(|job| !job.result.is_empty());
            units.restart(idle).await?
        }
    };
    // Last, so that the first backup finds what only the restart brought.
    if let Some(units) = &units {
        units.set_timer(change.scheduled).await?;
    }
    Ok(restart)
}

/// Whether the timer is one that somebody switched on beside the configuration.
pub(super) fn enabled_by_hand(place: &Place) -> bool {
    let link = format!("/etc/systemd/system/timers.target.wants/{}", timer(place));
    place.has_units() && Path::new(&link).symlink_metadata().is_ok()
}

pub(super) fn timer(place: &Place) -> String {
    format!("backupd-create@{}.timer", place.name)
}

struct Units {
    manager: SystemdProxy<'static>,
    timer: String,
}

impl Units {
    async fn connect(place: &Place) -> Result<Self, CtlError> {
        let manager = systemd::connect().await.map_err(|error| failed("reach systemd", &error))?;
        Ok(Self { manager, timer: timer(place) })
    }

    async fn set_timer(&self, scheduled: bool) -> Result<(), CtlError> {
        let done = match scheduled {
            true => self.manager.start_unit(&self.timer, "replace").await,
            false => self.manager.stop_unit(&self.timer, "replace").await,
        };
        match done {
            Ok(_) => Ok(()),
            // One that never ran is not loaded.
            Err(error) if !scheduled && is(&error, "NoSuchUnit") => Ok(()),
            // Somebody wants it so, for longer than this source is enabled.
            Err(error) if scheduled && is(&error, "UnitMasked") => {
                say(format_args!(
                    "Its timer is masked and stays off: `systemctl unmask {0}`, then start it",
                    self.timer
                ));
                Ok(())
            }
            Err(error) => Err(failed(if scheduled { "start the timer" } else { "stop the timer" }, &error)),
        }
    }

    /// Asks the daemon to end when no job runs, upon which systemd starts it again.
    async fn restart(&self, idle: bool) -> Result<Restart, CtlError> {
        let asked = |error| failed("ask the daemon to restart", &error);
        let (before, _) = systemd::process_and_state(&self.manager, SERVICE).await.map_err(asked)?;
        self.manager.kill_unit(SERVICE, "main", SIGUSR1).await.map_err(asked)?;
        if !idle {
            return Ok(Restart::Pending);
        }
        let waiting = async {
            loop {
                let (process, state) = systemd::process_and_state(&self.manager, SERVICE).await.map_err(asked)?;
                if process != 0 && process != before && state == "active" {
                    return Ok(Restart::Done);
                }
                tokio::time::sleep(INTERVAL).await;
            }
        };
        // A job that began meanwhile is waited for by the daemon.
        tokio::time::timeout(RESTART_LIMIT, waiting).await.unwrap_or(Ok(Restart::Pending))
    }
}

/// Whether it is this error of systemd's.
fn is(error: &zbus::Error, name: &str) -> bool {
    matches!(error, zbus::Error::MethodError(found, ..) if found.strip_prefix("org.freedesktop.systemd1.") == Some(name))
}

fn failed(attempted: &str, error: &zbus::Error) -> CtlError {
    CtlError::new(ErrorCode::Failed, format!("cannot {attempted}: {error}"))
}
