//! Restores that fail leave nothing, and say where they stopped.

use super::fixture::*;
use crate::{
    model::{ErrorCode, job::Phase},
    source::{
        SourceError, WhileDoing,
        postgres::{
            restore::{self, RestoreChoices},
            test_server::TestServer,
        },
    },
    stream::CancelReason,
};

const SMALL: &str = "
CREATE ROLE app; CREATE DATABASE small OWNER app;
\\c small
CREATE TABLE t (id int, v text);
INSERT INTO t SELECT i, repeat('x', 50) FROM generate_series(1, 5000) i;
CREATE TABLE u (id int);
INSERT INTO u VALUES (1), (2);
ALTER TABLE t ADD PRIMARY KEY (id);
ALTER TABLE t OWNER TO app;
";

fn small() -> (TestServer, Job, Backup) {
    let server = TestServer::start("");
    server.sql("postgres", SMALL);
    let job = Job::new();
    let backup = job.back_up(&server, "small");
    (server, job, backup)
}

#[track_caller]
fn assert_nothing_left(server: &TestServer, job: &Job) {
    assert_eq!(leftovers(server), "");
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'copy'"), "0");
    assert_eq!(job.names.lock().unwrap().last(), Some(&None), "the journal still names a database");
    assert_eq!(std::fs::read_dir(job.scratch.path()).unwrap().count(), 0, "files are left in the scratch folder");
}

/// Changes a file of the set and what the manifest says of its length.
fn replace(backup: &mut Backup, file: &str, from: &[u8], to: &[u8]) {
    let content = backup.files.get_mut(file).unwrap();
    let at = memchr::memmem::find(content, from).unwrap();
    content.splice(at..at + from.len(), to.iter().copied());
}

#[test]
fn an_existing_target_is_refused() {
    let (server, job, backup) = small();
    let error = job.restore(&server, "postgres", &backup, RestoreChoices::default()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::TargetExists);
    assert!(job.names.lock().unwrap().is_empty());
}

#[test]
fn a_violated_constraint_ends_in_nothing() {
    let (server, job, mut backup) = small();
    replace(&mut backup, "data-001.sql", b"\n4999\t", b"\n4998\t");
    let error = job.restore(&server, "postgres", &backup, to("copy")).unwrap_err();
    assert_eq!(error.code(), ErrorCode::RestoreFailed);
    let text = error.to_string();
    assert!(text.contains("constraints") && text.contains("t_pkey") && text.contains("4998"), "{text}");
    assert_nothing_left(&server, &job);
}

#[test]
fn a_row_that_does_not_fit_ends_in_nothing() {
    let (server, job, mut backup) = small();
    replace(&mut backup, "data-001.sql", b"\n4999\t", b"\nnone\t");
    let error = job.restore(&server, "postgres", &backup, to("copy")).unwrap_err();
    assert_eq!(error.code(), ErrorCode::RestoreFailed);
    let text = error.to_string();
    assert!(text.contains("rows") && text.contains("COPY t, line 4999"), "{text}");
    assert_nothing_left(&server, &job);
}

#[test]
fn damage_in_the_middle_of_a_table_ends_in_nothing() {
    let (server, job, mut backup) = small();
    let place = memchr::memmem::find(&backup.files["data-001.sql"], b"\n2500\t").unwrap();
    backup.damaged = Some(("data-001.sql", place));
    let error = job.restore(&server, "postgres", &backup, to("copy")).unwrap_err();
    let SourceError::Sink(inner) = &error else { panic!("{error}") };
    let at = inner.get_ref().and_then(|inner| inner.downcast_ref::<WhileDoing>()).unwrap();
    assert!(at.attempted.contains("restoring the rows"), "{at}");
    assert_eq!(at.error.get_ref().and_then(|inner| inner.downcast_ref::<Damage>()), Some(&Damage));
    assert_nothing_left(&server, &job);
    assert!(!server.log().contains("COPY t, line 2500: \"\""), "psql saw an end of input");
}

#[test]
fn damage_in_the_schema_is_found_before_anything_is_touched() {
    let (server, job, mut backup) = small();
    backup.damaged = Some(("schema.dump", 100));
    let error = job.restore(&server, "postgres", &backup, to("copy")).unwrap_err();
    assert!(matches!(error, SourceError::Sink(_)), "{error}");
    assert!(job.names.lock().unwrap().is_empty());
}

#[test]
fn a_missing_row_is_found() {
    let (server, job, mut backup) = small();
    let file = backup.manifest.files.iter_mut().find(|file| file.name == "data-001.sql").unwrap();
    let table = file.tables.iter_mut().find(|table| table.name == "u".into()).unwrap();
    table.rows += 1;
    let error = job.restore(&server, "postgres", &backup, to("copy")).unwrap_err();
    assert_eq!(error.code(), ErrorCode::RestoreMismatch);
    assert!(error.to_string().contains("public.u has 2 rows, the backup counted 3"), "{error}");
    assert_nothing_left(&server, &job);
}

#[test]
fn created_roles_go_when_the_restore_fails() {
    let (_origin, job, mut backup) = small();
    let server = TestServer::start("");
    replace(&mut backup, "data-001.sql", b"\n4999\t", b"\n4998\t");
    let options = RestoreChoices { create_roles: true, ..to("copy") };
    let error = job.restore(&server, "postgres", &backup, options).unwrap_err();
    assert_eq!(error.code(), ErrorCode::RestoreFailed);
    assert_nothing_left(&server, &job);
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname = 'app'"), "0");
}

#[test]
fn a_cancel_ends_every_phase_in_nothing() {
    let (server, _, backup) = small();
    for phase in [Phase::Checking, Phase::Schema, Phase::Data, Phase::Comparing, Phase::PostData, Phase::Analyze] {
        let job = Job::new();
        let (progress, cancel) = (job.progress.clone(), job.cancel.clone());
        let watcher = std::thread::spawn(move || {
            while progress.phase() != phase {
                std::thread::yield_now();
            }
            cancel.cancel(CancelReason::Requested);
        });
        let result = job.restore(&server, "postgres", &backup, to("copy"));
        watcher.join().unwrap();
        assert_eq!(result.unwrap_err().code(), ErrorCode::Canceled, "{phase}");
        assert_eq!(leftovers(&server), "", "{phase}");
        assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'copy'"), "0", "{phase}");
    }
}

#[test]
fn the_server_may_die() {
    let (mut server, job, mut backup) = small();
    let log = server.folder().to_owned();
    backup.on_open = Some(Box::new(move |file| {
        if file.starts_with("data-") {
            let pid = std::fs::read_to_string(log.join("data/postmaster.pid")).unwrap();
            let pid = nix::unistd::Pid::from_raw(pid.lines().next().unwrap().parse().unwrap());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT).unwrap();
        }
    }));
    let error = job.restore(&server, "postgres", &backup, to("copy")).unwrap_err();
    assert!(error.to_string().contains("is still there"), "{error}");
    let name = job.names.lock().unwrap().last().cloned().flatten().expect("the journal keeps the name");

    server.restart();
    assert_eq!(leftovers(&server), name.display());
    let other = restore::sweep(&server.spec("postgres", "postgres"), &["small".into()], &job.context());
    assert_eq!(other.unwrap_err().code(), ErrorCode::InvalidArgs);
    restore::sweep(&server.spec("postgres", "postgres"), &[name], &job.context()).unwrap();
    assert_eq!(leftovers(&server), "");
}
