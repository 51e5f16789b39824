//! The system's systemd, by its interface on the system bus.

use std::{collections::HashMap, path::Path, time::Duration};

use zbus::{OwnedObjectPath, OwnedVariant, connection::Builder, fdo::PropertiesProxy, names::InterfaceName};

use crate::health::watch::DaemonState;

/// How long a call may take: systemd answers `Reload` when it has read all units and run all generators.
const CALL_TIMEOUT: Duration = Duration::from_secs(90);

/// The manager of units.
#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub(crate) trait Systemd {
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    fn reload(&self) -> zbus::Result<()>;
}

/// Whether this system was booted by systemd (sd_booted(3)).
pub(crate) fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Connects to the system bus.
pub(crate) async fn connect() -> zbus::Result<SystemdProxy<'static>> {
    SystemdProxy::new(&Builder::system().method_timeout(CALL_TIMEOUT).build().await?).await
}

/// The properties of a service: as a unit, and as a service.
async fn properties(manager: &SystemdProxy<'_>, service: &str) -> zbus::Result<[HashMap<String, OwnedVariant>; 2]> {
    let path = manager.load_unit(service).await?;
    let proxy = PropertiesProxy::builder(manager.inner().connection())
        .destination("org.freedesktop.systemd1")
        .path(path.into_inner())
        .build()
        .await?;
    let read = async |interface: &'static str| -> zbus::Result<HashMap<String, OwnedVariant>> {
        Ok(proxy.get_all(InterfaceName::try_from(interface)?).await?)
    };
    Ok([read("org.freedesktop.systemd1.Unit").await?, read("org.freedesktop.systemd1.Service").await?])
}

/// What systemd says of a service.
pub(crate) async fn daemon_state(manager: &SystemdProxy<'_>, service: &str) -> zbus::Result<DaemonState> {
    let [unit, service] = properties(manager, service).await?;
    let text = |properties: &HashMap<String, OwnedVariant>, name: &str| {
        properties.get(name).and_then(|value| String::try_from(value.clone()).ok()).unwrap_or_default()
    };
    Ok(DaemonState {
        load: text(&unit, "LoadState"),
        active: text(&unit, "ActiveState"),
        file: text(&unit, "UnitFileState"),
        result: text(&service, "Result"),
    })
}

/// The process of a service, 0 for none, and the state of its unit.
pub(crate) async fn process_and_state(manager: &SystemdProxy<'_>, service: &str) -> zbus::Result<(u32, String)> {
    let [unit, service] = properties(manager, service).await?;
    let process = service.get("MainPID").and_then(|value| u32::try_from(value.clone()).ok()).unwrap_or(0);
    let state = unit.get("ActiveState").and_then(|value| String::try_from(value.clone()).ok());
    Ok((process, state.unwrap_or_default()))
}
