//! The object of a source: `org.backupd1.Source`.

use std::{collections::BTreeMap, sync::Arc};

use zbus::{Connection, Variant, message::Header};

use super::{
    action::{About, Action},
    error::ApiError,
    session::Session,
    types::SourceRow,
};
use crate::{model::ErrorCode, service::operations::SourceSummary};

/// A source on one connection.
pub(super) struct SourceObject {
    session: Arc<Session>,
    name: String,
}

impl SourceObject {
    pub(super) fn new(session: Arc<Session>, name: String) -> Self {
        Self { session, name }
    }

    /// The source, for a caller that may see it. Without a header it is the daemon itself that looks.
    async fn row(&self, connection: &Connection, header: Option<Header<'_>>) -> Result<SourceRow, ApiError> {
        if let Some(header) = header {
            let about = About::source(Action::Inspect, &self.name);
            self.session.may_read(connection, &header, about).await?;
        }
        self.session.source(&self.name).map(SourceRow::from).ok_or_else(|| no_such_source(&self.name))
    }
}

/// The error of a name that no source has.
pub(super) fn no_such_source(name: &str) -> ApiError {
    ApiError::new(ErrorCode::NoSuchSource, format!("there is no source {name:?}"))
}

macro_rules! source_properties {
    ($( $(#[$attribute:meta])* $getter:ident: $name:literal, $type:ty, $row:ident => $value:expr; )*) => {
        /// All properties of a source, by name.
        pub(super) fn properties(source: SourceSummary) -> BTreeMap<&'static str, Variant<'static>> {
            let row = SourceRow::from(source);
            BTreeMap::from([ $( ($name, { let $row = row.clone(); let value: $type = $value; value.into() }), )* ])
        }

        #[zbus::interface(name = "org.backupd1.Source", introspection_docs = false)]
        impl SourceObject {
            $(
                $(#[$attribute])*
                async fn $getter(
                    &self,
                    #[zbus(connection)] connection: &Connection,
                    #[zbus(header)] header: Option<Header<'_>>,
                ) -> Result<$type, ApiError> {
                    let $row = self.row(connection, header).await?;
                    Ok($value)
                }
            )*
        }
    };
}

source_properties! {
    #[zbus(property)]
    description: "Description", String, row => row.description;
    #[zbus(property)]
    last_backup: "LastBackup", String, row => row.last_backup;
    #[zbus(property)]
    last_backup_at: "LastBackupAt", u64, row => row.last_backup_at;
    #[zbus(property)]
    location: "Location", String, row => row.location;
    #[zbus(property(emits_changed_signal = "const"))]
    name: "Name", String, row => row.name;
    #[zbus(property)]
    problem: "Problem", String, row => row.problem;
    #[zbus(property)]
    running_job: "RunningJob", u64, row => row.running_job;
    #[zbus(property)]
    state: "State", String, row => row.state;
    #[zbus(property, name = "Type")]
    source_type: "Type", String, row => row.source_type;
}
