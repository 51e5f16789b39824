//! The manifest: the JSON document that makes a backup out of chunks, as promised in `docs/repository-format.md`.
//!
//! Invariants: the raw bytes of a manifest are kept and never serialised again (their hash is the backup's id); integers
//! stay below 2^53 so that every JSON reader sees them exactly; times are microseconds since the epoch, sizes are bytes.

use serde::{Deserialize, Serialize};

use super::{
    ids::{BackupId, PackId, RunId, Sha256Hash},
    name::{Name, SourceKey},
};

/// The format that this program writes.
pub const FORMAT: u32 = 1;

/// The features that this program understands in `required_features`.
pub const KNOWN_FEATURES: &[&str] = &[];

/// One restorable state of one source. Immutable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format; a reader refuses a higher one.
    pub format: u32,
    /// Features without which a reader must refuse this backup.
    pub required_features: Vec<String>,
    /// Features that a reader may ignore.
    pub optional_features: Vec<String>,
    /// What kind of backup this is.
    pub kind: Kind,
    /// The backup whose stored ranges this one's chunks are coded against; always absent in format 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BackupId>,
    /// What was backed up.
    pub source: SourceKey,
    /// The run of the job that wrote this backup.
    pub run_id: RunId,
    /// Whether that run took every database of a server: the others of its backups have the same `run_id`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole_run: bool,
    /// 1 + the highest sequence ever seen for this source: "latest" and sorting use it, never the clock.
    pub sequence: u64,
    /// When the job began.
    pub started_at: u64,
    /// The instant whose state the backup holds.
    pub snapshot_at: u64,
    /// When the last byte was written.
    pub finished_at: u64,
    /// Free text of the user.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Words of the user to filter by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The program and host that wrote it.
    pub writer: Writer,
    /// How chunks are stored.
    pub codec: Codec,
    /// How files were cut into chunks; a later backup of the source cuts alike.
    pub chunker: ChunkerParameters,
    /// The files, in the order in which they are restored.
    pub files: Vec<File>,
    /// The packs that the chunk table refers to by position. A free position is `null`: it keeps the others' numbers.
    pub packs: Vec<Option<Pack>>,
    /// Where the chunk table is.
    pub chunk_table: ChunkTableReference,
    /// SHA-256 of `extents.tsv`.
    pub extents_sha256: Sha256Hash,
    /// What it cost and what it holds.
    pub statistics: Statistics,
    /// What could not be included, although the backup is good. Empty means: everything.
    pub incomplete: Vec<Incomplete>,
    /// Facts about the PostgreSQL database, for `kind = "logical"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgresql: Option<PostgresFacts>,
    /// Facts about the SQLite database, for `kind = "sqlite"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlite: Option<SqliteFacts>,
}

/// The kind of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The set of SQL files of one PostgreSQL database.
    Logical,
    /// The pages of an SQLite database.
    Sqlite,
    /// A PostgreSQL cluster's files.
    Physical,
    /// A stretch of write-ahead log.
    Wal,
}

impl Kind {
    /// The word used on the bus and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Logical => "logical",
            Self::Sqlite => "sqlite",
            Self::Physical => "physical",
            Self::Wal => "wal",
        }
    }
}

/// The program and the host that wrote a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// `backupd`.
    pub program: String,
    /// Its version.
    pub version: String,
    /// The host's name.
    pub host: String,
}

/// How each chunk is stored: one independent gzip member or zstd frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CodecName {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl CodecName {
    /// The word used in configuration, `extents.tsv` and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The levels there are, lowest and highest.
    #[must_use]
    pub const fn levels(self) -> (i32, i32) {
        match self {
            Self::Gzip => (1, 9),
            Self::Zstd => (1, 19),
        }
    }

    /// The level where none is asked for: fast enough to keep up with pg_dump, and small enough (`docs/benchmarks.md`).
    #[must_use]
    pub const fn default_level(self) -> i32 {
        match self {
            Self::Gzip => 1,
            Self::Zstd => 3,
        }
    }

    /// The ending of a pack's file name, without the dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Gzip => "gz",
            Self::Zstd => "zst",
        }
    }
}

/// A codec and the level that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Codec {
    /// The codec, fixed for a repository.
    pub name: CodecName,
    /// The level, on the codec's own scale; it may differ from backup to backup.
    pub level: i32,
}

/// Sizes of the content-defined chunker, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkerParameters {
    /// No chunk is smaller, but at forced cuts and at the end.
    pub minimum: u32,
    /// What chunks are on average.
    pub average: u32,
    /// No chunk is larger.
    pub maximum: u32,
}

impl ChunkerParameters {
    /// The parameters with this average (a power of two): a quarter and eight times of it are the limits.
    #[must_use]
    pub const fn with_average(average: u32) -> Self {
        Self { minimum: average / 4, average, maximum: average * 8 }
    }

    /// Blocks of one size, bytes: for page images, whose parts change in place.
    #[must_use]
    pub const fn fixed(block: u32) -> Self {
        Self { minimum: block, average: block, maximum: block }
    }

    /// Blocks for the image of an SQLite database that has this size at its first backup: larger ones for larger
    /// databases, so that the chunk table and the extents stay small beside the database. The first step is the one that
    /// `docs/benchmarks.md` measures: twice as large stores a twenty-fifth less, and every changed page costs half as much
    /// again; half as large stores a sixteenth more and hardly saves on changes.
    #[must_use]
    pub const fn for_sqlite_size(bytes: u64) -> Self {
        const GIB: u64 = 1 << 30;
        if bytes <= 8 * GIB {
            Self::fixed(8 << 10)
        } else if bytes <= 64 * GIB {
            Self::fixed(16 << 10)
        } else {
            Self::fixed(64 << 10)
        }
    }

    /// The parameters for a source whose database has this size at its first backup.
    #[must_use]
    pub const fn for_database_size(bytes: u64) -> Self {
        const GIB: u64 = 1 << 30;
        if bytes <= 64 * GIB {
            Self::with_average(64 << 10)
        } else if bytes <= 256 * GIB {
            Self::with_average(256 << 10)
        } else {
            Self::with_average(1 << 20)
        }
    }
}

/// What a file of the set is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileRole {
    /// `globals.sql`: roles and tablespaces.
    Globals,
    /// `database.sql`: CREATE DATABASE and what hangs on it.
    Database,
    /// `schema.dump`: the custom-format archive of pre-data and post-data.
    SchemaArchive,
    /// `pre-data.sql`.
    PreData,
    /// `data-NNN.sql`.
    Data,
    /// `post-data.sql`.
    PostData,
    /// The pages of an SQLite database.
    SqliteImage,
}

/// One file of a backup: its chunks in order, concatenated and decoded, are its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its name, one plain path component.
    pub name: String,
    /// What it is for.
    pub role: FileRole,
    /// Plaintext length, bytes.
    pub raw_length: u64,
    /// SHA-256 of the plaintext.
    pub raw_sha256: Sha256Hash,
    /// Length of its chunks as stored, bytes (shared ones included).
    pub stored_length: u64,
    /// The first of its entries in the chunk table.
    pub first_chunk: u64,
    /// How many entries it has.
    pub chunk_count: u64,
    /// The tables whose rows it holds, in order of first appearance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<Table>,
}

/// The rows of one table within a data file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its schema.
    pub schema: Name,
    /// Its name; for partitions that are loaded through their root, the root's.
    pub name: Name,
    /// The exact number of rows.
    pub rows: u64,
    /// Plaintext bytes of its rows.
    pub bytes: u64,
    /// The byte ranges of its COPY blocks, statement and end mark included.
    pub ranges: Vec<Range>,
}

/// A range of bytes of a file's plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First byte.
    pub offset: u64,
    /// Length, bytes.
    pub length: u64,
}

/// A pack that a backup needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pack {
    /// SHA-256 of its bytes; its file name.
    pub id: PackId,
    /// Its size, bytes.
    pub size: u64,
}

/// Where the chunk table is: `chunks.idx` in the backup's folder lists its segments, which are chunks in packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkTableReference {
    /// SHA-256 of `chunks.idx`.
    pub index_sha256: Sha256Hash,
    /// Number of segments.
    pub segments: u64,
    /// Number of entries in all segments.
    pub entries: u64,
}

/// What a backup cost and holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Microseconds from the job's start to its end.
    pub duration: u64,
    /// Plaintext bytes of all files.
    pub raw_bytes: u64,
    /// Bytes of all chunks as stored, shared ones included.
    pub stored_bytes: u64,
    /// Bytes that this backup added to the repository: packs and the files of its folder, the manifest excepted.
    pub new_bytes: u64,
    /// Number of chunks.
    pub chunks: u64,
    /// Number of chunks that were there already.
    pub reused_chunks: u64,
    /// Plaintext bytes of the chunks that were there already.
    pub reused_bytes: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// Size of the database when the backup was taken, as the server reports it.
    pub database_bytes: u64,
}

/// Something that the backup does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incomplete {
    /// A stable word: `subscriptions`, `user-mapping-options`, `role-passwords`, `foreign-table-data`, `excluded`…
    pub what: String,
    /// A sentence for people: what is missing and what would include it.
    pub message: String,
}

/// Facts about the PostgreSQL database at the time of the snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PostgresFacts {
    /// `server_version_num`, such as 150018.
    pub server_version_num: u32,
    /// `server_version`, for people.
    pub server_version: String,
    /// What `pg_dump --version` printed.
    pub pg_dump_version: String,
    /// `system_identifier` of the cluster, as text (it exceeds 2^53); empty where the role may not read it.
    pub system_identifier: String,
    /// Whether the server was a standby.
    pub standby: bool,
    /// The database itself.
    pub database: DatabaseProperties,
    /// Installed extensions.
    pub extensions: Vec<Extension>,
    /// Roles that own something or are granted something: what a restore needs to find or create.
    pub roles: Vec<Name>,
    /// Tablespaces that tables or indexes lie in, other than the default.
    pub tablespaces: Vec<Name>,
    /// Number of large objects.
    pub large_objects: u64,
    /// Things whose restore needs a superuser, for people: "event trigger x", "extension y (not trusted)".
    pub superuser_needed: Vec<String>,
    /// What was chosen, where it is not the whole database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<Selection>,
}

/// What `globals.sql` does not hold of a database; `database.sql` says the same as SQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseProperties {
    /// Its name.
    pub name: Name,
    /// Its owner.
    pub owner: Name,
    /// Encoding, as `pg_encoding_to_char` gives it.
    pub encoding: String,
    /// `libc`, `icu` or `builtin`.
    pub locale_provider: String,
    /// LC_COLLATE.
    pub collate: String,
    /// LC_CTYPE.
    pub ctype: String,
    /// The provider's own locale (ICU, builtin).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// ICU rules (PostgreSQL 16).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icu_rules: Option<String>,
    /// Version of the collation when the database was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation_version: Option<String>,
    /// Connection limit, -1 for none.
    pub connection_limit: i32,
    /// Whether it is a template.
    pub is_template: bool,
    /// Its default tablespace.
    pub tablespace: Name,
    /// The comment on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<Name>,
    /// Privileges; absent when they are the built-in default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acl: Option<Vec<AclItem>>,
    /// ALTER DATABASE … SET and ALTER ROLE … IN DATABASE … SET.
    pub settings: Vec<DatabaseSetting>,
}

/// One granted privilege.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclItem {
    /// Who has it; absent for PUBLIC.
    pub grantee: Option<Name>,
    /// `CREATE`, `CONNECT`, `TEMPORARY`.
    pub privilege: String,
    /// WITH GRANT OPTION.
    pub grantable: bool,
}

/// One setting that hangs on a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseSetting {
    /// The role whose sessions it applies to; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Name>,
    /// The parameter.
    pub name: Name,
    /// Its value, as `pg_db_role_setting` has it.
    pub value: Name,
}

/// An installed extension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Its name.
    pub name: Name,
    /// Its version.
    pub version: String,
    /// The schema it is in.
    pub schema: Name,
    /// Whether a role without superuser rights may create it (`trusted` in its control file, and CREATE on the database).
    pub trusted: bool,
}

/// What was chosen of a database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Selection {
    /// No data was taken.
    pub schema_only: bool,
    /// Only these tables, globs `schema.table`.
    pub include_tables: Vec<String>,
    /// Not these tables.
    pub exclude_tables: Vec<String>,
    /// Only these schemas.
    pub include_schemas: Vec<String>,
    /// Not these schemas.
    pub exclude_schemas: Vec<String>,
}

/// Facts about the SQLite database at the time of the snapshot (<https://sqlite.org/fileformat2.html>).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqliteFacts {
    /// Version of the SQLite library that read it.
    pub sqlite_version: String,
    /// Where the file was, as configured.
    pub path: Name,
    /// Bytes of a page.
    pub page_size: u32,
    /// Number of pages.
    pub pages: u64,
    /// How many of them are free.
    pub free_pages: u64,
    /// `wal` or `rollback`: what the file says of its journal. (Which rollback journal a connection keeps is its own.)
    pub journal_mode: String,
    /// `UTF-8`, `UTF-16le`, `UTF-16be`.
    pub encoding: String,
    /// `none`, `full`, `incremental`.
    pub auto_vacuum: String,
    /// `PRAGMA user_version`.
    pub user_version: i32,
    /// `PRAGMA application_id`.
    pub application_id: i32,
    /// `quick_check` or `integrity_check`: what SQLite said "ok" to; empty where it could not look, which `incomplete`
    /// then explains.
    pub checked_by: String,
    /// Permission bits of the file, for people.
    pub mode: u32,
    /// Bytes of the write-ahead log when the snapshot was taken, and when it was released; both 0 without one.
    pub wal_bytes: [u64; 2],
    /// Tables, indexes, views and triggers, as `sqlite_schema` has them.
    pub schema: Vec<SqliteObject>,
}

/// A row of `sqlite_schema`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqliteObject {
    /// `table`, `index`, `view`, `trigger`.
    #[serde(rename = "type")]
    pub object_type: String,
    /// Its name.
    pub name: Name,
    /// The table that it belongs to.
    pub table: Name,
    /// The statement that makes it; absent for automatic indexes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<Name>,
}

/// Why bytes are not a manifest that this program may use.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Written by a newer program.
    #[error("format {format} with features {features:?} is newer than this program, which reads format {FORMAT}")]
    TooNew {
        /// The format that it states.
        format: u64,
        /// The required features that are not known here.
        features: Vec<String>,
    },
    /// Not a manifest.
    #[error("not a manifest: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl Manifest {
    /// Reads a manifest. The format and the required features are judged before anything else, so that a newer
    /// manifest is refused as newer, not as malformed.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Head {
            format: u64,
            #[serde(default)]
            required_features: Vec<String>,
        }
        let head: Head = serde_json::from_slice(bytes)?;
        let features: Vec<String> =
            head.required_features.into_iter().filter(|f| !KNOWN_FEATURES.contains(&f.as_str())).collect();
        if head.format > u64::from(FORMAT) || !features.is_empty() {
            return Err(ManifestError::TooNew { format: head.format, features });
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The file with this name.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&File> {
        self.files.iter().find(|file| file.name == name)
    }

    /// All tables of all data files, in order.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.files.iter().flat_map(|file| &file.tables)
    }
}
