//! The dead-man's switch reads configuration and repository by itself: no daemon runs where it looks.

use std::{
    fs::{File, FileTimes},
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{
    common::{Finished, LIMIT, World, run, sqlite_source},
    sqlite::sqlite3,
};

fn watch(world: &World, options: &[&str]) -> Finished {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backupctl"));
    command.args(["watch", "--skip-daemon", "--config-dir"]).arg(world.path().join("config"));
    run(command.args(options).env_remove("STATE_DIRECTORY"))
}

/// What is found, `code source` each.
fn found(world: &World) -> Vec<String> {
    let finished = watch(world, &["--json=short"]);
    let json = finished.json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let findings = json["findings"].as_array().expect("findings");
    assert_eq!(finished.status.code(), Some(i32::from(!findings.is_empty())), "{finished}");
    findings.iter().map(|finding| format!("{} {}", text(&finding["code"]), text(&finding["source"]))).collect()
}

/// Lets a file look as if it was written so long ago.
fn age(file: &Path, by: Duration) {
    let times = FileTimes::new().set_modified(SystemTime::now() - by);
    File::options().write(true).open(file).expect("open").set_times(times).expect("set the times");
}

#[test]
fn a_newest_good_backup_that_is_too_old_is_noticed_without_a_daemon() {
    let world = World::without_sources();
    assert_eq!(found(&world), Vec::<String>::new(), "there is nothing to protect");
    let file = world.path().join("app.db");
    sqlite3(
        &file,
        "CREATE TABLE a (n); WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 9000) INSERT INTO a SELECT n FROM c",
    );
    let source = |more: &str| world.source("app", &format!("{}{more}", sqlite_source(&file)));
    let configured = world.path().join("config/sources.d/app.toml");

    // A new source has the time that its backups may be old; one that nobody limits has all the time.
    source("rpo = \"1h\"\n");
    assert_eq!(found(&world), Vec::<String>::new());
    age(&configured, Duration::from_secs(3700));
    assert_eq!(found(&world), ["no-backup app"]);
    source("");
    age(&configured, Duration::from_secs(86_400 * 30));
    assert_eq!(found(&world), Vec::<String>::new());
    source("rpo = \"1h\"\nenabled = false\n");
    age(&configured, Duration::from_secs(3700));
    assert_eq!(found(&world), Vec::<String>::new());

    // A backup ends it, and is too old after a while.
    source("rpo = \"1h\"\nsuspicious_loss = 10\n");
    age(&configured, Duration::from_secs(3700));
    let daemon = world.start();
    daemon.create("app", &[]);
    assert_eq!(found(&world), Vec::<String>::new());
    source("rpo = \"2s\"\nsuspicious_loss = 10\n");
    let began = SystemTime::now();
    while found(&world) != ["backup-too-old app"] {
        assert!(began.elapsed().is_ok_and(|waited| waited < LIMIT), "it does not get old");
    }

    // With a folder of its own it reads what is new only, and finds the same.
    let own = world.path().join("own");
    std::fs::create_dir(&own).expect("make a folder");
    for _ in 0..2 {
        let found = watch(&world, &["--json=short", "--state-dir", own.to_str().expect("UTF-8")]).json();
        assert_eq!(found["findings"][0]["code"], "backup-too-old");
        let catalog = std::fs::read_to_string(own.join("catalog.jsonl")).expect("a catalog");
        assert!(catalog.contains(&daemon.ids()[0]), "{catalog}");
    }

    // A suspect one keeps nobody quiet.
    sqlite3(&file, "DELETE FROM a");
    daemon.create("app", &[]);
    assert_eq!(daemon.ctl(&["list", "--suspect", "--json"]).ok().json().as_array().map(Vec::len), Some(1));
    assert_eq!(found(&world), ["backup-too-old app"]);
    assert!(daemon.stop().success());
    assert_eq!(found(&world), ["backup-too-old app"], "no daemon is needed");

    // A source that a typing error disabled, a configuration and a repository that cannot be read.
    world.source("crm", "type = \"postgresql\"\n");
    assert!(found(&world).contains(&"source-broken crm".to_owned()));
    std::fs::remove_file(world.path().join("config/sources.d/crm.toml")).expect("remove it");
    let description = world.repository().join("REPOSITORY.json");
    let text = std::fs::read(&description).expect("read");
    std::fs::write(&description, "{").expect("write");
    assert_eq!(found(&world), ["repository-unreadable "]);
    std::fs::write(&description, text).expect("write");
    world.configure("[repository\n");
    assert_eq!(found(&world), ["configuration-broken "]);
}

#[test]
fn what_is_found_is_printed_with_what_helps_and_remembered() {
    let world = World::without_sources();
    let file = world.path().join("app.db");
    world.source("app", &format!("{}rpo = \"1h\"\n", sqlite_source(&file)));
    age(&world.path().join("config/sources.d/app.toml"), Duration::from_secs(4000));
    let text = watch(&world, &["--state-dir", world.path().to_str().expect("UTF-8")]);
    assert!(text.text().contains("no-backup: there is no good backup of app, 1h 6min after"), "{text}");
    text.says(&["1 thing is wrong"]);
    let told = || std::fs::read_to_string(world.path().join("told.json")).expect("what was told");
    let first = told();
    assert!(first.contains("no-backup app"), "{first}");
    watch(&world, &["--state-dir", world.path().to_str().expect("UTF-8")]);
    assert_eq!(told(), first, "it was told already");
    world.source("app", &sqlite_source(&file));
    watch(&world, &["--state-dir", world.path().to_str().expect("UTF-8")]).ok();
    assert!(!told().contains("no-backup"), "{}", told());
    let refused = run(Command::new(env!("CARGO_BIN_EXE_backupctl")).args(["watch", "--address", "unix:path=/x"]));
    assert_eq!(refused.status.code(), Some(2), "{refused}");
}
