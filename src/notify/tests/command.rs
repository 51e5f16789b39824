//! Programs that are told.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use super::routing::{notice, notifier};
use crate::{
    config::{
        NotifyConfig,
        notify::{Carrier, MailConfig, Transport},
    },
    model::notice::{Event, Severity},
    notify::{SendError, queue::Failure, send_now},
};

/// A script in a folder of its own.
fn script(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    fs::write(&path, format!("#!/bin/sh\ncd {}\n{text}\n", folder.path().display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    (folder, path)
}

async fn tell(transport: Transport, timeout: Duration) -> Result<(), SendError> {
    let config = NotifyConfig { transport, timeout, ..notifier() };
    send_now(&config, notice(Event::Failure, Severity::Critical, "shop", 1)).await
}

#[tokio::test]
async fn a_program_gets_the_text_and_the_facts_and_nothing_else() {
    let (folder, path) = script("cat > text; env > facts");
    let command = Transport::Command(vec![path.display().to_string()]);
    tell(command, Duration::from_secs(20)).await.unwrap();
    let text = fs::read_to_string(folder.path().join("text")).unwrap();
    assert!(text.starts_with("CRITICAL: failure of shop\n"), "{text}");
    let facts = fs::read_to_string(folder.path().join("facts")).unwrap();
    assert!(facts.contains("BACKUPD_EVENT=failure\n") && facts.contains("BACKUPD_SOURCE=shop\n"), "{facts}");
    assert!(!facts.contains("CARGO"), "{facts}");
}

#[tokio::test]
async fn what_a_program_says_of_its_failure_is_told() {
    let (_folder, path) = script("exec <&-; echo no such room >&2; exit 3");
    let error = tell(Transport::Command(vec![path.display().to_string()]), Duration::from_secs(20)).await.unwrap_err();
    assert!(error.to_string().ends_with("ended with exit status: 3: no such room"), "{error}");
    assert_eq!(error.failure, Failure::Passing);
    let error = tell(Transport::Command(vec!["/nonexistent".into()]), Duration::from_secs(20)).await.unwrap_err();
    assert!(error.to_string().starts_with("/nonexistent: cannot be started: "), "{error}");
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_what_it_started() {
    // The lock is held by the program and its child for as long as one of them lives.
    let (folder, path) = script("exec 9>lock; flock 9; echo > began; sleep 1000 & wait");
    let error = tell(Transport::Command(vec![path.display().to_string()]), Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.to_string(), "the command did not get through in 1 seconds");
    assert!(folder.path().join("began").exists());
    let lock = fs::File::open(folder.path().join("lock")).unwrap();
    tokio::task::spawn_blocking(move || lock.lock()).await.unwrap().unwrap();
}

#[tokio::test]
async fn sendmail_gets_a_mail() {
    let (folder, path) = script("echo \"$@\" > arguments; cat > mail");
    let mail = MailConfig { from: None, to: vec!["Ops <ops@example.org>".into()], carrier: Carrier::Sendmail(path) };
    tell(Transport::Mail(mail), Duration::from_secs(20)).await.unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("arguments")).unwrap(), "-i -t\n");
    let mail = fs::read_to_string(folder.path().join("mail")).unwrap();
    for line in [
        "From: backupd@",
        "To: Ops <ops@example.org>",
        "Auto-Submitted: auto-generated",
        "X-Backupd-Severity: critical",
    ] {
        assert!(mail.lines().any(|found| found.starts_with(line)), "{line}: {mail}");
    }
    assert!(mail.contains("CRITICAL: failure of shop"), "{mail}");
}
