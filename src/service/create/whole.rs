//! All databases of a server in one run, one after the other, each a backup of its own.
//!
//! Invariants: what was committed stays, whatever comes after it; a database that fails stops no other; a server that
//! is gone is not asked again for each database that is left.

use super::{databases::Choice, one::Creation, outcome::RunOutcome, taking::Taking};
use crate::{
    clock::now_micros,
    config::{AllDatabases, Config, PostgresConfig, SourceConfig},
    model::{ErrorCode, Name, SourceKey, SourceName, job::Phase},
    repository::Committed,
    service::{
        ServiceError,
        engine::Engine,
        jobs::{JobHandle, JobOutcome},
        operations::CreateOptions,
        several,
    },
    source::{
        JobContext,
        postgres::{
            databases::{self, ServerDatabase},
            dump::SharedGlobals,
        },
    },
    stream::CancelReason,
};

/// A run over all databases of a source.
pub(super) struct WholeServer<'a> {
    pub(super) engine: &'a Engine,
    pub(super) config: &'a Config,
    pub(super) name: &'a SourceName,
    pub(super) source: &'a SourceConfig,
    pub(super) postgres: &'a PostgresConfig,
    pub(super) all: &'a AllDatabases,
    pub(super) options: &'a CreateOptions,
}

/// Whether a run goes on with the next database.
enum Next {
    GoesOn,
    /// The job is to end.
    Stops(CancelReason),
    /// Those that are left cannot succeed either.
    CannotGoOn(ServiceError),
}

impl WholeServer<'_> {
    /// Looks what there is to take. Also the early check: something must be.
    pub(super) fn choose(&self, context: &JobContext) -> Result<Choice, ServiceError> {
        let server = self.list(context)?;
        let backups = self.engine.repository()?.backups();
        let choice = Choice::make(server, self.all, self.name, &backups);
        if choice.databases.is_empty() {
            return Err(ServiceError::new(
                ErrorCode::NoSuchDatabase,
                format!(
                    "source {} has no database to back up: those that allow connections are all excluded",
                    self.name
                ),
            ));
        }
        Ok(choice)
    }

    /// Takes a backup of each.
    pub(super) fn run(&self, job: &JobHandle) -> Result<JobOutcome, ServiceError> {
        let context = &job.context;
        context.progress.enter(Phase::Checking);
        let began = now_micros();
        let Choice { databases, fresh, vanished, expected } = self.choose(context)?;
        if !vanished.is_empty() {
            let names = several::names(vanished.iter().map(Name::display));
            tracing::warn!("databases of {} are not on the server any more, their backups stay: {names}", self.name);
        }
        let mut outcome = RunOutcome::new(self.name.clone(), databases.len(), fresh, vanished);
        let globals = SharedGlobals::default();
        let mut left: u64 = expected.iter().sum();
        let mut hopeless = None;
        for (ServerDatabase { name, .. }, expected) in databases.iter().zip(expected) {
            if let Some(reason) = context.cancel.reason() {
                outcome.stopped(reason);
                break;
            }
            if let Some(error) = &hopeless {
                outcome.failed(name, ServiceError::clone(error).context("not tried"));
                continue;
            }
            left = left.saturating_sub(expected);
            context.progress.begin_part(expected, left);
            match self.take(name, &globals, job) {
                Ok(committed) => self.note(name, &committed, &mut outcome),
                Err(error) => match self.judge(name, error, context, &mut outcome) {
                    Next::GoesOn => {}
                    Next::Stops(reason) => {
                        outcome.stopped(reason);
                        break;
                    }
                    Next::CannotGoOn(error) => hopeless = Some(error),
                },
            }
        }
        Ok(outcome.conclude(now_micros().saturating_sub(began)))
    }

    fn list(&self, context: &JobContext) -> Result<Vec<ServerDatabase>, ServiceError> {
        let PostgresConfig { connection, client_bin_dir, .. } = self.postgres;
        Ok(databases::list(connection, client_bin_dir.as_deref(), context)?)
    }

    fn take(&self, database: &Name, globals: &SharedGlobals, job: &JobHandle) -> Result<Committed, ServiceError> {
        let taking = Taking::of_database(self.postgres, database, &self.options.selection, globals)?;
        let scratch =
            tempfile::Builder::new().prefix("database-").tempdir_in(&job.context.scratch).map_err(|error| {
                let message = format!("cannot make a folder below {}: {error}", job.context.scratch.display());
                ServiceError::new(ErrorCode::Io, message)
            })?;
        let creation = Creation {
            engine: self.engine,
            config: self.config,
            source: self.source,
            options: self.options,
            key: SourceKey { source: self.name.clone(), child: Some(database.clone()) },
            run_id: job.run_id,
            whole_run: true,
        };
        creation.run(&taking, &JobContext { scratch: scratch.path().to_owned(), ..job.context.clone() })
    }

    fn note(&self, database: &Name, committed: &Committed, outcome: &mut RunOutcome) {
        outcome.done(database, committed.id, &committed.manifest.statistics);
        tracing::info!(BACKUPD_BACKUP = %committed.id, "backup {} of {}/{database} is complete", committed.id.short(), self.name);
        let refreshed = self.engine.repository().and_then(|opened| opened.refresh(self.engine.jobs()));
        if let Err(error) = refreshed {
            tracing::warn!("the new backup of {}/{database} is not in the list yet: {error}", self.name);
        }
    }

    /// What a failure means for this database and for those that are left.
    fn judge(&self, database: &Name, error: ServiceError, context: &JobContext, outcome: &mut RunOutcome) -> Next {
        // What comes after the flag was raised is its consequence, unless it is a defect.
        if let Some(reason) = context.cancel.reason().filter(|_| error.code() != ErrorCode::Internal) {
            return Next::Stops(reason);
        }
        let server = match error.code() {
            ErrorCode::RepositoryUnavailable => Err(error.clone()),
            _ => self.list(context),
        };
        if matches!(&server, Ok(databases) if databases.iter().all(|other| other.name != *database)) {
            tracing::warn!("database {database} of {} went away during the run", self.name);
            outcome.vanished(database);
            return Next::GoesOn;
        }
        tracing::error!(BACKUPD_ERROR = error.code().name(), "no backup of {}/{database}: {error}", self.name);
        outcome.failed(database, error);
        match server {
            Ok(_) => Next::GoesOn,
            Err(error) => context.cancel.reason().map_or(Next::CannotGoOn(error), Next::Stops),
        }
    }
}
