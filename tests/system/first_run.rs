//! What a new user finds after the installation.

use crate::machine::{System, VERSION, block_of_readme};

on_each_system!(
    the_daemon_runs_and_waits_for_a_source,
    the_units_are_in_order,
    what_readme_says_leads_to_a_backup,
    the_bus_starts_what_is_enabled
);

fn the_daemon_runs_and_waits_for_a_source(system: &System) {
    system.install(VERSION);
    system.sh("systemctl is-system-running --wait");
    assert_eq!(system.sh("systemctl --failed --no-legend"), "");
    assert_eq!(system.sh("systemctl is-active backupd && systemctl is-enabled backupd"), "active\nenabled");
    assert_eq!(system.property("backupd", "StatusText"), "Idle");
    let processes = system.sh("ps -C backupd -o user=,args=");
    assert_eq!(processes, "backupd  /usr/libexec/backupd --listen unix:path=/run/backupd/socket");
    let status = system.sh("backupctl status");
    assert!(status.contains("Repository: /var/lib/backupd/repository (ready)"), "{status}");
    assert!(status.contains("Next: `backupctl source add NAME --database DATABASE`"), "{status}");
    // Nobody but root and the daemon reads backups or passwords.
    let modes = system.sh("stat -c '%a %U' /var/lib/backupd /var/cache/backupd /etc/backupd/credentials{,.encrypted}");
    assert_eq!(modes, "700 backupd\n700 backupd\n700 root\n700 root");
    system.sh("backupctl config check");
}

fn the_units_are_in_order(system: &System) {
    system.install(VERSION);
    let checked = "backupd.service backupd-create@shop.service backupd-create@shop.timer backupd-verify.service backupd-verify.timer backupd-prune.service backupd-prune.timer backupd-health.service backupd-health.timer \
        backupd-drill@0.service backupd-drill.service backupd-drill.timer backupd-watch.service backupd-watch.timer";
    let said = system.sh(&format!("systemd-analyze verify --man=no {checked} 2>&1"));
    // Before 253 and 254 these are unknown, ignored, and meant to be: a line before each has the older way.
    let newer =
        ["service type, ignoring: notify-reload", "Unknown key 'RestartSteps'", "Unknown key 'RestartMaxDelaySec'"];
    let complaints: Vec<&str> = said.lines().filter(|line| !newer.iter().any(|known| line.contains(known))).collect();
    assert_eq!(complaints, Vec::<&str>::new());
    let old = system.sh("systemctl --version | head -1").contains("systemd 252");
    assert_eq!(!said.is_empty(), old, "{said}");
    assert_eq!(system.property("backupd", "Type"), if old { "notify" } else { "notify-reload" });
    assert_eq!(system.property("backupd", "MemoryMax"), (4_u64 << 30).to_string());
    // Fifteen is 1.5 on the scale that people are shown.
    system.sh("for unit in backupd.service backupd-create@shop.service backupd-verify.service backupd-prune.service backupd-health.service backupd-drill.service backupd-drill@0.service backupd-watch.service; do
        systemd-analyze security --threshold=15 $unit >/run/security || { cat /run/security; exit 1; }
    done");
    system.sh("systemctl enable --now backupd-create@shop.timer backupd-verify.timer");
    let timers = system.sh("systemctl list-timers --no-legend --no-pager");
    assert!(timers.contains("backupd-create@shop.timer") && timers.contains("backupd-verify.timer"), "{timers}");
}

fn what_readme_says_leads_to_a_backup(system: &System) {
    let install = block_of_readme("sh", 1);
    let steps: Vec<&str> = install.lines().map(|line| line.split('#').next().unwrap().trim()).collect();
    assert_eq!(steps, ["make deb", "apt install ./target/debian/backupd_*.deb", "backupctl status"]);
    system.install(VERSION);
    system.with_database();
    let said = system.sh(&block_of_readme("sh", 2));
    assert_eq!(system.property("backupd-create@shop.timer", "ActiveState"), "active");
    assert!(said.contains("backupd-create@shop.timer"), "{said}");
    assert_eq!(system.backups().len(), 1);
}

fn the_bus_starts_what_is_enabled(system: &System) {
    system.install(VERSION);
    system.sh("systemctl stop backupd");
    system.sh("backupctl status");
    assert_eq!(system.property("backupd", "ActiveState"), "active");
    system.sh("systemctl disable --now --quiet backupd");
    let refused = system.try_sh("backupctl status");
    assert_eq!(refused.status.code(), Some(69), "{refused}");
    assert_eq!(system.property("backupd", "ActiveState"), "inactive");
}
