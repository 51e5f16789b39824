//! The object of a job that runs or waits: `org.backupd1.Job`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::Value;
use zbus::{Connection, Variant, message::Header, object_server::SignalEmitter};

use super::{
    action::{About, Action},
    error::ApiError,
    limits::text,
    session::Session,
    types::no_flags,
};
use crate::{
    model::{
        error_code::TABLE,
        job::{JobNumber, JobRecord, JobResult},
    },
    service::jobs::JobState,
};

/// A job on one connection.
pub(super) struct JobObject {
    session: Arc<Session>,
    number: JobNumber,
}

impl JobObject {
    pub(super) fn new(session: Arc<Session>, number: JobNumber) -> Self {
        Self { session, number }
    }

    /// The job, for a caller that may see it. Without a header it is the daemon itself that looks.
    async fn state(&self, connection: &Connection, header: Option<Header<'_>>) -> Result<JobState, ApiError> {
        if let Some(header) = header {
            let about = About::daemon(Action::Inspect).with("job", self.number.to_string());
            self.session.may_read(connection, &header, about).await?;
        }
        self.session.job(self.number)
    }
}

macro_rules! job_properties {
    ($( $(#[$attribute:meta])* $getter:ident: $name:literal, $type:ty, $job:ident => $value:expr; )*) => {
        /// All properties of a job, by name.
        pub(super) fn properties(job: &JobState) -> BTreeMap<&'static str, Variant<'static>> {
            BTreeMap::from([ $( ($name, { let $job = job; let value: $type = $value; value.into() }), )* ])
        }

        #[zbus::interface(name = "org.backupd1.Job", introspection_docs = false)]
        impl JobObject {
            async fn cancel(
                &self,
                flags: u64,
                #[zbus(header)] header: Header<'_>,
                #[zbus(connection)] connection: &Connection,
            ) -> Result<(), ApiError> {
                no_flags(flags)?;
                self.session.cancel(connection, &header, self.number).await
            }

            #[zbus(signal)]
            pub(super) async fn finished(
                emitter: &SignalEmitter<'_>,
                result: &str,
                error_name: &str,
                message: &str,
                statistics: HashMap<&str, Variant<'_>>,
            ) -> zbus::Result<()>;

            $(
                $(#[$attribute])*
                async fn $getter(
                    &self,
                    #[zbus(connection)] connection: &Connection,
                    #[zbus(header)] header: Option<Header<'_>>,
                ) -> Result<$type, ApiError> {
                    let state = self.state(connection, header).await?;
                    let $job = &state;
                    Ok($value)
                }
            )*
        }
    };
}

job_properties! {
    #[zbus(property)]
    backup: "Backup", String, job => job.record.backup.clone();
    #[zbus(property)]
    bytes_done: "BytesDone", u64, job => job.bytes_done;
    #[zbus(property)]
    bytes_total: "BytesTotal", u64, job => job.bytes_total;
    #[zbus(property)]
    cancelable: "Cancelable", bool, job => job.cancelable;
    #[zbus(property)]
    expected_end_time: "ExpectedEndTime", u64, job => job.expected_end_time;
    #[zbus(property(emits_changed_signal = "const"))]
    id: "Id", u64, job => job.record.number;
    #[zbus(property)]
    phase: "Phase", String, job => job.record.phase.as_str().to_owned();
    #[zbus(property)]
    progress: "Progress", f64, job => job.progress().unwrap_or(0.0);
    #[zbus(property)]
    progress_valid: "ProgressValid", bool, job => job.progress().is_some();
    #[zbus(property)]
    rate: "Rate", u64, job => job.rate;
    #[zbus(property)]
    result: "Result", String, job => result_of(&job.record).to_owned();
    #[zbus(property(emits_changed_signal = "const"))]
    run_id: "RunId", String, job => job.record.run_id.to_string();
    #[zbus(property(emits_changed_signal = "const"))]
    source: "Source", String, job => job.record.source.clone();
    #[zbus(property(emits_changed_signal = "const"))]
    start_time: "StartTime", u64, job => job.record.start_time;
    #[zbus(property(emits_changed_signal = "const"), name = "StartedByUID")]
    started_by_uid: "StartedByUID", u32, job => job.record.started_by_uid;
    #[zbus(property(emits_changed_signal = "const"), name = "Type")]
    job_type: "Type", String, job => job.record.job_type.as_str().to_owned();
}

/// How a job ended, empty while it runs.
pub(super) fn result_of(record: &JobRecord) -> &'static str {
    record.result.map_or("", JobResult::as_str)
}

/// Why a job failed: the error's D-Bus name and its message, empty where it did not.
pub(super) fn error_of(record: &JobRecord) -> (&'static str, String) {
    record.error.as_ref().map_or_else(Default::default, |error| {
        let name = TABLE.iter().find(|row| row.name == error.name).map_or("", |row| row.dbus_name);
        (name, text(&error.message))
    })
}

/// A job's statistics as a dictionary; what is neither a number nor a text nor a truth value is JSON text.
pub(super) fn statistics(record: &JobRecord) -> HashMap<&str, Variant<'static>> {
    let variant = |value: &Value| match value {
        Value::Bool(truth) => (*truth).into(),
        Value::String(string) => text(string).into(),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), _, _) => number.into(),
            (_, Some(number), _) => number.into(),
            (_, _, number) => number.unwrap_or_default().into(),
        },
        other => other.to_string().into(), // JSON escapes NUL.
    };
    record.statistics.iter().map(|(name, value)| (name.as_str(), variant(value))).collect()
}
