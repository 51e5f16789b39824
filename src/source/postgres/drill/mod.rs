//! A drill: a backup restored into a server that exists only for that, and everything looked at that can be.
//!
//! - `programs`: which server; `cluster`: making, running and removing it;
//! - `schema`, `indexes`, `assertions`: what is looked at beyond the rows, which the restore itself counts.
//!
//! What is in a backup runs here with all rights of its server: this is for a process that may do nothing else.

mod assertions;
mod cluster;
mod indexes;
mod programs;
mod schema;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use self::{cluster::Cluster, programs::ServerPrograms};
use super::{
    client_programs::ClientPrograms,
    environment::LibpqEnvironment,
    restore::{self, OnExisting, RestoreChoices, RestorePlan, RestoreRequest},
};
use crate::{
    config::{ConnectionSpec, SwapHooks},
    model::{
        ErrorCode, RunId,
        drill::{Check, CheckResult, DrillReport},
        job::Phase,
    },
    source::{
        JobContext, SetReader, SourceError,
        drill::{check, judge, micros},
    },
};

/// A drill of a PostgreSQL backup.
#[derive(Debug)]
pub struct DrillRequest<'a> {
    /// A private, empty folder of this user's on a disk; its path must leave room for a socket's name.
    pub folder: &'a Path,
    /// Where initdb and postgres are; found by themselves when absent.
    pub server_bin_dir: Option<PathBuf>,
    /// Where the client programs are; found by themselves when absent.
    pub client_bin_dir: Option<PathBuf>,
    /// Libraries that extensions need from the start of the server.
    pub preload_libraries: Vec<String>,
    /// SQL whose rows must begin with a true value.
    pub assertions: Option<String>,
    /// The run of the job.
    pub run_id: RunId,
}

/// Restores the backup into a new server and looks at it. `report` has what was found, however it ends.
///
/// # Errors
/// `DrillUnavailable` for what is missing on this host; `DrillFailed` for a backup that does not restore as it should;
/// the cancel; the reader's.
pub fn drill(
    request: &DrillRequest<'_>,
    reader: &dyn SetReader,
    context: &JobContext,
    report: &mut DrillReport,
) -> Result<(), SourceError> {
    let manifest = reader.manifest();
    let facts = manifest.postgresql.as_ref().ok_or_else(|| {
        let message = format!("the backup of {} is none of a PostgreSQL database", manifest.source);
        SourceError::new(ErrorCode::NotSupported, message)
    })?;
    context.progress.enter(Phase::Starting);
    let major = facts.server_version_num / 10_000;
    let programs = ServerPrograms::find(request.server_bin_dir.as_deref(), major)?;
    report.server = programs.version.clone();
    let cluster = Cluster::start(&programs, request.folder, &request.preload_libraries, context)?;
    let restored = Drill { request, reader, context, cluster: &cluster, report }.run();
    cluster.judge(restored)
}

struct Drill<'a> {
    request: &'a DrillRequest<'a>,
    reader: &'a dyn SetReader,
    context: &'a JobContext,
    cluster: &'a Cluster,
    report: &'a mut DrillReport,
}

impl Drill<'_> {
    fn run(mut self) -> Result<(), SourceError> {
        let spec = self.restore()?;
        let Self { request, reader, context, report, .. } = self;
        context.progress.enter(Phase::Proving);
        // Of the server that it is, which may be newer than the original.
        let version = restore_version(context, &spec)?;
        let clients = ClientPrograms::find(request.client_bin_dir.as_deref(), version / 10_000).map_err(unavailable)?;
        let environment = LibpqEnvironment::new(&spec, version, None, &context.scratch)?;
        // First, as the check of the indexes adds an extension.
        check(report, "schema", || schema::compare(&clients, &environment, reader, context))?;
        check(report, "indexes", || indexes::check_indexes(&spec, context))?;
        check(report, "heaps", || indexes::check_heaps(&spec, context))?;
        if let Some(sql) = &request.assertions {
            check(report, "assertions", || assertions::run(sql, &clients, &environment, context))?;
        }
        judge(report)
    }

    /// Roles first, then the database under its own name. Gives the connection to it.
    fn restore(&mut self) -> Result<ConnectionSpec, SourceError> {
        let began = Instant::now();
        let connection = self.cluster.connection("postgres");
        restore::create_all_roles(&connection, self.reader, self.context)
            .map_err(|error| failed(error, "the roles cannot be created"))?;
        let request = RestoreRequest {
            connection: connection.clone(),
            // The original name may be one that every server has.
            options: RestoreChoices { existing: OnExisting::ReplaceVacant, ..RestoreChoices::default() },
            client_bin_dir: self.request.client_bin_dir.clone(),
            run_id: self.request.run_id,
            hooks: SwapHooks::default(),
            journal: &|_| Ok(()),
        };
        let plan = restore::plan(&request, self.reader, self.context)
            .map_err(|error| failed(error, "the restore cannot be planned"))?;
        refuse(&plan)?;
        let restored = restore::carry_out(&plan, &request, self.reader, self.context)
            .map_err(|error| failed(error, "it does not restore"))?;
        self.report.recovery = micros(began);
        (self.report.tables, self.report.rows) = (restored.tables, restored.rows);
        let (rows, tables) = (restored.rows, restored.tables);
        let notices: Vec<String> = restored.notices.into_iter().map(|remark| remark.message).collect();
        let noted = if notices.is_empty() { String::new() } else { format!("; {}", notices.join("; ")) };
        let message = format!("as many rows as were counted, {rows} in {tables} tables{noted}");
        self.report.checks.push(Check {
            name: "restore".to_owned(),
            result: CheckResult::Passed,
            message,
            duration: self.report.recovery,
        });
        Ok(ConnectionSpec { database: restored.database, ..connection })
    }
}

/// The version of the server, for the environment of its clients.
fn restore_version(context: &JobContext, spec: &ConnectionSpec) -> Result<u32, SourceError> {
    let connecting = super::connection::Session::connect(spec, &context.cancel);
    context.runtime.block_on(async { Ok(connecting.await?.server().version_num) })
}

/// What a new server lacks is a matter of this host, unless it is a matter of the backup.
fn refuse(plan: &RestorePlan) -> Result<(), SourceError> {
    const OF_THE_HOST: [&str; 5] = ["missing-extension", "client-programs", "locale", "space", "version-downgrade"];
    let Some(first) = plan.obstacles.first() else { return Ok(()) };
    let of_the_host = plan.obstacles.iter().all(|remark| OF_THE_HOST.contains(&remark.what.as_str()));
    let messages: Vec<&str> = plan.obstacles.iter().map(|remark| remark.message.as_str()).collect();
    tracing::debug!(what = first.what, "a drill cannot restore");
    let (code, why) = match of_the_host {
        true => (ErrorCode::DrillUnavailable, "it cannot be drilled on this host"),
        false => (ErrorCode::DrillFailed, "it does not restore"),
    };
    Err(SourceError::new(code, format!("{why}: {}", messages.join("; "))))
}

/// The error of something whose absence says nothing about the backup.
fn unavailable(error: SourceError) -> SourceError {
    match error {
        SourceError::Failed { message, .. } => SourceError::new(ErrorCode::DrillUnavailable, message),
        other => other,
    }
}

/// How extensions say that they must be loaded when the server starts.
const NEEDS_PRELOAD: [&str; 3] = ["shared_preload_libraries", "must be preloaded", "must be loaded via"];

/// The error of a step that the backup should have passed. What says more than that stays.
fn failed(error: SourceError, what: &str) -> SourceError {
    match error {
        SourceError::Failed { message, .. } if NEEDS_PRELOAD.iter().any(|sign| message.contains(sign)) => {
            let help = "name its library in `preload_libraries` in [drill] of the source";
            SourceError::new(ErrorCode::DrillUnavailable, format!("{what}; {help}: {message}"))
        }
        SourceError::Failed { code: ErrorCode::NoSpace | ErrorCode::ClientProgramMissing, .. } => unavailable(error),
        SourceError::Failed { message, .. } => SourceError::new(ErrorCode::DrillFailed, format!("{what}: {message}")),
        other => other,
    }
}
