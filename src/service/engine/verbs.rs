//! The verbs of the engine, each by the module that has it.

use std::{
    fs::File,
    sync::{Arc, PoisonError},
};

use super::{Engine, FEW_BACKUPS, job_limits, report_broken};
use crate::{
    config,
    health::Report as HealthReport,
    model::{BackupId, ErrorCode, SourceName, job::JobNumber, message_id, summary::BackupSummary},
    service::{
        changes::Changes,
        create, delete, drill,
        error::ServiceError,
        health,
        jobs::Jobs,
        listing, notices,
        opening::RepositoryStatus,
        operations::{
            Caller, CreateOptions, ListFilter, Operations, Overview, Page, PruneOptions, RestoreOptions, SourceSummary,
            Status, UndoOptions, UndoSummary, VerifyRequest,
        },
        pins, prune, reading, restore, statistics,
        undelete::{self, Undeletable},
        usage, verify,
    },
    statistics::{diff::BackupDiff, report::Report},
};

impl Operations for Arc<Engine> {
    fn create(&self, caller: Caller, source: &str, options: CreateOptions) -> Result<JobNumber, ServiceError> {
        create::submit(self, caller, source, options).inspect_err(|error| {
            statistics::refused(self, source, error);
            notices::refused(self, source, error);
        })
    }

    fn plan_restore(
        &self,
        _caller: Caller,
        backup: &str,
        options: &RestoreOptions,
    ) -> Result<serde_json::Value, ServiceError> {
        restore::plan(self, backup, options)
    }

    fn restore(&self, caller: Caller, backup: &str, options: RestoreOptions) -> Result<JobNumber, ServiceError> {
        restore::submit(self, caller, backup, options)
    }

    fn planned(&self, plan: &str) -> Result<(String, RestoreOptions), ServiceError> {
        restore::planned(self, plan)
    }

    fn undo_copies(&self) -> Result<Vec<UndoSummary>, ServiceError> {
        restore::undo::list(self)
    }

    fn undo_source(&self, job: JobNumber) -> Result<String, ServiceError> {
        restore::undo::source_of(self, job)
    }

    fn plan_undo(&self, job: JobNumber) -> Result<serde_json::Value, ServiceError> {
        restore::undo::plan(self, job)
    }

    fn undo(&self, caller: Caller, job: JobNumber, options: UndoOptions) -> Result<JobNumber, ServiceError> {
        restore::undo::submit(self, caller, job, options)
    }

    fn forget(&self, caller: Caller, job: JobNumber) -> Result<JobNumber, ServiceError> {
        restore::undo::submit_forget(self, caller, job)
    }

    fn verify(&self, caller: Caller, request: VerifyRequest) -> Result<JobNumber, ServiceError> {
        verify::submit(self, caller, request)
    }

    fn drill(&self, caller: Caller, backup: &str) -> Result<JobNumber, ServiceError> {
        drill::submit(self, caller, backup)
    }

    fn delete(&self, caller: Caller, backup: &str, at_once: bool) -> Result<JobNumber, ServiceError> {
        delete::submit(self, caller, backup, at_once)
    }

    fn pin(&self, backup: &str, until: u64, reason: &str) -> Result<(), ServiceError> {
        pins::pin(self, backup, until, reason)
    }

    fn unpin(&self, backup: &str) -> Result<(), ServiceError> {
        pins::unpin(self, backup)
    }

    fn deleted(&self) -> Result<Vec<Undeletable>, ServiceError> {
        undelete::list(self)
    }

    fn undelete(&self, backup: &str) -> Result<BackupId, ServiceError> {
        undelete::undelete(self, backup)
    }

    fn prune(&self, caller: Caller, options: PruneOptions) -> Result<JobNumber, ServiceError> {
        prune::submit(self, caller, options)
    }

    fn explain_retention(&self, source: &str, despite_clock: bool) -> Result<serde_json::Value, ServiceError> {
        prune::explain(self, source, despite_clock)
    }

    fn describe_space(&self) -> Result<serde_json::Value, ServiceError> {
        usage::describe(self)
    }

    fn export(&self, caller: Caller, backup: &str, output: File) -> Result<JobNumber, ServiceError> {
        reading::submit_export(self, caller, backup, output)
    }

    fn list(&self, filter: &ListFilter, limit: usize, cursor: &str) -> Result<Page, ServiceError> {
        if !filter.backup.is_empty() {
            // A backup that cannot be listed is explained.
            self.choose(&filter.backup)?;
        }
        listing::page(&self.repository()?.backups(), filter, limit, cursor)
    }

    fn get(&self, backup: &str) -> Result<BackupSummary, ServiceError> {
        self.find(backup).map(|(_, summary)| summary)
    }

    fn describe(&self, backup: &str) -> Result<serde_json::Value, ServiceError> {
        let (opened, summary) = self.find(backup)?;
        reading::describe(opened.reading(), &summary)
    }

    fn statistics(&self, source: &str) -> Result<Report, ServiceError> {
        statistics::of_engine(self, source)
    }

    fn diff(&self, from: &str, to: &str) -> Result<BackupDiff, ServiceError> {
        let ((opened, from), (_, to)) = (self.find(from)?, self.find(to)?);
        statistics::compare(opened.reading(), &from, &to)
    }

    fn test_notifier(&self, notifier: &str) -> Result<serde_json::Value, ServiceError> {
        notices::test(self, notifier)
    }

    fn waiting_notices(&self) -> serde_json::Value {
        notices::list(self)
    }

    fn sources(&self) -> Vec<SourceSummary> {
        let config = self.config();
        let backups = self.listed_backups();
        let newest = |name: &SourceName| listing::newest(&backups, name);
        let mut summaries: Vec<SourceSummary> =
            config.sources.iter().map(|(name, source)| self.source_summary(name, source, newest(name))).collect();
        for (name, problems) in &config.broken {
            let newest = name.parse().ok().and_then(|name| newest(&name));
            summaries.push(self.broken_summary(name, problems, newest));
        }
        summaries.sort_by(|a, b| a.name.cmp(&b.name));
        summaries
    }

    fn source(&self, name: &str) -> Option<SourceSummary> {
        let config = self.config();
        let backups = self.listed_backups();
        let parsed = name.parse::<SourceName>().ok();
        let newest = parsed.as_ref().and_then(|name| listing::newest(&backups, name));
        if let Some(problems) = config.broken.get(name) {
            return Some(self.broken_summary(name, problems, newest));
        }
        let (name, source) = config.sources.get_key_value(&parsed?)?;
        Some(self.source_summary(name, source, newest))
    }

    fn answers_at_once(&self) -> bool {
        self.opening.get().is_ok_and(|opened| opened.backups().len() <= FEW_BACKUPS)
    }

    fn status(&self) -> Status {
        let config = self.config();
        // First, so that the rest tells what it found.
        let free_bytes = self.opening.free_bytes();
        let RepositoryStatus { state, problem, backups } = self.opening.status();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            repository: self.repository.clone(),
            repository_state: state.to_owned(),
            repository_problem: problem,
            backups,
            free_bytes,
            config_problems: config.problems().map(ToString::to_string).collect(),
        }
    }

    fn health(&self, source: &str) -> Result<HealthReport, ServiceError> {
        let config = self.config();
        if source.is_empty() {
            return Ok((*health::report(self)).clone());
        }
        let known = config.sources.keys().any(|name| name.as_str() == source) || config.broken.contains_key(source);
        if !known {
            return Err(ServiceError::new(ErrorCode::NoSuchSource, format!("there is no source {source:?}")));
        }
        Ok(health::report(self).of_source(source))
    }

    fn overview(&self) -> Overview {
        let RepositoryStatus { state, problem, backups } = self.opening.status();
        Overview {
            sources: self.sources(),
            repository_state: state.to_owned(),
            repository_problem: problem,
            backups,
            health: self.health.current().severity,
            config_problems: self.config().problems().map(ToString::to_string).collect(),
        }
    }

    fn changes(&self) -> &Changes {
        &self.changes
    }

    fn reload(&self) -> Result<(), ServiceError> {
        let fresh = config::load(&self.folders.config).map_err(ServiceError::from).inspect_err(|error| {
            tracing::error!(
                MESSAGE_ID = message_id::RELOAD_FAILED,
                BACKUPD_ERROR = error.code().name(),
                "the reload failed, the old configuration stays: {error}"
            );
        })?;
        report_broken(&fresh, Some(&self.config()));
        tracing::info!(MESSAGE_ID = message_id::RELOADED, "the configuration was read again");
        self.jobs.set_limits(job_limits(&fresh));
        if fresh.repository.path != self.repository {
            tracing::warn!("[repository] path has changed; the new one is used after a restart");
        }
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        self.changes.note();
        Ok(())
    }

    fn jobs(&self) -> &Jobs {
        &self.jobs
    }
}
