//! What is told, and to whom: `org.backupd1.Notices`, on the object of the daemon.

use std::sync::Arc;

use zbus::{Connection, message::Header};

use super::{
    action::{About, Action},
    error::ApiError,
    limits::{self, check_argument},
    session::Session,
    types::no_flags,
};

/// Notices on one connection.
pub(super) struct Notices {
    session: Arc<Session>,
}

impl Notices {
    pub(super) fn new(session: Arc<Session>) -> Self {
        Self { session }
    }
}

#[zbus::interface(name = "org.backupd1.Notices", introspection_docs = false)]
impl Notices {
    #[zbus(out_args("results"))]
    async fn test_notice(
        &self,
        notifier: String,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, ApiError> {
        no_flags(flags)?;
        check_argument("notifier", &notifier)?;
        let about = About::daemon(Action::Reload).with("notifier", notifier.clone());
        let grant = self.session.authorise(connection, &header, about).await?;
        let results = self.session.call(move |operations| operations.test_notifier(&notifier)).await;
        grant.conclude(results.and_then(|results| limits::json("the results", results.to_string())))
    }

    #[zbus(out_args("notices"))]
    async fn list_notices(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, ApiError> {
        no_flags(flags)?;
        let grant = self.session.authorise(connection, &header, About::daemon(Action::Inspect)).await?;
        let notices = self.session.call(move |operations| Ok(operations.waiting_notices())).await;
        grant.conclude(notices.and_then(|notices| limits::json("the notices", notices.to_string())))
    }
}
