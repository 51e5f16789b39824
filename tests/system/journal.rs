//! What happened, as an administrator finds it: the fields that backupd(8) names, the catalog, `backupctl log`, and more of
//! it on demand.

use std::{collections::BTreeSet, fs};

use backupd::model::{ErrorCode, message_id};
use serde_json::Value;

use crate::{
    common::project_file,
    machine::{System, VERSION},
};

on_each_system!(the_journal_tells_the_story_of_a_job);

fn the_journal_tells_the_story_of_a_job(system: &System) {
    system.install(VERSION);
    system.with_source();
    system.sh("backupctl create shop");
    // A job that fails once it runs: what the early checks find is an answer without a job.
    system.hold_backups();
    let file = "/etc/backupd/sources.d/shop.toml";
    system.sh(&format!("echo 'lock_timeout = \"1s\"' >>{file} && systemctl reload backupd"));
    system.try_sh("backupctl create shop").fails_with(ErrorCode::LockTimeout);
    system.let_backups_go_on();
    the_fields_are_the_documented_ones(system);
    the_catalog_explains(system);
    the_client_tells_the_same(system);
    the_log_level_follows_systemctl(system);
}

fn entries(system: &System, matches: &str) -> Vec<Value> {
    // What was said a moment ago may be on its way.
    let lines = system.sh(&format!("journalctl --sync && journalctl -u backupd {matches} -o json --no-pager"));
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn the_fields_are_the_documented_ones(system: &System) {
    let page = fs::read_to_string(project_file("docs/man/backupd.8")).expect("the page");
    let of_source = entries(system, "BACKUPD_SOURCE=shop");
    let seen: BTreeSet<&str> = of_source
        .iter()
        .flat_map(|entry| entry.as_object().expect("an object").keys())
        .filter(|name| name.starts_with("BACKUPD_"))
        .map(String::as_str)
        .collect();
    for name in &seen {
        assert!(page.contains(&format!("\n.B {name}\n")), "{name} is not in backupd(8)");
    }
    for name in [
        "BACKUPD_JOB",
        "BACKUPD_JOB_NUMBER",
        "BACKUPD_JOB_TYPE",
        "BACKUPD_SOURCE",
        "BACKUPD_BACKUP",
        "BACKUPD_RESULT",
        "BACKUPD_ERROR",
        "BACKUPD_DURATION_USEC",
        "BACKUPD_CALL",
        "BACKUPD_CALLER_UID",
        "BACKUPD_CALLER_PID",
        "BACKUPD_CALLER_UNIT",
        "BACKUPD_CALLER_SENDER",
        "BACKUPD_POLKIT_ACTION",
    ] {
        assert!(seen.contains(name), "{name} is on no line: {seen:?}");
    }
    let one = |id: &str| entries(system, &format!("MESSAGE_ID={id}")).pop().unwrap_or_else(|| panic!("no {id}"));
    let (done, failed) = (one(message_id::JOB_SUCCEEDED), one(message_id::JOB_FAILED));
    assert_eq!((&done["BACKUPD_JOB_NUMBER"], &done["BACKUPD_RESULT"]), (&"1".into(), &"done".into()));
    assert!(done["BACKUPD_DURATION_USEC"].as_str().is_some_and(|text| text.parse::<u64>().is_ok_and(|t| t > 0)));
    assert_eq!(failed["BACKUPD_ERROR"], "LockTimeout");
    assert_eq!((&failed["PRIORITY"], &failed["_SYSTEMD_UNIT"]), (&"3".into(), &"backupd.service".into()));
}

/// The package's file is compiled into the host's catalog by dpkg's trigger.
fn the_catalog_explains(system: &System) {
    let catalog = fs::read_to_string(project_file("systemd/backupd.catalog")).expect("the catalog");
    for id in [message_id::JOB_STARTED, message_id::JOB_SUCCEEDED, message_id::JOB_FAILED, message_id::CALL_ACCEPTED] {
        let entry = catalog.split(&format!("-- {id}\n")).nth(1).expect("an entry");
        let subject = entry.lines().find_map(|line| line.strip_prefix("Subject: ")).expect("a subject");
        // What is in it of a field is filled in.
        let fixed = subject.split('@').next().expect("a beginning");
        let explained = system.sh(&format!("journalctl -x -u backupd MESSAGE_ID={id} --no-pager"));
        assert!(explained.contains(&format!("Subject: {fixed}")), "{id}: {explained}");
        assert!(!explained.contains("@BACKUPD_"), "{explained}");
    }
}

fn the_client_tells_the_same(system: &System) {
    for job in ["1", "2"] {
        let told = system.sh(&format!("backupctl log {job}"));
        let said: Vec<String> = entries(system, &format!("BACKUPD_JOB_NUMBER={job}"))
            .iter()
            .filter(|entry| entry["PRIORITY"].as_str().is_some_and(|level| level <= "6"))
            .map(|entry| entry["MESSAGE"].as_str().expect("text").to_owned())
            .collect();
        assert!(said.len() >= 2, "{said:?}");
        for message in said {
            assert!(told.contains(&message), "not told of job {job}: {message}\n{told}");
        }
    }
    assert!(system.sh("backupctl log shop").lines().count() >= 4);
}

fn the_log_level_follows_systemctl(system: &System) {
    let debug = "journalctl --sync; journalctl -u backupd -p debug..debug -o cat --no-pager | wc -l";
    let level = "systemctl service-log-level backupd";
    assert_eq!(system.sh(&format!("{level}; {debug}")), "info\n0");
    // A plain user may read neither, and set neither.
    for arguments in ["debug", ""] {
        let refused = system.try_sh(&format!("runuser -u nobody -- {level} {arguments}"));
        assert!(!refused.status.success(), "{refused}");
        refused.says(&["needs authentication for org.backupd1."]);
    }
    assert_eq!(system.sh(level), "info");
    system.sh(&format!("{level} debug && backupctl create --quiet shop"));
    let more: usize = system.sh(debug).parse().expect("a number");
    assert!(more > 0, "no line of the level debug");
    assert_eq!(system.sh(&format!("{level} info && {level} && backupctl list >/dev/null")), "info");
    let after: usize = system.sh(&format!("backupctl list >/dev/null; {debug}")).parse().expect("a number");
    let again: usize = system.sh(&format!("backupctl list >/dev/null; {debug}")).parse().expect("a number");
    assert_eq!(after, again, "it still says more");
    let odd = system.try_sh(&format!("{level} loud"));
    assert!(!odd.status.success(), "{odd}");
}
