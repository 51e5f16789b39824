//! The verbs about what stays and what goes.

use clap::{Args, Subcommand};

/// `prune`
#[derive(Debug, Args)]
pub struct PruneArguments {
    /// Only backups of this source
    #[arg(value_name = "SOURCE")]
    pub source: Option<String>,
    /// Print what would go, and delete nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Also where the policy changed and would delete more than a third of a source
    #[arg(long)]
    pub force: bool,
    /// Judge by the order of backups, even where their times contradict it
    #[arg(long)]
    pub despite_clock: bool,
}

/// `retention`
#[derive(Debug, Subcommand)]
pub enum RetentionVerb {
    /// Show of each backup why it stays or goes, and when
    Explain(ExplainArguments),
}

/// `retention explain`
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// Only backups of this source
    #[arg(value_name = "SOURCE")]
    pub source: Option<String>,
    /// Judge by the order of backups, even where their times contradict it
    #[arg(long)]
    pub despite_clock: bool,
}

/// `undelete`
#[derive(Debug, Args)]
pub struct UndeleteArguments {
    /// The ids of deleted backups, or beginnings of them; those that there are, if none is given
    #[arg(value_name = "ID")]
    pub backups: Vec<String>,
}

/// `pin`
#[derive(Debug, Args)]
pub struct PinArguments {
    /// The backup
    #[arg(value_name = "BACKUP")]
    pub backup: String,
    /// When the pin ends, at the end of this day or time [default: never]
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Why, for who finds it later
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
}

/// `unpin`
#[derive(Debug, Args)]
pub struct UnpinArguments {
    /// The backup
    #[arg(value_name = "BACKUP")]
    pub backup: String,
}
