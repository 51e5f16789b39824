//! The commands of a restore by hand, for `show`: with `restore.sh` of the repository and PostgreSQL's own programs.
//!
//! The set's files in their order: `globals.sql` makes roles and tablespaces, `database.sql` makes the empty database and
//! gives it its properties, and pre-data, data and post-data together are one dump that psql reads. `restore.sh`
//! verifies what it prints, and makes psql fail where it cannot go on.

use crate::{
    model::{
        BackupId, Name,
        manifest::{FileRole, Manifest},
    },
    source::shell::quoted,
};

/// The commands, one a line, in order, for a POSIX shell. Lines that begin with `#` explain. Empty for a backup that is
/// no PostgreSQL database.
#[must_use]
pub fn commands(repository: &str, backup: BackupId, manifest: &Manifest) -> Vec<String> {
    let Some(facts) = &manifest.postgresql else { return Vec::new() };
    let script = format!("sh {} ", quoted(format!("{}/restore.sh", repository.trim_end_matches('/')).as_bytes()));
    let named = |role| manifest.files.iter().find(|file| file.role == role).map(|file| quoted(file.name.as_bytes()));
    let strict = "psql -X -q -v ON_ERROR_STOP=1 -d";
    let mut commands = Vec::new();
    if let Some(globals) = named(FileRole::Globals) {
        commands.push("# roles and tablespaces; an error about one that exists is harmless:".to_owned());
        commands.push(format!("{script}cat {backup} {globals} | psql -X -q -d postgres"));
    }
    if let Some(database) = named(FileRole::Database) {
        commands
            .push("# the empty database under its original name, with encoding, locale, owner, settings:".to_owned());
        commands.push(format!("{script}cat {backup} {database} | {strict} postgres"));
    }
    let target = database_argument(&facts.database.name);
    commands.push("# schema, rows, constraints; after an error drop the database and begin again:".to_owned());
    commands.push(format!("{script}sql {backup} | {strict} {target}"));
    commands.push(format!("{strict} {target} -c ANALYZE"));
    commands
}

/// A database as an argument of `-d`, which takes a name with `=` or that looks like a URI for connection parameters.
fn database_argument(name: &Name) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.as_bytes().iter().all(plain) {
        return quoted(name.as_bytes());
    }
    let escape = |byte: &u8| if matches!(byte, b'\'' | b'\\') { vec![b'\\', *byte] } else { vec![*byte] };
    let value: Vec<u8> = name.as_bytes().iter().flat_map(escape).collect();
    quoted(&[b"dbname='".as_slice(), &value, b"'"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::shell::tests::shell;

    #[test]
    fn a_database_is_no_connection_string() {
        assert_eq!(database_argument(&"shop-1".into()), "shop-1");
        assert_eq!(shell(&database_argument(&"a='b\\".into())), b"dbname='a=\\'b\\\\'");
    }
}
