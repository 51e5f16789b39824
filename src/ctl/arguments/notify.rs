//! The verbs about notices.

use clap::Subcommand;

/// `notify`
#[derive(Debug, Subcommand)]
pub enum NotifyVerb {
    /// Send a test through a notifier, or all, and say how it went
    Test {
        /// The notifier, by its name in backupd.toml; all of them if it is not given
        #[arg(value_name = "NAME")]
        notifier: Option<String>,
    },
    /// Show what waits to be told, and why
    Queue,
}
