//! `source`: adding, removing, enabling and disabling sources. These verbs write files, so root runs them on the host of
//! the daemon; the daemon itself cannot write its configuration.
//!
//! - `add`, `remove`, `switch`: the verbs; `file`: the text of a source's file and how it is written;
//! - `credential`: passwords, from where they are given to where systemd takes them from;
//! - `probe`: the test of a connection, in a child that is the daemon's user;
//! - `effect`: what systemd and the daemon are told afterwards.
//!
//! Invariants: nothing is written before the daemon's own reading of the new text found no problem; a file appears or
//! changes as a whole; credentials come before the file that names them, and go after it; a password is in no argument,
//! message or environment.

mod add;
mod credential;
mod effect;
mod file;
mod probe;
mod remove;
mod switch;

use std::path::{Path, PathBuf};

use super::super::{
    arguments::{Common, PlaceArguments, SourceVerb},
    error::CtlError,
    output::Output,
    systemd,
};
use crate::{
    config::{self, DEFAULT_DIRECTORY},
    model::{ErrorCode, SourceName},
};

/// The user that the daemon runs as.
const DAEMON: &str = "backupd";

pub(super) async fn run(verb: &SourceVerb, common: &Common, output: &Output) -> Result<(), CtlError> {
    match verb {
        SourceVerb::Add(arguments) => add::run(arguments, common, output).await,
        SourceVerb::Remove(arguments) => remove::run(arguments, common, output).await,
        SourceVerb::Enable(arguments) => switch::run(arguments, true, common, output).await,
        SourceVerb::Disable(arguments) => switch::run(arguments, false, common, output).await,
        SourceVerb::Probe => probe::answer().await,
    }
}

/// Where one source is configured.
struct Place {
    name: SourceName,
    config_dir: PathBuf,
    file: PathBuf,
}

impl Place {
    fn of(name: &str, place: &PlaceArguments) -> Result<Self, CtlError> {
        let name: SourceName = name.parse().map_err(|error| CtlError::usage(format!("{error}")))?;
        let config_dir = place.config_dir.clone();
        Ok(Self { file: config::source_file(&config_dir, &name), name, config_dir })
    }

    /// Refuses what would fail half-way: on the configuration of the system only root may do this.
    fn may_write(&self) -> Result<(), CtlError> {
        if self.is_the_systems() && !nix::unistd::geteuid().is_root() {
            let message = format!("only root can change sources in {}", self.config_dir.display());
            return Err(CtlError::new(ErrorCode::AccessDenied, message));
        }
        Ok(())
    }

    fn is_the_systems(&self) -> bool {
        self.config_dir == Path::new(DEFAULT_DIRECTORY)
    }

    /// Whether systemd runs the daemon of this configuration.
    fn has_units(&self) -> bool {
        self.is_the_systems() && systemd::is_running()
    }

    /// The text of the file that is there.
    fn read(&self) -> Result<String, CtlError> {
        match std::fs::read_to_string(&self.file) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let message = format!("no source {} is configured: there is no {}", self.name, self.file.display());
                Err(CtlError::new(ErrorCode::NoSuchSource, message))
            }
            Err(error) => Err(CtlError::io(format_args!("cannot read {}", self.file.display()), &error)),
        }
    }
}
