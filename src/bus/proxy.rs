//! The client's side of `org.backupd1`: proxies, and how to reach a daemon.
//!
//! To follow a job without missing anything, make the stream of `JobRemoved` first, then call, then wait for the
//! signal with the number of the answer; `DescribeJob` has the outcome, also after the object is gone.

use std::{collections::HashMap, str::FromStr};

use zbus::{Address, Connection, DBusError as _, OwnedFd, OwnedObjectPath, OwnedVariant, connection};

use super::types::{BackupRow, DeletedRow, JobRow, Options, SourceRow, UndoRow};
use crate::{model::ErrorCode, service::ServiceError};

/// Connects to the daemon that serves a socket of its own (`backupd --listen ADDRESS`).
///
/// # Errors
/// When the address is none, or nobody listens there, or the daemon does not let this user in.
pub async fn connect_peer(address: &str) -> zbus::Result<Connection> {
    connection::Builder::address(Address::from_str(address)?).p2p().build().await
}

/// What a call's failure means: the daemon's own error, or that it could not be asked.
#[must_use]
pub fn service_error(error: zbus::Error) -> ServiceError {
    let (name, message) = match &error {
        zbus::Error::MethodError(name, message, _) => (name.to_string(), message.clone().unwrap_or_default()),
        zbus::Error::FDO(error) => {
            (error.name().to_string(), error.description().map_or_else(String::new, ToOwned::to_owned))
        }
        _ => (String::new(), String::new()),
    };
    match ErrorCode::from_dbus_name(&name) {
        Some(code) => ServiceError::new(code, message),
        None => ServiceError::new(ErrorCode::DaemonUnreachable, format!("cannot talk to the daemon: {error}")),
    }
}

/// The daemon itself; the contract `org.backupd1.xml` says what each member means.
#[zbus::proxy(interface = "org.backupd1.Manager", default_service = "org.backupd1", default_path = "/org/backupd1")]
pub trait Manager {
    /// Starts a backup.
    fn create_backup(&self, source: &str, options: &Options<'_>, flags: u64) -> zbus::Result<(u64, OwnedObjectPath)>;
    /// Plans a restore; JSON.
    fn plan_restore(&self, backup: &str, options: &Options<'_>, flags: u64) -> zbus::Result<String>;
    /// Starts a restore.
    fn restore_backup(&self, backup: &str, options: &Options<'_>, flags: u64) -> zbus::Result<(u64, OwnedObjectPath)>;
    /// Plans an undo; JSON.
    fn plan_undo(&self, restored: u64, flags: u64) -> zbus::Result<String>;
    /// Starts an undo.
    fn undo_restore(&self, restored: u64, options: &Options<'_>, flags: u64) -> zbus::Result<(u64, OwnedObjectPath)>;
    /// Starts to drop what an undo would bring back.
    fn forget_undo(&self, restored: u64, flags: u64) -> zbus::Result<(u64, OwnedObjectPath)>;
    /// What can be undone.
    fn list_undo(&self, flags: u64) -> zbus::Result<Vec<UndoRow>>;
    /// Starts a verification.
    fn verify_backup(&self, backup: &str, options: &Options<'_>, flags: u64) -> zbus::Result<(u64, OwnedObjectPath)>;
    /// Starts a drill.
    fn drill_backup(&self, backup: &str, options: &Options<'_>, flags: u64) -> zbus::Result<(u64, OwnedObjectPath)>;
    /// Starts a deletion.
    fn delete_backup(&self, backup: &str, options: &Options<'_>, flags: u64) -> zbus::Result<(u64, OwnedObjectPath)>;
    /// Starts an export to a descriptor.
    fn export_backup(
        &self,
        backup: &str,
        output: OwnedFd,
        options: &Options<'_>,
        flags: u64,
    ) -> zbus::Result<(u64, OwnedObjectPath)>;
    /// Starts an export, and gives the descriptor to read it from.
    fn open_backup(
        &self,
        backup: &str,
        options: &Options<'_>,
        flags: u64,
    ) -> zbus::Result<(u64, OwnedObjectPath, OwnedFd)>;
    /// One part of the listing, and the cursor of the next.
    fn list_backups(
        &self,
        filter: &Options<'_>,
        limit: u64,
        cursor: &str,
        flags: u64,
    ) -> zbus::Result<(Vec<BackupRow>, String)>;
    /// One backup's fields by name.
    fn get_backup(&self, backup: &str, flags: u64) -> zbus::Result<HashMap<String, OwnedVariant>>;
    /// Everything about a backup; JSON.
    fn describe_backup(&self, backup: &str, flags: u64) -> zbus::Result<String>;
    /// The sources.
    fn list_sources(&self, flags: u64) -> zbus::Result<Vec<SourceRow>>;
    /// The object of a source.
    fn get_source(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    /// The jobs, newest last.
    fn list_jobs(&self, flags: u64) -> zbus::Result<Vec<JobRow>>;
    /// The object of a job that runs or waits.
    fn get_job(&self, id: u64) -> zbus::Result<OwnedObjectPath>;
    /// Everything about a job; JSON.
    fn describe_job(&self, id: u64, flags: u64) -> zbus::Result<String>;
    /// Cancels a job.
    fn cancel_job(&self, id: u64, flags: u64) -> zbus::Result<()>;
    /// Reads the configuration again.
    fn reload(&self, flags: u64) -> zbus::Result<()>;

    /// A job was accepted.
    #[zbus(signal)]
    fn job_new(&self, id: u64, job: OwnedObjectPath) -> zbus::Result<()>;
    /// A job ended.
    #[zbus(signal)]
    fn job_removed(&self, id: u64, job: OwnedObjectPath, result: String) -> zbus::Result<()>;
    /// A backup was made.
    #[zbus(signal)]
    fn backup_added(&self, id: String, source: String) -> zbus::Result<()>;
    /// A backup was deleted.
    #[zbus(signal)]
    fn backup_removed(&self, id: String, source: String) -> zbus::Result<()>;

    /// The program's version.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> zbus::Result<String>;
    /// The repository's folder.
    #[zbus(property(emits_changed_signal = "const"))]
    fn repository_path(&self) -> zbus::Result<String>;
    /// `ready`, `opening` or `unavailable`.
    #[zbus(property)]
    fn repository_state(&self) -> zbus::Result<String>;
    /// Why it is unavailable.
    #[zbus(property)]
    fn repository_problem(&self) -> zbus::Result<String>;
    /// Number of backups.
    #[zbus(property)]
    fn backups(&self) -> zbus::Result<u64>;
    /// Bytes free where the repository is.
    #[zbus(property(emits_changed_signal = "false"))]
    fn free_bytes(&self) -> zbus::Result<u64>;
    /// What is wrong with the configuration, a sentence each.
    #[zbus(property)]
    fn config_problems(&self) -> zbus::Result<Vec<String>>;
}

/// A job that runs or waits.
#[zbus::proxy(interface = "org.backupd1.Job", default_service = "org.backupd1")]
pub trait Job {
    /// Cancels it.
    fn cancel(&self, flags: u64) -> zbus::Result<()>;

    /// It ended; its object goes away next.
    #[zbus(signal)]
    fn finished(
        &self,
        result: String,
        error_name: String,
        message: String,
        statistics: HashMap<String, OwnedVariant>,
    ) -> zbus::Result<()>;

    /// Its number.
    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> zbus::Result<u64>;
    /// Its run.
    #[zbus(property(emits_changed_signal = "const"))]
    fn run_id(&self) -> zbus::Result<String>;
    /// What it does.
    #[zbus(property(emits_changed_signal = "const"), name = "Type")]
    fn job_type(&self) -> zbus::Result<String>;
    /// The source it is about.
    #[zbus(property(emits_changed_signal = "const"))]
    fn source(&self) -> zbus::Result<String>;
    /// The backup it is about or made.
    #[zbus(property)]
    fn backup(&self) -> zbus::Result<String>;
    /// Who asked for it.
    #[zbus(property(emits_changed_signal = "const"), name = "StartedByUID")]
    fn started_by_uid(&self) -> zbus::Result<u32>;
    /// When it was accepted.
    #[zbus(property(emits_changed_signal = "const"))]
    fn start_time(&self) -> zbus::Result<u64>;
    /// Where it is.
    #[zbus(property)]
    fn phase(&self) -> zbus::Result<String>;
    /// How far it is, 0 to 1.
    #[zbus(property)]
    fn progress(&self) -> zbus::Result<f64>;
    /// Whether `Progress` means anything.
    #[zbus(property)]
    fn progress_valid(&self) -> zbus::Result<bool>;
    /// Plaintext bytes moved.
    #[zbus(property)]
    fn bytes_done(&self) -> zbus::Result<u64>;
    /// Plaintext bytes expected; 0 for unknown.
    #[zbus(property)]
    fn bytes_total(&self) -> zbus::Result<u64>;
    /// Bytes per second.
    #[zbus(property)]
    fn rate(&self) -> zbus::Result<u64>;
    /// When it should end; 0 for unknown.
    #[zbus(property)]
    fn expected_end_time(&self) -> zbus::Result<u64>;
    /// Whether a cancel would have an effect.
    #[zbus(property)]
    fn cancelable(&self) -> zbus::Result<bool>;
    /// How it ended; empty while it runs.
    #[zbus(property)]
    fn result(&self) -> zbus::Result<String>;
}

/// Whether the backups are as they should be.
#[zbus::proxy(interface = "org.backupd1.Health", default_service = "org.backupd1", default_path = "/org/backupd1")]
pub trait Health {
    /// What was found, as JSON.
    fn get_health(&self, source: &str, flags: u64) -> zbus::Result<String>;

    /// The worst of it: `ok`, `warning`, `critical` or `unknown`.
    #[zbus(property)]
    fn health(&self) -> zbus::Result<String>;
}

/// What is told, and to whom.
#[zbus::proxy(interface = "org.backupd1.Notices", default_service = "org.backupd1", default_path = "/org/backupd1")]
pub trait Notices {
    /// Tries a notifier, or all; how it went, as JSON.
    fn test_notice(&self, notifier: &str, flags: u64) -> zbus::Result<String>;
    /// What waits to be told, as JSON.
    fn list_notices(&self, flags: u64) -> zbus::Result<String>;
}

/// What stays and what goes.
#[zbus::proxy(interface = "org.backupd1.Retention", default_service = "org.backupd1", default_path = "/org/backupd1")]
pub trait Retention {
    /// Keeps a backup.
    fn pin_backup(&self, backup: &str, options: &Options<'_>, flags: u64) -> zbus::Result<()>;
    /// Lets retention decide about it again.
    fn unpin_backup(&self, backup: &str, flags: u64) -> zbus::Result<()>;
    /// Starts to delete what retention does not keep.
    fn prune(&self, options: &Options<'_>, flags: u64) -> zbus::Result<(u64, OwnedObjectPath)>;
    /// Why backups stay or go; JSON.
    fn explain_retention(&self, source: &str, options: &Options<'_>, flags: u64) -> zbus::Result<String>;
    /// What can be brought back.
    fn list_deleted(&self, flags: u64) -> zbus::Result<Vec<DeletedRow>>;
    /// Brings one back.
    fn undelete_backup(&self, backup: &str, flags: u64) -> zbus::Result<String>;
    /// Who needs how much space; JSON.
    fn describe_space(&self, flags: u64) -> zbus::Result<String>;
}

/// Numbers about backups and jobs.
#[zbus::proxy(interface = "org.backupd1.Statistics", default_service = "org.backupd1", default_path = "/org/backupd1")]
pub trait Statistics {
    /// Numbers about a source, or all, as JSON.
    fn get_statistics(&self, source: &str, flags: u64) -> zbus::Result<String>;
    /// What changed from one backup to another, as JSON.
    fn diff_backups(&self, from: &str, to: &str, flags: u64) -> zbus::Result<String>;
}

/// A source.
#[zbus::proxy(interface = "org.backupd1.Source", default_service = "org.backupd1")]
pub trait Source {
    /// Free text of its file.
    #[zbus(property)]
    fn description(&self) -> zbus::Result<String>;
    /// The id of its newest backup; empty for none.
    #[zbus(property)]
    fn last_backup(&self) -> zbus::Result<String>;
    /// The time of that one's snapshot; 0 for none.
    #[zbus(property)]
    fn last_backup_at(&self) -> zbus::Result<u64>;
    /// Where it is, for people.
    #[zbus(property)]
    fn location(&self) -> zbus::Result<String>;
    /// Its name.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> zbus::Result<String>;
    /// What is wrong with its file.
    #[zbus(property)]
    fn problem(&self) -> zbus::Result<String>;
    /// The number of the job that backs it up; 0 for none.
    #[zbus(property)]
    fn running_job(&self) -> zbus::Result<u64>;
    /// `enabled`, `disabled` or `broken`.
    #[zbus(property)]
    fn state(&self) -> zbus::Result<String>;
    /// `postgresql` or `sqlite`.
    #[zbus(property, name = "Type")]
    fn source_type(&self) -> zbus::Result<String>;
}
