//! The dead-man's switch under its timer: what the daemon cannot say of itself, and backups that got too old.

use crate::machine::{System, VERSION};

on_each_system!(a_daemon_that_is_gone_and_backups_that_stopped_are_noticed);

/// What the journal has of a finding, the newest last.
fn told(system: &System, matches: &str) -> String {
    system.sh(&format!("journalctl --sync && journalctl --no-pager -o cat -t backupd {matches} || true"))
}

/// Waits until the timer found this, and told it as critical; then lets it be as it was, and waits until that is noticed.
fn notices(system: &System, finding: &str, broken: &str, mended: &str) {
    system.sh(broken);
    let entry =
        |more: &str| format!("journalctl -q --no-pager -o cat -t backupd BACKUPD_FINDING={finding} {more} | grep -q .");
    system.wait_for(&entry("PRIORITY=2"));
    system.wait_for("systemctl --quiet is-failed backupd-watch.service");
    system.sh(mended);
    system.wait_for(&entry("PRIORITY=6"));
    system.wait_for("[ $(systemctl show --value -p Result backupd-watch.service) = success ]");
}

fn a_daemon_that_is_gone_and_backups_that_stopped_are_noticed(system: &System) {
    system.install(VERSION);
    let state = "systemctl is-active backupd-watch.timer; systemctl is-enabled backupd-watch.timer";
    assert_eq!(system.sh(state), "active\nenabled", "the package switches it on");
    system.sh("systemctl start backupd-watch.service; systemctl stop backupd; systemctl start backupd-watch.service; systemctl start backupd");
    system.with_source();
    system.sh("backupctl create shop && systemctl start backupd-watch.service");
    assert_eq!(system.sh("stat -c '%a %U' /var/lib/backupd-watch"), "700 backupd");
    assert_eq!(told(system, "BACKUPD_FINDING"), "");

    system.write(
        "/etc/systemd/system/backupd-watch.timer.d/often.conf",
        "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/3\nRandomizedDelaySec=0\nAccuracySec=100ms\n",
    );
    system
        .write("/etc/systemd/system/tell.service", "[Service]\nType=oneshot\nExecStart=touch /run/somebody-was-told\n");
    system.write("/etc/systemd/system/backupd-watch.service.d/tell.conf", "[Unit]\nOnFailure=tell.service\n");
    // One that fails stays so, and one that hangs is not killed meanwhile.
    system.write("/etc/systemd/system/backupd.service.d/stays.conf", "[Service]\nRestart=no\nWatchdogSec=0\n");
    system.sh("systemctl daemon-reload && systemctl restart backupd backupd-watch.timer");

    notices(
        system,
        "daemon-stopped",
        "systemctl stop backupd",
        "! systemctl --quiet is-active backupd; systemctl start backupd",
    );
    system.wait_for("[ -e /run/somebody-was-told ]");
    notices(
        system,
        "daemon-masked",
        "systemctl mask --now backupd",
        "systemctl unmask backupd && systemctl start backupd",
    );
    notices(system, "daemon-failed", "systemctl kill --signal=KILL backupd", "systemctl start backupd");
    notices(system, "daemon-disabled", "systemctl disable backupd", "systemctl enable backupd");
    // The age of backups, while nothing runs that could tell it.
    let source = "/etc/backupd/sources.d/shop.toml";
    notices(
        system,
        "backup-too-old",
        &format!("systemctl stop backupd; echo 'rpo = \"1s\"' >>{source}"),
        &format!("sed -i /rpo/d {source}; systemctl start backupd"),
    );
    let said = told(system, "BACKUPD_FINDING=backup-too-old BACKUPD_SOURCE=shop");
    assert!(said.contains("the newest good backup of shop is") && said.contains("its `rpo` is 1s"), "{said}");
    assert_eq!(said.matches("\nthe newest").count(), 0, "critical only once: {said}");
    // A daemon that was stopped is not started by the one that looks. The notifiers hear of it all the same, with a
    // password that only root can place.
    system.sh(
        r#"mkdir -p -m 700 /etc/backupd/credentials && echo 's3cret' >/etc/backupd/credentials/hook
        printf '%s\n' '[notify.pager]' 'type = "command"' 'command = ["/bin/sh", "-c", "echo $BACKUPD_EVENT: $BACKUPD_SUBJECT >>/var/lib/backupd-watch/heard"]' >>/etc/backupd/backupd.toml
        systemctl stop backupd"#,
    );
    system.wait_for("grep -q ^daemon: /var/lib/backupd-watch/heard");
    system.sh("systemctl start backupd");
    system.wait_for("grep -q ^recovery: /var/lib/backupd-watch/heard");
    system.sh("[ $(grep -c ^daemon: /var/lib/backupd-watch/heard) = 1 ] && systemctl stop backupd");
    system.wait_for("systemctl --quiet is-failed backupd-watch.service");
    assert_eq!(system.property("backupd", "ActiveState"), "inactive");

    // One that hangs takes as long as it is waited for.
    system.sh(
        "rm /etc/systemd/system/backupd-watch.timer.d/often.conf; systemctl daemon-reload; systemctl start backupd",
    );
    let pid = system.daemon();
    let looked = system.try_sh(&format!(
        "kill -STOP {pid}; systemctl stop backupd-watch.timer; systemctl start backupd-watch.service"
    ));
    assert!(!looked.status.success(), "{looked}");
    let said = told(system, "BACKUPD_FINDING=daemon-silent PRIORITY=2");
    assert!(said.contains("backupd.service runs and does not answer"), "{said}");
    system.sh(&format!("kill -CONT {pid}; systemctl start backupd-watch.service"));

    system.sh("DEBIAN_FRONTEND=noninteractive apt-get purge -y -qq backupd");
    assert_eq!(
        system.sh("ls -d /var/lib/backupd-watch /etc/systemd/system/timers.target.wants/backupd* 2>/dev/null || true"),
        ""
    );
}
