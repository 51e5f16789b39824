//! The commands of a restore by hand, for `show`: with `restore.sh` of the repository and `sqlite3`.

use std::path::Path;

use super::IMAGE;
use crate::{
    model::{BackupId, manifest::Manifest},
    source::shell::quoted,
};

/// The commands, one a line, in order, for a POSIX shell. Lines that begin with `#` explain. Empty for a backup that is
/// no SQLite database.
#[must_use]
pub fn commands(repository: &str, backup: BackupId, manifest: &Manifest) -> Vec<String> {
    let Some(facts) = &manifest.sqlite else { return Vec::new() };
    let script = quoted(format!("{}/restore.sh", repository.trim_end_matches('/')).as_bytes());
    let path = facts.path.lossy();
    let name = Path::new(&*path).file_name().map_or(IMAGE.as_bytes(), |name| name.as_encoded_bytes());
    let file = quoted(&[b"./", name].concat());
    vec![
        "# the database as a new file in this folder; after an error it is not whole, and goes:".to_owned(),
        format!("(umask 077 && sh {script} cat {backup} {IMAGE} > {file}) || rm {file}"),
        format!("sqlite3 {file} 'PRAGMA integrity_check'"),
    ]
}
