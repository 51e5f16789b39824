//! Carries out a restore.
//!
//! Invariants: nothing is visible under the target's name before everything is restored and compared; whatever ends the
//! restore early, its database and the roles it created are taken away, or their name stays in the caller's journal.

use std::io::Write as _;

use super::{
    archive,
    compare::{self, Counted},
    create_roles::{self, ToCreate},
    database,
    load::Loader,
    plan::{Remark, RestorePlan},
    report::{RestoreReport, hit, stopped},
    request::{Milestone, RestoreRequest, temporary_name},
    survey::{self, Decisions, Survey},
    witness::Witness,
};
use crate::{
    config::ConnectionSpec,
    model::{ErrorCode, Name, job::Phase},
    source::{
        JobContext, SetReader, SourceError,
        postgres::{
            child::ClientCommand,
            client_programs::ClientPrograms,
            connection::{Session, get},
            environment::LibpqEnvironment,
        },
    },
};

/// Memory for sorting that all sessions of a restore may use together, KiB.
const SORT_MEMORY: u64 = 512 << 10;

/// Restores into a new database, as planned. Looks at everything again first.
///
/// # Errors
/// `TargetExists`, `RestoreRefused` before anything is touched; `RestoreFailed`, `RestoreMismatch`, the cancel, or the
/// reader's error, after which nothing of the restore is left.
pub fn carry_out(
    plan: &RestorePlan,
    request: &RestoreRequest<'_>,
    reader: &dyn SetReader,
    context: &JobContext,
) -> Result<RestoreReport, SourceError> {
    context.progress.enter(Phase::Checking);
    let Survey { plan: now, decisions } = survey::survey(request, reader, context)?;
    refuse(plan, &now)?;
    let Some(programs) = decisions.programs.clone() else {
        return Err(SourceError::new(ErrorCode::ClientProgramMissing, "the client programs are gone"));
    };
    context.progress.expect_bytes(now.backup.bytes);
    let temporary = temporary_name(&now.target, request.run_id);
    let mut restore = Restore {
        request,
        reader,
        context,
        programs: &programs,
        decisions: &decisions,
        target: &now.target,
        connection: ConnectionSpec { database: temporary.clone(), ..request.connection.clone() },
        temporary,
        tables_beside: Vec::new(),
        witness: None,
        created_roles: Vec::new(),
        notices: now.notices,
        state: State::Unfinished,
    };
    match restore.run() {
        Ok(counted) => Ok(RestoreReport {
            database: now.target.clone(),
            tables: counted.tables,
            rows: counted.rows,
            kept: decisions.replaces.as_ref().map(|(_, kept)| kept.clone()),
            tables_beside: restore.tables_beside,
            created_roles: restore.created_roles,
            notices: restore.notices,
        }),
        Err(error) if restore.state != State::Unfinished => Err(error),
        Err(error) => Err(restore.clean_up(error)),
    }
}

/// Refuses what cannot succeed, or is not what was planned.
fn refuse(planned: &RestorePlan, now: &RestorePlan) -> Result<(), SourceError> {
    let replaced = |plan: &RestorePlan| plan.replaces.as_ref().map(|replaced| replaced.oid);
    let same = planned.target == now.target && planned.backup == now.backup && planned.server == now.server;
    if !same || replaced(planned) != replaced(now) {
        let message = "the backup, the server or the options are not those of the plan; make a new plan";
        return Err(SourceError::new(ErrorCode::RestoreRefused, message));
    }
    if now.is_possible() {
        return Ok(());
    }
    let code = if now.has_obstacle("target-exists") {
        ErrorCode::TargetExists
    } else if now.has_obstacle("client-programs") {
        ErrorCode::ClientProgramMissing
    } else {
        ErrorCode::RestoreRefused
    };
    let reasons: Vec<&str> = now.obstacles.iter().map(|remark| remark.message.as_str()).collect();
    let message = format!("cannot restore to {:?}: {}", now.target.display(), reasons.join("; "));
    Err(SourceError::new(code, message))
}

/// A restore that is going on.
pub(super) struct Restore<'a> {
    pub(super) request: &'a RestoreRequest<'a>,
    pub(super) reader: &'a dyn SetReader,
    pub(super) context: &'a JobContext,
    pub(super) programs: &'a ClientPrograms,
    pub(super) decisions: &'a Decisions,
    pub(super) target: &'a Name,
    pub(super) temporary: Name,
    /// To the new database under its temporary name.
    pub(super) connection: ConnectionSpec,
    pub(super) tables_beside: Vec<(Name, Name)>,
    pub(super) witness: Option<Witness>,
    pub(super) created_roles: Vec<Name>,
    pub(super) notices: Vec<Remark>,
    pub(super) state: State,
}

/// What has become of the new database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It is under construction, under its temporary name.
    Unfinished,
    /// It has its name.
    Published,
    /// Whether it has its name could not be told: the caller's journal finds out.
    Unknown,
}

impl Restore<'_> {
    fn run(&mut self) -> Result<Counted, SourceError> {
        let progress = &self.context.progress;
        progress.enter(Phase::Schema);
        self.witness = Some(Witness::open(self.decisions, self.context)?);
        self.create().map_err(|error| stopped(error, "creating the database"))?;
        hit("restore-created")?;
        let environment = self.environment()?;
        self.pg_restore("pre-data", 1, &environment).map_err(|error| stopped(error, "restoring the schema"))?;
        hit("restore-predata")?;
        progress.enter(Phase::Data);
        self.load(&environment).map_err(|error| stopped(error, "restoring the rows"))?;
        hit("restore-data")?;
        progress.enter(Phase::Comparing);
        let counted = self.compare().map_err(|error| stopped(error, "comparing the rows"))?;
        hit("restore-compared")?;
        progress.enter(Phase::PostData);
        self.pg_restore("post-data", self.request.jobs(), &environment)
            .map_err(|error| stopped(error, "restoring indexes, constraints and triggers"))?;
        hit("restore-postdata")?;
        progress.enter(Phase::Analyze);
        self.analyze()?;
        progress.enter(Phase::Committing);
        self.publish().map_err(|error| stopped(error, "publishing the database"))?;
        hit("restore-renamed")?;
        Ok(counted)
    }

    /// Creates missing roles and the empty database.
    fn create(&mut self) -> Result<(), SourceError> {
        (self.request.journal)(Milestone::Building(&self.temporary))?;
        let (decisions, cancel) = (self.decisions, &self.context.cancel);
        let (temporary, created) = (&self.temporary, &mut self.created_roles);
        self.context.runtime.block_on(async {
            let session = Session::connect(&decisions.maintenance, cancel).await?;
            let what = ToCreate {
                globals: &decisions.globals,
                create: &decisions.create_roles,
                existing: &decisions.existing_roles,
                act_for_them: !decisions.me.superuser,
            };
            create_roles::create(&session, cancel, &what, created).await?;
            database::create(&session, cancel, temporary, decisions).await
        })
    }

    /// How the client programs connect to the new database.
    pub(super) fn environment(&self) -> Result<LibpqEnvironment, SourceError> {
        let cancel = &self.context.cancel;
        let server_has: i64 = self.context.runtime.block_on(async {
            let session = Session::connect(&self.connection, cancel).await?;
            let sql = "SELECT setting::int8 FROM pg_settings WHERE name = 'maintenance_work_mem'";
            get(&session.query_one(cancel, "cannot read a setting", sql, &[]).await?, 0)
        })?;
        let share = SORT_MEMORY / u64::from(self.request.jobs().max(1));
        let memory = share.max(u64::try_from(server_has).unwrap_or_default());
        let encoding = &self.decisions.properties.encoding;
        let version = self.decisions.server_version_num;
        let environment = LibpqEnvironment::new(&self.connection, version, Some(encoding), &self.context.scratch)?;
        Ok(environment.with_settings(&[
            ("maintenance_work_mem", &format!("{memory}kB")),
            // Publishing makes everything durable at once: see `database`.
            ("synchronous_commit", "off"),
            ("default_transaction_read_only", "off"),
        ]))
    }

    /// Restores a section of the archive.
    fn pg_restore(&self, section: &str, jobs: u32, environment: &LibpqEnvironment) -> Result<(), SourceError> {
        let options = &self.request.options;
        // An empty name makes pg_restore take the one of its environment.
        let mut command = ClientCommand::new(&self.programs.pg_restore(), environment, ErrorCode::RestoreFailed)
            .args(["--dbname=", "--exit-on-error", "--no-password"])
            .arg(format!("--section={section}"));
        let flags = [
            (options.no_owner, "--no-owner"),
            (options.no_privileges, "--no-privileges"),
            (self.decisions.no_tablespaces, "--no-tablespaces"),
        ];
        command = command.args(flags.iter().filter(|(wanted, _)| *wanted).map(|(_, flag)| *flag));
        if jobs > 1 {
            command = command.arg(format!("--jobs={jobs}"));
        }
        let mut list = archive::scratch_file(self.context, "list-")?;
        if let Some(selection) = &self.decisions.selection {
            list.write_all(&selection.list).map_err(|error| SourceError::io("write a list for pg_restore", &error))?;
            command = command.arg("--use-list").arg(list.path());
        }
        command.arg(self.decisions.archive.path()).spawn(&self.context.cancel, &self.context.runtime)?.wait()
    }

    fn load(&self, environment: &LibpqEnvironment) -> Result<(), SourceError> {
        let loader = Loader { programs: self.programs, environment, reader: self.reader, context: self.context };
        match &self.decisions.selection {
            None => loader.load_all(),
            Some(selection) => loader.load_selected(selection, &self.sequences()?),
        }
    }

    /// The sequences of the new database, but those of extensions.
    fn sequences(&self) -> Result<Vec<(Name, Name)>, SourceError> {
        let cancel = &self.context.cancel;
        self.context.runtime.block_on(async {
            let session = Session::connect(&self.connection, cancel).await?;
            let sql = "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                       WHERE c.relkind = 'S' AND NOT EXISTS (SELECT FROM pg_depend d \
                       WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')";
            let rows = session.query(cancel, "cannot list the sequences", sql, &[]).await?;
            rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
        })
    }

    fn compare(&self) -> Result<Counted, SourceError> {
        let cancel = &self.context.cancel;
        self.context.runtime.block_on(async {
            let session = Session::connect(&self.connection, cancel).await?;
            compare::compare(&session, cancel, self.reader.manifest(), self.decisions.selection.as_ref()).await
        })
    }

    /// Statistics are no part of the data: without them the restore is still good.
    fn analyze(&mut self) -> Result<(), SourceError> {
        let cancel = &self.context.cancel;
        let result = self.context.runtime.block_on(async {
            let session = Session::connect(&self.connection, cancel).await?;
            session.execute(cancel, "ANALYZE failed", b"ANALYZE").await
        });
        cancel.check()?;
        if let Err(error) = result {
            tracing::warn!(%error, "no statistics were collected for the restored database");
            self.notices.push(Remark { what: "analyze".to_owned(), message: error.to_string() });
        }
        Ok(())
    }

    /// Takes away what there is, and says so in the error.
    fn clean_up(&self, error: SourceError) -> SourceError {
        self.context.progress.enter(Phase::CleaningUp);
        let (spec, name) = (&self.decisions.maintenance, &self.temporary);
        match self.context.runtime.block_on(database::clean_up(spec, name, &self.created_roles)) {
            Ok(()) => self.over(),
            Err(left) => {
                tracing::error!(database = %name, error = %left, "the database of a failed restore was not dropped");
                if let SourceError::Failed { code, message } = error {
                    let message = format!("{message}; its database {:?} is still there: {left}", name.display());
                    return SourceError::Failed { code, message };
                }
            }
        }
        error
    }
}
