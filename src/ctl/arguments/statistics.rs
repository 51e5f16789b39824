//! The verbs that tell numbers.

use clap::Args;

/// `stats`
#[derive(Debug, Args)]
pub struct StatsArguments {
    /// The source, or SOURCE/DATABASE of a whole server; all of them if it is not given
    #[arg(value_name = "SOURCE")]
    pub source: Option<String>,
}

/// `diff`
#[derive(Debug, Args)]
pub struct DiffArguments {
    /// The backup to compare with
    #[arg(value_name = "BACKUP")]
    pub from: String,
    /// The backup that is compared
    #[arg(value_name = "BACKUP")]
    pub to: String,
}
