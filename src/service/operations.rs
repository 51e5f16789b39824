//! What the bus sees of the service: one method per verb.
//!
//! Methods block (the bus calls them on a blocking thread). Those that give a job number have made the early checks
//! and started or queued the job; what fails later is the job's error.

use std::{fs::File, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{changes::Changes, error::ServiceError, jobs::Jobs, undelete::Undeletable};
use crate::{
    health::{Report as HealthReport, Severity},
    model::{BackupId, RunId, job::JobNumber, manifest::Selection, summary::BackupSummary},
    statistics::{diff::BackupDiff, report::Report},
};

/// Who asks, as the transport vouches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The user id.
    pub uid: u32,
}

/// Options of `create`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// Free text that goes into the manifest.
    pub description: String,
    /// Words that go into the manifest.
    pub tags: Vec<String>,
    /// What to take of the database, narrower than the source's own selection.
    pub selection: Selection,
}

/// Options of `restore`, and of its plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestoreOptions {
    /// The name of the new database, or the absolute path of the new file; empty for the original.
    pub to: String,
    /// `USER` or `USER:GROUP` that a restored file shall belong to; empty for the daemon's own.
    pub owner: String,
    /// Create the roles that are missing on the server from the backup's `globals.sql`.
    pub create_roles: bool,
    /// Leave out ownership, as pg_restore's `--no-owner`.
    pub no_owner: bool,
    /// Leave out GRANT and REVOKE, as pg_restore's `--no-privileges`.
    pub no_privileges: bool,
    /// Only these tables, `schema.table`.
    pub tables: Vec<String>,
    /// Connections that build indexes at once; 0 for one per processor of the daemon's host.
    pub jobs: u32,
    /// All databases of a run, under their own names, after all roles that are missing.
    pub all: bool,
    /// A database that has the name is replaced, and kept for an undo.
    pub replace: bool,
    /// Replace it also where somebody replicates from it or it subscribes.
    pub break_replication: bool,
    /// Take no backup of what is replaced first.
    pub no_backup: bool,
    /// Do not keep what is replaced: drop it as soon as the new database has its name.
    pub no_undo: bool,
    /// The id of a plan that was made before: exactly that is carried out, or nothing.
    pub plan: String,
}

/// Options of an undo.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UndoOptions {
    /// Undo also where somebody replicates from the restored database or it subscribes.
    pub break_replication: bool,
}

/// Options of `prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneOptions {
    /// Only this source; empty for all.
    pub source: String,
    /// Also where the policy changed and much would go, and whatever share of the repository that is.
    pub force: bool,
    /// Judge by the order of backups even where their times contradict it.
    pub despite_clock: bool,
}

/// Something that can be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoSummary {
    /// The job that replaced it.
    pub job: JobNumber,
    /// That job's run.
    pub run_id: RunId,
    /// The source of the backup that was restored.
    pub source: String,
    /// That backup, in hex.
    pub backup: String,
    /// The database or file that was replaced.
    pub target: String,
    /// Under which name it is kept.
    pub kept: String,
    /// Whether that job was itself an undo.
    pub undid: bool,
    /// When, microseconds since the epoch.
    pub made_at: u64,
    /// When it is dropped.
    pub until: u64,
    /// Its size, bytes; 0 where that is not known.
    pub bytes: u64,
}

/// How deep `verify` looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifyLevel {
    /// Manifests, and the packs' sizes.
    List,
    /// SHA-256 of every stored pack.
    #[default]
    Packs,
    /// Every chunk decoded and hashed, every file's hash compared.
    Data,
}

/// Which backups `verify` is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyRequest {
    /// One backup (id, unique prefix, `SOURCE@latest`…); empty for all of `source`, or of the repository.
    pub backup: String,
    /// All backups of this source, when `backup` is empty.
    pub source: String,
    /// How deep.
    pub level: VerifyLevel,
    /// How many of them, those first that were not verified for longest: `10%` of their stored bytes, or a size such as
    /// `5GiB`; empty for all.
    pub subset: String,
}

/// Which backups `list` gives. Empty fields do not filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Of this source (`NAME`, or `NAME/DATABASE`).
    pub source: String,
    /// With this tag.
    pub tag: String,
    /// With a snapshot at or after this time, microseconds since the epoch.
    pub since: u64,
    /// With a snapshot before this time; 0 for no limit.
    pub until: u64,
    /// Taken by this run.
    pub run: Option<RunId>,
    /// What this selector means: one backup, or all of a whole run.
    pub backup: String,
    /// Only damaged ones.
    pub damaged: bool,
    /// Only suspect ones.
    pub suspect: bool,
}

/// A part of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The backups, sources in order of their names, within a source the newest first.
    pub backups: Vec<BackupSummary>,
    /// What to pass to get the next part; empty at the end.
    pub cursor: String,
}

/// One source as `sources` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceSummary {
    /// Its name.
    pub name: String,
    /// `postgresql`, `sqlite`; empty where its file is broken.
    #[serde(rename = "type")]
    pub source_type: String,
    /// `enabled`, `disabled`, `broken`.
    pub state: String,
    /// Where it is, for people: `/run/postgresql:5432 shop`. No secrets.
    pub location: String,
    /// Free text of its file.
    pub description: String,
    /// What is wrong with its file; empty if nothing is.
    pub problem: String,
    /// The id of its newest backup, in hex; empty if it has none.
    pub last_backup: String,
    /// That backup's snapshot time; 0 if it has none.
    pub last_backup_at: u64,
    /// The number of the job that runs for it; 0 if none does.
    pub running_job: u64,
}

/// The daemon at a glance, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The repository's folder.
    pub repository: PathBuf,
    /// `ready`, `opening`, or `unavailable`.
    pub repository_state: String,
    /// Why it is unavailable; empty if it is not.
    pub repository_problem: String,
    /// Number of backups; 0 while the repository is not open.
    pub backups: u64,
    /// Bytes free in the repository's file system.
    pub free_bytes: u64,
    /// What is wrong with the configuration, a sentence each.
    pub config_problems: Vec<String>,
}

/// What is announced when it changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overview {
    /// As [`Operations::sources`] gives them.
    pub sources: Vec<SourceSummary>,
    /// See [`Status::repository_state`].
    pub repository_state: String,
    /// See [`Status::repository_problem`].
    pub repository_problem: String,
    /// See [`Status::backups`].
    pub backups: u64,
    /// The worst of all findings, as they were looked at last.
    pub health: Severity,
    /// See [`Status::config_problems`].
    pub config_problems: Vec<String>,
}

/// The verbs. The selector of a backup (`backup: &str`) is an id, a unique prefix of one, `SOURCE@latest`,
/// `SOURCE@<microseconds>`: the highest sequence whose snapshot is before that time, or `SOURCE@<run>`. The name of a
/// source that is a whole server means all backups of a run; verbs about a single backup refuse that with `InvalidArgs`.
pub trait Operations: Send + Sync {
    /// Starts a backup.
    ///
    /// # Errors
    /// `NoSuchSource`, `SourceDisabled`, `SourceBusy`, `LimitsExceeded`, `RepositoryUnavailable`, and the early checks'.
    fn create(&self, caller: Caller, source: &str, options: CreateOptions) -> Result<JobNumber, ServiceError>;

    /// What a restore would do and what stands in its way, as JSON; touches nothing.
    ///
    /// # Errors
    /// `NoSuchBackup`, `AmbiguousBackup`, `DatabaseUnreachable`…; obstacles are part of the plan, not errors.
    fn plan_restore(
        &self,
        caller: Caller,
        backup: &str,
        options: &RestoreOptions,
    ) -> Result<serde_json::Value, ServiceError>;

    /// Starts a restore.
    ///
    /// # Errors
    /// As [`Operations::create`], and `NoSuchBackup`, `AmbiguousBackup`.
    fn restore(&self, caller: Caller, backup: &str, options: RestoreOptions) -> Result<JobNumber, ServiceError>;

    /// The id of the backup that a plan is about, and the options that it was made with.
    ///
    /// # Errors
    /// `NoSuchPlan` where there is none of that id, or not any more.
    fn planned(&self, plan: &str) -> Result<(String, RestoreOptions), ServiceError>;

    /// What can be undone, the oldest first.
    ///
    /// # Errors
    /// `Io`.
    fn undo_copies(&self) -> Result<Vec<UndoSummary>, ServiceError>;

    /// The source that the undo of a job is about.
    ///
    /// # Errors
    /// `NoSuchJob` for one that left nothing to undo.
    fn undo_source(&self, job: JobNumber) -> Result<String, ServiceError>;

    /// What an undo would do and what stands in its way, as JSON; touches nothing.
    ///
    /// # Errors
    /// As [`Operations::undo_source`]; `DatabaseUnreachable`…
    fn plan_undo(&self, job: JobNumber) -> Result<serde_json::Value, ServiceError>;

    /// Starts to bring back what a job replaced.
    ///
    /// # Errors
    /// As [`Operations::undo_source`]; `NoSuchSource`, `SourceBusy`, `LimitsExceeded`.
    fn undo(&self, caller: Caller, job: JobNumber, options: UndoOptions) -> Result<JobNumber, ServiceError>;

    /// Starts to drop what is kept for the undo of a job.
    ///
    /// # Errors
    /// As [`Operations::undo`].
    fn forget(&self, caller: Caller, job: JobNumber) -> Result<JobNumber, ServiceError>;

    /// Starts a verification.
    ///
    /// # Errors
    /// As [`Operations::restore`].
    fn verify(&self, caller: Caller, request: VerifyRequest) -> Result<JobNumber, ServiceError>;

    /// Starts a drill of one backup, or of all that a run took: a restore where nothing depends on it.
    ///
    /// # Errors
    /// As [`Operations::restore`]; `DrillUnavailable`, `ConfigInvalid` for a file of assertions that cannot be read.
    fn drill(&self, caller: Caller, backup: &str) -> Result<JobNumber, ServiceError>;

    /// Starts the deletion of one backup, or of all that a run took. They can be brought back for a while, unless they
    /// go `at_once`; then what only they needed is freed.
    ///
    /// # Errors
    /// As [`Operations::restore`].
    fn delete(&self, caller: Caller, backup: &str, at_once: bool) -> Result<JobNumber, ServiceError>;

    /// Makes retention keep a backup, or all that a run took, until a time (microseconds since the epoch; 0 for ever).
    /// An earlier pin is replaced.
    ///
    /// # Errors
    /// `NoSuchBackup`, `AmbiguousBackup`, `InvalidArgs` for an end that is past, `RepositoryUnavailable`, `Io`.
    fn pin(&self, backup: &str, until: u64, reason: &str) -> Result<(), ServiceError>;

    /// Lets retention decide again about a backup, or all that a run took. One that is not pinned stays so.
    ///
    /// # Errors
    /// As [`Operations::pin`].
    fn unpin(&self, backup: &str) -> Result<(), ServiceError>;

    /// What can be brought back after its deletion, the one that was deleted last at the end.
    ///
    /// # Errors
    /// `RepositoryUnavailable`, `Io`.
    fn deleted(&self) -> Result<Vec<Undeletable>, ServiceError>;

    /// Brings a deleted backup back that has this id, or this unique beginning of it, and pins it for a week.
    ///
    /// # Errors
    /// `NoSuchBackup`, `AmbiguousBackup`, `RepositoryUnavailable`, `Io`.
    fn undelete(&self, backup: &str) -> Result<BackupId, ServiceError>;

    /// Starts to delete what retention does not keep, and to free what is deleted for long enough.
    ///
    /// # Errors
    /// `NoSuchSource`, `SourceDisabled`, `SourceBusy`, `LimitsExceeded`, `RepositoryUnavailable`.
    fn prune(&self, caller: Caller, options: PruneOptions) -> Result<JobNumber, ServiceError>;

    /// Each backup of a source, or of all where it is empty, with why it stays or goes, when, and what that frees; JSON.
    ///
    /// # Errors
    /// `NoSuchSource`, `SourceDisabled`, `RepositoryUnavailable`, `Io`.
    fn explain_retention(&self, source: &str, despite_clock: bool) -> Result<serde_json::Value, ServiceError>;

    /// How much space backups and sources need; JSON.
    ///
    /// # Errors
    /// `RepositoryUnavailable`, `Io`.
    fn describe_space(&self) -> Result<serde_json::Value, ServiceError>;

    /// Starts writing a backup as one gzip-compressed SQL script to `output`. The job ends when the reader goes away.
    ///
    /// # Errors
    /// As [`Operations::restore`].
    fn export(&self, caller: Caller, backup: &str, output: File) -> Result<JobNumber, ServiceError>;

    /// Lists backups. `limit` 0 means the service's own limit.
    ///
    /// # Errors
    /// `InvalidArgs` for a cursor that this service did not give; `RepositoryUnavailable`.
    fn list(&self, filter: &ListFilter, limit: usize, cursor: &str) -> Result<Page, ServiceError>;

    /// One backup's summary.
    ///
    /// # Errors
    /// `NoSuchBackup`, `AmbiguousBackup`, `RepositoryUnavailable`.
    fn get(&self, backup: &str) -> Result<BackupSummary, ServiceError>;

    /// Everything about a backup as JSON: `{"summary": …, "manifest": …, "records": […], "by_hand": ["command", …]}`.
    ///
    /// # Errors
    /// As [`Operations::get`].
    fn describe(&self, backup: &str) -> Result<serde_json::Value, ServiceError>;

    /// Numbers about the backups and jobs of a source (`NAME`, or `NAME/DATABASE`), or of all; `""`.
    ///
    /// # Errors
    /// `NoSuchSource`, `RepositoryUnavailable`.
    fn statistics(&self, source: &str) -> Result<Report, ServiceError>;

    /// What changed from one backup to another.
    ///
    /// # Errors
    /// As [`Operations::get`]; `InvalidArgs` for backups of different kinds.
    fn diff(&self, from: &str, to: &str) -> Result<BackupDiff, ServiceError>;

    /// Tries one notifier, or all where the name is empty: each tells now that this is a test. What it gives says of each
    /// how it went; that one fails is no error.
    ///
    /// # Errors
    /// `InvalidArgs` where there is none of this name.
    fn test_notifier(&self, notifier: &str) -> Result<serde_json::Value, ServiceError>;

    /// What waits to be told, for each notifier.
    fn waiting_notices(&self) -> serde_json::Value;

    /// The sources, broken ones included, in order of their names.
    fn sources(&self) -> Vec<SourceSummary>;

    /// One of the sources.
    fn source(&self, name: &str) -> Option<SourceSummary>;

    /// Whether [`Operations::list`], [`Operations::get`], [`Operations::sources`] and the table of jobs answer from
    /// memory, at once, so that they may be called where nothing may wait.
    fn answers_at_once(&self) -> bool;

    /// The health of the backups: of one source with what concerns all of them, or of everything where `source` is empty.
    ///
    /// # Errors
    /// `NoSuchSource`.
    fn health(&self, source: &str) -> Result<HealthReport, ServiceError>;

    /// The daemon at a glance. Asks the repository's file system whether it is there.
    fn status(&self) -> Status;

    /// What is announced when it changes, as it is known; waits for nothing, so that it can be called anywhere.
    fn overview(&self) -> Overview;

    /// Where changes of the overview are noted. Those that come with a job's beginning or end are not: [`Jobs`] tells
    /// of them.
    fn changes(&self) -> &Changes;

    /// Reads the configuration again. A main file with errors changes nothing.
    ///
    /// # Errors
    /// `ConfigInvalid`, naming file, line and key.
    fn reload(&self) -> Result<(), ServiceError>;

    /// The jobs, running, waiting and past.
    fn jobs(&self) -> &Jobs;
}
