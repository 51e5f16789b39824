//! The object of the daemon: `org.backupd1.Manager`.
//!
//! Every method reads its arguments, validates them, looks who calls and whether they may, acts, notes it, answers, in
//! this order.

use std::{collections::HashMap, fs::File, os::fd::OwnedFd, sync::Arc};

use zbus::{
    Connection, ObjectPath, OwnedObjectPath, OwnedVariant, Variant, message::Header, object_server::SignalEmitter,
};

use super::{
    action::{About, Action},
    error::ApiError,
    limits::{self, check_argument, text, texts},
    rows::{job_row, writable},
    session::{Properties, Session, object_path, source_object_path},
    source::no_such_source,
    types::{
        BackupRow, JobRow, SourceRow, UndoRow, backup_properties, create_options_from_wire, delete_options_from_wire,
        list_filter_from_wire, no_flags, no_options, plan_options_from_wire, restore_options_from_wire,
        undo_options_from_wire, verify_request_from_wire,
    },
};
use crate::{
    model::ErrorCode,
    service::operations::{Operations, Overview, Status},
};

// The macro sees several values of an answer only in a tuple that is written out, not in an alias.
type WireOptions = HashMap<String, OwnedVariant>;

/// The daemon on one connection.
pub(super) struct Manager {
    session: Arc<Session>,
}

impl Manager {
    pub(super) fn new(session: Arc<Session>) -> Self {
        Self { session }
    }

    async fn status<T: Send + 'static>(
        &self,
        connection: &Connection,
        header: Option<Header<'_>>,
        field: fn(Status) -> T,
    ) -> Result<T, ApiError> {
        if let Some(header) = header {
            self.session.may_read(connection, &header, About::daemon(Action::Inspect)).await?;
        }
        self.session.call(move |operations| Ok(field(operations.status()))).await
    }
}

#[zbus::interface(name = "org.backupd1.Manager", introspection_docs = false)]
impl Manager {
    #[zbus(out_args("id", "job"))]
    async fn create_backup(
        &self,
        source: String,
        options: WireOptions,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(u64, OwnedObjectPath), ApiError> {
        no_flags(flags)?;
        check_argument("source", &source)?;
        let options = create_options_from_wire(options)?;
        let grant = self.session.authorise(connection, &header, About::source(Action::Create, &source)).await?;
        let verb = move |operations: &dyn Operations, caller| operations.create(caller, &source, options);
        self.session.start_job(connection, grant, verb).await
    }

    #[zbus(out_args("plan"))]
    async fn plan_restore(
        &self,
        backup: String,
        options: WireOptions,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, ApiError> {
        no_flags(flags)?;
        check_argument("backup", &backup)?;
        let options = plan_options_from_wire(options)?;
        let about = About::restore(Action::Inspect, &backup, &options);
        let (grant, backup) = self.session.authorise_backup(connection, &header, about, backup).await?;
        let caller = grant.caller;
        let plan = self.session.call(move |operations| operations.plan_restore(caller, &backup, &options)).await;
        grant.conclude(plan.and_then(|plan| limits::json("the plan", plan.to_string())))
    }

    #[zbus(out_args("id", "job"))]
    async fn restore_backup(
        &self,
        backup: String,
        options: WireOptions,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(u64, OwnedObjectPath), ApiError> {
        no_flags(flags)?;
        check_argument("backup", &backup)?;
        let options = restore_options_from_wire(options)?;
        let (backup, about) = match options.plan.is_empty() {
            true => {
                let about = About::restore(Action::Restore, &backup, &options);
                (backup, about)
            }
            false => self.session.planned(connection, &header, backup, &options.plan).await?,
        };
        let (grant, backup) = self.session.authorise_backup(connection, &header, about, backup).await?;
        let verb = move |operations: &dyn Operations, caller| operations.restore(caller, &backup, options);
        self.session.start_job(connection, grant, verb).await
    }

    #[zbus(out_args("plan"))]
    async fn plan_undo(
        &self,
        restored: u64,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, ApiError> {
        no_flags(flags)?;
        let grant = self.session.authorise_undo(connection, &header, Action::Inspect, restored).await?;
        let plan = self.session.call(move |operations| operations.plan_undo(restored)).await;
        grant.conclude(plan.and_then(|plan| limits::json("the plan", plan.to_string())))
    }

    #[zbus(out_args("id", "job"))]
    async fn undo_restore(
        &self,
        restored: u64,
        options: WireOptions,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(u64, OwnedObjectPath), ApiError> {
        no_flags(flags)?;
        let options = undo_options_from_wire(options)?;
        let grant = self.session.authorise_undo(connection, &header, Action::Restore, restored).await?;
        let verb = move |operations: &dyn Operations, caller| operations.undo(caller, restored, options);
        self.session.start_job(connection, grant, verb).await
    }

    #[zbus(out_args("id", "job"))]
    async fn forget_undo(
        &self,
        restored: u64,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(u64, OwnedObjectPath), ApiError> {
        no_flags(flags)?;
        let grant = self.session.authorise_undo(connection, &header, Action::Delete, restored).await?;
        let verb = move |operations: &dyn Operations, caller| operations.forget(caller, restored);
        self.session.start_job(connection, grant, verb).await
    }

    #[zbus(out_args("undos"))]
    async fn list_undo(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<UndoRow>, ApiError> {
        no_flags(flags)?;
        let grant = self.session.authorise(connection, &header, About::daemon(Action::Inspect)).await?;
        let copies = self.session.call(|operations| operations.undo_copies()).await;
        grant.conclude(copies.map(|copies| copies.into_iter().map(UndoRow::from).collect()))
    }

    #[zbus(out_args("id", "job"))]
    async fn verify_backup(
        &self,
        backup: String,
        options: WireOptions,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(u64, OwnedObjectPath), ApiError> {
        no_flags(flags)?;
        check_argument("backup", &backup)?;
        let mut request = verify_request_from_wire(backup, options)?;
        let grant = if request.backup.is_empty() {
            let about = About::source(Action::Verify, &request.source);
            self.session.authorise(connection, &header, about).await?
        } else {
            let (about, backup) = (About::backup(Action::Verify, &request.backup), std::mem::take(&mut request.backup));
            let (grant, backup) = self.session.authorise_backup(connection, &header, about, backup).await?;
            request.backup = backup;
            grant
        };
        let verb = move |operations: &dyn Operations, caller| operations.verify(caller, request);
        self.session.start_job(connection, grant, verb).await
    }

    #[zbus(out_args("id", "job"))]
    async fn drill_backup(
        &self,
        backup: String,
        options: WireOptions,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(u64, OwnedObjectPath), ApiError> {
        no_flags(flags)?;
        check_argument("backup", &backup)?;
        no_options(options)?;
        let about = About::backup(Action::Verify, &backup);
        let (grant, backup) = self.session.authorise_backup(connection, &header, about, backup).await?;
        let verb = move |operations: &dyn Operations, caller| operations.drill(caller, &backup);
        self.session.start_job(connection, grant, verb).await
    }

    #[zbus(out_args("id", "job"))]
    async fn delete_backup(
        &self,
        backup: String,
        options: WireOptions,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(u64, OwnedObjectPath), ApiError> {
        no_flags(flags)?;
        check_argument("backup", &backup)?;
        let at_once = delete_options_from_wire(options)?;
        let about = About::backup(Action::Delete, &backup).with("no-undelete", if at_once { "true" } else { "" });
        let (grant, backup) = self.session.authorise_backup(connection, &header, about, backup).await?;
        let verb = move |operations: &dyn Operations, caller| operations.delete(caller, &backup, at_once);
        self.session.start_job(connection, grant, verb).await
    }

    #[zbus(out_args("id", "job"))]
    async fn export_backup(
        &self,
        backup: String,
        output: zbus::OwnedFd,
        options: WireOptions,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(u64, OwnedObjectPath), ApiError> {
        no_flags(flags)?;
        check_argument("backup", &backup)?;
        no_options(options)?;
        let output = writable(output.into())?;
        let about = About::backup(Action::Export, &backup);
        let (grant, backup) = self.session.authorise_backup(connection, &header, about, backup).await?;
        let verb = move |operations: &dyn Operations, caller| operations.export(caller, &backup, output);
        self.session.start_job(connection, grant, verb).await
    }

    #[zbus(out_args("id", "job", "output"))]
    async fn open_backup(
        &self,
        backup: String,
        options: WireOptions,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(u64, OwnedObjectPath, zbus::OwnedFd), ApiError> {
        no_flags(flags)?;
        check_argument("backup", &backup)?;
        no_options(options)?;
        let about = About::backup(Action::Export, &backup);
        let (grant, backup) = self.session.authorise_backup(connection, &header, about, backup).await?;
        // Both ends are closed where the job is refused, or its client does not get the answer.
        let (output, input) = match std::io::pipe() {
            Ok(ends) => ends,
            Err(error) => {
                let message = format!("cannot make a pipe for the export: {error}");
                return grant.conclude(Err(ApiError::new(ErrorCode::LimitsExceeded, message)));
            }
        };
        let input = File::from(OwnedFd::from(input));
        let verb = move |operations: &dyn Operations, caller| operations.export(caller, &backup, input);
        let started = self.session.start_job(connection, grant, verb).await?;
        Ok((started.0, started.1, OwnedFd::from(output).into()))
    }

    #[zbus(out_args("backups", "next_cursor"))]
    async fn list_backups(
        &self,
        filter: WireOptions,
        limit: u64,
        cursor: String,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(Vec<BackupRow>, String), ApiError> {
        no_flags(flags)?;
        check_argument("cursor", &cursor)?;
        let filter = list_filter_from_wire(filter)?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let about = About::source(Action::Inspect, &filter.source);
        let grant = self.session.authorise(connection, &header, about).await?;
        let page = self.session.look(move |operations| operations.list(&filter, limit, &cursor)).await;
        grant.conclude(page.map(|page| (page.backups.iter().map(BackupRow::from).collect(), page.cursor)))
    }

    #[zbus(out_args("properties"))]
    async fn get_backup(
        &self,
        backup: String,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<HashMap<&'static str, Variant<'static>>, ApiError> {
        no_flags(flags)?;
        check_argument("backup", &backup)?;
        let about = About::backup(Action::Inspect, &backup);
        let (grant, backup) = self.session.authorise_backup(connection, &header, about, backup).await?;
        let summary = self.session.look(move |operations| operations.get(&backup)).await;
        grant.conclude(summary.map(|summary| backup_properties(&summary)))
    }

    #[zbus(out_args("description"))]
    async fn describe_backup(
        &self,
        backup: String,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, ApiError> {
        no_flags(flags)?;
        check_argument("backup", &backup)?;
        let about = About::backup(Action::Inspect, &backup);
        let (grant, backup) = self.session.authorise_backup(connection, &header, about, backup).await?;
        let description = self.session.call(move |operations| operations.describe(&backup)).await;
        grant.conclude(description.and_then(|description| limits::json("the backup", description.to_string())))
    }

    #[zbus(out_args("sources"))]
    async fn list_sources(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<SourceRow>, ApiError> {
        no_flags(flags)?;
        let grant = self.session.authorise(connection, &header, About::daemon(Action::Inspect)).await?;
        let sources = self.session.look(|operations| Ok(operations.sources())).await;
        grant.conclude(sources.map(|sources| sources.into_iter().map(SourceRow::from).collect()))
    }

    #[zbus(out_args("source"))]
    async fn get_source(
        &self,
        name: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<OwnedObjectPath, ApiError> {
        check_argument("name", &name)?;
        let grant = self.session.authorise(connection, &header, About::source(Action::Inspect, &name)).await?;
        // What is not announced yet is, so that the object is there.
        self.session.show(connection).await?;
        if self.session.shown_sources().await.contains_key(&name) {
            return grant.conclude(Ok(source_object_path(&name)));
        }
        grant.conclude(Err(no_such_source(&name)))
    }

    #[zbus(out_args("jobs"))]
    async fn list_jobs(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<JobRow>, ApiError> {
        no_flags(flags)?;
        let grant = self.session.authorise(connection, &header, About::daemon(Action::Inspect)).await?;
        let jobs = grant.conclude(self.session.look(|operations| Ok(operations.jobs().list())).await)?;
        let rows = jobs.into_iter().map(job_row).collect();
        Ok(limits::last_that_fit(rows, |row: &JobRow| 400 + row.source.len() + row.error_message.len()))
    }

    #[zbus(out_args("job"))]
    async fn get_job(
        &self,
        id: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<OwnedObjectPath, ApiError> {
        let about = About::daemon(Action::Inspect).with("job", id.to_string());
        let grant = self.session.authorise(connection, &header, about).await?;
        if self.session.objects().await.contains_key(&id) {
            return grant.conclude(Ok(object_path(id)));
        }
        grant.conclude(Err(ApiError::new(ErrorCode::NoSuchJob, format!("no job {id} runs or waits"))))
    }

    #[zbus(out_args("description"))]
    async fn describe_job(
        &self,
        id: u64,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, ApiError> {
        no_flags(flags)?;
        let about = About::daemon(Action::Inspect).with("job", id.to_string());
        let grant = self.session.authorise(connection, &header, about).await?;
        let session = Arc::clone(&self.session);
        let state = grant.conclude(self.session.call(move |_| Ok(session.job(id))).await.flatten())?;
        let description = serde_json::to_string(&state)
            .map_err(|error| ApiError::new(ErrorCode::Internal, format!("cannot describe job {id}: {error}")))?;
        limits::json("the job", description)
    }

    async fn cancel_job(
        &self,
        id: u64,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), ApiError> {
        no_flags(flags)?;
        self.session.cancel(connection, &header, id).await
    }

    async fn reload(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), ApiError> {
        no_flags(flags)?;
        let grant = self.session.authorise(connection, &header, About::daemon(Action::Reload)).await?;
        grant.conclude(self.session.call(|operations| operations.reload()).await)?;
        // Who asked finds the sources as they are now, and was told of them before the answer.
        self.session.show(connection).await
    }

    #[zbus(signal)]
    pub(super) async fn job_new(emitter: &SignalEmitter<'_>, id: u64, job: ObjectPath<'_>) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u64,
        job: ObjectPath<'_>,
        result: &str,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn backup_added(emitter: &SignalEmitter<'_>, id: &str, source: &str) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn backup_removed(emitter: &SignalEmitter<'_>, id: &str, source: &str) -> zbus::Result<()>;

    #[zbus(property)]
    async fn backups(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<u64, ApiError> {
        self.status(connection, header, |status| status.backups).await
    }

    #[zbus(property)]
    async fn config_problems(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<Vec<String>, ApiError> {
        self.status(connection, header, |status| texts(&status.config_problems)).await
    }

    #[zbus(property(emits_changed_signal = "false"))]
    async fn free_bytes(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<u64, ApiError> {
        self.status(connection, header, |status| status.free_bytes).await
    }

    #[zbus(property(emits_changed_signal = "const"))]
    async fn repository_path(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<String, ApiError> {
        self.status(connection, header, |status| status.repository.display().to_string()).await
    }

    #[zbus(property)]
    async fn repository_problem(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<String, ApiError> {
        self.status(connection, header, |status| text(&status.repository_problem)).await
    }

    /// Open to everybody: whether backups work at all is no secret.
    #[zbus(property)]
    async fn repository_state(&self, #[zbus(connection)] connection: &Connection) -> Result<String, ApiError> {
        self.status(connection, None, |status| status.repository_state).await
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}

/// The properties whose changes are announced, by name.
pub(super) fn properties(overview: &Overview) -> Properties {
    Properties::from([
        ("Backups", overview.backups.into()),
        ("ConfigProblems", texts(&overview.config_problems).into()),
        ("RepositoryProblem", text(&overview.repository_problem).into()),
        ("RepositoryState", overview.repository_state.clone().into()),
    ])
}
