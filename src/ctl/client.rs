//! The way to the daemon: one connection, found in one way, never silently in another.

use std::{io, str::FromStr as _, time::Duration};

use zbus::{
    Address, Connection,
    connection::Builder,
    proxy::{CacheProperties, MethodFlags},
};

use super::{
    agent::Agent,
    arguments::{Bus, Common},
    error::CtlError,
    manager::Manager,
};
use crate::{bus::proxy::ManagerProxy, model::ErrorCode};

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a call may take. The daemon answers within its 10 s of early checks; a long listing takes less.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it may take where a person may be asked first; the daemon gives him two minutes.
const ASKING_TIMEOUT: Duration = Duration::from_secs(180);

/// Where the daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Route {
    Peer(String),
    Bus(Bus),
}

/// A connection to the daemon.
pub(crate) struct Client {
    route: Route,
    flags: MethodFlags,
    manager: Manager,
    /// Asks on the terminal for as long as the client is there.
    _agent: Option<Agent>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// `DaemonUnreachable`, saying where nobody answered; `InvalidArgs` for an address that is none.
    pub(crate) async fn connect(common: &Common) -> Result<Self, CtlError> {
        let route = Route::of(common.address.as_deref(), common.bus, std::env::var("BACKUPD_ADDRESS").ok());
        // Without a message bus nobody is asked anything: only root and the daemon's user get in. root never is.
        let root = nix::unistd::geteuid().is_root();
        let ask = !common.no_ask_password && !root && matches!(route, Route::Bus(_));
        let flags = if ask { MethodFlags::ALLOW_INTERACTIVE_AUTH } else { MethodFlags::empty() };
        let manager = route.connect(flags).await?;
        let agent = if ask && route == Route::Bus(Bus::System) { Agent::start() } else { None };
        Ok(Self { route, flags, manager, _agent: agent })
    }

    /// The interface of a daemon that runs, for a question that nobody asked aloud: no person is asked for a password, and
    /// the bus does not start a daemon.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub(crate) async fn for_completion(address: Option<&str>, bus: Option<Bus>) -> Result<Manager, CtlError> {
        let route = Route::of(address, bus, std::env::var("BACKUPD_ADDRESS").ok());
        route.connect(MethodFlags::NO_AUTO_START).await
    }

    /// The daemon's interface.
    pub(crate) fn manager(&self) -> &Manager {
        &self.manager
    }

    /// Connects again, after the daemon went away.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub(crate) async fn reconnect(&mut self) -> Result<(), CtlError> {
        self.manager = self.route.connect(self.flags).await?;
        Ok(())
    }
}

impl Route {
    fn of(address: Option<&str>, bus: Option<Bus>, variable: Option<String>) -> Self {
        match (address, bus) {
            (Some(address), _) => Self::Peer(address.to_owned()),
            (None, Some(bus)) => Self::Bus(bus),
            (None, None) => variable.filter(|a| !a.is_empty()).map_or(Self::Bus(Bus::System), Self::Peer),
        }
    }

    async fn connect(&self, flags: MethodFlags) -> Result<Manager, CtlError> {
        let unreachable = |why: String| {
            CtlError::new(ErrorCode::DaemonUnreachable, format!("cannot connect to {}: {why}", self.name()))
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, self.open(flags)).await {
            Err(_) => Err(unreachable(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))),
            Ok(Err(zbus::Error::Connection(error, _))) if error.kind() == io::ErrorKind::PermissionDenied => {
                let message = format!("you may not connect to {}: {error}", self.name());
                Err(CtlError::new(ErrorCode::AccessDenied, message))
            }
            // Its own text would repeat the address.
            Ok(Err(zbus::Error::Connection(error, _))) => Err(unreachable(error.to_string())),
            Ok(Err(zbus::Error::Address(why))) => Err(CtlError::usage(format!("{}: {why}", self.name()))),
            Ok(Err(error)) => Err(unreachable(error.to_string())),
            Ok(Ok(manager)) => Ok(manager),
        }
    }

    async fn open(&self, flags: MethodFlags) -> zbus::Result<Manager> {
        let builder = match self {
            Self::Peer(address) => Builder::address(Address::from_str(address)?).p2p(),
            Self::Bus(Bus::System) => Builder::system(),
            Self::Bus(Bus::Session) => Builder::session(),
        };
        let asks = flags.contains(MethodFlags::ALLOW_INTERACTIVE_AUTH);
        let limit = if asks { ASKING_TIMEOUT } else { CALL_TIMEOUT };
        let connection: Connection = builder.method_timeout(limit).build().await?;
        let proxy = ManagerProxy::builder(&connection).cache_properties(CacheProperties::No).build().await?;
        Ok(Manager::new(proxy, flags))
    }

    fn name(&self) -> String {
        match self {
            Self::Peer(address) => format!("the daemon at {address}"),
            Self::Bus(Bus::System) => "the system bus".to_owned(),
            Self::Bus(Bus::Session) => "the session bus".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::ctl::arguments::Arguments;

    fn route(line: &str, variable: Option<&str>) -> Route {
        let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
        let common = &arguments.common;
        Route::of(common.address.as_deref(), common.bus, variable.map(str::to_owned))
    }

    #[test]
    fn the_option_wins_over_the_variable_and_the_system_bus_is_last() {
        assert_eq!(route("backupctl", None), Route::Bus(Bus::System));
        assert_eq!(route("backupctl", Some("")), Route::Bus(Bus::System));
        assert_eq!(route("backupctl", Some("unix:path=/a")), Route::Peer("unix:path=/a".to_owned()));
        assert_eq!(route("backupctl --bus session", Some("unix:path=/a")), Route::Bus(Bus::Session));
        let route = route("backupctl --address unix:path=/b", Some("unix:path=/a"));
        assert_eq!(route, Route::Peer("unix:path=/b".to_owned()));
    }

    #[tokio::test]
    async fn nobody_there_is_said_with_the_address() {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("unix:path={}/socket", folder.path().display());
        let error = Route::Peer(address.clone()).connect(MethodFlags::empty()).await.map(|_| ()).unwrap_err();
        assert_eq!(error.exit_code(), 69);
        assert!(error.to_string().contains(&address), "{error}");
        let error = Route::Peer("nonsense".to_owned()).connect(MethodFlags::empty()).await.map(|_| ()).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
    }
}
