//! Who calls, as the transport vouches for it, and what they may do.

use futures_util::future::BoxFuture;
use zbus::{Connection, message::Header};

use super::error::ApiError;
use crate::{model::ErrorCode, service::operations::Caller};

/// Tells who sent a message.
pub trait Identity: Send + Sync {
    /// The sender of this message.
    fn caller<'a>(
        &'a self,
        connection: &'a Connection,
        header: &'a Header<'_>,
    ) -> BoxFuture<'a, Result<Caller, ApiError>>;
}

/// The other end of a socket of the daemon's own: the uid that the kernel gave when it connected (SO_PEERCRED).
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub Caller);

impl Identity for Peer {
    fn caller<'a>(&'a self, _: &'a Connection, _: &'a Header<'_>) -> BoxFuture<'a, Result<Caller, ApiError>> {
        Box::pin(std::future::ready(Ok(self.0)))
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
}

/// Whether a user may change or read what the daemon keeps: root, and the user that the daemon runs as.
#[must_use]
pub fn is_trusted(caller: Caller) -> bool {
    caller.uid == 0 || caller.uid == nix::unistd::geteuid().as_raw()
}
