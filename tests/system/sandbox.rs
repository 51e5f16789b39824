//! The sandbox is really on: what is not the daemon's own it cannot write, see or become, whatever the modes of files say.

use crate::machine::{System, VERSION};

on_each_system!(
    a_repository_elsewhere_is_opened_by_the_generator,
    an_application_writes_its_database_meanwhile,
    the_process_has_nothing_to_lose
);

fn a_repository_elsewhere_is_opened_by_the_generator(system: &System) {
    system.install(VERSION);
    system.sh("install -d -o backupd -m 700 /srv/backups
        printf '[repository]\npath = \"/srv/backups/repository\"\n' >/etc/backupd/backupd.toml
        systemctl restart backupd");
    system.wait_for("backupctl status | grep -q unavailable");
    let status = system.sh("backupctl status");
    assert!(status.contains("Read-only file system"), "{status}");
    system.sh("systemctl daemon-reload && systemctl restart backupd");
    system.wait_for("backupctl status | grep -q ready");
    system.with_source();
    system.sh("backupctl create shop && sh /srv/backups/repository/restore.sh list | grep shop");

    // Its file system is missing: there is no daemon that would begin a repository in the empty mount point.
    system.sh("echo 'none /srv/backups tmpfs noauto,size=nonsense 0 0' >>/etc/fstab");
    let refused = system.try_sh("systemctl daemon-reload && systemctl restart backupd");
    assert!(!refused.status.success(), "{refused}");
    refused.says(&["dependency"]);
    assert_ne!(system.property("backupd", "ActiveState"), "active");
}

fn an_application_writes_its_database_meanwhile(system: &System) {
    system.install(VERSION);
    // One in a home, one elsewhere; both are the application's.
    for folder in ["/home/app", "/srv/app"] {
        system.sh(&format!(
            "id -u app >/dev/null 2>&1 || useradd --system app
            install -d -o app -g app -m 700 {folder}
            runuser -u app -- sqlite3 {folder}/app.db 'PRAGMA journal_mode = wal; CREATE TABLE t (a); INSERT INTO t VALUES (1)'"
        ));
    }
    for (name, folder) in [("home", "/home/app"), ("srv", "/srv/app")] {
        system.write(
            &format!("/etc/backupd/sources.d/{name}.toml"),
            &format!("type = \"sqlite\"\npath = \"{folder}/app.db\"\n"),
        );
    }
    system.sh("systemctl daemon-reload && systemctl restart backupd");
    for name in ["home", "srv"] {
        // What is missing are rights, not the sandbox's leave; the refusal has the commands.
        let refused = system.try_sh(&format!("backupctl create {name}"));
        let commands = refused.stderr.split_once("WAL mode: ").and_then(|(_, rest)| rest.lines().next());
        system.sh(commands.unwrap_or_else(|| panic!("no commands: {refused}")));
        system.sh(&format!("backupctl create {name}"));
    }
    system.sh("runuser -u app -- sqlite3 /home/app/app.db 'INSERT INTO t VALUES (2)' && backupctl create home");
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
