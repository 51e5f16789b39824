//! Numbers: `org.backupd1.Statistics`, on the object of the daemon.

use std::sync::Arc;

use zbus::{Connection, message::Header};

use super::{
    action::{About, Action},
    error::ApiError,
    limits::{self, check_argument},
    session::Session,
    types::no_flags,
};

/// Statistics on one connection.
pub(super) struct Statistics {
    session: Arc<Session>,
}

impl Statistics {
    pub(super) fn new(session: Arc<Session>) -> Self {
        Self { session }
    }
}

#[zbus::interface(name = "org.backupd1.Statistics", introspection_docs = false)]
impl Statistics {
    #[zbus(out_args("statistics"))]
    async fn get_statistics(
        &self,
        source: String,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, ApiError> {
        no_flags(flags)?;
        check_argument("source", &source)?;
        let grant = self.session.authorise(connection, &header, About::source(Action::Inspect, &source)).await?;
        let report = self.session.call(move |operations| operations.statistics(&source)).await;
        grant.conclude(report.and_then(|report| limits::serialized("the statistics", &report)))
    }

    #[zbus(out_args("difference"))]
    async fn diff_backups(
        &self,
        from: String,
        to: String,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, ApiError> {
        no_flags(flags)?;
        check_argument("from", &from)?;
        check_argument("to", &to)?;
        // Each is asked for by itself: they may be of two sources.
        let about = |backup: &str| About::backup(Action::Inspect, backup);
        let same = from == to;
        let (grant, first) = self.session.authorise_backup(connection, &header, about(&from), from).await?;
        let (grant, second) = match same {
            true => (grant, first.clone()),
            false => {
                grant.conclude(Ok(()))?;
                self.session.authorise_backup(connection, &header, about(&to), to).await?
            }
        };
        let difference = self.session.call(move |operations| operations.diff(&first, &second)).await;
        grant.conclude(difference.and_then(|difference| limits::serialized("the difference", &difference)))
    }
}
