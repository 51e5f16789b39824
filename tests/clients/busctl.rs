//! `busctl`, on a message bus.

use super::message_bus::OnBus;
use crate::common::{Finished, run, wait_until};

const MANAGER: [&str; 3] = ["org.backupd1", "/org/backupd1", "org.backupd1.Manager"];

fn call(on: &OnBus, arguments: &[&str]) -> Finished {
    run(on.bus.client("busctl").arg("call").args(MANAGER).args(arguments))
}

#[test]
fn creates_lists_and_restores() {
    let on = OnBus::start(None);
    let created = call(&on, &["CreateBackup", "sa{sv}t", "shop", "1", "tags", "as", "1", "nightly", "0"]).ok();
    assert_eq!(created.text(), "to 1 \"/org/backupd1/job/_1\"\n");
    let list = ["ListBackups", "a{sv}tst", "1", "tag", "s", "nightly", "0", "", "0"];
    wait_until("the backup is listed", || call(&on, &list).ok().text().contains("\"shop\""));
    wait_until("its job is done", || call(&on, &["ListJobs", "t", "0"]).ok().text().contains("\"done\""));
    call(&on, &["RestoreBackup", "sa{sv}t", "shop@latest", "1", "to", "s", "copy", "0"]).ok();
    wait_until("the copy is there", || on.has_database("copy"));
    assert_eq!(on.count_in("copy"), "1000");
}

#[test]
fn follows_a_job_and_cancels_it() {
    let place = "data-begun";
    let on = OnBus::start(Some(place));
    call(&on, &["CreateBackup", "sa{sv}t", "shop", "0", "0"]).ok();
    wait_until("the job is held", || on.is_held_at(place));
    let job = ["org.backupd1", "/org/backupd1/job/_1", "org.backupd1.Job"];
    let property = |name| run(on.bus.client("busctl").arg("get-property").args(job).arg(name)).ok().text().to_owned();
    assert_eq!((property("Type").as_str(), property("Cancelable").as_str()), ("s \"create\"\n", "b true\n"));
    run(on.bus.client("busctl").arg("call").args(job).args(["Cancel", "t", "0"])).ok();
    on.release(place);
    wait_until("the job is cancelled", || call(&on, &["ListJobs", "t", "0"]).ok().text().contains("\"canceled\""));
    assert!(call(&on, &["ListJobs", "t", "0"]).ok().text().contains("\"org.backupd1.Error.Canceled\""));
    assert_eq!(on.daemon.list().len(), 0);
}

#[test]
fn introspection_and_errors() {
    let on = OnBus::start(None);
    let members = run(on.bus.client("busctl").args(["introspect", MANAGER[0], MANAGER[1]])).ok();
    for member in [".CreateBackup", ".ListBackups", ".JobRemoved", ".Version"] {
        assert!(members.text().contains(member), "{member}: {members}");
    }
    let refused = call(&on, &["CreateBackup", "sa{sv}t", "shop", "1", "colour", "s", "red", "0"]);
    assert!(!refused.status.success());
    refused.says(&["\"colour\" is not known", "known are description"]);
}
