//! `docs/errors.md` is made from the error table, never by hand.
//!
//! `BACKUPD_UPDATE_DOCS=1 cargo test --test error_table` writes it again.

#![allow(clippy::unwrap_used, reason = "a broken expectation is what a test reports")]

use std::{env, fmt::Write as _, fs};

use backupd::model::error_code::TABLE;

fn document() -> String {
    let mut text = String::from(
        "# Errors\n\n\
         One table for the bus, the exit code of `backupctl` and the journal (`BACKUPD_ERROR=`). Made from\n\
         `src/model/error_code.rs`; the test `error_table` compares the two.\n\n\
         Exit code 0 is success. Codes 0 to 3 keep the meaning that monitoring plugins give them for `health`; elsewhere 1 is a\n\
         failure without a code of its own and 2 a mistake in the command line. *Retry* says whether the same call can\n\
         succeed later with nothing changed by a person.\n\n\
         | name | on D-Bus | exit code | retry | what it means, what to do |\n|---|---|---|---|---|\n",
    );
    for row in TABLE {
        let retry = if row.retry { "yes" } else { "no" };
        writeln!(text, "| {} | `{}` | {} | {} | {} |", row.name, row.dbus_name, row.exit_code, retry, row.hint)
            .unwrap();
    }
    text
}

#[test]
fn the_document_is_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
    if env::var_os("BACKUPD_UPDATE_DOCS").is_some() {
        fs::write(path, document()).unwrap();
    }
    let written = fs::read_to_string(path).unwrap();
    assert!(written == document(), "docs/errors.md is stale: run BACKUPD_UPDATE_DOCS=1 cargo test --test error_table");
}
