//! What stays and what goes: `org.backupd1.Retention`, on the object of the daemon.

use std::{collections::HashMap, sync::Arc};

use zbus::{Connection, OwnedObjectPath, OwnedVariant, message::Header};

use super::{
    action::{About, Action},
    error::ApiError,
    limits::{self, check_argument},
    session::Session,
    types::{DeletedRow, explain_options_from_wire, no_flags, pin_options_from_wire, prune_options_from_wire},
};
use crate::service::operations::Operations;

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

    #[zbus(out_args("id", "job"))]
    async fn prune(
        &self,
        options: WireOptions,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(u64, OwnedObjectPath), ApiError> {
        no_flags(flags)?;
        let options = prune_options_from_wire(options)?;
        let about =
            About::source(Action::Prune, &options.source).with("force", if options.force { "true" } else { "" });
        let grant = self.session.authorise(connection, &header, about).await?;
        let verb = move |operations: &dyn Operations, caller| operations.prune(caller, options);
        self.session.start_job(connection, grant, verb).await
    }

    #[zbus(out_args("explanation"))]
    async fn explain_retention(
        &self,
        source: String,
        options: WireOptions,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, ApiError> {
        no_flags(flags)?;
        check_argument("source", &source)?;
        let despite_clock = explain_options_from_wire(options)?;
        let grant = self.session.authorise(connection, &header, About::source(Action::Inspect, &source)).await?;
        let explained = self.session.call(move |operations| operations.explain_retention(&source, despite_clock)).await;
        grant.conclude(explained.and_then(|explained| limits::json("the explanation", explained.to_string())))
    }

    #[zbus(out_args("backups"))]
    async fn list_deleted(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<DeletedRow>, ApiError> {
        no_flags(flags)?;
        let grant = self.session.authorise(connection, &header, About::daemon(Action::Inspect)).await?;
        let deleted = self.session.call(|operations| operations.deleted()).await;
        grant.conclude(deleted.map(|deleted| deleted.iter().map(DeletedRow::from).collect()))
    }

    #[zbus(out_args("id"))]
    async fn undelete_backup(
        &self,
        backup: String,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, ApiError> {
        no_flags(flags)?;
        check_argument("backup", &backup)?;
        let grant = self.session.authorise(connection, &header, About::backup(Action::Prune, &backup)).await?;
        let id = self.session.call(move |operations| operations.undelete(&backup)).await;
        grant.conclude(id.map(|id| id.to_string()))
    }

    #[zbus(out_args("space"))]
    async fn describe_space(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, ApiError> {
        no_flags(flags)?;
        let grant = self.session.authorise(connection, &header, About::daemon(Action::Inspect)).await?;
        let space = self.session.call(|operations| operations.describe_space()).await;
        grant.conclude(space.and_then(|space| limits::json("the space", space.to_string())))
    }
}
