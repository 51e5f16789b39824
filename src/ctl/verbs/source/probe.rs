//! The test of a source's connection. Peer authentication and the rights on files depend on who asks, so a child of this
//! program becomes the daemon's user and asks. It is told what to test, passwords included, by its standard input.

use std::{
    collections::BTreeMap,
    ffi::CString,
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use nix::unistd::{User, geteuid, initgroups, setgid, setuid};
use serde::{Deserialize, Serialize};

use super::{
    super::super::{child, error::CtlError},
    DAEMON, Place,
    credential::Credential,
};
use crate::{
    config::{self, ConnectionSpec, PasswordSource, Secret, SourceConfig, SourceKind},
    model::ErrorCode,
    service::examination::{self, Examination},
    source::JobContext,
    stream::Cancel,
};

/// How long a test may take. What asks a server has limits of its own; this is for servers with very many databases.
const LIMIT: Duration = Duration::from_secs(300);
/// The folder on whose file system the daemon keeps temporary copies.
const STATE: &str = "/var/lib/backupd";

/// What the child is told.
#[derive(Serialize, Deserialize)]
struct Question {
    /// Whom to become.
    user: Option<String>,
    file: PathBuf,
    text: String,
    /// By the names of their credentials.
    passwords: BTreeMap<String, String>,
}

/// The user that a test is made as: the daemon's where this process may become it, and the caller otherwise.
pub(super) fn user() -> Option<&'static str> {
    let exists = User::from_name(DAEMON).is_ok_and(|user| user.is_some());
    (geteuid().is_root() && exists).then_some(DAEMON)
}

/// Tests what the text of a source's file says.
///
/// # Errors
/// When the test could not be made. What it found is in the answer.
pub(super) async fn ask(place: &Place, text: &str, credentials: &[Credential]) -> Result<Examination, CtlError> {
    let passwords = credentials.iter().map(|each| (each.name.clone(), each.secret.reveal().to_owned())).collect();
    let question =
        Question { user: user().map(str::to_owned), file: place.file.clone(), text: text.to_owned(), passwords };
    let question = serde_json::to_vec(&question).map_err(|error| broken(&error))?;
    let failed = |error: io::Error| CtlError::io("cannot test the connection", &error);
    // The file itself, also when an upgrade has put another in its place.
    let mut command = tokio::process::Command::new("/proc/self/exe");
    command.args(["source", "probe"]).env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
    let output = child::answer(&mut command, &question, LIMIT).await.map_err(failed)?.ok_or_else(|| {
        let message = format!("the test of the connection did not end within {} s", LIMIT.as_secs());
        CtlError::new(ErrorCode::TimedOut, message)
    })?;
    if !output.status.success() {
        let message = format!("the test of the connection could not be made ({})", output.status);
        return Err(CtlError::new(ErrorCode::Failed, message));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| broken(&error))
}

fn broken(error: &serde_json::Error) -> CtlError {
    CtlError::new(ErrorCode::Internal, format!("the test of the connection is not understood: {error}"))
}

/// What the child does: becomes the user, asks, and prints what it found.
pub(super) async fn answer() -> Result<(), CtlError> {
    let work = tokio::task::spawn_blocking(|| {
        let question: Question = serde_json::from_reader(io::stdin().lock()).map_err(|error| broken(&error))?;
        if let Some(name) = &question.user {
            become_user(name)?;
        }
        let source = config::read_source(&question.file, &question.text)
            .map_err(|errors| CtlError::new(errors.code(), errors.to_string()))?;
        let source = with_passwords(source, &question.passwords);
        let context = JobContext {
            cancel: Cancel::new(),
            progress: Arc::default(),
            scratch: PathBuf::from(STATE),
            runtime: tokio::runtime::Handle::current(),
        };
        serde_json::to_vec(&examination::examine(&source, &context)).map_err(|error| broken(&error))
    });
    let found = work.await.map_err(|error| CtlError::new(ErrorCode::Internal, error.to_string()))??;
    io::stdout().write_all(&found).map_err(|error| CtlError::output(&error))
}

/// For good: groups first, as a user may not change them.
fn become_user(name: &str) -> Result<(), CtlError> {
    let failed = |error: nix::Error| CtlError::io(format_args!("cannot become the user {name}"), &error.into());
    let user = User::from_name(name).map_err(failed)?;
    let user = user.ok_or_else(|| CtlError::new(ErrorCode::Failed, format!("there is no user {name}")))?;
    let c_name = CString::new(name).map_err(|error| CtlError::new(ErrorCode::Internal, error.to_string()))?;
    initgroups(&c_name, user.gid).and_then(|()| setgid(user.gid)).and_then(|()| setuid(user.uid)).map_err(failed)
}

/// The source with passwords in the place of credentials, which only the daemon has.
fn with_passwords(mut source: SourceConfig, passwords: &BTreeMap<String, String>) -> SourceConfig {
    let give = |spec: &mut ConnectionSpec| {
        if let PasswordSource::Credential(name) = &spec.password
            && let Some(password) = passwords.get(name)
        {
            spec.password = PasswordSource::Given(Secret::new(password.clone()));
        }
    };
    if let SourceKind::Postgres(postgres) = &mut source.kind {
        give(&mut postgres.connection);
        postgres.restore.iter_mut().for_each(give);
    }
    source
}
