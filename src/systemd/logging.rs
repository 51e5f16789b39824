//! Where messages go: with their fields to the journal where stderr is connected to it, otherwise as lines to stderr.
//! How much, and where, can be changed while the program runs.
//!
//! Invariant: each way has a filter of its own, and the one that is not used lets nothing through.

use std::{
    env,
    io::IsTerminal as _,
    os::unix::fs::MetadataExt as _,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use tracing::level_filters::LevelFilter;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    field::MakeExt as _,
    fmt::format::debug_fn,
    layer::SubscriberExt as _,
    registry::LookupSpan,
    reload,
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

/// Where messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Journal,
    Console,
    Null,
}

/// How much goes where, changeable.
#[derive(Debug)]
pub struct Control {
    journal: Option<reload::Handle<EnvFilter, Registry>>,
    console: reload::Handle<EnvFilter, Registry>,
    /// Where messages go when nobody says otherwise.
    default: Target,
    now: Mutex<Now>,
}

#[derive(Debug, Clone)]
struct Now {
    filter: String,
    target: Target,
}

static CONTROL: OnceLock<Control> = OnceLock::new();

/// Sends messages of this level and above to the journal or stderr. One word is the level of this program's own
/// messages, those of libraries beginning at `warn`; otherwise it is a filter as tracing-subscriber's `EnvFilter` reads.
///
/// # Errors
/// For a level that is none.
pub fn init(level: &str) -> Result<(), LoggingError> {
    init_with(level, Priority::Error)
}

/// As [`init`], for a program whose errors are all that keeps backups from being lost: to the journal they are critical.
///
/// # Errors
/// As [`init`].
pub fn init_critical(level: &str) -> Result<(), LoggingError> {
    init_with(level, Priority::Critical)
}

fn init_with(level: &str, error: Priority) -> Result<(), LoggingError> {
    let directives = directives(level)?;
    let wanted = if connected_to_journal() { Target::Journal } else { Target::Console };
    let journal = match (wanted, journal(error)) {
        (_, Ok(layer)) => Some(layer),
        (Target::Journal, Err(error)) => {
            eprintln!("<4>cannot reach the journal, writing lines instead: {error}");
            None
        }
        (_, Err(_)) => None,
    };
    let default = if journal.is_some() { wanted } else { Target::Console };
    let filter = |target| parse(&if target == default { directives.clone() } else { "off".to_owned() });
    let (journal_filter, journal_handle) = reload::Layer::new(filter(Target::Journal)?);
    let (console_filter, console_handle) = reload::Layer::new(filter(Target::Console)?);
    let journal_handle = journal.as_ref().map(|_| journal_handle);
    // The handles name the subscriber below their layers: both filters are those of layers on the registry itself.
    let layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = journal
        .map(|layer| layer.with_filter(journal_filter).boxed())
        .into_iter()
        .chain([console().with_filter(console_filter).boxed()])
        .collect();
    tracing_subscriber::registry().with(layers).try_init()?;
    let now = Mutex::new(Now { filter: directives, target: default });
    let _ = CONTROL.set(Control { journal: journal_handle, console: console_handle, default, now });
    Ok(())
}

/// What changes how much goes where, after [`init`].
#[must_use]
pub fn control() -> Option<&'static Control> {
    CONTROL.get()
}

impl Control {
    /// The level as syslog calls it: `err`, `warning`, `info` or `debug`.
    #[must_use]
    pub fn level(&self) -> &'static str {
        let filter = parse(&self.now().filter).ok();
        match filter.and_then(|filter| filter.max_level_hint()) {
            Some(LevelFilter::OFF | LevelFilter::ERROR) => "err",
            Some(LevelFilter::WARN) => "warning",
            Some(LevelFilter::INFO) => "info",
            _ => "debug",
        }
    }

    /// Sets the level, by syslog's words or this program's own.
    ///
    /// # Errors
    /// A sentence about a word that is none.
    pub fn set_level(&self, level: &str) -> Result<(), String> {
        let word = match level {
            "emerg" | "alert" | "crit" | "err" => "error",
            "warning" | "notice" => "warn",
            other => other,
        };
        let filter = directives(word).map_err(|_| {
            format!("{level:?} is not a log level: it must be emerg, alert, crit, err, warning, notice, info or debug")
        })?;
        let mut now = self.now();
        let next = Now { filter, ..now.clone() };
        self.apply(&next)?;
        *now = next;
        Ok(())
    }

    /// Where messages go: `journal`, `console` or `null`.
    #[must_use]
    pub fn target(&self) -> &'static str {
        match self.now().target {
            Target::Journal => "journal",
            Target::Console => "console",
            Target::Null => "null",
        }
    }

    /// Sets where messages go; `auto` is where they went at the start.
    ///
    /// # Errors
    /// A sentence about a target that there is not.
    pub fn set_target(&self, target: &str) -> Result<(), String> {
        let target = match target {
            "auto" => self.default,
            "journal" if self.journal.is_some() => Target::Journal,
            "journal" => return Err("the journal cannot be reached".to_owned()),
            "console" => Target::Console,
            "null" => Target::Null,
            other => {
                return Err(format!("{other:?} is not a target here: it must be auto, journal, console or null"));
            }
        };
        let mut now = self.now();
        let next = Now { target, ..now.clone() };
        self.apply(&next)?;
        *now = next;
        Ok(())
    }

    fn apply(&self, next: &Now) -> Result<(), String> {
        let handles = [(Target::Journal, self.journal.as_ref()), (Target::Console, Some(&self.console))];
        for (target, handle) in handles {
            let Some(handle) = handle else { continue };
            let filter = parse(if target == next.target { &next.filter } else { "off" });
            let filter = filter.map_err(|error| error.to_string())?;
            handle.reload(filter).map_err(|error| format!("cannot change what is logged: {error}"))?;
        }
        Ok(())
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn journal(error: Priority) -> std::io::Result<tracing_journald::Layer> {
    // INFO would be shown bold, as notice, by default.
    let priorities = PriorityMappings {
        error,
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
        ..PriorityMappings::new()
    };
    let layer = tracing_journald::layer()?;
    Ok(layer.with_field_prefix(None).with_syslog_identifier("backupd".to_owned()).with_priority_mappings(priorities))
}

fn console<S: tracing::Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> + Send + Sync {
    tracing_subscriber::fmt::layer()
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
        )
}

/// A level as a filter.
fn directives(level: &str) -> Result<String, LoggingError> {
    let words = ["error", "warn", "info", "debug", "trace"];
    let directives = match words.contains(&level) {
        true => format!("{},backupd={level}", if level == "error" { "error" } else { "warn" }),
        false if level.contains('=') => level.to_owned(),
        false => return Err(LoggingError::Level(level.to_owned())),
    };
    parse(&directives).map(|_| directives).map_err(|_| LoggingError::Level(level.to_owned()))
}

fn parse(directives: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::try_new(directives).map_err(|_| LoggingError::Level(directives.to_owned()))
}

/// Whether stderr is the journal's stream: `$JOURNAL_STREAM` is its device and inode (systemd.exec(5)). The variable
/// alone is not enough: it is inherited by what runs in a terminal of a service.
/// Whether what goes to standard error goes to the journal.
#[must_use]
pub fn connected_to_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    std::fs::metadata("/dev/stderr").is_ok_and(|stderr| stream == format!("{}:{}", stderr.dev(), stderr.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_words_or_filters() {
        for good in ["error", "info", "trace", "backupd=debug", "backupd::bus=trace,warn"] {
            assert!(directives(good).is_ok(), "{good}");
        }
        for bad in ["", "loud", "backupd=loud", "INFO "] {
            assert!(directives(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn level_and_target_are_changed_apart() {
        let (_journal_filter, journal) = reload::Layer::<EnvFilter, Registry>::new(parse("off").unwrap());
        let (_console_filter, console) = reload::Layer::<EnvFilter, Registry>::new(parse("warn,backupd=info").unwrap());
        let now = Mutex::new(Now { filter: "warn,backupd=info".to_owned(), target: Target::Console });
        let control = Control { journal: Some(journal), console, default: Target::Console, now };
        let filters = || {
            [control.journal.as_ref().unwrap(), &control.console]
                .map(|h| h.clone_current().map(|f| f.to_string()).unwrap())
        };
        assert_eq!((control.level(), control.target()), ("info", "console"));
        for (word, level) in [("debug", "debug"), ("notice", "warning"), ("crit", "err"), ("info", "info")] {
            control.set_level(word).unwrap();
            assert_eq!(control.level(), level);
        }
        control.set_target("journal").unwrap();
        control.set_level("debug").unwrap();
        assert_eq!((control.level(), control.target()), ("debug", "journal"));
        assert!(filters()[0].contains("backupd=debug") && filters()[1] == "off", "{:?}", filters());
        control.set_target("null").unwrap();
        assert_eq!(filters(), ["off", "off"]);
        control.set_target("auto").unwrap();
        assert!(filters()[0] == "off" && filters()[1].contains("backupd=debug"), "{:?}", filters());
        assert!(control.set_level("loud").is_err() && control.set_target("kmsg").is_err());
        assert_eq!((control.level(), control.target()), ("debug", "console"));
    }
}
