//! The sandbox is really on: what is not the daemon's own it cannot write, see or become, whatever the modes of files say.

use crate::machine::{System, VERSION};

on_each_system!(a_repository_elsewhere_needs_a_drop_in, the_process_has_nothing_to_lose);

fn a_repository_elsewhere_needs_a_drop_in(system: &System) {
    system.install(VERSION);
    system.sh("install -d -o backupd -m 700 /srv/backups
        printf '[repository]\npath = \"/srv/backups/repository\"\n' >/etc/backupd/backupd.toml
        systemctl restart backupd");
    system.wait_for("backupctl status | grep -q unavailable");
    let status = system.sh("backupctl status");
    assert!(status.contains("Read-only file system"), "{status}");
    let drop_in = "[Unit]\nRequiresMountsFor=/srv/backups\n[Service]\nReadWritePaths=/srv/backups\n";
    system.write("/etc/systemd/system/backupd.service.d/repository.conf", drop_in);
    system.sh("systemctl daemon-reload && systemctl restart backupd");
    system.wait_for("backupctl status | grep -q ready");
    system.with_source();
    system.sh("backupctl create shop && sh /srv/backups/repository/restore.sh list | grep shop");
}

fn the_process_has_nothing_to_lose(system: &System) {
    system.install(VERSION);
    system.sh("echo secret >/home/secret && chmod 666 /home/secret && echo secret >/tmp/secret && chmod 1777 /srv");
    let daemon = system.daemon();
    let facts = system
        .sh(&format!("grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):' /proc/{daemon}/status | tr -d '\\t'"));
    let none = "0000000000000000";
    let expected = ["Inh", "Prm", "Eff", "Bnd", "Amb"].map(|set| format!("Cap{set}:{none}")).join("\n");
    assert_eq!(facts, format!("{expected}\nNoNewPrivs:1\nSeccomp:2"));
    // In its namespaces, as its user: the modes of the files would allow all of this.
    let inside = |command: &str| {
        system.try_sh(&format!(
            "nsenter -t {daemon} -m -- setpriv --reuid backupd --regid backupd --clear-groups -- sh -c '{command}'"
        ))
    };
    for refused in [
        "touch /srv/file",
        "touch /etc/backupd/file",
        "touch /var/tmp/../lib/file",
        "cat /home/secret",
        "cat /tmp/secret",
        "ls /proc/1/status",
        "cat /etc/backupd/credentials/x",
        "head -c1 /dev/kmsg",
    ] {
        assert!(!inside(refused).status.success(), "it may {refused}");
    }
    for allowed in
        ["touch /var/lib/backupd/file", "touch /var/cache/backupd/file", "touch /run/backupd/file", "touch /tmp/file"]
    {
        inside(allowed).ok();
    }
    let read_only = inside("touch /srv/file");
    assert!(read_only.stderr.contains("Read-only file system"), "{read_only}");
}
