//! The timers of retention and of health: one deletes what no rule keeps, and frees space when it cannot be brought back any
//! more; the other fails when something is wrong, and is well again when it is not.

use crate::machine::{System, VERSION};

on_each_system!(the_timer_prunes_and_frees_space, the_timer_of_health_turns_red_and_green);

fn the_timer_prunes_and_frees_space(system: &System) {
    system.install(VERSION);
    system.with_source();
    let policy =
        "[retention]\nkeep_last = 2\nkeep_within = \"off\"\nkeep_daily = 0\nkeep_weekly = 0\nkeep_monthly = 0\n";
    system.sh(&format!(
        "printf '{}' >>/etc/backupd/sources.d/shop.toml
         printf '[retention]\\nautomatic = false\\nundelete = \"3s\"\\n' >>/etc/backupd/backupd.toml
         systemctl reload backupd
         backupctl create shop && systemctl start backupd-prune.service
         for i in 1 2; do backupctl create shop; done",
        policy.replace('\n', "\\n")
    ));
    assert_eq!(system.json("backupctl list --json=short").as_array().map(Vec::len), Some(3), "nothing by itself");
    system.write(
        "/etc/systemd/system/backupd-prune.timer.d/often.conf",
        "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/5\nRandomizedDelaySec=0\nAccuracySec=100ms\n",
    );
    system.sh("systemctl daemon-reload && systemctl enable --quiet --now backupd-prune.timer");
    system.wait_for("[ $(backupctl list --json=short | grep -o sequence | wc -l) = 2 ]");
    // What went can be brought back for three seconds; the next turn frees its space.
    system.wait_for("[ $(backupctl undelete --json=short | grep -c sequence) = 0 ]");
    let space = system.json("backupctl space --json=short");
    assert_eq!((space["deleted_bytes"].as_u64(), space["unreferenced_bytes"].as_u64()), (Some(0), Some(0)), "{space}");
    assert_eq!(system.property("backupd-prune.service", "Result"), "success");
    let told = "journalctl --no-pager -o cat MESSAGE_ID=6f1f2a53fcd34d0c8f6a7f5be4a9d012";
    assert!(system.sh(told).contains("of shop goes: no rule keeps it"), "{}", system.sh(told));

    // A policy that changed, and would delete much: the unit fails until somebody says so.
    system.sh("for i in 1 2 3; do backupctl create --quiet shop >/dev/null; done; systemctl stop backupd-prune.timer
        sed -i 's/keep_last = 2/keep_last = 1/' /etc/backupd/sources.d/shop.toml && systemctl reload backupd");
    let held = system.try_sh("systemctl start backupd-prune.service");
    assert!(!held.status.success(), "{held}");
    assert_eq!(system.property("backupd-prune.service", "ExecMainStatus"), "47");
    system.sh("backupctl prune shop --yes --force && systemctl start backupd-prune.service");
    assert_eq!(system.json("backupctl list --json=short").as_array().map(Vec::len), Some(1));
}

fn the_timer_of_health_turns_red_and_green(system: &System) {
    system.install(VERSION);
    system.with_source();
    system.sh("backupctl create shop");
    system.write(
        "/etc/systemd/system/backupd-health.timer.d/often.conf",
        "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/2\nRandomizedDelaySec=0\nAccuracySec=100ms\n",
    );
    system.sh("systemctl daemon-reload && systemctl enable --quiet --now backupd-health.timer");
    let ran = "[ $(systemctl show --value -p ExecMainStartTimestampMonotonic backupd-health.service) != 0 ]";
    system.wait_for(ran);
    system.wait_for("[ $(systemctl show --value -p Result backupd-health.service) = success ]");
    let said = system.sh("backupctl health || true");
    assert!(said.starts_with("BACKUPD OK") || said.starts_with("BACKUPD WARNING"), "{said}");
    // The only backup that there is gets too old.
    system.sh("sed -i '1i rpo = \"1s\"' /etc/backupd/sources.d/shop.toml && systemctl reload backupd");
    system.wait_for("systemctl --quiet is-failed backupd-health.service");
    assert_eq!(system.property("backupd-health.service", "ExecMainStatus"), "2");
    let told =
        system.sh("journalctl --no-pager -o cat -u backupd-health.service | grep '^BACKUPD CRITICAL' | tail -n 1");
    assert!(told.contains("shop"), "{told}");
    system.sh("sed -i '1d' /etc/backupd/sources.d/shop.toml && systemctl reload backupd");
    system.wait_for("[ $(systemctl show --value -p Result backupd-health.service) = success ]");
    // A daemon that is gone is UNKNOWN.
    system.sh("systemctl mask --quiet --now backupd");
    system.wait_for("systemctl --quiet is-failed backupd-health.service");
    assert_eq!(system.property("backupd-health.service", "ExecMainStatus"), "3");
}
