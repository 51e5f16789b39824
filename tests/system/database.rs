//! PostgreSQL over its local socket, with peer authentication and the role that README asks for: a timer makes the backup,
//! the restoring role gives it back, the journal tells of both.

use backupd::model::message_id;

use crate::{
    common::wait_until,
    machine::{System, VERSION},
};

on_each_system!(
    a_timer_backs_up_and_the_restoring_role_restores,
    what_a_switched_off_host_missed_is_made_up_for,
    a_failed_backup_is_a_failed_unit
);

fn a_timer_backs_up_and_the_restoring_role_restores(system: &System) {
    system.install(VERSION);
    system.with_source();
    let status = system.sh("backupctl status");
    assert!(status.contains("Next: `backupctl create shop`"), "{status}");
    a_timer_fires(system);
    assert_eq!(system.property("backupd-create@shop.service", "Result"), "success");
    assert!(!system.sh("backupctl status").contains("Next:"));

    the_journal_has_the_job(system);

    the_restoring_role_restores(system);
}

/// A role that is no superuser, by the SQL that is printed for it; it comes in by a password, over TCP.
fn the_restoring_role_restores(system: &System) {
    system.sh("set -o pipefail; cd / && printf 'sesame\n' >/run/password && chmod 600 /run/password
        backupctl source remove shop --yes
        add='backupctl source add shop --database shop --restore-user restorer --restore-password-file /run/password'
        $add --print-sql | runuser -u postgres -- psql -qX -v ON_ERROR_STOP=1
        runuser -u postgres -- psql -qX -c \"ALTER ROLE restorer PASSWORD 'sesame'\"
        $add
        backupctl restore shop@latest --to copy --yes
        backupctl verify --level=data");
    let sql = |database: &str, query: &str| {
        system.sh(&format!("cd / && runuser -u postgres -- psql -AtX {database} -c \"{query}\""))
    };
    let rights = "SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = 'restorer'";
    assert_eq!(sql("postgres", rights), "f|f|t");
    assert_eq!(sql("copy", "SELECT count(*) FROM orders"), "20000");
    // The same rows, owners and privileges; a line with a key that each dump makes anew aside.
    let dump = |database: &str| {
        system.sh(&format!(
            "cd / && runuser -u postgres -- pg_dump {database} | grep -v restrict | tee /run/{database}.sql"
        ))
    };
    assert!(dump("copy").contains("ALTER TABLE public.orders OWNER TO keeper"));
    dump("shop");
    system.sh("cmp /run/shop.sql /run/copy.sql");
    // In place and back again, by the same role, while somebody is connected.
    sql("shop", "DELETE FROM orders WHERE n > 100; CREATE TABLE later (n int)");
    system.sh(
        "cd / && (runuser -u postgres -- psql -qX shop -c 'SELECT pg_sleep(600)' &) >/dev/null 2>&1
        until runuser -u postgres -- psql -AtqX -c 'SELECT query FROM pg_stat_activity' | grep -q pg_sleep; do :; done",
    );
    let refused = system.sh("backupctl restore shop@latest --yes 2>&1 || true");
    assert!(refused.contains("those of superusers only a superuser ends"), "{refused}");
    sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'shop'");
    system.sh("backupctl restore shop@latest --yes");
    assert_eq!(sql("shop", "SELECT count(*), to_regclass('later') IS NULL FROM orders"), "20000|t");
    let job = system.json("backupctl restore undo --json=short")[0]["job"].as_u64().expect("a job");
    system.sh(&format!("backupctl restore undo {job} --yes"));
    assert_eq!(sql("shop", "SELECT count(*), to_regclass('later') IS NULL FROM orders"), "100|f");
    let owners = "SELECT count(DISTINCT datdba) FROM pg_database WHERE datname IN ('shop', 'copy')";
    assert_eq!(sql("postgres", owners), "1");
}

/// By the schedule of the source; the drop-in only takes the half hour away in which each source has its own place.
fn a_timer_fires(system: &System) {
    let file = "/etc/backupd/sources.d/shop.toml";
    let exactly = "[Timer]\nRandomizedDelaySec=0\nAccuracySec=100ms\n";
    system.write("/etc/systemd/system/backupd-create@.timer.d/exactly.conf", exactly);
    system.sh(&format!("cp {file} /run/shop.toml && echo 'schedule = [\"*:*:0/2\", \"30 2 * * 1-5\"]' >>{file}"));
    system.sh("systemctl daemon-reload && systemctl start timers.target");
    let timers = system.sh("systemctl list-timers --no-legend --no-pager");
    assert!(timers.contains("backupd-create@shop.timer"), "{timers}");
    let events = system.property("backupd-create@shop.timer", "TimersCalendar");
    assert!(events.contains("*-*-* *:*:00/2") && events.contains("Mon..Fri *-*-* 02:30:00"), "{events}");
    system.wait_for("backupctl list --json=short | grep -q shop");
    // Between two runs; during one, systemd does not yet say when the next is.
    wait_until("backupctl schedule shows the last run and the next", || {
        let row = &system.json("backupctl schedule --json=short")[0];
        assert_eq!((&row["source"], &row["active"]), (&"shop".into(), &true.into()));
        assert!(row["calendar"].to_string().contains("Mon..Fri *-*-* 02:30:00"), "{row}");
        let times = ["last_run", "last_backup", "next_run"].map(|name| row[name].as_u64());
        times.iter().all(Option::is_some) && times.is_sorted()
    });
    // Without its schedule it is a timer no longer.
    system.sh(&format!("cp /run/shop.toml {file} && systemctl daemon-reload"));
    system.wait_for("! systemctl --quiet is-active backupd-create@shop.timer backupd-create@shop.service");
    assert!(!system.sh("systemctl list-timers --no-legend --no-pager").contains("backupd-create@"));
}

fn the_journal_has_the_job(system: &System) {
    let lines = system.sh("journalctl -u backupd BACKUPD_SOURCE=shop -o json --no-pager");
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of =
        |id: &str| lines.iter().find(|line| line["MESSAGE_ID"] == id).unwrap_or_else(|| panic!("no {id}: {lines:?}"));
    let (started, done) = (of(message_id::JOB_STARTED), of(message_id::JOB_SUCCEEDED));
    assert_eq!(started["BACKUPD_JOB"], done["BACKUPD_JOB"]);
    assert_eq!(started["BACKUPD_JOB_TYPE"], "create");
    assert_eq!(started["BACKUPD_CALLER_UID"], system.sh("id -u backupd"));
    assert_eq!(done["PRIORITY"], "6");
    assert_eq!(done["SYSLOG_IDENTIFIER"], "backupd");
    let backup = done["BACKUPD_BACKUP"].as_str().unwrap();
    assert!(system.backups().iter().any(|id| id == backup), "{backup}");
}

fn what_a_switched_off_host_missed_is_made_up_for(system: &System) {
    system.install(VERSION);
    system.with_source();
    let at_once = "[Timer]\nRandomizedDelaySec=0\n";
    system.write("/etc/systemd/system/backupd-create@.timer.d/at-once.conf", at_once);
    system.sh("echo 'schedule = \"daily\"' >>/etc/backupd/sources.d/shop.toml
        systemctl daemon-reload && systemctl start timers.target && systemctl enable --quiet postgresql");
    assert!(system.backups().is_empty());
    // As if the host had been off for two days.
    system.sh("touch -d '2 days ago' /var/lib/systemd/timers/stamp-backupd-create@shop.timer");
    system.reboot();
    system.wait_for("backupctl list --json=short | grep -q shop");
    assert_eq!(system.sh("systemctl --failed --no-legend"), "");
}

fn a_failed_backup_is_a_failed_unit(system: &System) {
    system.install(VERSION);
    system.with_source();
    // A second backup of the same source is no failure.
    system.begin_held_backup();
    system.sh("systemctl start backupd-create@shop");
    let said = system.sh("journalctl -u backupd-create@shop -o cat --no-pager");
    assert!(said.contains("wait for it or cancel it"), "{said}");
    assert_eq!(system.sh("systemctl --failed --no-legend"), "");
    system.let_backups_go_on();
    system.wait_for("backupctl jobs --json=short | grep -q done");
    // A server that is not there is one.
    system.sh("systemctl stop postgresql");
    let failed = system.try_sh("systemctl start backupd-create@shop");
    assert!(!failed.status.success(), "{failed}");
    assert_eq!(system.property("backupd-create@shop", "ExecMainStatus"), "20");
    assert!(system.sh("backupctl schedule").contains(" failed "));
    let units = system.sh("systemctl --failed --no-legend --plain");
    assert!(units.starts_with("backupd-create@shop.service"), "{units}");
}
