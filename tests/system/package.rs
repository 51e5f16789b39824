//! The package as a file: it can be built again to the last byte, and Debian's own check finds no error.

use std::{fs, process::Command};

use crate::{
    common::{Scratch, run},
    machine::{VERSION, build_package, package},
};

#[test]
fn two_builds_give_the_same_bytes() {
    if !tools(&["dpkg-deb", "dpkg-shlibdeps", "strip", "make"]) {
        return;
    }
    let (first, second) = (Scratch::new(), Scratch::new());
    let build = |folder: &Scratch| fs::read(build_package(VERSION, folder.path())).expect("a package");
    assert!(build(&first) == build(&second), "the packages differ");
}

#[test]
fn lintian_finds_nothing_that_is_not_explained() {
    if !tools(&["lintian", "dpkg-deb", "dpkg-shlibdeps", "strip", "make"]) {
        return;
    }
    let mut lintian = Command::new("lintian");
    // Every override stands beside its reason: packaging/deb/lintian-overrides.
    lintian.args(["--allow-root", "--fail-on=error,warning", "--no-tag-display-limit"]).arg(package(VERSION));
    // It leaves temporary files behind.
    let scratch = Scratch::new();
    lintian.env("TMPDIR", scratch.path());
    let finished = run(&mut lintian).ok();
    assert!(!finished.text().contains("mismatched-override"), "{finished}");
}

#[test]
fn the_licences_of_what_is_compiled_in_are_there() {
    if !tools(&["dpkg-deb", "dpkg-shlibdeps", "strip", "make"]) {
        return;
    }
    let folder = Scratch::new();
    run(Command::new("dpkg-deb").arg("-x").arg(package(VERSION)).arg(folder.path())).ok();
    let notices = folder.join("usr/share/doc/backupd/third-party-notices.gz");
    let notices = run(Command::new("gunzip").arg("-c").arg(notices)).ok();
    // A crate, and C that a crate brings along in a folder below its own.
    for text in ["\nrusqlite 0.", "Copyright 2016 Eric Biggers", "Meta Platforms, Inc."] {
        assert!(notices.text().contains(text), "{text:?} is missing");
    }
    assert!(!notices.text().contains("\nroxmltree "), "only tests need it");
}

/// Whether these programs are there; without, the test is skipped, visibly, and with `CI` set it fails.
pub fn tools(names: &[&str]) -> bool {
    use std::io::Write as _;
    let missing: Vec<_> = names.iter().filter(|name| !run(Command::new("which").arg(name)).status.success()).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "missing: {missing:?}");
    let _ = writeln!(std::io::stderr(), "SKIPPED: missing: {missing:?}");
    false
}
