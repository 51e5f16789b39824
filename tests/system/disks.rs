//! File systems that are full or missing: the repository's, and those of databases.

use crate::machine::{System, VERSION};

on_each_system!(a_full_disk_fails_the_backup_alone_and_a_missing_one_its_source_alone);

fn a_full_disk_fails_the_backup_alone_and_a_missing_one_its_source_alone(system: &System) {
    system.install(VERSION);
    system.sh(
        "mkdir /srv/small && echo 'none /srv/small tmpfs size=12m,mode=700,uid=backupd,gid=backupd 0 0' >>/etc/fstab
        printf '[repository]\\npath = \"/srv/small/repository\"\\nreserve = \"0\"\\n' >/etc/backupd/backupd.toml
        systemctl daemon-reload && systemctl restart backupd && findmnt -t tmpfs /srv/small",
    );
    system.with_source();
    a_full_disk(system);
    a_missing_one(system);
}

fn a_full_disk(system: &System) {
    let start = "systemctl start backupd-create@shop";
    let files = "find /srv/small/repository -type f | sort | xargs sha256sum";
    system.sh(start);
    let (daemon, backups, packs) = (system.daemon(), system.backups(), system.sh(&format!("{files} | grep packs")));
    // What does not compress, twice as much as there is room, and nothing that the early checks can know of.
    system.sh("cd / && runuser -u postgres -- psql -qX shop -c 'CREATE TABLE noise AS SELECT gen_random_uuid() AS a, \
        gen_random_uuid() AS b, gen_random_uuid() AS c, gen_random_uuid() AS d FROM generate_series(1, 400000)'");
    let failed = system.try_sh(start);
    assert!(!failed.status.success(), "{failed}");
    assert_eq!(system.property("backupd-create@shop", "ActiveState"), "failed");
    assert_eq!(system.property("backupd-create@shop", "ExecMainStatus"), "13");
    let said = system.sh("journalctl --sync && journalctl -u backupd-create@shop -o cat --no-pager");
    assert!(said.contains("/srv/small") && said.contains("A file system is full"), "{said}");
    assert!(system.sh("journalctl -u backupd BACKUPD_ERROR=NoSpace -o cat --no-pager").contains("job 2"));

    // What was there is there, and nothing else.
    assert_eq!((system.backups(), system.daemon()), (backups.clone(), daemon));
    assert_eq!(system.sh(&format!("{files} | grep packs")), packs);
    assert_eq!(system.sh("find /srv/small/repository/sessions /var/lib/backupd/state/scratch -mindepth 1"), "");
    system.sh("backupctl verify --level=data && sh /srv/small/repository/restore.sh list | grep -c shop");

    system.sh(&format!("mount -o remount,size=400m /srv/small && {start} && backupctl verify --level=data"));
    assert_eq!(system.property("backupd-create@shop", "Result"), "success");
    assert_eq!(system.backups().len(), backups.len() + 1);
}

/// A database on a file system that is not mounted yet: its unit mounts it. One that cannot be mounted costs that source
/// its backup, also where the mount point holds a database, and nobody else anything.
fn a_missing_one(system: &System) {
    let make = |file: &str, value: &str| {
        format!("sqlite3 {file} \"CREATE TABLE t (text); INSERT INTO t VALUES ('{value}')\" && chown backupd: {file}\n")
    };
    system.sh(&format!(
        "install -d -o backupd /srv/disk /srv/apps
        {}{}echo '/srv/disk /srv/apps none bind,noauto 0 0' >>/etc/fstab
        printf 'type = \"sqlite\"\\npath = \"/srv/apps/app.db\"\\n' >/etc/backupd/sources.d/app.toml
        systemctl daemon-reload && systemctl restart backupd",
        make("/srv/disk/app.db", "right"),
        make("/srv/apps/app.db", "below"),
    ));
    let daemon = system.daemon();
    let start = "systemctl start backupd-create@app";
    assert!(!system.try_sh("mountpoint /srv/apps").status.success());
    system.sh(&format!("{start} && mountpoint /srv/apps"));
    let copy = "/var/lib/backupd/copy.db";
    system.sh(&format!("backupctl restore app@latest --to {copy} --yes"));
    assert_eq!(system.sh(&format!("sqlite3 {copy} 'SELECT text FROM t'")), "right");

    let backups = system.backups();
    system.sh("umount /srv/apps && cp /etc/fstab /run/fstab
        sed -i 's|^/srv/disk .*|none /srv/apps tmpfs noauto,size=nonsense 0 0|' /etc/fstab && systemctl daemon-reload");
    let refused = system.try_sh(start);
    assert!(!refused.status.success(), "{refused}");
    refused.says(&["dependency"]);
    assert_eq!(system.backups(), backups);
    assert_eq!(system.sh("systemctl --failed --no-legend --plain | cut -d' ' -f1"), "srv-apps.mount");
    the_schedule_shows_that_nothing_ran(system);
    system.sh("systemctl start backupd-create@shop");
    assert_eq!(system.backups().len(), backups.len() + 1);
    assert_eq!(system.daemon(), daemon);
    system.sh(&format!("cp /run/fstab /etc/fstab && systemctl daemon-reload && {start}"));
    assert!(!system.sh("backupctl schedule --json=short").contains("\"last_run_failed\":true"));
}

/// The service whose mount is missing is not failed to systemd; to who asks for backups it is.
fn the_schedule_shows_that_nothing_ran(system: &System) {
    let exactly = "[Timer]\nRandomizedDelaySec=0\nAccuracySec=100ms\n";
    system.write("/etc/systemd/system/backupd-create@.timer.d/exactly.conf", exactly);
    let file = "/etc/backupd/sources.d/app.toml";
    system.sh(&format!(
        "cp {file} /run/app.toml && echo 'schedule = \"*:*:0/2\"' >>{file}
        systemctl daemon-reload && systemctl reload backupd && systemctl start timers.target"
    ));
    let failed = "backupctl schedule --json=short | grep -q \"last_run_failed.:true\"";
    system.wait_for(failed);
    assert!(system.sh("backupctl schedule").contains(" failed "));
    assert_eq!(system.property("backupd-create@app", "ActiveState"), "inactive");
    system.sh(&format!("cp /run/app.toml {file} && systemctl daemon-reload && systemctl reload backupd"));
}
