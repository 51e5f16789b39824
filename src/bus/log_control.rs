//! `org.freedesktop.LogControl1`, by which `systemctl service-log-level backupd debug` says how much is logged, and
//! where (org.freedesktop.LogControl1(5)).
//!
//! Invariant: a setter acts only for who may reload; zbus by itself lets everybody set a property.

use std::sync::Arc;

use zbus::{Connection, message::Header};

use super::{
    action::{About, Action},
    error::ApiError,
    session::Session,
};
use crate::model::ErrorCode;

/// Where systemd looks for it.
pub const LOG_CONTROL_PATH: &str = "/org/freedesktop/LogControl1";

/// How much is logged, and where; in the words of that interface.
pub trait Logging: Send + Sync {
    /// `err`, `warning`, `info` or `debug`.
    fn level(&self) -> String;
    /// Sets it.
    ///
    /// # Errors
    /// A sentence about a word that is none.
    fn set_level(&self, level: &str) -> Result<(), String>;
    /// `journal`, `console` or `null`.
    fn target(&self) -> String;
    /// Sets it.
    ///
    /// # Errors
    /// A sentence about a target that there is not.
    fn set_target(&self, target: &str) -> Result<(), String>;
}

/// The object on one connection.
pub(super) struct LogControl {
    session: Arc<Session>,
    logging: Arc<dyn Logging>,
}

impl LogControl {
    pub(super) fn new(session: Arc<Session>, logging: Arc<dyn Logging>) -> Self {
        Self { session, logging }
    }

    async fn read(&self, connection: &Connection, header: Option<Header<'_>>) -> Result<(), ApiError> {
        match header {
            Some(header) => self.session.may_read(connection, &header, About::daemon(Action::Inspect)).await,
            None => Ok(()),
        }
    }

    async fn set(
        &self,
        connection: &Connection,
        header: Option<Header<'_>>,
        name: &'static str,
        value: &str,
        set: impl FnOnce(&dyn Logging) -> Result<(), String>,
    ) -> Result<(), ApiError> {
        super::limits::check_argument(name, value)?;
        let nobody = || ApiError::new(ErrorCode::AccessDenied, "the message does not say who the caller is");
        let about = About::daemon(Action::Reload).with(name, value);
        let grant = self.session.may_set(connection, &header.ok_or_else(nobody)?, about).await?;
        grant.conclude(set(self.logging.as_ref()).map_err(|why| ApiError::new(ErrorCode::InvalidArgs, why)))
    }
}

#[zbus::interface(name = "org.freedesktop.LogControl1", introspection_docs = false)]
impl LogControl {
    #[zbus(property(emits_changed_signal = "false"))]
    async fn log_level(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<String, ApiError> {
        self.read(connection, header).await?;
        Ok(self.logging.level())
    }

    #[zbus(property)]
    async fn set_log_level(
        &self,
        value: String,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<(), ApiError> {
        self.set(connection, header, "log-level", &value, |logging| logging.set_level(&value)).await
    }

    #[zbus(property(emits_changed_signal = "false"))]
    async fn log_target(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<String, ApiError> {
        self.read(connection, header).await?;
        Ok(self.logging.target())
    }

    #[zbus(property)]
    async fn set_log_target(
        &self,
        value: String,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<(), ApiError> {
        self.set(connection, header, "log-target", &value, |logging| logging.set_target(&value)).await
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn syslog_identifier(&self) -> &'static str {
        "backupd"
    }
}
