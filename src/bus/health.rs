//! Whether the backups are as they should be: `org.backupd1.Health`, on the object of the daemon.

use std::sync::Arc;

use zbus::{Connection, message::Header};

use super::{
    action::{About, Action},
    error::ApiError,
    limits::{self, check_argument},
    session::{Properties, Session},
    types::no_flags,
};
use crate::service::operations::Overview;

/// Health on one connection.
pub(super) struct Health {
    session: Arc<Session>,
}

impl Health {
    pub(super) fn new(session: Arc<Session>) -> Self {
        Self { session }
    }
}

#[zbus::interface(name = "org.backupd1.Health", introspection_docs = false)]
impl Health {
    #[zbus(out_args("report"))]
    async fn get_health(
        &self,
        source: String,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, ApiError> {
        no_flags(flags)?;
        check_argument("source", &source)?;
        let grant = self.session.authorise(connection, &header, About::source(Action::Inspect, &source)).await?;
        let report = self.session.call(move |operations| operations.health(&source)).await;
        grant.conclude(report.and_then(|report| limits::serialized("the health", &report)))
    }

    /// Open to everybody: whether backups work at all is no secret.
    #[zbus(property, name = "Health")]
    fn health(&self) -> &'static str {
        self.session.operations.overview().health.as_str()
    }
}

/// The properties whose changes are announced, by name.
pub(super) fn properties(overview: &Overview) -> Properties {
    Properties::from([("Health", overview.health.as_str().into())])
}
