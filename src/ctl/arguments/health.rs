//! The arguments of `health`.

use clap::Args;

/// `health`.
#[derive(Debug, Args)]
pub struct HealthArguments {
    /// This source and what concerns all of them, instead of everything
    pub source: Option<String>,
}
