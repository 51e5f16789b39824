//! `watch`, the dead-man's switch.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::config;

/// `watch`
#[derive(Debug, Args)]
pub struct WatchArguments {
    /// Look at the backups only, not at the daemon
    #[arg(long)]
    pub skip_daemon: bool,
    /// Tell the configured notifiers, too
    #[arg(long)]
    pub notify: bool,
    /// The directory of backupd.toml
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, default_value = config::DEFAULT_DIRECTORY)]
    pub config_dir: PathBuf,
    /// Where it is remembered what was told already [default: $STATE_DIRECTORY, else nowhere]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state_dir: Option<PathBuf>,
}
