//! The daemon's side: the objects on a message bus, and on a socket of its own for clients without a bus.
//!
//! Invariants: the number of clients of the socket is bounded, also while they authenticate; nobody but root and the
//! daemon's own user gets as far as authenticating there; the socket's file is removed at the end if it is still ours.

use std::{
    fs::{self, Permissions},
    io,
    num::NonZeroUsize,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use zbus::{
    Address, Connection, Guid,
    address::transport::{Transport, UnixSocket},
    connection::Builder,
};

use super::{
    MANAGER_PATH, NAME,
    authority::{Authority, Polkit, TrustedOnly},
    client_socket::ClientSocket,
    health::Health,
    identity::{BusClient, Identity, Peer, is_trusted},
    log_control::{LOG_CONTROL_PATH, LogControl, Logging},
    manager::Manager,
    notices::Notices,
    objects::Objects,
    retention::Retention,
    session::Session,
    statistics::Statistics,
};
use crate::{
    model::{ErrorCode, message_id},
    service::{
        ServiceError,
        operations::{Caller, Operations},
    },
};

/// Clients of the socket at once.
const CLIENTS: usize = 256;
/// Calls that one client of the socket may have under way.
const CALLS_PER_CLIENT: usize = 16;
/// Calls that all clients of the bus may have under way together.
const CALLS_ON_BUS: usize = 64;
/// Messages that wait for a connection's dispatcher before its socket is not read any more.
const QUEUE: NonZeroUsize = NonZeroUsize::new(16).unwrap();
/// How long a client may take to authenticate, and a bus to answer.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Which message bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bus {
    /// The system's.
    System,
    /// The user's session's.
    Session,
    /// The one with this address.
    At(String),
}

impl std::fmt::Display for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::System => f.write_str("the system bus"),
            Self::Session => f.write_str("the session bus"),
            Self::At(address) => write!(f, "the bus at {address}"),
        }
    }
}

/// Serves operations on any number of connections until [`Server::stop`].
#[derive(Clone)]
pub struct Server {
    operations: Arc<dyn Operations>,
    logging: Option<Arc<dyn Logging>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Server {
    /// A server that nobody can reach yet.
    #[must_use]
    pub fn new(operations: Arc<dyn Operations>) -> Self {
        Self { operations, logging: None, tasks: TaskTracker::new(), stop: CancellationToken::new() }
    }

    /// Also lets clients say how much is logged, from the next connection on.
    #[must_use]
    pub fn with_logging(self, logging: Arc<dyn Logging>) -> Self {
        Self { logging: Some(logging), ..self }
    }

    /// Serves the objects on a bus and then takes the name. Gives the connection, which ends when the bus goes away.
    ///
    /// # Errors
    /// `Failed` when the bus does not answer or somebody else has the name.
    pub async fn join_bus(&self, bus: &Bus) -> Result<Connection, ServiceError> {
        let builder = match bus {
            Bus::System => Builder::system(),
            Bus::Session => Builder::session(),
            Bus::At(address) => Builder::address(address.as_str()),
        };
        let failed =
            |error: zbus::Error| ServiceError::new(ErrorCode::Failed, format!("cannot offer {NAME} on {bus}: {error}"));
        let connection = self
            .serve(builder, Box::new(BusClient), Box::new(Polkit::default()), CALLS_ON_BUS)
            .await
            .map_err(failed)?;
        let flags = zbus::fdo::RequestNameFlags::DO_NOT_QUEUE;
        connection.request_name_with_flags(NAME, flags).await.map_err(failed)?;
        Ok(connection)
    }

    /// Serves a socket of the daemon's own, from now until the server stops.
    ///
    /// # Errors
    /// `InvalidArgs` for an address that is not `unix:path=…`; `Io` when the socket cannot be made, or somebody
    /// listens there.
    pub fn listen(&self, address: &str) -> Result<(), ServiceError> {
        let path = socket_path(address)?;
        let (listener, guard) = bind(&path).map_err(|error| {
            ServiceError::new(ErrorCode::Io, format!("cannot listen on {}: {error}", path.display()))
        })?;
        let server = self.clone();
        self.tasks.spawn(async move {
            let _guard = guard;
            tokio::select! {
                () = server.stop.cancelled() => {}
                () = server.accept(listener) => {}
            }
        });
        Ok(())
    }

    /// Serves one client whose identity is known.
    ///
    /// # Errors
    /// Those of the handshake.
    pub async fn serve_peer(&self, stream: std::os::unix::net::UnixStream, caller: Caller) -> zbus::Result<Connection> {
        let process = process_of(&stream);
        let builder = Builder::socket(ClientSocket::new(stream)?).server(Guid::generate()).p2p();
        self.serve(builder, Box::new(Peer { caller, process }), Box::new(TrustedOnly), CALLS_PER_CLIENT).await
    }

    /// Ends all connections, after the signals that are due were sent.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn accept(&self, listener: UnixListener) {
        let clients = Arc::new(Semaphore::new(CLIENTS));
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a client");
                    tokio::time::sleep(Duration::from_millis(100)).await; // Out of descriptors: let some go.
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&clients).try_acquire_owned() else {
                tracing::warn!("{CLIENTS} clients are connected, which is the limit; turned one away");
                continue;
            };
            let Some(caller) = admit(&stream) else { continue };
            let server = self.clone();
            self.tasks.spawn(async move {
                let _permit = permit;
                let served = async { server.serve_peer(stream.into_std()?, caller).await };
                match served.await {
                    Ok(connection) => tokio::select! {
                        () = connection.closed() => {}
                        () = server.stop.cancelled() => {}
                    },
                    Err(error) => tracing::debug!(%error, "a client did not get through the handshake"),
                }
            });
        }
    }

    async fn serve(
        &self,
        builder: Builder<'_>,
        identity: Box<dyn Identity>,
        authority: Box<dyn Authority>,
        calls: usize,
    ) -> zbus::Result<Connection> {
        let session = Session::new(Arc::clone(&self.operations), identity, authority, calls);
        let (events, changes) = (self.operations.jobs().subscribe(), self.operations.changes().subscribe());
        let mut builder = builder
            .max_queued(QUEUE)
            .serve_at(MANAGER_PATH, Manager::new(Arc::clone(&session)))
            .serve_at(MANAGER_PATH, Health::new(Arc::clone(&session)))
            .serve_at(MANAGER_PATH, Notices::new(Arc::clone(&session)))
            .serve_at(MANAGER_PATH, Retention::new(Arc::clone(&session)))
            .serve_at(MANAGER_PATH, Statistics::new(Arc::clone(&session)))
            .serve_at(MANAGER_PATH, Objects::new(Arc::clone(&session)));
        if let Some(logging) = &self.logging {
            let log_control = LogControl::new(Arc::clone(&session), Arc::clone(logging));
            builder = builder.serve_at(LOG_CONTROL_PATH, log_control);
        }
        for (path, job) in session.adopt().await {
            builder = builder.serve_at(path, job);
        }
        for (path, source) in session.adopt_sources().await {
            builder = builder.serve_at(path, source);
        }
        let connection = tokio::time::timeout(HANDSHAKE_LIMIT, builder.build())
            .await
            .map_err(|_| zbus::Error::from(io::Error::from(io::ErrorKind::TimedOut)))??;
        self.tasks.spawn(session.run(connection.clone(), events, changes, self.stop.clone()));
        Ok(connection)
    }
}

/// The process at the other end, where the kernel knows one.
fn process_of(stream: &std::os::unix::net::UnixStream) -> Option<u32> {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
    getsockopt(stream, PeerCredentials).ok().and_then(|credentials| u32::try_from(credentials.pid()).ok())
}

/// The identity of a client that may connect. The others are told that they are rejected, as SASL puts it.
fn admit(stream: &UnixStream) -> Option<Caller> {
    let caller = match stream.peer_cred() {
        Ok(credentials) => Caller { uid: credentials.uid() },
        Err(error) => {
            tracing::warn!(%error, "turned a client away: the kernel does not say who it is");
            return None;
        }
    };
    if is_trusted(caller) {
        return Some(caller);
    }
    tracing::warn!(
        MESSAGE_ID = message_id::CALL_REFUSED,
        BACKUPD_CALL = "connect",
        BACKUPD_CALLER_UID = caller.uid,
        BACKUPD_RESULT = "refused",
        BACKUPD_ERROR = ErrorCode::AccessDenied.name(),
        "turned a client of the user with the id {} away",
        caller.uid
    );
    let _ = stream.try_write(b"REJECTED EXTERNAL\r\n");
    None
}

fn socket_path(address: &str) -> Result<PathBuf, ServiceError> {
    let refuse = |why: String| {
        ServiceError::new(ErrorCode::InvalidArgs, format!("{address:?} is not an address like unix:path=SOCKET{why}"))
    };
    let parsed = Address::from_str(address).map_err(|error| refuse(format!(": {error}")))?;
    match parsed.transport() {
        Transport::Unix(unix) => match unix.path() {
            UnixSocket::File(path) => Ok(path.clone()),
            _ => Err(refuse(String::new())),
        },
        _ => Err(refuse(String::new())),
    }
}

/// Makes the socket; one that a dead daemon left is replaced.
fn bind(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            Err(error) => return Err(error),
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    let metadata = fs::symlink_metadata(path)?;
    Ok((listener, SocketFile { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) }))
}

/// Removes the socket's file when dropped, unless it is another one by then.
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |metadata: fs::Metadata| (metadata.dev(), metadata.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
