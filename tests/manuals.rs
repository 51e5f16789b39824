//! The manual pages: they are well formed, and `backupd.toml(5)` has the keys that the configuration has. What they say of options, verbs and
//! errors is compared in `ctl_command_line`, of fields of the journal in `message_catalog`, of the bus in `dbus_api`.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a broken expectation is what a test reports")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn pages() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man");
    let mut pages: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.sort();
    assert_eq!(pages.len(), 4, "{pages:?}");
    pages
}

/// `man` formats with groff; its warnings are what a reader would see as damage.
#[test]
fn groff_has_nothing_to_say() {
    for page in pages() {
        let output =
            Command::new("groff").args(["-man", "-ww", "-z", "-Kutf8", "-Tutf8"]).arg(&page).output().expect("groff");
        assert!(output.status.success(), "{}: {}", page.display(), output.status);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{}", page.display());
    }
}

/// Every page that one refers to is another one of these or of somebody else's that exists.
#[test]
fn references_lead_somewhere() {
    let ours: Vec<String> = pages().iter().map(|page| page.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap().replace("\\-", "-");
        for line in text.lines().filter_map(|line| line.strip_prefix(".BR ")) {
            let Some((name, rest)) = line.split_once(" (") else { continue };
            let Some((section, _)) = rest.split_once(')') else { continue };
            let file = format!("{name}.{section}");
            assert!(!name.contains("backup") || ours.contains(&file), "{}: there is no {file}", page.display());
        }
    }
}

/// The keys that a table of the configuration knows, as the refusal of one that it does not know lists them.
fn known(file: &str, text: &str, path: &str) -> BTreeSet<String> {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("sources.d")).unwrap();
    fs::write(folder.path().join(file), text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_backupctl"))
        .args(["config", "check", "--config-dir"])
        .arg(folder.path())
        .output()
        .unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let refusal = format!(": {path}unknown_to_all: unknown key; known here: ");
    let (_, keys) = output.lines().find_map(|line| line.split_once(&refusal)).unwrap_or_else(|| panic!("{output}"));
    keys.split(", ").map(str::to_owned).collect()
}

/// The keys of a part of the page: the headings of its list, and the words of the line that begins with the key `user`.
fn documented(page: &str, from: &str, to: &str) -> BTreeSet<String> {
    let part = page.split_once(from).unwrap_or_else(|| panic!("{from}")).1;
    let part = part.split_once(to).unwrap_or_else(|| panic!("{to}")).0;
    let mut keys = BTreeSet::new();
    let mut heading = false;
    for line in part.lines() {
        if heading || line.starts_with(".BR user \"") {
            let words = line.strip_prefix(".BR ").or_else(|| line.strip_prefix(".B ")).unwrap_or_default();
            let words =
                words.split([' ', '"', ',']).filter(|word| !word.is_empty() && !["or", "and", "."].contains(word));
            keys.extend(words.map(str::to_owned));
        }
        heading = line == ".TP";
    }
    keys
}

#[test]
fn every_code_of_health_is_documented_with_its_meaning() {
    let page = fs::read_to_string(&pages()[0]).unwrap();
    let part = page.split_once("\n.SH HEALTH\n").unwrap().1.split("\n.SH ").next().unwrap();
    let documented: Vec<(&str, String)> = part
        .split("\n.TP\n.B ")
        .skip(1)
        .map(|entry| entry.split_once('\n').unwrap())
        .map(|(code, text)| (code, text.trim().replace("\\-", "-").replace("\\fI", "`").replace("\\fR", "`")))
        .collect();
    let known: Vec<(&str, String)> =
        backupd::health::Code::ALL.iter().map(|code| (code.name(), code.meaning().to_owned())).collect();
    assert_eq!(documented, known);
}

#[test]
fn every_key_of_the_configuration_is_documented_and_no_other() {
    let page = fs::read_to_string(&pages()[2]).unwrap();
    let source = ".SH SOURCES";
    let (postgres, restore, sqlite) = (".SS type = \"postgresql\"", ".SS [restore]", ".SS type = \"sqlite\"");
    let of_all = documented(&page, source, postgres);
    let with = |more: BTreeSet<String>| of_all.union(&more).cloned().collect::<BTreeSet<String>>();

    let (drill, health, retention) = (".SS [drill]", ".SS [health]", ".SS [retention]");
    let notify = ".SS [notify.NAME]";
    let daemon = ["repository", "limits", "undo", "drill", "retention", "health", "metrics"]
        .map(|table| format!("[{table}]\nunknown_to_all = 1\n"));
    let daemon = daemon.concat();
    let daemon = daemon.as_str();
    let tables = known("backupd.toml", "unknown_to_all = 1\n", "");
    assert_eq!(
        tables.iter().map(String::as_str).collect::<Vec<_>>(),
        ["drill", "health", "limits", "metrics", "notify", "repository", "retention", "undo"]
    );
    let repository = documented(&page, ".SS [repository]", ".SS [limits]");
    assert_eq!(known("backupd.toml", daemon, "repository."), repository);
    assert_eq!(known("backupd.toml", daemon, "limits."), documented(&page, ".SS [limits]", ".SS [undo]"));
    assert_eq!(known("backupd.toml", daemon, "undo."), documented(&page, ".SS [undo]", drill));
    assert_eq!(known("backupd.toml", daemon, "drill."), documented(&page, drill, retention));
    assert_eq!(known("backupd.toml", daemon, "retention."), documented(&page, retention, health));
    assert_eq!(known("backupd.toml", daemon, "health."), documented(&page, health, ".SS [metrics]"));
    assert_eq!(known("backupd.toml", daemon, "metrics."), documented(&page, ".SS [metrics]", notify));
    let of_notifiers = page.split_once(notify).unwrap().1;
    let of_each = documented(&page, notify, ".SS type = \"mail\"");
    for (kind, until) in [
        ("mail", ".SS type = \"webhook\""),
        ("webhook", ".SS type = \"ping\""),
        ("ping", ".SS type = \"command\""),
        ("command", source),
    ] {
        let mut keys = documented(of_notifiers, &format!(".SS type = \"{kind}\""), until);
        keys.extend(
            of_each.iter().filter(|key| kind != "ping" || !["repeat", "group"].contains(&key.as_str())).cloned(),
        );
        let text = format!("[notify.x]\ntype = \"{kind}\"\nunknown_to_all = 1\n");
        assert_eq!(known("backupd.toml", &text, "notify.x."), keys, "{kind}");
    }

    let file = "sources.d/shop.toml";
    let mut keys = with(documented(&page, postgres, restore));
    // The tables that have sections of their own.
    keys.extend(["restore", "drill", "retention", "health"].map(str::to_owned));
    assert_eq!(known(file, "type = \"postgresql\"\ndatabase = \"shop\"\nunknown_to_all = 1\n", ""), keys);
    let in_restore = "type = \"postgresql\"\ndatabase = \"shop\"\n[restore]\nunknown_to_all = 1\n";
    assert_eq!(known(file, in_restore, "restore."), documented(&page, restore, drill));
    let in_drill = "type = \"postgresql\"\ndatabase = \"shop\"\n[drill]\nunknown_to_all = 1\n";
    let of_sources = page.split_once(restore).unwrap().1;
    assert_eq!(known(file, in_drill, "drill."), documented(of_sources, drill, retention));
    let in_retention = "type = \"postgresql\"\ndatabase = \"shop\"\n[retention]\nunknown_to_all = 1\n";
    assert_eq!(known(file, in_retention, "retention."), documented(of_sources, retention, health));
    let in_health = "type = \"postgresql\"\ndatabase = \"shop\"\n[health]\nunknown_to_all = 1\n";
    assert_eq!(known(file, in_health, "health."), documented(of_sources, health, sqlite));
    let mut keys = with(documented(&page, sqlite, ".SH EXAMPLE"));
    keys.extend(["drill", "retention", "health"].map(str::to_owned));
    assert_eq!(known(file, "type = \"sqlite\"\npath = \"/x\"\nunknown_to_all = 1\n", ""), keys);
}
