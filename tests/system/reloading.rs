//! `systemctl reload`, with a good configuration and with a bad one.

use crate::machine::{System, VERSION};

on_each_system!(a_good_configuration_is_taken_and_a_bad_one_is_a_failed_reload);

fn a_good_configuration_is_taken_and_a_bad_one_is_a_failed_reload(system: &System) {
    system.install(VERSION);
    let daemon = system.daemon();
    let jobs = "journalctl -u backupd -o cat --no-pager";
    system.write("/etc/backupd/sources.d/app.toml", "type = \"sqlite\"\npath = \"/srv/app.db\"\n");
    system.sh("systemctl reload backupd");
    assert!(system.sh("backupctl sources").contains("/srv/app.db"));

    system.sh("echo 'nonsense = 1' >>/etc/backupd/backupd.toml");
    let refused = system.try_sh("systemctl reload backupd");
    assert!(!refused.status.success(), "{refused}");
    assert!(system.sh(jobs).contains("nonsense: unknown key"));
    // It goes on with the old one, and neither systemd nor the daemon waits for anything.
    assert_eq!(system.property("backupd", "ActiveState"), "active");
    assert!(system.sh("backupctl sources").contains("/srv/app.db"));

    system
        .sh("sed -i '$d' /etc/backupd/backupd.toml && rm /etc/backupd/sources.d/app.toml && systemctl reload backupd");
    assert!(!system.sh("backupctl sources").contains("/srv/app.db"));
    assert_eq!(system.property("backupd", "StatusText"), "Idle");
    assert_eq!(system.daemon(), daemon);

    // A start with a bad one is not tried again and again.
    system.sh("echo 'nonsense = 1' >>/etc/backupd/backupd.toml");
    let refused = system.try_sh("systemctl restart backupd");
    assert!(!refused.status.success(), "{refused}");
    assert_eq!(system.property("backupd", "ActiveState"), "failed");
    assert_eq!(system.property("backupd", "ExecMainStatus"), "78");
    assert_eq!(system.property("backupd", "NRestarts"), "0");
}
