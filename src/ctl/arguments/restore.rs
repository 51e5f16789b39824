//! `restore`, and the ways back from it.

use clap::{Args, Subcommand};

use super::{BackupArguments, Waiting};
use crate::service::operations::RestoreOptions;

/// `restore`
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_value_name = "undo|forget",
    subcommand_help_heading = "Way back"
)]
pub struct RestoreArguments {
    #[command(subcommand)]
    #[allow(missing_docs, reason = "documented at its type")]
    pub verb: Option<RestoreVerb>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "documented at its type")]
    pub backup: BackupArguments,
    /// The name of the new database, or the path of the new file [default: the original's]
    #[arg(long, value_name = "DATABASE|PATH", default_value = "", hide_default_value = true)]
    pub to: String,
    /// Who a new SQLite file shall belong to [default: the user of the daemon]
    #[arg(long, value_name = "USER[:GROUP]", default_value = "", hide_default_value = true)]
    pub owner: String,
    /// Create the roles that are missing on the server
    #[arg(long)]
    pub create_roles: bool,
    /// Restore no ownership: everything belongs to the restoring user
    #[arg(long)]
    pub no_owner: bool,
    /// Restore no privileges (GRANT, REVOKE)
    #[arg(long)]
    pub no_privileges: bool,
    /// Restore only this table, schema.table (can be repeated)
    #[arg(long = "table", value_name = "TABLE")]
    pub tables: Vec<String>,
    /// Build indexes with this many connections [default: one per processor]
    #[arg(short, long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub jobs: u32,
    /// Restore all databases of a run over a whole server, SOURCE or SOURCE@latest, with all roles, each under its own name
    #[arg(long, conflicts_with_all = ["to", "owner", "tables"])]
    pub all: bool,
    /// Replace the database or file given by --to; without --to the original is replaced where it exists
    #[arg(long)]
    pub replace: bool,
    /// Replace nothing: a database or file of the name stands in the way
    #[arg(long, conflicts_with = "replace")]
    pub no_replace: bool,
    /// Take no backup of what is replaced first
    #[arg(long)]
    pub no_backup: bool,
    /// Do not keep what is replaced, only the backup that is taken of it first
    #[arg(long, conflicts_with = "no_backup")]
    pub no_undo: bool,
    /// Replace a database also where somebody replicates from it or it subscribes
    #[arg(long)]
    pub break_replication: bool,
    /// Carry out the plan with this id, or nothing if what it depends on has changed
    #[arg(long, value_name = "PLAN", conflicts_with_all = [
        "backup", "backup_option", "to", "owner", "create_roles", "no_owner", "no_privileges", "tables", "jobs", "all", "replace",
        "no_replace", "no_backup", "no_undo", "break_replication", "dry_run",
    ])]
    pub apply: Option<String>,
    /// Print what would be done and what stands in the way; touch nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// The server to restore to, with --no-daemon: postgresql://USER@HOST (a password comes from $PGPASSWORD or $PGPASSFILE)
    #[arg(long, value_name = "URI")]
    pub connection: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "documented at its type")]
    pub waiting: Waiting,
}

impl RestoreArguments {
    /// The options as the service takes them.
    #[must_use]
    pub fn options(&self) -> RestoreOptions {
        RestoreOptions {
            to: self.to.clone(),
            owner: self.owner.clone(),
            create_roles: self.create_roles,
            no_owner: self.no_owner,
            no_privileges: self.no_privileges,
            tables: self.tables.clone(),
            jobs: self.jobs,
            all: self.all,
            // What goes to the original's place is meant to take it, or to stand beside it.
            replace: self.replace || !self.no_replace && self.to.is_empty() && !self.all,
            break_replication: self.break_replication,
            no_backup: self.no_backup,
            no_undo: self.no_undo,
            plan: String::new(),
        }
    }
}

/// What `restore` can do but restore.
#[derive(Debug, Subcommand)]
pub enum RestoreVerb {
    /// Bring back what a restore replaced; without JOB, list what can be
    Undo(UndoArguments),
    /// Drop what is kept for an undo, before its time
    Forget {
        /// The number of the job that restored
        #[arg(value_name = "JOB")]
        job: u64,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// `restore undo`
#[derive(Debug, Args)]
pub struct UndoArguments {
    /// The number of the job that restored
    #[arg(value_name = "JOB")]
    pub job: Option<u64>,
    /// Undo also where somebody replicates from the restored database or it subscribes
    #[arg(long)]
    pub break_replication: bool,
    /// Print what would be done and what stands in the way; touch nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "documented at its type")]
    pub waiting: Waiting,
}
