//! What went wrong in the client, or what the daemon said went wrong.

use std::{fmt, io};

use zbus::{DBusError as _, fdo};

use crate::{
    model::{ErrorCode, error_code::TABLE},
    service::ServiceError,
};

/// An exit code of its own: 128 + SIGINT, as a shell shows a command that was interrupted.
const INTERRUPTED: u8 = 130;

/// Why the command did not do what was asked.
#[derive(Debug)]
pub(crate) struct CtlError {
    kind: Kind,
    message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code(ErrorCode),
    /// The reader of standard output went away: no failure, nothing more to do.
    ReaderGone,
    /// Control-C: the job goes on, so its outcome is not known.
    Detached,
    /// The user answered no.
    Declined,
    /// What was looked at is not as it should be; all of it was said.
    Findings,
    /// Everything is said already; this is only the exit code of a monitoring plugin.
    Health(u8),
}

impl CtlError {
    /// A failure with a code of the table.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { kind: Kind::Code(code), message: message.into() }
    }

    /// A wrong command line.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgs, message)
    }

    /// The user let go of a job that goes on.
    pub(crate) fn detached(message: impl Into<String>) -> Self {
        Self { kind: Kind::Detached, message: message.into() }
    }

    /// The user answered no.
    pub(crate) fn declined(message: impl Into<String>) -> Self {
        Self { kind: Kind::Declined, message: message.into() }
    }

    /// What was looked at is not as it should be; all of it was said.
    pub(crate) fn findings(message: impl Into<String>) -> Self {
        Self { kind: Kind::Findings, message: message.into() }
    }

    /// The failure of a job, by the name that its record has.
    pub(crate) fn of_job(name: &str, message: &str) -> Self {
        let code = TABLE.iter().find(|row| row.name == name || row.dbus_name == name).map(|row| row.code);
        Self::new(code.unwrap_or(ErrorCode::Failed), message)
    }

    /// A failure of the local system.
    pub(crate) fn io(attempted: impl fmt::Display, error: &io::Error) -> Self {
        let code = if error.kind() == io::ErrorKind::StorageFull { ErrorCode::NoSpace } else { ErrorCode::Io };
        Self::new(code, format!("{attempted}: {error}"))
    }

    /// No failure: health is not good, which was printed.
    pub(crate) fn health(exit_code: u8) -> Self {
        Self { kind: Kind::Health(exit_code), message: String::new() }
    }

    /// A failure to write standard output.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self { kind: Kind::ReaderGone, message: String::new() };
        }
        Self::io("cannot write to standard output", error)
    }

    /// Whether the daemon was not there, or went away.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.kind == Kind::Code(ErrorCode::DaemonUnreachable)
    }

    /// The same failure, told with what it left behind.
    #[must_use]
    pub(crate) fn with_message(&self, message: String) -> Self {
        Self { kind: self.kind, message }
    }

    /// Whether a source is not configured.
    pub(crate) fn is_no_such_source(&self) -> bool {
        self.kind == Kind::Code(ErrorCode::NoSuchSource)
    }

    /// Whether it was called wrongly, such as for one backup with what means several.
    pub(crate) fn is_usage(&self) -> bool {
        self.kind == Kind::Code(ErrorCode::InvalidArgs)
    }

    /// Whether the caller may not do it.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self.kind, Kind::Code(ErrorCode::AccessDenied | ErrorCode::InteractiveAuthorizationRequired))
    }

    pub(crate) fn is_silent(&self) -> bool {
        matches!(self.kind, Kind::ReaderGone | Kind::Health(_))
    }

    /// The exit code, as documented in backupctl(1).
    pub(crate) fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Code(code) => code.row().exit_code,
            Kind::ReaderGone => 0,
            Kind::Detached => INTERRUPTED,
            Kind::Health(code) => code,
            Kind::Declined => ErrorCode::Canceled.row().exit_code,
            Kind::Findings => ErrorCode::Failed.row().exit_code,
        }
    }

    /// What helps.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self.kind {
            // The message of a wrong command line says all that can be said.
            Kind::Code(ErrorCode::InvalidArgs)
            | Kind::ReaderGone
            | Kind::Health(_)
            | Kind::Detached
            | Kind::Declined
            | Kind::Findings => None,
            Kind::Code(code) => Some(code.row().hint),
        }
    }
}

impl fmt::Display for CtlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CtlError {}

impl From<ServiceError> for CtlError {
    fn from(error: ServiceError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<fdo::Error> for CtlError {
    fn from(error: fdo::Error) -> Self {
        Self::from(zbus::Error::FDO(Box::new(error)))
    }
}

impl From<zbus::Error> for CtlError {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::FDO(error) => from_standard(*error),
            zbus::Error::MethodError(name, text, _) if is_of_activation(name.as_str()) => {
                not_started(text.as_deref().unwrap_or_default())
            }
            zbus::Error::MethodError(name, text, _) => {
                let message = text.unwrap_or_else(|| format!("the daemon answered with the error {name}"));
                Self::new(ErrorCode::from_dbus_name(name.as_str()).unwrap_or(ErrorCode::Failed), message)
            }
            zbus::Error::InputOutput(error) if error.kind() == io::ErrorKind::TimedOut => {
                Self::new(ErrorCode::DaemonUnreachable, "the daemon did not answer in time")
            }
            zbus::Error::InputOutput(error) => {
                Self::new(ErrorCode::DaemonUnreachable, format!("the connection to the daemon broke: {error}"))
            }
            error @ (zbus::Error::Connection(..) | zbus::Error::Handshake(_)) => {
                Self::new(ErrorCode::DaemonUnreachable, format!("cannot connect: {error}"))
            }
            zbus::Error::Address(text) => Self::usage(format!("not a D-Bus address: {text}")),
            zbus::Error::SignatureMismatch(..) | zbus::Error::InvalidReply => {
                Self::new(ErrorCode::NotSupported, "the daemon answered in a form that this version does not know")
            }
            error => Self::new(ErrorCode::Failed, error.to_string()),
        }
    }
}

/// Whether this is an error of starting the daemon, with which the bus answers in its place.
fn is_of_activation(name: &str) -> bool {
    name.starts_with("org.freedesktop.systemd1.") || name.starts_with("org.freedesktop.DBus.Error.Spawn.")
}

fn not_started(text: &str) -> CtlError {
    let message = format!("the daemon is not running, and the bus cannot start it: {text}");
    CtlError::new(ErrorCode::DaemonUnreachable, message)
}

/// A sentence for each of the bus's own errors that people meet.
fn from_standard(error: fdo::Error) -> CtlError {
    let text = error.description().unwrap_or_default().to_owned();
    if is_of_activation(error.name().as_str()) {
        return not_started(&text);
    }
    let (code, message) = match &error {
        fdo::Error::ServiceUnknown(_) | fdo::Error::NameHasNoOwner(_) => {
            (ErrorCode::DaemonUnreachable, "the daemon is not running: nobody owns org.backupd1 on the bus".to_owned())
        }
        fdo::Error::NoReply(_) | fdo::Error::Disconnected(_) => {
            (ErrorCode::DaemonUnreachable, "the daemon went away before it answered".to_owned())
        }
        fdo::Error::Timeout(_) | fdo::Error::TimedOut(_) => {
            (ErrorCode::DaemonUnreachable, "the daemon did not answer in time".to_owned())
        }
        fdo::Error::UnknownMethod(_) | fdo::Error::UnknownInterface(_) | fdo::Error::UnknownObject(_) => (
            ErrorCode::NotSupported,
            format!("the daemon does not know this call; is it of an older version than this program? {text}"),
        ),
        other => (ErrorCode::from_dbus_name(other.name().as_str()).unwrap_or(ErrorCode::Failed), text),
    };
    CtlError::new(code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_table() {
        for row in TABLE {
            assert_eq!(CtlError::of_job(row.name, "x").exit_code(), row.exit_code);
            assert_eq!(CtlError::of_job(row.dbus_name, "x").exit_code(), row.exit_code);
        }
        assert_eq!(CtlError::of_job("SomethingNew", "x").exit_code(), 1);
        assert_eq!(CtlError::detached("x").exit_code(), 130);
        assert_eq!(CtlError::output(&io::ErrorKind::BrokenPipe.into()).exit_code(), 0);
        assert_eq!(CtlError::output(&io::ErrorKind::StorageFull.into()).exit_code(), 13);
    }

    #[test]
    fn the_errors_of_the_bus_get_a_sentence() {
        for (error, code, part) in [
            (fdo::Error::ServiceUnknown("x".into()), ErrorCode::DaemonUnreachable, "is not running"),
            (fdo::Error::SpawnChildExited("x".into()), ErrorCode::DaemonUnreachable, "cannot start it: x"),
            (fdo::Error::NoReply("x".into()), ErrorCode::DaemonUnreachable, "went away"),
            (fdo::Error::AccessDenied("only root may".into()), ErrorCode::AccessDenied, "only root may"),
            (fdo::Error::LimitsExceeded("full".into()), ErrorCode::LimitsExceeded, "full"),
            (fdo::Error::InvalidArgs("odd".into()), ErrorCode::InvalidArgs, "odd"),
            (fdo::Error::UnknownMethod("x".into()), ErrorCode::NotSupported, "older version"),
        ] {
            let error = CtlError::from(error);
            assert_eq!(error.exit_code(), code.row().exit_code);
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
