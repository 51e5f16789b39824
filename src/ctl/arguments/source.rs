//! `source`: what is configured.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use crate::config;

/// `source`
#[derive(Debug, Subcommand)]
pub enum SourceVerb {
    /// Configure a database as a source, after a test of its connection
    Add(Box<AddArguments>),
    /// Take a source out of the configuration; its backups stay
    Remove(RemoveArguments),
    /// Let a source be backed up again
    Enable(NameArguments),
    /// Keep a source from being backed up; its file and its backups stay
    Disable(NameArguments),
    /// Test a connection as the daemon's user; what to test comes from standard input
    #[command(hide = true)]
    Probe,
}

/// Which source.
#[derive(Debug, Args)]
pub struct NameArguments {
    /// The source
    #[arg(value_name = "SOURCE")]
    pub name: String,
    #[command(flatten)]
    #[allow(missing_docs, reason = "documented at its type")]
    pub place: PlaceArguments,
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub struct PlaceArguments {
    /// The directory of backupd.toml
    #[arg(long, value_name = "DIR", default_value = config::DEFAULT_DIRECTORY)]
    pub config_dir: PathBuf,
}

/// `source add`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["database", "uri", "sqlite"]))]
#[command(group = ArgGroup::new("password").args(["password_file", "ask_password"]))]
#[command(group = ArgGroup::new("restore_password").args(["restore_password_file", "ask_restore_password"]))]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct AddArguments {
    /// The name of the new source
    #[arg(value_name = "SOURCE")]
    pub name: String,
    /// A PostgreSQL database, or `all` for every database of the server
    #[arg(long, value_name = "DATABASE")]
    pub database: Option<String>,
    /// A PostgreSQL database by its URI, without a password
    #[arg(long, value_name = "URI", conflicts_with_all = ["host", "port", "user"])]
    pub uri: Option<String>,
    /// An SQLite database: the path of its file
    #[arg(long, value_name = "PATH", conflicts_with_all = ["host", "port", "user", "password", "restore_user"])]
    pub sqlite: Option<PathBuf>,
    /// The server, or the folder of its socket [default: /run/postgresql]
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// The server's port [default: 5432]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// The role that reads [default: backupd]
    #[arg(long, value_name = "ROLE")]
    pub user: Option<String>,
    /// Its password is the first line of this file, or of standard input for `-`
    #[arg(long, value_name = "FILE|-")]
    pub password_file: Option<PathBuf>,
    /// Ask on the terminal for its password
    #[arg(long)]
    pub ask_password: bool,
    /// The role that restores
    #[arg(long, value_name = "ROLE")]
    pub restore_user: Option<String>,
    /// The server that is restored to [default: the one that is read; 127.0.0.1 in place of a socket if there is a password]
    #[arg(long, value_name = "HOST", requires = "restore_user")]
    pub restore_host: Option<String>,
    /// The password of the role that restores, as --password-file
    #[arg(long, value_name = "FILE|-", requires = "restore_user")]
    pub restore_password_file: Option<PathBuf>,
    /// Ask on the terminal for the password of the role that restores
    #[arg(long, requires = "restore_user")]
    pub ask_restore_password: bool,
    /// Encrypt passwords with a key of this host, by systemd-creds
    #[arg(long)]
    pub encrypt: bool,
    /// When backups are taken: a calendar event, or cron's five fields (can be repeated)
    #[arg(long, value_name = "WHEN")]
    pub schedule: Vec<String>,
    /// Free text
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub description: String,
    /// Add it also if the test of the connection fails, and make none
    #[arg(long, conflicts_with = "dry_run")]
    pub no_check: bool,
    /// Test the connection, print the file, the SQL for the roles and what would be done; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the SQL for the roles, for psql as a superuser, and do nothing else
    #[arg(long, conflicts_with_all = ["dry_run", "no_check", "sqlite"])]
    pub print_sql: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "documented at its type")]
    pub place: PlaceArguments,
}

/// `source remove`
#[derive(Debug, Args)]
pub struct RemoveArguments {
    #[command(flatten)]
    #[allow(missing_docs, reason = "documented at its type")]
    pub source: NameArguments,
    /// Print what would be done; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}
