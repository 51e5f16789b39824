//! The verbs about what stays and what goes.

use clap::Args;

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
