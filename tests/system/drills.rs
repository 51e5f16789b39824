//! Drills under the shipped units: who runs them, what they can get at, and what the daemon's user may do with units.

use crate::machine::{System, VERSION};

on_each_system!(a_drill_runs_in_its_sandbox, the_daemon_may_start_and_stop_these_units_alone);

fn a_drill_runs_in_its_sandbox(system: &System) {
    system.install(VERSION);
    system.with_source();
    // In a function of the backup, run by the server of the drill as its superuser: what it can see.
    system.write(
        "/run/peek.sql",
        "CREATE FUNCTION run_peek() RETURNS void LANGUAGE plpgsql AS $f$ BEGIN
             COPY (SELECT 1) TO PROGRAM 'exec >&2; echo I am $(id -un); cat /proc/self/cgroup; ls -A /var/lib/backupd /etc/backupd /var/lib/postgresql /run/dbus /run/postgresql;
                 cat /var/lib/backupd/repository/REPOSITORY.json; echo $(ls -d /proc/[0-9]*) end; touch /var/tmp/here; true';
         END $f$;
         CREATE FUNCTION peek(n int) RETURNS int LANGUAGE plpgsql STABLE AS $f$ BEGIN
             IF current_setting('data_directory') LIKE '/var/tmp/%' THEN PERFORM public.run_peek(); END IF; RETURN n; END $f$;
         CREATE MATERIALIZED VIEW peeked AS SELECT public.peek(1);",
    );
    system.sh("cd / && runuser -u postgres -- psql -qX -v ON_ERROR_STOP=1 -f /run/peek.sql shop
        printf '[drill]\nassertions = \"/etc/backupd/shop.sql\"\n' >>/etc/backupd/sources.d/shop.toml
        echo \"SELECT count(*) = 20000, 'orders' FROM orders\" >/etc/backupd/shop.sql
        systemctl reload backupd && backupctl create shop");
    let drilled = system.try_sh("backupctl drill shop");
    assert!(drilled.status.success(), "{drilled}\n{}", system.sh("journalctl --no-pager -n 60 -u 'backupd*' -o short-precise; journalctl --no-pager -n 20 -t postgres -t polkitd"));
    for words in ["restore: ok", "schema: ok", "indexes: ok", "heaps: ok", "assertions: ok"] {
        assert!(drilled.text().contains(words), "{words}: {drilled}");
    }
    let list = system.json("backupctl list --json=short");
    assert_eq!(list[0]["proof"], "drilled");
    // What the program printed went to the journal, as the server's standard error does.
    let seen = system.sh("journalctl --no-pager -o cat _UID=$(id -u backupd-drill)");
    assert!(seen.contains("I am backupd-drill") && seen.contains("/backupd-drill@"), "who, and where: {seen}");
    for closed in ["/var/lib/backupd", "/etc/backupd", "/var/lib/postgresql"] {
        assert!(seen.contains(&format!("cannot open directory '{closed}': Permission denied")), "{closed}: {seen}");
    }
    for absent in ["/run/dbus", "/run/postgresql"] {
        assert!(seen.contains(&format!("cannot access '{absent}': No such file")), "{absent}: {seen}");
    }
    assert!(seen.contains("REPOSITORY.json: Permission denied"), "{seen}");
    assert!(
        !seen.contains(&format!("/proc/{} ", system.daemon())) && !seen.contains("/proc/1 "),
        "others' processes: {seen}"
    );
    // Nothing runs any more, and nothing is left.
    assert_eq!(system.sh("pgrep -u backupd-drill || true"), "");
    assert_eq!(system.sh("systemctl list-units --all --no-legend 'backupd-drill@*'"), "");
    assert_eq!(system.sh("ls -A /run/backupd/drill; ls -d /var/tmp/*backupd-drill* 2>/dev/null || true"), "");

    // The timer's way; then one that does not pass is a failed unit.
    system.sh("systemctl enable --now --quiet backupd-drill.timer && systemctl start backupd-drill.service");
    system.sh("echo \"SELECT count(*) = 1 FROM orders\" >/etc/backupd/shop.sql");
    let failed = system.try_sh("systemctl start backupd-drill.service");
    assert!(!failed.status.success(), "{failed}");
    assert_eq!(system.property("backupd-drill.service", "ExecMainStatus"), "46");
    assert!(system.sh("backupctl status").contains("shop FAILED"));

    // While one runs: its processes are of that user; a daemon that dies takes it along.
    system.sh("echo \"SELECT pg_sleep(600) IS NULL\" >/etc/backupd/shop.sql && backupctl drill --no-block shop");
    system.wait_for("pgrep -u backupd-drill -x psql");
    let users = system.sh("ps -o user= -C postgres,psql | sort -u");
    assert_eq!(
        users.lines().filter(|user| user.starts_with("backupd")).collect::<Vec<_>>(),
        ["backupd-drill"],
        "{users}"
    );
    system.sh("systemctl kill --signal=SIGKILL --kill-whom=main backupd");
    system.wait_for("! pgrep -u backupd-drill");
    system.wait_for("backupctl jobs --json=short | grep -q interrupted");
}

fn the_daemon_may_start_and_stop_these_units_alone(system: &System) {
    system.install(VERSION);
    let as_daemon = |call: &str| {
        system.try_sh(&format!(
            "runuser -u backupd -- busctl call --system org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager {call}"
        ))
    };
    as_daemon("StartUnit ss backupd-drill@0.service replace").ok();
    as_daemon("StopUnit ss backupd-drill@0.service replace").ok();
    for refused in [
        "StopUnit ss systemd-journald.service replace",
        "StartUnit ss postgresql.service replace",
        "RestartUnit ss backupd-drill@0.service replace",
        "KillUnit ssi backupd.service all 9",
        "StopUnit ss backupd.service replace",
        "StartUnit ss backupd-drill@0.socket replace",
        "StartUnit ss backupd-drill.service replace",
        "SetUnitProperties 'sba(sv)' backupd.service true 1 TasksMax t 1",
        "StartTransientUnit 'ssa(sv)a(sa(sv))' other.service fail 1 Description s x 0",
    ] {
        let said = as_daemon(refused);
        assert!(!said.status.success() && said.stderr.to_lowercase().contains("auth"), "{refused}: {said}");
    }
    // Nor one of its own making under such a name, whichever reason comes first.
    let made = as_daemon("StartTransientUnit 'ssa(sv)a(sa(sv))' backupd-drill@1.service fail 1 Description s x 0");
    assert!(!made.status.success(), "{made}");
    // Others may not even those.
    let other = system.try_sh(
        "useradd anna; runuser -u anna -- busctl call --system org.freedesktop.systemd1 /org/freedesktop/systemd1 \
        org.freedesktop.systemd1.Manager StartUnit ss backupd-drill@0.service replace",
    );
    assert!(!other.status.success(), "{other}");
}
