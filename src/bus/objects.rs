//! The ObjectManager at the daemon's path: the jobs that run or wait, and the sources.
//!
//! zbus's own would show them to every caller. This one has its name, so that zbus sends its signals.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use zbus::{Connection, ObjectPath, OwnedObjectPath, Variant, message::Header, object_server::SignalEmitter};

use super::{
    action::{About, Action},
    error::ApiError,
    session::{Session, object_path, source_object_path},
};

/// The objects of one connection.
pub(super) struct Objects {
    session: Arc<Session>,
}

impl Objects {
    pub(super) fn new(session: Arc<Session>) -> Self {
        Self { session }
    }
}

type Interfaces = HashMap<&'static str, BTreeMap<&'static str, Variant<'static>>>;

#[zbus::interface(name = "org.freedesktop.DBus.ObjectManager", introspection_docs = false)]
impl Objects {
    #[zbus(out_args("object_paths_interfaces_and_properties"))]
    async fn get_managed_objects(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<HashMap<OwnedObjectPath, Interfaces>, ApiError> {
        let grant = self.session.authorise(connection, &header, About::daemon(Action::Inspect)).await?;
        let jobs = self.session.objects().await.into_iter();
        let jobs = jobs.map(|(number, all)| (object_path(number), HashMap::from([("org.backupd1.Job", all)])));
        let sources = self.session.shown_sources().await.into_iter();
        let sources =
            sources.map(|(name, all)| (source_object_path(&name), HashMap::from([("org.backupd1.Source", all)])));
        grant.conclude(Ok(jobs.chain(sources).collect()))
    }

    #[zbus(signal)]
    async fn interfaces_added(
        emitter: &SignalEmitter<'_>,
        object_path: ObjectPath<'_>,
        interfaces_and_properties: HashMap<&str, HashMap<&str, Variant<'_>>>,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    async fn interfaces_removed(
        emitter: &SignalEmitter<'_>,
        object_path: ObjectPath<'_>,
        interfaces: Vec<&str>,
    ) -> zbus::Result<()>;
}
