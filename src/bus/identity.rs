//! Who calls, as the transport vouches for it, and what they may do.

use std::time::Duration;

use futures_util::future::BoxFuture;
use zbus::{Connection, message::Header};

use super::error::ApiError;
use crate::{model::ErrorCode, service::operations::Caller};

/// How long it may take to find out where a message comes from.
const ORIGIN_LIMIT: Duration = Duration::from_secs(1);

/// Tells who sent a message.
pub trait Identity: Send + Sync {
    /// The sender of this message.
    fn caller<'a>(
        &'a self,
        connection: &'a Connection,
        header: &'a Header<'_>,
    ) -> BoxFuture<'a, Result<Caller, ApiError>>;

    /// Where this message comes from, as far as it can be told; for the journal only.
    fn origin<'a>(&'a self, connection: &'a Connection, header: &'a Header<'_>) -> BoxFuture<'a, Origin>;
}

/// Where a message comes from. What is not known is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The name of the connection on the bus.
    pub sender: String,
    /// The process.
    pub process: Option<u32>,
    /// The systemd unit that the process is of.
    pub unit: String,
}

/// The other end of a socket of the daemon's own: the user and process that the kernel gave when it connected
/// (SO_PEERCRED).
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// The user.
    pub caller: Caller,
    /// The process.
    pub process: Option<u32>,
}

impl Identity for Peer {
    fn caller<'a>(&'a self, _: &'a Connection, _: &'a Header<'_>) -> BoxFuture<'a, Result<Caller, ApiError>> {
        Box::pin(std::future::ready(Ok(self.caller)))
    }

    fn origin<'a>(&'a self, _: &'a Connection, _: &'a Header<'_>) -> BoxFuture<'a, Origin> {
        let unit = self.process.and_then(unit_of).unwrap_or_default();
        Box::pin(std::future::ready(Origin { sender: String::new(), process: self.process, unit }))
    }
}

/// A client of the message bus: the uid that the bus knows of its connection.
#[derive(Debug, Clone, Copy)]
pub struct BusClient;

impl Identity for BusClient {
    fn caller<'a>(
        &'a self,
        connection: &'a Connection,
        header: &'a Header<'_>,
    ) -> BoxFuture<'a, Result<Caller, ApiError>> {
        Box::pin(async move {
            let unknown = || ApiError::new(ErrorCode::AccessDenied, "the bus does not say who the caller is");
            let sender = header.sender().ok_or_else(unknown)?;
            let bus = "org.freedesktop.DBus";
            let reply = connection
                .call_method(Some(bus), "/org/freedesktop/DBus", Some(bus), "GetConnectionUnixUser", &(sender,))
                .await
                .map_err(|_| unknown())?;
            Ok(Caller { uid: reply.body().deserialize().map_err(|_| unknown())? })
        })
    }

    fn origin<'a>(&'a self, connection: &'a Connection, header: &'a Header<'_>) -> BoxFuture<'a, Origin> {
        Box::pin(async move {
            let Some(sender) = header.sender() else { return Origin::default() };
            let process = tokio::time::timeout(ORIGIN_LIMIT, process_of(connection, sender)).await.ok().flatten();
            let unit = match process {
                // With ProtectProc= the daemon does not see the processes of others; systemd does.
                Some(process) => match unit_of(process) {
                    Some(unit) => unit,
                    None => {
                        let asked = tokio::time::timeout(ORIGIN_LIMIT, ask_systemd(connection, process)).await;
                        asked.ok().flatten().unwrap_or_default()
                    }
                },
                None => String::new(),
            };
            Origin { sender: sender.to_string(), process, unit }
        })
    }
}

async fn process_of(connection: &Connection, sender: &zbus::names::UniqueName<'_>) -> Option<u32> {
    let bus = "org.freedesktop.DBus";
    let path = "/org/freedesktop/DBus";
    let reply = connection.call_method(Some(bus), path, Some(bus), "GetConnectionUnixProcessID", &(sender,)).await;
    reply.ok()?.body().deserialize().ok()
}

async fn ask_systemd(connection: &Connection, process: u32) -> Option<String> {
    let (name, path, interface) =
        ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager");
    let reply = connection.call_method(Some(name), path, Some(interface), "GetUnitByPID", &(process,)).await.ok()?;
    let body = reply.body();
    let path: zbus::ObjectPath<'_> = body.deserialize().ok()?;
    Some(unescape(path.as_str().strip_prefix("/org/freedesktop/systemd1/unit/")?))
}

/// A name as it was before sd-bus escaped it for a path.
fn unescape(label: &str) -> String {
    let mut name = Vec::new();
    let mut rest = label.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        match code {
            Some(byte) if *first == b'_' => {
                name.push(byte);
                rest = &after[2..];
            }
            _ => {
                name.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&name).into_owned()
}

/// The systemd unit of a process that can be seen.
fn unit_of(process: u32) -> Option<String> {
    unit_in(&std::fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?)
}

/// The unit in what /proc has about a process's control groups: the first below the slices.
fn unit_in(cgroup: &str) -> Option<String> {
    let path = cgroup.lines().find_map(|line| {
        line.strip_prefix("0::").or_else(|| line.split_once(":name=systemd:").map(|(_, path)| path))
    })?;
    let unit = path.split('/').find(|part| !part.is_empty() && !part.ends_with(".slice"))?;
    let is_unit = [".service", ".scope", ".socket", ".mount"].iter().any(|kind| unit.ends_with(kind));
    is_unit.then(|| unit.to_owned())
}

/// Whether a user may change or read what the daemon keeps: root, and the user that the daemon runs as.
#[must_use]
pub fn is_trusted(caller: Caller) -> bool {
    caller.uid == 0 || caller.uid == nix::unistd::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_found_below_their_slices() {
        for (cgroup, unit) in [
            ("0::/system.slice/cron.service\n", Some("cron.service")),
            ("0::/system.slice/system-getty.slice/getty@tty1.service\n", Some("getty@tty1.service")),
            ("0::/user.slice/user-1000.slice/session-3.scope\n", Some("session-3.scope")),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/a.service\n", Some("user@1000.service")),
            ("2:cpu:/x\n1:name=systemd:/system.slice/cron.service\n", Some("cron.service")),
            ("0::/\n", None),
            ("0::/docker/0123\n", None),
            ("", None),
        ] {
            assert_eq!(unit_in(cgroup).as_deref(), unit, "{cgroup}");
        }
    }

    #[test]
    fn units_are_read_from_the_paths_of_systemd() {
        assert_eq!(unescape("backupd_2dcreate_40shop_2eservice"), "backupd-create@shop.service");
        assert_eq!(unescape("a_"), "a_");
    }
}
