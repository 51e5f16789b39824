//! What systemd knows of the timers that begin backups. It is asked each time, and nothing of it is kept: what it says is
//! what will happen.

use std::collections::HashMap;

use zbus::{Connection, OwnedVariant, fdo::PropertiesProxy, names::InterfaceName};

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
    /// Whether the last run of its service failed.
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
                failed: text(&service, "ActiveState") == "failed",
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
