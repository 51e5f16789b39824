//! What is announced beside jobs: sources that come, change and go, and the properties of the daemon itself.
//!
//! Invariants: how things are is looked at while the lock is held under which it is announced, so the other end never
//! sees an older state after a newer one; each source that is served was announced, when the connection began or later.

use std::{collections::BTreeMap, sync::Arc};

use zbus::{Connection, OwnedObjectPath};

use super::{
    MANAGER_PATH,
    error::ApiError,
    health::properties as health_properties,
    manager::properties as manager_properties,
    session::{Properties, Session, send_changes, source_object_path},
    source::{SourceObject, properties as source_properties},
};
use crate::service::operations::Overview;

/// What the other end was told.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) sources: BTreeMap<String, Properties>,
    manager: Properties,
    health: Properties,
}

impl From<Overview> for Shown {
    fn from(mut overview: Overview) -> Self {
        let sources = std::mem::take(&mut overview.sources);
        Self {
            sources: sources.into_iter().map(|source| (source.name.clone(), source_properties(source))).collect(),
            manager: manager_properties(&overview),
            health: health_properties(&overview),
        }
    }
}

impl Session {
    /// The sources that are there when the connection begins. zbus announces them as [`Session::adopt`] says.
    pub(super) async fn adopt_sources(self: &Arc<Self>) -> Vec<(OwnedObjectPath, SourceObject)> {
        let mut shown = self.shown.lock().await;
        *shown = self.operations.overview().into();
        let object = |name: &String| (source_object_path(name), SourceObject::new(Arc::clone(self), name.clone()));
        shown.sources.keys().map(object).collect()
    }

    /// Announces what is not any more as the other end was told.
    pub(super) async fn show(self: &Arc<Self>, connection: &Connection) -> Result<(), ApiError> {
        let mut shown = self.shown.lock().await;
        let mut now = Shown::from(self.operations.overview());
        let gone: Vec<_> = shown.sources.keys().filter(|name| !now.sources.contains_key(*name)).cloned().collect();
        for name in gone {
            shown.sources.remove(&name);
            connection.object_server().remove::<SourceObject, _>(source_object_path(&name)).await?;
        }
        for (name, properties) in std::mem::take(&mut now.sources) {
            let path = source_object_path(&name);
            match shown.sources.insert(name.clone(), properties.clone()) {
                Some(before) => send_changes(connection, &path, "org.backupd1.Source", &before, &properties).await?,
                None => {
                    connection.object_server().at(&path, SourceObject::new(Arc::clone(self), name)).await?;
                }
            }
        }
        let before = std::mem::replace(&mut shown.health, now.health.clone());
        send_changes(connection, MANAGER_PATH, "org.backupd1.Health", &before, &now.health).await?;
        let before = std::mem::replace(&mut shown.manager, now.manager.clone());
        send_changes(connection, MANAGER_PATH, "org.backupd1.Manager", &before, &now.manager).await
    }

    /// The sources that are objects on this connection, with their properties.
    pub(super) async fn shown_sources(&self) -> BTreeMap<String, Properties> {
        self.shown.lock().await.sources.clone()
    }
}
