//! Starting and stopping the units of drills, over systemd's interface on the system bus. A polkit rule lets the user of
//! the daemon do that, with these units and no others.

use std::time::Duration;

use tokio::runtime::Handle;
use zbus::{Connection, OwnedObjectPath, connection::Builder};

use crate::service::drill::DrillUnits;

/// How long systemd may take for an answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a unit may take to stop: its `TimeoutStopSec=`, and some.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a unit that stops is looked at.
const STEP: Duration = Duration::from_millis(50);

const SERVICE: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// The system's systemd. Each call has a connection of its own: drills are rare.
#[derive(Debug)]
pub struct Systemd {
    runtime: Handle,
}

impl Systemd {
    /// The systemd of this host, if it was booted by one (sd_booted(3)).
    #[must_use]
    pub fn of_this_host(runtime: Handle) -> Option<Self> {
        std::path::Path::new("/run/systemd/system").is_dir().then_some(Self { runtime })
    }

    fn call<T>(&self, call: impl AsyncFnOnce(&Connection) -> zbus::Result<T>) -> Result<T, String> {
        let calling = async {
            let connection = Builder::system().method_timeout(CALL_TIMEOUT).build().await?;
            call(&connection).await
        };
        self.runtime.block_on(calling).map_err(|error| error.to_string())
    }
}

async fn unit_call(connection: &Connection, method: &'static str, unit: &str) -> zbus::Result<()> {
    connection.call_method(Some(SERVICE), PATH, Some(MANAGER), method, &(unit, "replace")).await.map(drop)
}

/// `ActiveState` of a unit; `inactive` for one that is not loaded.
async fn state(connection: &Connection, unit: &str) -> zbus::Result<String> {
    let path: OwnedObjectPath =
        connection.call_method(Some(SERVICE), PATH, Some(MANAGER), "LoadUnit", &(unit,)).await?.body().deserialize()?;
    let properties =
        zbus::fdo::PropertiesProxy::builder(connection).destination(SERVICE).path(path.into_inner()).build().await?;
    let value = properties.get("org.freedesktop.systemd1.Unit".try_into()?, "ActiveState").await?;
    Ok(String::try_from(value).unwrap_or_default())
}

impl DrillUnits for Systemd {
    fn start(&self, unit: &str) -> Result<(), String> {
        self.call(async |connection| unit_call(connection, "StartUnit", unit).await)
    }

    fn stop(&self, unit: &str) -> Result<(), String> {
        self.call(async |connection| {
            unit_call(connection, "StopUnit", unit).await?;
            let stopped = async {
                while !matches!(state(connection, unit).await?.as_str(), "inactive" | "failed") {
                    tokio::time::sleep(STEP).await;
                }
                Ok(())
            };
            tokio::time::timeout(STOP_TIMEOUT, stopped)
                .await
                .unwrap_or_else(|_| Err(zbus::Error::Failure(format!("{unit} does not stop"))))
        })
    }

    fn state(&self, unit: &str) -> Result<String, String> {
        self.call(async |connection| state(connection, unit).await)
    }
}
