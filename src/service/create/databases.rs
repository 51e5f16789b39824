//! Which databases of a server a run takes, what is new, what is gone, and how much there is to move. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    config::AllDatabases,
    model::{Name, SourceName, summary::BackupSummary},
    service::runs,
    source::postgres::{databases::ServerDatabase, selection},
};

/// The one that new databases are made of. Nobody can create a database while it is read, so it is not: a source of its
/// own can name it.
const TEMPLATE: &[u8] = b"template1";

/// What a run takes and finds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// What is taken, in order of the names.
    pub(super) databases: Vec<ServerDatabase>,
    /// Those of them that have no backup yet, where others have.
    pub(super) fresh: Vec<Name>,
    /// Databases of the last run that are not on the server any more.
    pub(super) vanished: Vec<Name>,
    /// About the plaintext bytes of each that is taken: as many as the last time, or what it has beyond the smallest
    /// one, which is hardly more than its catalogs.
    pub(super) expected: Vec<u64>,
}

impl Choice {
    /// Chooses among the databases of the server by the configuration; `backups` are all that there are.
    pub(super) fn make(
        server: Vec<ServerDatabase>,
        all: &AllDatabases,
        source: &SourceName,
        backups: &[BackupSummary],
    ) -> Self {
        let names: BTreeSet<&Name> = server.iter().map(|database| &database.name).collect();
        let last = runs::newest_whole(backups, source, None);
        let vanished = last.iter().filter_map(|backup| backup.source.child.as_ref());
        let vanished = vanished.filter(|name| !names.contains(name)).cloned().collect();
        let known: BTreeMap<&Name, &BackupSummary> = runs::newest_of_each(backups, source);
        let catalogs = server.iter().map(|database| database.bytes).filter(|bytes| *bytes > 0).min();
        let databases: Vec<ServerDatabase> = server.iter().filter(|database| takes(all, database)).cloned().collect();
        let fresh = databases.iter().map(|database| &database.name).filter(|name| !known.contains_key(name));
        let fresh = if known.is_empty() { Vec::new() } else { fresh.cloned().collect() };
        let expected = databases
            .iter()
            .map(|database| match known.get(&database.name) {
                Some(backup) => backup.raw_bytes,
                None => database.bytes.saturating_sub(catalogs.unwrap_or_default()),
            })
            .collect();
        Self { databases, fresh, vanished, expected }
    }
}

/// Whether a run takes this database.
pub(super) fn takes(all: &AllDatabases, database: &ServerDatabase) -> bool {
    let name = database.name.as_bytes();
    let excluded = |glob: &String| selection::matches(glob.as_bytes(), name);
    database.allows_connections && name != TEMPLATE && !all.exclude.iter().any(excluded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::runs::tests::taken;

    fn server(databases: &[(&str, bool, u64)]) -> Vec<ServerDatabase> {
        let database = |(name, allows_connections, bytes): &(&str, bool, u64)| ServerDatabase {
            name: (*name).into(),
            allows_connections: *allows_connections,
            bytes: *bytes,
        };
        databases.iter().map(database).collect()
    }

    fn names(databases: &[ServerDatabase]) -> Vec<&str> {
        databases.iter().map(|database| database.name.as_str().unwrap()).collect()
    }

    #[test]
    fn every_database_that_allows_connections_less_the_excluded() {
        let all = AllDatabases { exclude: vec!["test_*".into(), "tmp?".into()] };
        let server = server(&[
            ("a\n/@b", true, 9),
            ("closed", false, 9),
            ("my_template", true, 9),
            ("postgres", true, 7),
            ("template0", false, 7),
            ("template1", true, 7),
            ("test_", true, 9),
            ("tmp", true, 9),
            ("tmp1", true, 9),
        ]);
        let choice = Choice::make(server, &all, &"all".parse().unwrap(), &[]);
        assert_eq!(names(&choice.databases), ["a\n/@b", "my_template", "postgres", "tmp"]);
        assert_eq!(choice.expected, [2, 2, 0, 2]);
        assert_eq!((choice.fresh, choice.vanished), (vec![], vec![]), "the first run knows no other");
    }

    #[test]
    fn what_is_new_and_what_is_gone_is_told_by_the_last_run() {
        let mut old = taken("all/b", 1, 10, 1);
        old.raw_bytes = 55;
        let backups = [
            old,
            taken("all/a", 2, 20, 2),
            taken("all/closed", 2, 20, 2),
            taken("all/excluded", 2, 20, 2),
            taken("all/gone", 2, 20, 2),
            taken("all/gone long ago", 1, 10, 1),
            taken("other/x", 1, 30, 3),
        ];
        let all = AllDatabases { exclude: vec!["excluded".into()] };
        let server =
            server(&[("a", true, 9), ("b", true, 9), ("c", true, 9), ("closed", false, 9), ("excluded", true, 9)]);
        let choice = Choice::make(server, &all, &"all".parse().unwrap(), &backups);
        assert_eq!(names(&choice.databases), ["a", "b", "c"]);
        assert_eq!(choice.fresh, ["c".into()]);
        assert_eq!(choice.vanished, ["gone".into()]);
        assert_eq!(choice.expected, [0, 55, 0]);
    }
}
