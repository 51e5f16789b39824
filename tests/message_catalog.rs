//! What the daemon writes to the journal is what the catalog explains and the manual documents.

#![allow(clippy::unwrap_used, reason = "a broken expectation is what a test reports")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use backupd::model::message_id::TABLE;

/// An entry of the catalog.
struct Entry {
    id: String,
    headers: Vec<(String, String)>,
    text: String,
}

fn file(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn read(relative: &str) -> String {
    fs::read_to_string(file(relative)).unwrap()
}

fn catalog() -> Vec<Entry> {
    let catalog = read("systemd/backupd.catalog");
    let entries = catalog.split("\n-- ").skip(1).map(|entry| {
        let (id, rest) = entry.split_once('\n').unwrap();
        let (headers, text) = rest.split_once("\n\n").unwrap();
        let headers = headers.lines().map(|line| line.split_once(": ").unwrap());
        Entry {
            id: id.to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            text: text.to_owned(),
        }
    });
    entries.collect()
}

/// The sources of the programs, without the table of ids itself.
fn code() -> String {
    fn collect(folder: &Path, code: &mut String) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, code);
            } else if path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("message_id.rs") {
                code.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut code = String::new();
    collect(&file("src"), &mut code);
    code
}

/// The words in a text that begin with this.
fn words<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(prefix).map(|(at, _)| {
        let rest = &text[at..];
        &rest[..rest.find(|c: char| !c.is_ascii_uppercase() && c != '_').unwrap_or(rest.len())]
    })
}

/// The fields that backupd(8) documents.
fn documented() -> BTreeSet<String> {
    let manual = read("docs/man/backupd.8");
    let section = manual.split_once(".SH JOURNAL\n").unwrap().1.split("\n.SH ").next().unwrap();
    let fields = section.lines().filter_map(|line| line.strip_prefix(".B "));
    fields.filter(|field| !field.contains(' ')).map(ToOwned::to_owned).collect()
}

#[test]
fn every_message_is_explained_and_every_explanation_has_a_message() {
    let catalog = catalog();
    let mut ids: Vec<&str> = catalog.iter().map(|entry| entry.id.as_str()).collect();
    let mut known: Vec<&str> = TABLE.iter().map(|(_, id)| *id).collect();
    ids.sort_unstable();
    known.sort_unstable();
    assert_eq!(ids, known);
    for entry in &catalog {
        let names: Vec<&str> = entry.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["Subject", "Defined-By", "Documentation"], "{}", entry.id);
        assert!(entry.text.trim().len() > 40 && entry.text.lines().all(|line| line.len() <= 80), "{}", entry.text);
    }
}

#[test]
fn every_message_is_written_somewhere() {
    let code = code();
    for (name, _) in TABLE {
        assert!(code.contains(&format!("message_id::{name}")), "{name} is never written");
    }
}

#[test]
fn the_documented_fields_are_those_that_are_written() {
    let written: BTreeSet<String> = code()
        .lines()
        .flat_map(|line| {
            // A field of a message, not a variable of the environment.
            words(line, "BACKUPD_").filter(|field| line.contains(&format!("{field} = "))).collect::<Vec<_>>()
        })
        .map(ToOwned::to_owned)
        .collect();
    let mut documented = documented();
    assert!(documented.remove("MESSAGE_ID"));
    assert_eq!(written, documented);
    for entry in catalog() {
        let text = format!("{:?}{}", entry.headers, entry.text);
        for field in text.split('@').skip(1).step_by(2) {
            assert!(documented.contains(field), "{}: @{field}@ is no field", entry.id);
        }
    }
}

#[test]
fn journalctl_takes_the_catalog() {
    if Command::new("journalctl").arg("--version").output().is_err() {
        eprintln!("skipped: journalctl is not installed");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let (sources, database) =
        (root.path().join("usr/lib/systemd/catalog"), root.path().join("var/lib/systemd/catalog"));
    fs::create_dir_all(&sources).unwrap();
    fs::create_dir_all(database).unwrap();
    fs::copy(file("systemd/backupd.catalog"), sources.join("backupd.catalog")).unwrap();
    let journalctl = |arguments: &[&str]| {
        let output = Command::new("journalctl").arg("--root").arg(root.path()).args(arguments).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    journalctl(&["--update-catalog"]);
    let list = journalctl(&["--list-catalog"]);
    for entry in catalog() {
        let line = format!("{} backupd: {}", entry.id, entry.headers[0].1);
        assert!(list.lines().any(|listed| listed == line), "not in the catalog: {line}\n{list}");
        assert!(journalctl(&["--dump-catalog", &entry.id]).contains(entry.text.trim()), "{}", entry.id);
    }
}
