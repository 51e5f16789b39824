//! `gdbus`, on a message bus; it does not speak to a peer without one.

use super::message_bus::OnBus;
use crate::common::{Finished, run, wait_until};

fn call(on: &OnBus, method: &str, arguments: &[&str]) -> Finished {
    let mut gdbus = on.bus.client("gdbus");
    gdbus.args(["call", "--system", "--dest", "org.backupd1", "--object-path", "/org/backupd1", "--method"]);
    run(gdbus.arg(format!("org.backupd1.Manager.{method}")).args(arguments))
}

#[test]
fn creates_lists_and_restores() {
    let on = OnBus::start(None);
    call(&on, "CreateBackup", &["shop", "{'description': <'by gdbus'>}", "0"]).ok();
    wait_until("its job is done", || call(&on, "ListJobs", &["0"]).ok().text().contains("'done'"));
    let list = call(&on, "ListBackups", &["{'source': <'shop'>}", "0", "", "0"]).ok();
    assert!(list.text().contains("'by gdbus'"), "{list}");
    call(&on, "RestoreBackup", &["shop@latest", "{'to': <'copy'>}", "0"]).ok();
    wait_until("the copy is there", || on.has_database("copy"));
    assert_eq!(on.count_in("copy"), "1000");
}

#[test]
fn cancels() {
    let place = "data-begun";
    let on = OnBus::start(Some(place));
    call(&on, "CreateBackup", &["shop", "{}", "0"]).ok();
    wait_until("the job is held", || on.is_held_at(place));
    call(&on, "CancelJob", &["1", "0"]).ok();
    on.release(place);
    let canceled = "'canceled', 'org.backupd1.Error.Canceled'";
    wait_until("the job is cancelled", || call(&on, "ListJobs", &["0"]).ok().text().contains(canceled));
    assert_eq!(on.daemon.list().len(), 0);
}

#[test]
fn errors_have_their_names_and_arguments_theirs() {
    let on = OnBus::start(None);
    let missing = call(&on, "CreateBackup", &["nothing", "{}", "0"]);
    assert!(!missing.status.success());
    missing.says(&["org.backupd1.Error.NoSuchSource"]);
    call(&on, "CreateBackup", &["shop", "{}", "1"]).says(&["org.freedesktop.DBus.Error.InvalidArgs"]);
    call(&on, "GetBackup", &["00", "0"]).says(&["org.backupd1.Error.NoSuchBackup"]);
    let mut introspect = on.bus.client("gdbus");
    introspect.args(["introspect", "--system", "--dest", "org.backupd1", "--object-path", "/org/backupd1"]);
    let seen = run(&mut introspect).ok();
    for argument in ["in  s source", "in  a{sv} options", "out o job", "out s next_cursor"] {
        assert!(seen.text().contains(argument), "{argument}: {seen}");
    }
}
