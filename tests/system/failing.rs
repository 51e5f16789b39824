//! A daemon that hangs, is killed, or is stopped, while there are backups and while one is being taken.

use crate::machine::{System, VERSION};

on_each_system!(one_that_hangs_is_replaced, one_that_is_killed_comes_back, a_stop_ends_the_job_cleanly);

fn one_that_hangs_is_replaced(system: &System) {
    system.install(VERSION);
    system.with_source();
    system.sh("backupctl create shop");
    assert_eq!(system.property("backupd", "WatchdogUSec"), "3min");
    system.write("/etc/systemd/system/backupd.service.d/impatient.conf", "[Service]\nWatchdogSec=2s\n");
    system.sh("systemctl daemon-reload && systemctl restart backupd");
    let (daemon, backups) = (system.daemon(), system.backups());
    // It is fed: several times the limit later it is the same process.
    system.begin_held_backup();
    system.sh("sleep 5");
    assert_eq!(system.daemon(), daemon);
    system.sh(&format!("kill -STOP {daemon}"));
    system.wait_for(&format!(
        "systemctl --quiet is-active backupd && [ $(systemctl show --value -p MainPID backupd) != {daemon} ]"
    ));
    assert!(system.sh("journalctl -u backupd -o cat --no-pager").contains("Watchdog timeout"));
    system.let_backups_go_on();
    assert_eq!(system.backups(), backups);
    assert_eq!(system.last_result(), "interrupted");
    system.sh("backupctl create shop && backupctl verify --level=data");
}

fn one_that_is_killed_comes_back(system: &System) {
    system.install(VERSION);
    system.with_source();
    system.sh("backupctl create shop");
    let (daemon, backups) = (system.daemon(), system.backups());
    system.hold_backups();
    let unit = system.sh_in_background("systemctl start backupd-create@shop");
    system.wait_for("backupctl jobs --json=short | grep -q running");
    system.sh(&format!("kill -KILL {daemon}"));
    system.wait_for(&format!(
        "systemctl --quiet is-active backupd && [ $(systemctl show --value -p MainPID backupd) != {daemon} ]"
    ));
    // Its programs went with it.
    assert_eq!(system.sh("ps -C pg_dump -o pid= || true"), "");
    let unit = unit.join().expect("the client");
    assert!(!unit.status.success(), "{unit}");
    assert_eq!(system.property("backupd-create@shop", "ExecMainStatus"), "42");
    assert_eq!(system.last_result(), "interrupted");
    let entry = "journalctl --sync && journalctl -u backupd BACKUPD_RESULT=interrupted BACKUPD_ERROR=Interrupted -o cat --no-pager";
    assert!(system.sh(entry).contains("the daemon died or was killed"));
    system.let_backups_go_on();
    assert_eq!(system.backups(), backups);
    system.sh("backupctl create shop && backupctl verify --level=data");
}

fn a_stop_ends_the_job_cleanly(system: &System) {
    system.install(VERSION);
    system.with_source();
    system.begin_held_backup();
    system.sh("systemctl stop backupd");
    assert_eq!(system.property("backupd", "Result"), "success");
    assert_eq!(system.property("backupd", "ActiveState"), "inactive");
    assert_eq!(system.sh("find /var/lib/backupd/state/scratch /var/lib/backupd/repository/sessions -mindepth 1"), "");
    let said = system.sh("journalctl -u backupd -o cat --no-pager");
    assert!(said.contains("was interrupted: the daemon is stopping"), "{said}");
    system.sh("systemctl start backupd");
    assert_eq!(system.last_result(), "interrupted");
    assert!(system.backups().is_empty());
    system.let_backups_go_on();
    system.sh("backupctl create shop");
}
