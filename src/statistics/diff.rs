//! What changed between two backups: rows and bytes per table, tables, extensions and objects that came and went.
//!
//! Only what manifests say is compared, so nothing is read but them. A table with as many rows and bytes as before counts
//! as unchanged; [`BackupDiff::same_data`] says whether all data are the same byte for byte.
//!
//! Invariants: comparing a backup with itself gives nothing; comparing the other way round gives the mirror image.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{
    BackupId, Name, SourceKey,
    manifest::{FileRole, Kind, Manifest},
};

/// What changed from one backup to another. Sizes are bytes, times microseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupDiff {
    /// What kind both are.
    pub kind: Kind,
    /// The one that is compared with.
    pub from: Side,
    /// The other one.
    pub to: Side,
    /// Whether both are backups of one source.
    pub same_source: bool,
    /// Whether both were taken with the same choice of tables and schemas. Where not, tables that are missing may only
    /// not have been chosen.
    pub same_selection: bool,
    /// Whether the rows (of SQLite, the pages) are the same byte for byte.
    pub same_data: bool,
    /// The tables that differ, those first whose bytes, then whose rows changed most.
    pub tables: Vec<TableChange>,
    /// How many tables have as many rows and bytes as before.
    pub unchanged_tables: u64,
    /// The extensions that differ, in order of their names; PostgreSQL's only.
    pub extensions: Vec<ExtensionChange>,
    /// Tables, indexes, views and triggers whose statement differs, in order of their types and names; SQLite's only.
    pub objects: Vec<ObjectChange>,
}

/// One of two backups that are compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Its id.
    pub id: BackupId,
    /// Its source.
    #[serde(flatten)]
    pub source: SourceKey,
    /// Its number within the source.
    pub sequence: u64,
    /// The instant whose state it holds.
    pub snapshot_at: u64,
    /// Version of the PostgreSQL server, or of the SQLite library that read the file.
    pub server_version: String,
    /// Tables.
    pub tables: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// Plaintext bytes.
    pub raw_bytes: u64,
    /// Bytes of its chunks as stored, shared ones included.
    pub stored_bytes: u64,
    /// Bytes that it added to the repository.
    pub new_bytes: u64,
    /// Size of the database as the server reports it.
    pub database_bytes: u64,
    /// Large objects; PostgreSQL's only.
    pub large_objects: u64,
    /// How long the job took, microseconds.
    pub duration: u64,
}

/// What became of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Only the second backup has it.
    Added,
    /// Only the first one has it.
    Removed,
    /// Both have it, not alike.
    Changed,
}

impl Change {
    /// The word in JSON and for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }

    /// What it is where something was or was not, and is or is not; `None` where it is as it was.
    fn of<T: PartialEq>(from: Option<&T>, to: Option<&T>) -> Option<Self> {
        match (from, to) {
            (None, Some(_)) => Some(Self::Added),
            (Some(_), None) => Some(Self::Removed),
            (from, to) if from == to => None,
            _ => Some(Self::Changed),
        }
    }
}

/// A table that differs. Numbers of what is not there are 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableChange {
    /// Its schema; `main` for SQLite.
    pub schema: Name,
    /// Its name.
    pub name: Name,
    /// What became of it.
    pub change: Change,
    /// Rows in the first backup.
    pub rows_from: u64,
    /// Rows in the second.
    pub rows_to: u64,
    /// Plaintext bytes of its rows in the first; 0 for SQLite, whose pages are not counted by table.
    pub bytes_from: u64,
    /// Plaintext bytes in the second.
    pub bytes_to: u64,
}

/// An extension that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionChange {
    /// Its name.
    pub name: Name,
    /// What became of it.
    pub change: Change,
    /// Its version in the first backup; empty where it is not there.
    pub version_from: String,
    /// Its version in the second.
    pub version_to: String,
}

/// A table, index, view or trigger of SQLite that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectChange {
    /// `table`, `index`, `view`, `trigger`.
    #[serde(rename = "type")]
    pub object_type: String,
    /// Its name.
    pub name: Name,
    /// What became of it.
    pub change: Change,
}

/// Two backups that cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("one is a {} backup and the other a {} backup", .0.as_str(), .1.as_str())]
pub struct DifferentKinds(pub Kind, pub Kind);

impl BackupDiff {
    /// Compares two backups by what their manifests say.
    ///
    /// # Errors
    /// [`DifferentKinds`].
    pub fn between(from: (BackupId, &Manifest), to: (BackupId, &Manifest)) -> Result<Self, DifferentKinds> {
        let (a, b) = (from.1, to.1);
        if a.kind != b.kind {
            return Err(DifferentKinds(a.kind, b.kind));
        }
        let (tables_a, tables_b) = (tables(a), tables(b));
        let tables = table_changes(&tables_a, &tables_b);
        let in_both = tables_a.keys().filter(|name| tables_b.contains_key(*name)).count();
        let changed = tables.iter().filter(|table| table.change == Change::Changed).count();
        let selection = |manifest: &Manifest| manifest.postgresql.as_ref().and_then(|facts| facts.selection.clone());
        Ok(Self {
            kind: a.kind,
            from: Side::of(from.0, a, tables_a.len()),
            to: Side::of(to.0, b, tables_b.len()),
            same_source: a.source == b.source,
            same_selection: selection(a) == selection(b),
            same_data: data(a) == data(b),
            tables,
            unchanged_tables: (in_both - changed) as u64,
            extensions: extension_changes(a, b),
            objects: object_changes(a, b),
        })
    }

    /// Whether nothing that is compared differs. Sizes in the repository and durations do not count.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.same_data
            && self.tables.is_empty()
            && self.extensions.is_empty()
            && self.objects.is_empty()
            && self.from.server_version == self.to.server_version
    }
}

impl Side {
    fn of(id: BackupId, manifest: &Manifest, tables: usize) -> Self {
        let statistics = &manifest.statistics;
        let postgresql = manifest.postgresql.as_ref();
        let sqlite = manifest.sqlite.as_ref().map(|facts| facts.sqlite_version.clone());
        Self {
            id,
            source: manifest.source.clone(),
            sequence: manifest.sequence,
            snapshot_at: manifest.snapshot_at,
            server_version: postgresql.map(|facts| facts.server_version.clone()).or(sqlite).unwrap_or_default(),
            tables: tables as u64,
            rows: statistics.rows,
            raw_bytes: statistics.raw_bytes,
            stored_bytes: statistics.stored_bytes,
            new_bytes: statistics.new_bytes,
            database_bytes: statistics.database_bytes,
            large_objects: postgresql.map_or(0, |facts| facts.large_objects),
            duration: statistics.duration,
        }
    }
}

/// Rows and bytes.
type Size = (u64, u64);

/// The tables. One whose rows are in several files is one table.
fn tables(manifest: &Manifest) -> BTreeMap<(&Name, &Name), Size> {
    let mut tables = BTreeMap::<_, Size>::new();
    for table in manifest.tables() {
        let (rows, bytes) = tables.entry((&table.schema, &table.name)).or_default();
        *rows = rows.saturating_add(table.rows);
        *bytes = bytes.saturating_add(table.bytes);
    }
    tables
}

/// What the files with rows or pages are, byte for byte.
fn data(manifest: &Manifest) -> Vec<(&str, u64, &[u8])> {
    let files = manifest.files.iter().filter(|file| matches!(file.role, FileRole::Data | FileRole::SqliteImage));
    files.map(|file| (file.name.as_str(), file.raw_length, file.raw_sha256.0.as_slice())).collect()
}

/// Everything that differs in two maps, with what it is in each.
fn changes<'a, K: Ord, V: PartialEq>(
    from: &'a BTreeMap<K, V>,
    to: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, Change, Option<&'a V>, Option<&'a V>)> {
    let only_new = to.keys().filter(|key| !from.contains_key(key));
    from.keys().chain(only_new).filter_map(|key| {
        let (was, is) = (from.get(key), to.get(key));
        Some((key, Change::of(was, is)?, was, is))
    })
}

fn table_changes(from: &BTreeMap<(&Name, &Name), Size>, to: &BTreeMap<(&Name, &Name), Size>) -> Vec<TableChange> {
    let mut all: Vec<TableChange> = changes(from, to)
        .map(|((schema, name), change, was, is)| {
            let ((rows_from, bytes_from), (rows_to, bytes_to)) =
                (was.copied().unwrap_or_default(), is.copied().unwrap_or_default());
            let (schema, name) = ((*schema).clone(), (*name).clone());
            TableChange { schema, name, change, rows_from, rows_to, bytes_from, bytes_to }
        })
        .collect();
    all.sort_by(|a, b| {
        let by =
            |table: &TableChange| (table.bytes_from.abs_diff(table.bytes_to), table.rows_from.abs_diff(table.rows_to));
        by(b).cmp(&by(a)).then_with(|| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)))
    });
    all
}

fn extension_changes(from: &Manifest, to: &Manifest) -> Vec<ExtensionChange> {
    let versions = |manifest: &Manifest| -> BTreeMap<Name, String> {
        let extensions = manifest.postgresql.iter().flat_map(|facts| &facts.extensions);
        extensions.map(|extension| (extension.name.clone(), extension.version.clone())).collect()
    };
    let (from, to) = (versions(from), versions(to));
    let mut all: Vec<ExtensionChange> = changes(&from, &to)
        .map(|(name, change, was, is)| ExtensionChange {
            name: name.clone(),
            change,
            version_from: was.cloned().unwrap_or_default(),
            version_to: is.cloned().unwrap_or_default(),
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn object_changes(from: &Manifest, to: &Manifest) -> Vec<ObjectChange> {
    let objects = |manifest: &Manifest| -> BTreeMap<(String, Name), (Name, Option<Name>)> {
        let schema = manifest.sqlite.iter().flat_map(|facts| &facts.schema);
        schema.map(|o| ((o.object_type.clone(), o.name.clone()), (o.table.clone(), o.sql.clone()))).collect()
    };
    let (from, to) = (objects(from), objects(to));
    let mut all: Vec<ObjectChange> = changes(&from, &to)
        .map(|((object_type, name), change, ..)| ObjectChange {
            object_type: object_type.clone(),
            name: name.clone(),
            change,
        })
        .collect();
    all.sort_by(|a, b| (&a.object_type, &a.name).cmp(&(&b.object_type, &b.name)));
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{
        ids::Sha256Hash,
        manifest::{DatabaseProperties, Extension, PostgresFacts, SqliteFacts, SqliteObject, Table},
    };

    fn base() -> Manifest {
        let golden = include_str!(
            "../../tests/golden/format-1/backups/shop/_/20231114T221320Z-35fb746d53666adf9de694873140a826/manifest.json"
        );
        Manifest::parse(golden.as_bytes()).unwrap()
    }

    /// Tables by name with rows and bytes, extensions by name with version.
    type Contents = (BTreeMap<String, Size>, BTreeMap<String, String>, u8);

    fn postgres((tables, extensions, data): &Contents) -> Manifest {
        let mut manifest = base();
        let file = manifest.files.iter_mut().find(|file| file.role == FileRole::Data).unwrap();
        file.raw_sha256 = Sha256Hash([*data; 32]);
        let table = |(name, (rows, bytes)): (&String, &Size)| Table {
            schema: "public".into(),
            name: name.as_str().into(),
            rows: *rows,
            bytes: *bytes,
            ranges: Vec::new(),
        };
        file.tables = tables.iter().map(table).collect();
        manifest.statistics.rows = tables.values().map(|(rows, _)| rows).sum();
        let extension = |(name, version): (&String, &String)| Extension {
            name: name.as_str().into(),
            version: version.clone(),
            schema: "public".into(),
            trusted: true,
        };
        manifest.postgresql = Some(PostgresFacts {
            server_version_num: 150_018,
            server_version: "15.18".to_owned(),
            pg_dump_version: "pg_dump (PostgreSQL) 15.18".to_owned(),
            system_identifier: "1".to_owned(),
            standby: false,
            database: database(),
            extensions: extensions.iter().map(extension).collect(),
            roles: Vec::new(),
            tablespaces: Vec::new(),
            large_objects: 0,
            superuser_needed: Vec::new(),
            selection: None,
        });
        manifest
    }

    fn database() -> DatabaseProperties {
        DatabaseProperties {
            name: "shop".into(),
            owner: "postgres".into(),
            encoding: "UTF8".to_owned(),
            locale_provider: "libc".to_owned(),
            collate: "C".to_owned(),
            ctype: "C".to_owned(),
            locale: None,
            icu_rules: None,
            collation_version: None,
            connection_limit: -1,
            is_template: false,
            tablespace: "pg_default".into(),
            comment: None,
            acl: None,
            settings: Vec::new(),
        }
    }

    fn between(from: &Manifest, to: &Manifest) -> BackupDiff {
        BackupDiff::between((BackupId([1; 16]), from), (BackupId([2; 16]), to)).unwrap()
    }

    fn contents() -> impl Strategy<Value = Contents> {
        let tables = prop::collection::btree_map("[a-d]", (0_u64..4, 0_u64..4), 0..5);
        (tables, prop::collection::btree_map("[x-z]", "[12]", 0..3), any::<u8>())
    }

    fn mirrored(change: Change) -> Change {
        match change {
            Change::Added => Change::Removed,
            Change::Removed => Change::Added,
            Change::Changed => Change::Changed,
        }
    }

    proptest! {
        #[test]
        fn a_backup_does_not_differ_from_itself(contents in contents()) {
            let manifest = postgres(&contents);
            let diff = between(&manifest, &manifest);
            prop_assert!(diff.is_empty());
            prop_assert_eq!(diff.unchanged_tables, contents.0.len() as u64);
        }

        #[test]
        fn the_other_way_round_is_the_mirror_image(a in contents(), b in contents()) {
            let (from, to) = (postgres(&a), postgres(&b));
            let (diff, mut back) = (between(&from, &to), between(&to, &from));
            std::mem::swap(&mut back.from, &mut back.to);
            (back.from.id, back.to.id) = (diff.from.id, diff.to.id);
            for table in &mut back.tables {
                table.change = mirrored(table.change);
                std::mem::swap(&mut table.rows_from, &mut table.rows_to);
                std::mem::swap(&mut table.bytes_from, &mut table.bytes_to);
            }
            for extension in &mut back.extensions {
                extension.change = mirrored(extension.change);
                std::mem::swap(&mut extension.version_from, &mut extension.version_to);
            }
            prop_assert_eq!(&diff, &back);
        }

        #[test]
        fn every_table_is_somewhere_and_rows_add_up(a in contents(), b in contents()) {
            let diff = between(&postgres(&a), &postgres(&b));
            let all = a.0.keys().chain(b.0.keys()).collect::<std::collections::BTreeSet<_>>().len();
            prop_assert_eq!(all as u64, diff.unchanged_tables + diff.tables.len() as u64);
            let gained: i128 = diff.tables.iter().map(|t| i128::from(t.rows_to) - i128::from(t.rows_from)).sum();
            prop_assert_eq!(gained, i128::from(diff.to.rows) - i128::from(diff.from.rows));
            let by = |t: &TableChange| (t.bytes_from.abs_diff(t.bytes_to), t.rows_from.abs_diff(t.rows_to));
            prop_assert!(diff.tables.windows(2).all(|pair| by(&pair[0]) >= by(&pair[1])), "{:?}", diff.tables);
        }
    }

    #[test]
    fn kinds_are_not_mixed_and_other_sources_are_told() {
        let a = postgres(&Contents::default());
        let sqlite = Manifest { kind: Kind::Sqlite, postgresql: None, ..a.clone() };
        let error = BackupDiff::between((BackupId([1; 16]), &a), (BackupId([2; 16]), &sqlite)).unwrap_err();
        assert_eq!(error, DifferentKinds(Kind::Logical, Kind::Sqlite));
        let other = Manifest { source: SourceKey::single("crm".parse().unwrap()), ..a.clone() };
        assert!(between(&a, &a).same_source && !between(&a, &other).same_source);
    }

    #[test]
    fn rows_in_several_files_are_of_one_table() {
        let contents: Contents = (BTreeMap::from([("a".to_owned(), (2, 20))]), BTreeMap::new(), 0);
        let (one, mut two) = (postgres(&contents), postgres(&contents));
        let halves = two.files.iter().position(|file| !file.tables.is_empty()).unwrap();
        two.files[halves].tables[0].rows = 1;
        two.files[halves].tables[0].bytes = 12;
        let mut second = two.files[halves].clone();
        second.tables[0].bytes = 8;
        two.files.push(second);
        let diff = between(&one, &two);
        assert_eq!((diff.tables.as_slice(), diff.unchanged_tables), ([].as_slice(), 1));
        assert!(!diff.same_data, "files cut otherwise are not known to be the same");
    }

    #[test]
    fn what_came_and_went_in_sqlite() {
        let object = |object_type: &str, name: &str, sql: &str| SqliteObject {
            object_type: object_type.to_owned(),
            name: name.into(),
            table: "t".into(),
            sql: Some(sql.into()),
        };
        let with = |schema: Vec<SqliteObject>| {
            let facts = SqliteFacts {
                sqlite_version: "3.50.4".to_owned(),
                path: "/srv/app.db".into(),
                page_size: 4096,
                pages: 2,
                free_pages: 0,
                journal_mode: "wal".to_owned(),
                encoding: "UTF-8".to_owned(),
                auto_vacuum: "none".to_owned(),
                user_version: 0,
                application_id: 0,
                checked_by: "quick_check".to_owned(),
                mode: 0o600,
                wal_bytes: [0, 0],
                schema,
            };
            Manifest { kind: Kind::Sqlite, sqlite: Some(facts), ..base() }
        };
        let from =
            with(vec![object("table", "t", "CREATE TABLE t (a)"), object("index", "i", "CREATE INDEX i ON t (a)")]);
        let to =
            with(vec![object("table", "t", "CREATE TABLE t (a, b)"), object("view", "v", "CREATE VIEW v AS SELECT 1")]);
        let diff = between(&from, &to);
        let found: Vec<_> = diff.objects.iter().map(|o| (o.object_type.as_str(), o.change.as_str())).collect();
        assert_eq!(found, [("index", "removed"), ("table", "changed"), ("view", "added")]);
        assert_eq!(diff.to.server_version, "3.50.4");
    }
}
