//! `create`: checks, then one job that dumps a source into a new backup, or all databases of a server into one each.

mod before_restore;
mod databases;
pub mod examination;
mod one;
mod outcome;
mod suspicion;
mod taking;
mod whole;

use std::sync::Arc;

pub(super) use self::before_restore::{TAG as PRE_RESTORE, before_restore};
use self::{one::Creation, taking::Taking, whole::WholeServer};
use super::{
    engine::Engine,
    error::ServiceError,
    jobs::{JobOutcome, JobRequest, Work},
    operations::{Caller, CreateOptions},
    selector::parse_source,
};
use crate::{
    config::{Config, SourceConfig, SourceKind},
    model::{
        ErrorCode, SourceKey, SourceName,
        job::{JobNumber, JobType},
        manifest::Selection,
    },
    source::postgres::dump::SharedGlobals,
};

/// Two backups of one source never run at once, nor of two databases of one.
pub(super) fn exclusive_key(source: &SourceName) -> String {
    format!("create {source}")
}

/// Makes the early checks and submits the job. `source` is `NAME`, or `NAME/DATABASE` for one database of a server.
pub(super) fn submit(
    engine: &Arc<Engine>,
    caller: Caller,
    source: &str,
    options: CreateOptions,
) -> Result<JobNumber, ServiceError> {
    let (key, source) = enabled_source(engine, source)?;
    engine.repository()?;
    let exclusive = exclusive_key(&key.source);
    if let Some(number) = engine.jobs().holder(&exclusive) {
        return Err(ServiceError::new(
            ErrorCode::SourceBusy,
            format!("source {} is being backed up by job {number}; wait for it or cancel it", key.source),
        ));
    }
    let job = JobRequest {
        job_type: JobType::Create,
        source: key.to_string(),
        exclusive: vec![exclusive],
        backup: String::new(),
        uid: caller.uid,
        timeout: source.timeout,
    };
    let asked = Asked { engine: engine.clone(), config: engine.config(), key, source, options };
    let work = asked.check()?;
    engine.jobs().submit(job, work)
}

/// The configuration of what is to be backed up.
fn enabled_source(engine: &Engine, text: &str) -> Result<(SourceKey, SourceConfig), ServiceError> {
    // What is not the name of a source may be that of a broken file, which says more than that.
    let key = match parse_source(text) {
        Ok(key) => key,
        Err(_) => return engine.enabled_source(text).map(|(name, source)| (SourceKey::single(name), source)),
    };
    let (_, source) = engine.enabled_source(key.source.as_str())?;
    let whole = matches!(&source.kind, SourceKind::Postgres(postgres) if postgres.all.is_some());
    if key.child.is_some() && !whole {
        return Err(ServiceError::new(
            ErrorCode::NoSuchSource,
            format!("source {} is one database, not a whole server: write {:?}", key.source, key.source.as_str()),
        ));
    }
    Ok((key, source))
}

/// What was asked for.
struct Asked {
    engine: Arc<Engine>,
    config: Arc<Config>,
    key: SourceKey,
    source: SourceConfig,
    options: CreateOptions,
}

impl Asked {
    /// Makes the early checks; gives the work of the job.
    fn check(self) -> Result<Work, ServiceError> {
        let checks = self.engine.early_checks()?;
        if let Some(whole) = self.whole()? {
            whole.choose(checks.context())?;
            return Ok(Box::new(move |job| match self.whole()? {
                Some(whole) => whole.run(job),
                None => Err(ServiceError::new(ErrorCode::Internal, "the whole server became something else")),
            }));
        }
        let taking = match (&self.source.kind, &self.key.child) {
            (SourceKind::Postgres(postgres), Some(database)) => {
                Taking::of_database(postgres, database, &self.options.selection, &SharedGlobals::default())?
            }
            (kind, _) => Taking::of(kind, &self.options.selection)?,
        };
        taking.preflight(checks.context())?;
        Ok(Box::new(move |job| {
            let creation = Creation {
                engine: &self.engine,
                config: &self.config,
                source: &self.source,
                options: &self.options,
                key: self.key.clone(),
                run_id: job.run_id,
                whole_run: false,
            };
            let committed = creation.run(&taking, &job.context)?;
            self.engine.repository()?.refresh(self.engine.jobs())?;
            Ok(JobOutcome::new(Some(committed.id), committed.manifest.statistics))
        }))
    }

    /// The run over all databases, if that is what was asked for.
    fn whole(&self) -> Result<Option<WholeServer<'_>>, ServiceError> {
        let SourceKind::Postgres(postgres) = &self.source.kind else { return Ok(None) };
        let (Some(all), None) = (&postgres.all, &self.key.child) else { return Ok(None) };
        let selection = &self.options.selection;
        if *selection != (Selection { schema_only: selection.schema_only, ..Selection::default() }) {
            return Err(ServiceError::new(
                ErrorCode::InvalidArgs,
                format!("tables and schemas are chosen for one database: {}/DATABASE", self.key.source),
            ));
        }
        let Self { engine, config, key, source, options } = self;
        Ok(Some(WholeServer { engine, config, name: &key.source, source, postgres, all, options }))
    }
}
