//! Where messages go: with their fields to the journal where stderr is connected to it, otherwise as lines to stderr.

use std::{env, io::IsTerminal as _, os::unix::fs::MetadataExt as _};

use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    field::MakeExt as _,
    fmt::format::debug_fn,
    layer::SubscriberExt as _,
    util::{SubscriberInitExt as _, TryInitError},
};

/// Messages could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The level is not one.
    #[error(
        "{0:?} is not a log level: it must be error, warn, info, debug, trace, or a filter like backupd=debug,warn"
    )]
    Level(String),
    /// They were set up before.
    #[error(transparent)]
    Init(#[from] TryInitError),
}

/// Sends messages of this level and above to the journal or stderr. One word is the level of this program's own
/// messages, those of libraries beginning at `warn`; otherwise it is a filter as tracing-subscriber's `EnvFilter` reads.
///
/// # Errors
/// For a level that is none.
pub fn init(level: &str) -> Result<(), LoggingError> {
    let filter = filter(level)?;
    if connected_to_journal() {
        match tracing_journald::layer() {
            Ok(layer) => {
                // INFO would be shown bold, as notice, by default.
                let priorities = PriorityMappings {
                    info: Priority::Informational,
                    debug: Priority::Debug,
                    trace: Priority::Debug,
                    ..PriorityMappings::new()
                };
                let layer = layer
                    .with_field_prefix(None)
                    .with_syslog_identifier("backupd".to_owned())
                    .with_priority_mappings(priorities);
                return Ok(tracing_subscriber::registry().with(layer.with_filter(filter)).try_init()?);
            }
            Err(error) => eprintln!("<4>cannot reach the journal, writing lines instead: {error}"),
        }
    }
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .fmt_fields(
            debug_fn(|writer, field, value| match field.name() {
                "MESSAGE_ID" => Ok(()), // Means something to the journal only.
                "message" => write!(writer, "{value:?}"),
                name => write!(writer, "{name}={value:?}"),
            })
            .delimited(" "),
        );
    Ok(tracing_subscriber::registry().with(layer.with_filter(filter)).try_init()?)
}

fn filter(level: &str) -> Result<EnvFilter, LoggingError> {
    let wrong = || LoggingError::Level(level.to_owned());
    let words = ["error", "warn", "info", "debug", "trace"];
    let directives = match words.contains(&level) {
        true => format!("{},backupd={level}", if level == "error" { "error" } else { "warn" }),
        false if level.contains('=') => level.to_owned(),
        false => return Err(wrong()),
    };
    EnvFilter::try_new(directives).map_err(|_| wrong())
}

/// Whether stderr is the journal's stream: `$JOURNAL_STREAM` is its device and inode (systemd.exec(5)). The variable
/// alone is not enough: it is inherited by what runs in a terminal of a service.
fn connected_to_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    std::fs::metadata("/dev/stderr").is_ok_and(|stderr| stream == format!("{}:{}", stderr.dev(), stderr.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_words_or_filters() {
        for good in ["error", "info", "trace", "backupd=debug", "backupd::bus=trace,warn"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["", "loud", "backupd=loud", "INFO "] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}
