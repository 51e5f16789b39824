//! `backupctl source` as root: the test as the daemon's user, what systemd and the daemon are told, and the way back.

use crate::machine::{System, VERSION};

on_each_system!(
    a_source_comes_pauses_and_goes,
    a_password_is_taken_by_a_restart_that_waits_for_jobs,
    a_restoring_role_comes_in_by_the_socket_as_printed,
    an_sqlite_database_outside_is_opened
);

const SHOP: &str = "/etc/backupd/sources.d/shop.toml";
const TIMERS: &str = "systemctl list-timers --no-legend --no-pager";

fn a_source_comes_pauses_and_goes(system: &System) {
    system.install(VERSION);
    system.with_database();
    let add = "backupctl source add shop --database shop --schedule daily";
    // Peer authentication sees the daemon's user, whose role is not there yet.
    let refused = system.try_sh(add);
    assert_eq!(refused.status.code(), Some(21), "{refused}");
    refused.says(&["Reading: ", "role \"backupd\" does not exist", "--print-sql"]);
    system.sh(&format!("! test -e {SHOP} && ! {TIMERS} | grep backupd-create"));
    // The SQL that came with the refusal.
    system.write("/run/roles.sql", refused.text());
    system.sh("cd / && runuser -u postgres -- psql -qX -v ON_ERROR_STOP=1 </run/roles.sql");
    let nobody = system.try_sh(&format!("cd / && runuser -u nobody -- {add}"));
    assert_eq!(nobody.status.code(), Some(77), "{nobody}");
    system.sh(&format!("{add} --dry-run && ! test -e {SHOP}"));
    let said = system.sh(add);
    assert!(said.contains("1 database can be read as the user backupd"), "{said}");
    assert_eq!(system.sh(&format!("stat -c '%a %U %G' {SHOP}")), "644 root root");
    system.wait_for("systemctl --quiet is-active backupd-create@shop.timer");
    let daemon = system.daemon();
    system.sh("backupctl create shop");

    system.sh("backupctl source disable shop");
    system.wait_for("! systemctl --quiet is-active backupd-create@shop.timer");
    assert!(!system.sh(TIMERS).contains("backupd-create@"));
    assert_eq!(system.try_sh("backupctl create shop").status.code(), Some(78));
    system.sh("backupctl source enable shop");
    system.wait_for("systemctl --quiet is-active backupd-create@shop.timer");
    assert!(system.sh(TIMERS).contains("backupd-create@shop.timer"));
    // As after the next start of the host.
    assert!(system.property("timers.target", "Wants").contains("backupd-create@shop.timer"));
    system.sh("backupctl create shop");

    system.sh("backupctl source remove shop --yes");
    system.wait_for("! systemctl --quiet is-active backupd-create@shop.timer");
    assert!(!system.sh(TIMERS).contains("backupd-create@"));
    assert!(!system.property("timers.target", "Wants").contains("backupd-create@"));
    system.sh(&format!("! test -e {SHOP} && test -e {SHOP}.removed"));
    assert_eq!(system.try_sh("backupctl create shop").status.code(), Some(4));
    assert_eq!(system.backups().len(), 2);
    // The way back. None of this took a restart.
    system.sh(&format!("mv {SHOP}.removed {SHOP} && backupctl source enable shop && backupctl create shop"));
    assert_eq!(system.backups().len(), 3);
    assert_eq!(system.daemon(), daemon);
    assert_eq!(system.sh("systemctl --failed --no-legend"), "");
}

fn a_password_is_taken_by_a_restart_that_waits_for_jobs(system: &System) {
    system.install(VERSION);
    system.with_source();
    system.sh("cd / && runuser -u postgres -- psql -qX -v ON_ERROR_STOP=1 shop \
        -c \"CREATE ROLE reader LOGIN BYPASSRLS PASSWORD 'se same'\" -c 'GRANT pg_read_all_data TO reader'");
    let add = |name: &str, options: &str| {
        format!(
            "backupctl source add {name} --database shop --host 127.0.0.1 --user reader --password-file - {options}"
        )
    };
    // Without jobs at once.
    let wrong = system.try_sh(&format!("echo wrong | {}", add("plain", "")));
    assert_eq!(wrong.status.code(), Some(21), "{wrong}");
    system.sh("test -z \"$(ls -A /etc/backupd/credentials)\"");
    let daemon = system.daemon();
    let said = system.sh(&format!("echo 'se same' | {}", add("plain", "")));
    assert!(said.contains("The daemon was restarted"), "{said}");
    assert_ne!(system.daemon(), daemon);
    system.sh("backupctl create plain");
    assert_eq!(system.sh("stat -c '%a %U' /etc/backupd/credentials/plain.password"), "600 root");

    // Under a job when it has ended.
    system.sh("systemd-creds setup");
    system.begin_held_backup();
    let daemon = system.daemon();
    let said = system.sh(&format!("echo 'se same' | {}", add("hidden", "--encrypt --no-check")));
    assert!(said.contains("restarts when they have ended"), "{said}");
    assert_eq!(system.daemon(), daemon);
    system.let_backups_go_on();
    system.wait_for(&format!(
        "systemctl --quiet is-active backupd && [ $(systemctl show --value -p MainPID backupd) != {daemon} ]"
    ));
    system.sh("backupctl create hidden");
    let jobs = system.json("backupctl jobs --json=short");
    assert!(jobs.as_array().unwrap().iter().all(|job| job["result"] == "done"), "{jobs}");
    let secret = system.sh("cat /etc/backupd/credentials.encrypted/hidden.password");
    assert!(!secret.is_empty() && !secret.contains("se same"));
    // The units that this test itself runs have it in their names.
    let said =
        system.sh("journalctl --no-pager -o export -u backupd && journalctl --no-pager -o export _COMM=backupctl");
    assert!(said.contains("hidden") && !said.contains("se same"));

    system.sh("backupctl source remove hidden --yes && backupctl source remove plain --yes");
    system.sh("test -z \"$(ls -A /etc/backupd/credentials /etc/backupd/credentials.encrypted | grep password)\"");
}

fn a_restoring_role_comes_in_by_the_socket_as_printed(system: &System) {
    system.install(VERSION);
    system.with_database();
    let add = "backupctl source add shop --database shop --restore-user restorer";
    system.sh(&format!(
        "set -o pipefail; cd / && {add} --print-sql >/run/roles.sql
        runuser -u postgres -- psql -qX -v ON_ERROR_STOP=1 </run/roles.sql"
    ));
    // The roles are there, and the server does not let this one in yet.
    let refused = system.try_sh(add);
    assert_eq!(refused.status.code(), Some(21), "{refused}");
    refused.says(&["Restoring: ", "Peer authentication failed for user \"restorer\""]);
    assert!(!refused.stderr.contains("Reading: "), "{refused}");
    // What the comments say.
    system.sh("cd /etc/postgresql/*/main
        { sed -n 's/^-- *\\(local .*\\)/\\1/p' /run/roles.sql; cat pg_hba.conf; } >/run/hba && cat /run/hba >pg_hba.conf
        sed -n 's/^-- *\\(backupd  .*\\)/\\1/p' /run/roles.sql >>pg_ident.conf
        cd / && runuser -u postgres -- psql -qX -c 'SELECT pg_reload_conf()'");
    let lets_in = "cd / && runuser -u backupd -- psql -X -U restorer -d postgres -c \"SELECT 1\" >/dev/null 2>&1";
    system.wait_for(lets_in);
    system.sh(&format!("{add} && backupctl create shop && backupctl restore shop@latest --to copy --yes"));
    let owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'orders'";
    assert_eq!(system.sh(&format!("cd / && runuser -u postgres -- psql -AtX copy -c \"{owner}\"")), "keeper");
}

fn an_sqlite_database_outside_is_opened(system: &System) {
    system.install(VERSION);
    system.sh("install -d -o games -m 700 /srv/app
        cd / && runuser -u games -- sqlite3 /srv/app/app.db 'PRAGMA journal_mode = WAL; CREATE TABLE t(x); INSERT INTO t VALUES (1)'");
    let add = "backupctl source add app --sqlite /srv/app/app.db";
    let mut last = system.try_sh(add);
    assert_eq!(last.status.code(), Some(22), "{last}");
    for _ in 0..3 {
        let Some(commands) = last.stderr.find("setfacl").map(|at| last.stderr[at..].lines().next().unwrap()) else {
            break;
        };
        system.sh(commands);
        last = system.try_sh(add);
    }
    assert!(last.status.success(), "{last}");
    assert!(last.text().contains("The daemon was restarted"), "{last}");
    // Within its sandbox.
    system.sh("backupctl create app");
    system.sh("cd / && runuser -u games -- sqlite3 /srv/app/app.db 'INSERT INTO t VALUES (2)' && backupctl create app");
    // Restoring into the live file takes nothing else, and the file stays its owner's.
    let has = |rows: &str| {
        let asked = "SELECT group_concat(x) FROM t; INSERT INTO t VALUES (9); DELETE FROM t WHERE x = 9";
        assert_eq!(system.sh(&format!("cd / && runuser -u games -- sqlite3 /srv/app/app.db '{asked}'")).trim(), rows);
    };
    let identity = || system.sh("stat -c '%i %U %G %a' /srv/app/app.db; getfacl -c /srv/app/app.db 2>/dev/null");
    let before = identity();
    system.sh("cd / && runuser -u games -- sqlite3 /srv/app/app.db 'INSERT INTO t VALUES (3)'");
    system.sh("backupctl restore app@latest --yes");
    has("1,2");
    system.sh("backupctl restore undo $(backupctl restore undo --json | grep -o '\"job\": *[0-9]*' | grep -o '[0-9]*$') --yes");
    has("1,2,3");
    assert_eq!(identity(), before);
}
