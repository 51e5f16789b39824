//! What stays and what goes: `org.backupd1.Retention`, on the object of the daemon.

use std::{collections::HashMap, sync::Arc};

use zbus::{Connection, OwnedVariant, message::Header};

use super::{
    action::{About, Action},
    error::ApiError,
    limits::check_argument,
    session::Session,
    types::{no_flags, pin_options_from_wire},
};

type WireOptions = HashMap<String, OwnedVariant>;

/// Retention on one connection.
pub(super) struct Retention {
    session: Arc<Session>,
}

impl Retention {
    pub(super) fn new(session: Arc<Session>) -> Self {
        Self { session }
    }
}

#[zbus::interface(name = "org.backupd1.Retention", introspection_docs = false)]
impl Retention {
    async fn pin_backup(
        &self,
        backup: String,
        options: WireOptions,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), ApiError> {
        no_flags(flags)?;
        check_argument("backup", &backup)?;
        let (until, reason) = pin_options_from_wire(options)?;
        let about = About::backup(Action::Prune, &backup);
        let (grant, backup) = self.session.authorise_backup(connection, &header, about, backup).await?;
        grant.conclude(self.session.call(move |operations| operations.pin(&backup, until, &reason)).await)
    }

    async fn unpin_backup(
        &self,
        backup: String,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), ApiError> {
        no_flags(flags)?;
        check_argument("backup", &backup)?;
        let about = About::backup(Action::Prune, &backup);
        let (grant, backup) = self.session.authorise_backup(connection, &header, about, backup).await?;
        grant.conclude(self.session.call(move |operations| operations.unpin(&backup)).await)
    }
}
