//! What health asks systemd: timers, over its interface on the system bus, and calendars, by its program.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::runtime::Handle;
use zbus::{
    Connection, OwnedObjectPath, OwnedVariant, connection::Builder, fdo::PropertiesProxy, names::InterfaceName,
};

use super::calendar::Gaps;
use crate::{health::facts::TimerFacts, service::health::host::Host};

/// How long systemd may take for an answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long all answers may take together.
const TIMEOUT: Duration = Duration::from_secs(20);

const SERVICE: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";

/// The host as a daemon sees it.
#[derive(Debug)]
pub struct HostSystemd {
    runtime: Handle,
    /// Whether the units of this daemon are systemd's: it is on the system bus of a host that systemd booted.
    has_units: bool,
    gaps: Mutex<Gaps>,
}

impl HostSystemd {
    /// For a daemon that is, or is not, on the system bus.
    #[must_use]
    pub fn new(runtime: Handle, on_system_bus: bool) -> Self {
        // sd_booted(3).
        let has_units = on_system_bus && std::path::Path::new("/run/systemd/system").is_dir();
        Self { runtime, has_units, gaps: Mutex::default() }
    }
}

impl Host for HostSystemd {
    fn longest_gap(&self, events: &[String]) -> Option<Duration> {
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner).longest(events)
    }

    fn timers(&self, units: &[String]) -> Result<Option<Vec<TimerFacts>>, String> {
        if !self.has_units {
            return Ok(None);
        }
        let asking = async {
            let connection = Builder::system().method_timeout(CALL_TIMEOUT).build().await?;
            let mut timers = Vec::new();
            for unit in units {
                timers.push(timer(&connection, unit).await?);
            }
            zbus::Result::Ok(timers)
        };
        let asked = self.runtime.block_on(async { tokio::time::timeout(TIMEOUT, asking).await });
        match asked {
            Ok(Ok(timers)) => Ok(Some(timers)),
            Ok(Err(error)) => Err(format!("systemd does not tell of them: {error}")),
            Err(_) => Err(format!("systemd does not tell of them within {} seconds", TIMEOUT.as_secs())),
        }
    }
}

async fn timer(connection: &Connection, unit: &str) -> zbus::Result<TimerFacts> {
    let manager = Some("org.freedesktop.systemd1.Manager");
    let answer = connection.call_method(Some(SERVICE), PATH, manager, "LoadUnit", &(unit,)).await?;
    let path: OwnedObjectPath = answer.body().deserialize()?;
    let proxy = PropertiesProxy::builder(connection).destination(SERVICE).path(path.into_inner()).build().await?;
    let of_unit = proxy.get_all(InterfaceName::try_from("org.freedesktop.systemd1.Unit")?).await?;
    let of_timer = proxy.get_all(InterfaceName::try_from("org.freedesktop.systemd1.Timer")?).await?;
    Ok(TimerFacts {
        unit: unit.to_owned(),
        active: text(&of_unit, "ActiveState") == "active",
        masked: text(&of_unit, "LoadState") == "masked",
        events: events(&of_timer),
    })
}

fn text(properties: &HashMap<String, OwnedVariant>, name: &str) -> String {
    properties.get(name).and_then(|value| String::try_from(value.clone()).ok()).unwrap_or_default()
}

/// `TimersCalendar` is an array of (base, expression, next elapse).
fn events(properties: &HashMap<String, OwnedVariant>) -> Vec<String> {
    let value = properties.get("TimersCalendar").cloned();
    let rows = value.and_then(|value| Vec::<(String, String, u64)>::try_from(value).ok()).unwrap_or_default();
    rows.into_iter().map(|(_, event, _)| event).collect()
}
