//! Where a restore goes, by the kind of the source.

use std::{path::PathBuf, time::Duration};

use serde_json::Value;

use crate::{
    config::{ConnectionSpec, PostgresConfig, SQLITE_LOCK_TIMEOUT, SourceKind, SwapHooks},
    model::{ErrorCode, Name, RunId, job::Phase},
    service::{ServiceError, operations::RestoreOptions},
    source::{
        JobContext, SetReader, SourceError,
        postgres::restore::{self as postgres, Milestone, OnExisting, RestoreChoices},
        sqlite::restore::{self as sqlite, FileStep},
    },
};

/// How long a plan waits for who has a file locked.
const PLANNING_LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// What a journal of restores must know.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// Of a database.
    Database(Milestone<'a>),
    /// Of a file.
    File(FileStep<'a>),
}

/// Told of each step; an error stops the restore.
pub type OnStep<'a> = &'a (dyn Fn(Step<'_>) -> Result<(), SourceError> + Sync);

/// Asked about the plan, as JSON, before anything is touched; an error stops the restore.
pub type Approve<'a> = &'a (dyn Fn(&Value) -> Result<(), ServiceError> + Sync);

/// Where a restore goes.
#[derive(Debug, Clone)]
pub enum Target {
    /// A database of a server.
    Postgres(PostgresTarget),
    /// A file of this host.
    Sqlite(SqliteTarget),
}

/// A server.
#[derive(Debug, Clone)]
pub struct PostgresTarget {
    /// The privileged connection.
    pub connection: ConnectionSpec,
    /// Where the client programs are; found by themselves when absent.
    pub client_bin_dir: Option<PathBuf>,
    /// What runs around a swap.
    pub hooks: SwapHooks,
}

/// A file.
#[derive(Debug, Clone)]
pub struct SqliteTarget {
    /// The original path, for a restore that names no other; absent where none is known.
    pub path: Option<PathBuf>,
    /// How long to wait for those who use a file that is replaced.
    pub lock_timeout: Duration,
}

impl Default for SqliteTarget {
    fn default() -> Self {
        Self { path: None, lock_timeout: SQLITE_LOCK_TIMEOUT }
    }
}

impl Target {
    /// Where the source is: over its `[restore]` connection, or its reading one where it has none; or its file.
    #[must_use]
    pub fn of(source: &SourceKind) -> Self {
        match source {
            SourceKind::Postgres(postgres) => Self::Postgres(PostgresTarget::of(postgres)),
            SourceKind::Sqlite(sqlite) => {
                Self::Sqlite(SqliteTarget { path: Some(sqlite.path.clone()), lock_timeout: sqlite.lock_timeout })
            }
        }
    }

    /// What a restore would do and what stands in its way, as JSON. Touches nothing.
    ///
    /// # Errors
    /// When the backup cannot be read or the server does not answer; obstacles are part of the plan. `InvalidArgs` for
    /// an option that does not fit.
    pub fn plan(
        &self,
        reader: &dyn SetReader,
        options: &RestoreOptions,
        context: &JobContext,
    ) -> Result<Value, ServiceError> {
        match self {
            Self::Postgres(target) => {
                let request = target.request(options, RunId::new(), &|_| Ok(()))?;
                to_json(&postgres::plan(&request, reader, context)?)
            }
            Self::Sqlite(target) => {
                let mut request = target.request(options, RunId::new(), &|_| Ok(()))?;
                // Who asks for a plan waits for it.
                request.look_timeout = request.look_timeout.min(PLANNING_LOCK_TIMEOUT);
                to_json(&sqlite::plan(&request, reader, context)?)
            }
        }
    }

    /// Plans, and restores if nothing stands in the way. Gives the report as JSON.
    ///
    /// # Errors
    /// `RestoreRefused` or `TargetExists` with the obstacles, before anything was touched; what the restore meets,
    /// after what was half built was taken away.
    pub fn restore(
        &self,
        reader: &dyn SetReader,
        options: &RestoreOptions,
        run_id: RunId,
        context: &JobContext,
        on_step: OnStep<'_>,
        approve: Approve<'_>,
    ) -> Result<Value, ServiceError> {
        context.progress.enter(Phase::Checking);
        match self {
            Self::Postgres(target) => {
                let told = |milestone: Milestone<'_>| on_step(Step::Database(milestone));
                let request = target.request(options, run_id, &told)?;
                let plan = postgres::plan(&request, reader, context)?;
                approve(&to_json(&plan)?)?;
                to_json(&postgres::carry_out(&plan, &request, reader, context)?)
            }
            Self::Sqlite(target) => {
                let told = |step: FileStep<'_>| on_step(Step::File(step));
                let request = target.request(options, run_id, &told)?;
                let plan = sqlite::plan(&request, reader, context)?;
                approve(&to_json(&plan)?)?;
                to_json(&sqlite::carry_out(&plan, &request, reader, context)?)
            }
        }
    }
}

impl PostgresTarget {
    /// The `[restore]` connection of a source, or its reading one where it has none.
    #[must_use]
    pub fn of(postgres: &PostgresConfig) -> Self {
        Self {
            connection: postgres.restore.clone().unwrap_or_else(|| postgres.connection.clone()),
            client_bin_dir: postgres.client_bin_dir.clone(),
            hooks: postgres.hooks.clone(),
        }
    }

    pub(super) fn request<'a>(
        &self,
        options: &RestoreOptions,
        run_id: RunId,
        journal: &'a (dyn Fn(Milestone<'_>) -> Result<(), SourceError> + Sync),
    ) -> Result<postgres::RestoreRequest<'a>, ServiceError> {
        if !options.owner.is_empty() {
            return Err(unfit("the owner of a file", "a PostgreSQL database"));
        }
        Ok(postgres::RestoreRequest {
            connection: self.connection.clone(),
            options: RestoreChoices {
                to: (!options.to.is_empty()).then(|| Name::from(options.to.as_str())),
                create_roles: options.create_roles || options.all,
                no_owner: options.no_owner,
                no_privileges: options.no_privileges,
                tables: options.tables.clone(),
                jobs: options.jobs,
                existing: match (options.all, options.replace) {
                    (true, _) => OnExisting::ReplaceVacant,
                    (false, true) => OnExisting::Replace { break_replication: options.break_replication },
                    (false, false) => OnExisting::Refuse,
                },
            },
            client_bin_dir: self.client_bin_dir.clone(),
            run_id,
            hooks: self.hooks.clone(),
            journal,
        })
    }
}

impl SqliteTarget {
    fn request<'a>(
        &self,
        options: &RestoreOptions,
        run_id: RunId,
        on_step: &'a (dyn Fn(FileStep<'_>) -> Result<(), SourceError> + Sync),
    ) -> Result<sqlite::RestoreRequest<'a>, ServiceError> {
        let RestoreOptions { to, owner, create_roles, no_owner, no_privileges, tables, break_replication, .. } =
            options;
        if *create_roles || *no_owner || *no_privileges || *break_replication || !tables.is_empty() {
            return Err(unfit("a choice of roles, owners, privileges or tables", "an SQLite database"));
        }
        let to = match (to.as_str(), &self.path) {
            ("", Some(path)) => path.clone(),
            ("", None) => return Err(ServiceError::new(ErrorCode::InvalidArgs, "the path to restore to is missing")),
            (to, _) => PathBuf::from(to),
        };
        if !to.is_absolute() || to.file_name().is_none() {
            return Err(ServiceError::new(
                ErrorCode::InvalidArgs,
                format!("an SQLite database is restored to an absolute path, which {:?} is not", to.display()),
            ));
        }
        Ok(sqlite::RestoreRequest {
            to,
            owner: owner.clone(),
            replace: options.replace,
            lock_timeout: self.lock_timeout,
            look_timeout: self.lock_timeout,
            run_id,
            on_step,
        })
    }
}

fn unfit(what: &str, whose: &str) -> ServiceError {
    ServiceError::new(ErrorCode::InvalidArgs, format!("{what} cannot be given for {whose}"))
}

pub(super) fn to_json(value: &impl serde::Serialize) -> Result<Value, ServiceError> {
    serde_json::to_value(value).map_err(|error| ServiceError::new(ErrorCode::Internal, error.to_string()))
}
