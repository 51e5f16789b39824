//! Where backups live: packs, manifests, sessions, records. The format is `docs/repository-format.md`.
//!
//! - [`storage`]: the objects themselves, in a directory now;
//! - [`open`]: a repository to read, or to own; `layout`: the names in it; `listing`: the folders of backups;
//! - [`writer`]: taking a backup; `pack`, `table`, `extents`, `lookup`, `base`, `session` are its parts;
//! - [`reader`]: giving a backup back;
//! - [`catalog`]: the list of backups; [`records`]: what becomes known about them later;
//! - [`verify`]: finding damage; `delete` and [`gc`]: freeing space; [`usage`]: who needs how much.
//!
//! Invariants:
//! 1. A backup exists when, and only when, its manifest does and no deletion record. The manifest is written last.
//! 2. Packs, the chunk index and the extents are durable before the manifest that names them.
//! 3. A pack is named by the SHA-256 of its bytes, a backup by that of its manifest; nothing is ever changed in place.
//! 4. What a session, its base, or a manifest names is never deleted. See [`gc`].
//! 5. Memory is bounded by the depth of queues and the number of packs, never by the size of a database.
//! 6. Reading takes no lock and writes nothing. One process at a time owns the repository and writes.

mod base;
pub mod catalog;
mod commit;
mod delete;
pub mod error;
mod extents;
pub mod gc;
pub mod layout;
pub mod listing;
mod lookup;
pub mod open;
mod pack;
pub mod reader;
pub mod records;
mod run;
pub mod session;
mod spool;
pub mod storage;
mod table;
mod table_reader;
pub mod usage;
pub mod verify;
pub mod writer;

pub use catalog::{Catalog, Problem};
pub use delete::{DeletedBackup, Deletion};
pub use error::RepositoryError;
pub use gc::{GcOptions, GcReport};
pub use layout::BackupFolder;
pub use open::{OwnedRepository, Repository};
pub use reader::BackupReader;
pub use records::Record;
pub use storage::{LocalStorage, Storage};
pub use usage::Usage;
pub use verify::VerifyReport;
pub use writer::{BackupWriter, BeginBackup, Committed, ManifestFacts};

/// Every named place of writing and deleting where a test can stop, fail or kill the process.
pub const FAIL_POINTS: &[&str] = &[
    "session-written",
    "pack-created",
    "pack-written",
    "pack-synced",
    "pack-renamed",
    "pack-in-session",
    "chunk-index-written",
    "extents-written",
    "manifest-temporary",
    "manifest-renamed",
    "session-dropped",
    "record-written",
    "manifest-removed",
    "folder-removed",
    "pack-removed",
];

#[cfg(test)]
mod tests;
