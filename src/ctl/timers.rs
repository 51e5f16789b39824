//! What systemd knows of the timers that begin backups. It is asked each time, and nothing of it is kept: what it says is
//! what will happen.

use std::collections::HashMap;

use zbus::{Connection, OwnedObjectPath, OwnedVariant, fdo::PropertiesProxy, names::InterfaceName};

use super::{
    error::CtlError,
    systemd::{self, SystemdProxy},
};
use crate::model::ErrorCode;

/// How systemd says "never".
const INFINITY: u64 = u64::MAX;

/// The timer of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TimerState {
    /// Whether it runs.
    pub(crate) active: bool,
    /// Its calendar events, as systemd writes them.
    pub(crate) events: Vec<String>,
    /// When it fired last, microseconds since the epoch; 0 for never.
    pub(crate) last_run: u64,
    /// When it fires next; 0 for never.
    pub(crate) next_run: u64,
    /// Whether the last run of its service failed, or did not even begin, as without the file system that it needs.
    pub(crate) failed: bool,
}

/// The system's systemd.
pub(crate) struct Timers {
    connection: Connection,
    manager: SystemdProxy<'static>,
}

type Properties = HashMap<String, OwnedVariant>;

impl Timers {
    /// Connects to the system bus, where systemd is, wherever the daemon is.
    ///
    /// # Errors
    /// `Failed` where there is no system bus.
    pub(crate) async fn connect() -> Result<Self, CtlError> {
        let manager = systemd::connect().await.map_err(|error| failed(&error))?;
        Ok(Self { connection: manager.inner().connection().clone(), manager })
    }

    /// The timer of a source, whose name needs no escapes to be part of a unit's name.
    ///
    /// # Errors
    /// `Failed` when systemd does not answer.
    pub(crate) async fn of_source(&self, source: &str) -> Result<TimerState, CtlError> {
        let read = async {
            let timer = format!("backupd-create@{source}.timer");
            let unit = self.properties(&timer, "org.freedesktop.systemd1.Unit").await?;
            let timer = self.properties(&timer, "org.freedesktop.systemd1.Timer").await?;
            let service = format!("backupd-create@{source}.service");
            let service = self.properties(&service, "org.freedesktop.systemd1.Unit").await?;
            zbus::Result::Ok(TimerState {
                active: text(&unit, "ActiveState") == "active",
                events: events(&timer),
                last_run: time(&timer, "LastTriggerUSec"),
                next_run: time(&timer, "NextElapseUSecRealtime"),
                failed: text(&service, "ActiveState") == "failed" || did_not_begin(&timer, &service),
            })
        };
        read.await.map_err(|error| failed(&error))
    }

    async fn properties(&self, unit: &str, interface: &'static str) -> zbus::Result<Properties> {
        let path = self.manager.load_unit(unit).await?;
        let proxy = PropertiesProxy::builder(&self.connection)
            .destination("org.freedesktop.systemd1")
            .path(path.into_inner())
            .build()
            .await?;
        Ok(proxy.get_all(InterfaceName::try_from(interface)?).await?)
    }
}

fn failed(error: &zbus::Error) -> CtlError {
    CtlError::new(ErrorCode::Failed, format!("cannot ask systemd for the timers: {error}"))
}

/// Whether the timer fired, and its service neither ran then nor began since. A unit whose dependency failed is not `failed`
/// to systemd. By the clock that starts with the host, on which what fired before that is 0.
fn did_not_begin(timer: &Properties, service: &Properties) -> bool {
    let fired = time(timer, "LastTriggerUSecMonotonic");
    let began = time(service, "InactiveExitTimestampMonotonic");
    let ended = time(service, "InactiveEnterTimestampMonotonic");
    let job = service.get("Job").and_then(|value| <(u32, OwnedObjectPath)>::try_from(value.clone()).ok());
    let is_waiting = job.is_some_and(|(number, _)| number != 0);
    fired > began.max(ended) && !is_waiting && text(service, "ActiveState") == "inactive"
}

fn text(properties: &Properties, name: &str) -> String {
    properties.get(name).and_then(|value| String::try_from(value.clone()).ok()).unwrap_or_default()
}

fn time(properties: &Properties, name: &str) -> u64 {
    let value = properties.get(name).and_then(|value| u64::try_from(value.clone()).ok());
    value.filter(|&time| time != INFINITY).unwrap_or(0)
}

/// `TimersCalendar` is an array of (base, expression, next elapse).
fn events(properties: &Properties) -> Vec<String> {
    let value = properties.get("TimersCalendar").cloned();
    let rows = value.and_then(|value| Vec::<(String, String, u64)>::try_from(value).ok()).unwrap_or_default();
    rows.into_iter().map(|(_, event, _)| event).collect()
}

#[cfg(test)]
mod tests {
    use zbus::{ObjectPath, Variant};

    use super::*;

    fn properties(entries: &[(&str, Variant<'_>)]) -> Properties {
        entries.iter().map(|(name, value)| ((*name).to_owned(), value.try_to_owned().unwrap())).collect()
    }

    #[test]
    fn a_service_that_did_not_begin_is_told_from_one_that_ran() {
        let timer = |fired: u64| properties(&[("LastTriggerUSecMonotonic", Variant::from(fired))]);
        let service = |began: u64, ended: u64, job: u32, state: &str| {
            let job = (job, ObjectPath::from_static_str_unchecked("/"));
            properties(&[
                ("InactiveExitTimestampMonotonic", Variant::from(began)),
                ("InactiveEnterTimestampMonotonic", Variant::from(ended)),
                ("Job", Variant::from(job)),
                ("ActiveState", Variant::from(state)),
            ])
        };
        assert!(did_not_begin(&timer(50), &service(30, 40, 0, "inactive")));
        assert!(did_not_begin(&timer(50), &service(0, 0, 0, "inactive")), "never before");
        assert!(!did_not_begin(&timer(0), &service(0, 0, 0, "inactive")), "fired before the host started");
        assert!(!did_not_begin(&timer(50), &service(30, 40, 7, "inactive")), "it waits for its mount");
        assert!(!did_not_begin(&timer(50), &service(60, 70, 0, "inactive")), "it ran");
        assert!(!did_not_begin(&timer(50), &service(30, 70, 0, "inactive")), "it ran already");
        assert!(!did_not_begin(&timer(50), &service(30, 0, 0, "activating")), "it runs");
    }
}
