//! Upgrades, removal and purge.

use crate::machine::{OLDER, System, VERSION};

on_each_system!(an_upgrade_waits_for_the_job, a_removal_keeps_and_a_purge_says_what_stays);

fn an_upgrade_waits_for_the_job(system: &System) {
    system.install(OLDER);
    system.with_source();
    system.sh("backupctl create shop");
    let (daemon, kept) = (system.daemon(), system.backups());
    system.begin_held_backup();
    system.install(VERSION);
    assert_eq!(system.sh("dpkg-query -W -f '${Version}' backupd"), VERSION);
    assert_eq!(system.daemon(), daemon, "it was restarted under a job");
    let status = system.property("backupd", "StatusText");
    assert!(status.contains("create shop") && status.ends_with("; restarts when no job runs"), "{status}");
    system.let_backups_go_on();
    let restarted =
        format!("systemctl --quiet is-active backupd && [ $(systemctl show --value -p MainPID backupd) != {daemon} ]");
    system.wait_for(&restarted);
    assert_eq!(system.last_result(), "done");
    assert_eq!(system.backups().len(), kept.len() + 1);
    assert_eq!(system.property("backupd", "Result"), "success");
    assert_eq!(system.sh("readlink /proc/$(systemctl show --value -p MainPID backupd)/exe"), "/usr/libexec/backupd");

    // Idle, it restarts at once; stopped or disabled, it stays so.
    let daemon = system.daemon();
    system.install(OLDER);
    system.wait_for(&format!(
        "systemctl --quiet is-active backupd && [ $(systemctl show --value -p MainPID backupd) != {daemon} ]"
    ));
    system.sh("systemctl disable --quiet --now backupd");
    system.install(VERSION);
    let state = system.sh("systemctl is-active backupd || true; systemctl is-enabled backupd || true");
    assert_eq!(state, "inactive\ndisabled");
}

fn a_removal_keeps_and_a_purge_says_what_stays(system: &System) {
    system.install(VERSION);
    system.with_source();
    system.sh("backupctl create shop && systemctl enable --quiet --now backupd-create@shop.timer");
    let backups = system.backups();
    system.begin_held_backup();
    system.sh("apt-get remove -y -qq backupd");
    assert_eq!(system.sh("ps -C backupd -o pid= || true"), "");
    assert_eq!(system.sh("ls /usr/libexec/backupd /usr/bin/backupctl 2>/dev/null || true"), "");
    system.sh("test -e /etc/backupd/sources.d/shop.toml && sh /var/lib/backupd/repository/restore.sh list | grep shop");
    assert_eq!(system.sh("systemctl --failed --no-legend"), "");
    system.let_backups_go_on();

    system.install(VERSION);
    assert_eq!(system.backups(), backups);
    assert_eq!(system.last_result(), "interrupted");
    system.sh("backupctl create shop");

    let said = system.sh("apt-get purge -y -qq backupd");
    assert!(said.contains("The backups stay in /var/lib/backupd/repository"), "{said}");
    assert_eq!(system.sh("ls -d /etc/backupd /var/cache/backupd 2>/dev/null || true"), "");
    assert_eq!(system.sh("find /etc/systemd -name '*backupd*'"), "");
    assert_eq!(system.sh("sh /var/lib/backupd/repository/restore.sh list | grep -c shop"), "2");
}
