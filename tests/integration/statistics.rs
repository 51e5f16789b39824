//! `stats` and `diff` say what the manifests say, also when what is remembered was lost.

use std::fs;

use serde_json::Value;

use crate::{
    common::{Daemon, Finished, Server, World, postgres_source, sqlite_source},
    sqlite::sqlite3,
};

fn stats(daemon: &Daemon, source: &str) -> Value {
    daemon.ctl(&["stats", source, "--json=short"]).ok().json()
}

/// What is printed has all of these words.
#[track_caller]
fn prints(finished: &Finished, words: &[&str]) {
    for word in words {
        assert!(finished.text().contains(word), "`{word}` is missing: {finished}");
    }
}

fn sum(list: &[Value], field: &str) -> u64 {
    list.iter().map(|backup| backup[field].as_u64().expect(field)).sum()
}

#[test]
fn stats_are_what_manifests_say_and_come_back_when_they_are_lost() {
    let mut server = Server::start();
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", "CREATE TABLE t AS SELECT n, md5(n::text) h FROM generate_series(1, 2000) n");
    let world = World::new(&server);
    let file = world.path().join("app.db");
    sqlite3(&file, "CREATE TABLE a (n); INSERT INTO a VALUES (1), (2), (3)");
    world.source("app", &sqlite_source(&file));
    let daemon = world.start();
    daemon.create("shop", &[]);
    server.sql("shop", "INSERT INTO t SELECT n, md5(n::text) FROM generate_series(2001, 3000) n");
    daemon.create("shop", &[]);
    daemon.create("app", &[]);

    let list = daemon.list();
    for source in ["shop", "app"] {
        let backups: Vec<Value> = list.iter().filter(|backup| backup["source"] == source).cloned().collect();
        let count = backups.len() as u64;
        let report = stats(&daemon, source);
        let figures = &report["sources"][0];
        for field in ["raw_bytes", "stored_bytes", "new_bytes", "rows"] {
            assert_eq!(figures[field], sum(&backups, field), "{source} {field}");
            assert_eq!(figures["average"][field], sum(&backups, field) / count, "{source} {field}");
        }
        let duration: u64 = backups
            .iter()
            .map(|backup| {
                let id = backup["id"].as_str().expect("id");
                let shown = daemon.ctl(&["show", id, "--json=short"]).ok().json();
                shown["manifest"]["statistics"]["duration"].as_u64().expect("a duration")
            })
            .sum();
        assert_eq!(figures["average"]["duration"], duration / count, "{source}");
        for field in ["backups", "taken", "taken_24h", "taken_7d"] {
            assert_eq!(figures[field], count, "{source} {field}");
        }
        assert_eq!(figures["creates"]["done"], count);
        assert_eq!(figures["creates"]["success_rate"], 1.0);
        assert_eq!(figures["trend"].as_array().expect("a trend").len() as u64, count);
    }

    // A backup that fails counts, as a job or before it becomes one; a deleted one was taken all the same.
    let id =
        list.iter().find(|backup| backup["source"] == "shop").expect("a backup")["id"].as_str().expect("id").to_owned();
    daemon.ctl(&["delete", &id, "--yes"]).ok();
    server.stop();
    assert!(!daemon.ctl(&["create", "shop"]).status.success());
    let report = stats(&daemon, "shop");
    let figures = &report["sources"][0];
    assert_eq!((&figures["backups"], &figures["taken"]), (&1.into(), &2.into()));
    assert_eq!((&figures["creates"]["failed"], &figures["creates"]["done"]), (&1.into(), &2.into()));
    let text = daemon.ctl(&["stats", "shop"]).ok();
    prints(&text, &["66.6% (2 done, 1 failed)", "2 taken"]);
    assert!(text.text().is_ascii(), "bars are for terminals: {text}");
    prints(&daemon.ctl(&["stats"]).ok(), &["app", "shop", "2 sources listed", "Source: all"]);
    assert_eq!(daemon.ctl(&["stats", "nothing"]).status.code(), Some(4));

    // A restart forgets nothing.
    assert!(daemon.stop().success());
    let daemon = world.start();
    let again = stats(&daemon, "shop");
    assert_eq!(again["sources"], report["sources"]);
    assert_eq!(again["jobs_since"], report["jobs_since"]);

    // Without its own history, and that of jobs: what there is, and none of the failures.
    assert!(daemon.stop().success());
    for name in ["statistics.jsonl", "jobs.jsonl"] {
        fs::remove_file(world.path().join("state").join(name)).expect("remove a file of state");
    }
    let daemon = world.start();
    let rebuilt = stats(&daemon, "shop");
    let figures = &rebuilt["sources"][0];
    assert_eq!((&figures["backups"], &figures["taken"]), (&1.into(), &1.into()));
    assert_eq!((&figures["creates"]["failed"], &figures["creates"]["success_rate"]), (&0.into(), &Value::Null));
    assert!(rebuilt["jobs_since"].as_u64() > report["jobs_since"].as_u64());
    assert_eq!(figures["raw_bytes"], report["sources"][0]["raw_bytes"]);
    // And without a daemon.
    let offline = world.offline(&["stats", "shop", "--json=short"]).ok().json();
    assert_eq!(offline["sources"][0]["raw_bytes"], figures["raw_bytes"]);
    assert_eq!(offline["sources"][0]["trend"], figures["trend"]);
}

fn row<'a>(diff: &'a Value, list: &str, name: &str) -> &'a Value {
    diff[list].as_array().expect("a list").iter().find(|row| row["name"] == name).unwrap_or(&Value::Null)
}

#[test]
fn a_difference_names_what_came_and_went() {
    let server = Server::start();
    server.sql("postgres", "CREATE DATABASE shop; CREATE DATABASE other");
    server.sql(
        "shop",
        "CREATE TABLE stays (n int); INSERT INTO stays VALUES (1); CREATE TABLE goes (n int); INSERT INTO goes VALUES (1), (2);
         CREATE TABLE grows (t text); INSERT INTO grows VALUES ('a')",
    );
    let world = World::new(&server);
    world.source("other", &postgres_source(&server, "other"));
    let file = world.path().join("app.db");
    sqlite3(&file, "CREATE TABLE a (n); INSERT INTO a VALUES (1)");
    world.source("app", &sqlite_source(&file));
    let daemon = world.start();
    let id = |backup: &Value| backup["id"].as_str().expect("id").to_owned();
    let before = id(&daemon.create("shop", &[]));
    server.sql(
        "shop",
        "DROP TABLE goes; CREATE TABLE comes (n int); INSERT INTO comes SELECT generate_series(1, 10);
         INSERT INTO grows SELECT repeat('x', 500) FROM generate_series(1, 100); CREATE EXTENSION pgcrypto",
    );
    let after = id(&daemon.create("shop", &[]));

    let diff = daemon.ctl(&["diff", &before, "shop@latest", "--json=short"]).ok().json();
    assert_eq!((diff["from"]["id"].as_str(), diff["to"]["id"].as_str()), (Some(&*before), Some(&*after)));
    let tables = diff["tables"].as_array().expect("tables");
    assert_eq!(tables.len(), 3, "{diff}");
    assert_eq!(tables[0]["name"], "grows", "what changed most is first");
    let rows = |name: &str| {
        let row = row(&diff, "tables", name);
        (row["change"].as_str().unwrap_or_default(), row["rows_from"].as_u64(), row["rows_to"].as_u64())
    };
    assert_eq!(rows("grows"), ("changed", Some(1), Some(101)));
    assert_eq!(rows("goes"), ("removed", Some(2), Some(0)));
    assert_eq!(rows("comes"), ("added", Some(0), Some(10)));
    assert_eq!(diff["unchanged_tables"], 1);
    let extension = row(&diff, "extensions", "pgcrypto");
    assert_eq!((&extension["change"], &extension["version_from"]), (&"added".into(), &"".into()));
    assert_eq!(world.offline(&["diff", &before, &after, "--json=short"]).ok().json(), diff);

    let back = daemon.ctl(&["diff", &after, &before]).ok();
    prints(&back, &["public.comes", "removed: extension pgcrypto", "1 table with as many rows and bytes as before"]);
    prints(&daemon.ctl(&["diff", &after, &after]).ok(), &["Nothing differs."]);

    // Other sources can be compared, other kinds cannot.
    daemon.create("other", &[]);
    prints(&daemon.ctl(&["diff", &after, "other@latest"]).ok(), &["The backups are of different sources."]);
    let first = id(&daemon.create("app", &[]));
    let refused = daemon.ctl(&["diff", &after, &first]);
    assert_eq!(refused.status.code(), Some(2), "{refused}");
    refused.says(&["one is a logical backup and the other a sqlite backup"]);
    sqlite3(&file, "CREATE INDEX i ON a (n); INSERT INTO a VALUES (2)");
    daemon.create("app", &[]);
    let diff = daemon.ctl(&["diff", &first, "app@latest", "--json=short"]).ok().json();
    assert_eq!(row(&diff, "objects", "i")["change"], "added");
    assert_eq!(row(&diff, "tables", "a")["rows_to"], 2);
}
