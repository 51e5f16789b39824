//! What is at the place of a restore already: whether it can be replaced, and what is lost with it.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::unistd::{AccessFlags, eaccess};
use rusqlite::Connection;
use serde::Serialize;

use super::Remark;
use crate::{
    model::{ErrorCode, Name, manifest::Manifest},
    source::{
        ChangedTable, JobContext, SourceError,
        sqlite::{
            access::Place,
            connection::{Limits, interrupt_when, open_live},
            contents::count_rows,
            dump::begin,
            problem::explain,
        },
    },
};

/// How long rows are counted for a plan.
const COUNTING: Duration = Duration::from_secs(5);
/// How long writers of a database in rollback-journal mode may be kept waiting for that.
const COUNTING_BLOCKING: Duration = Duration::from_millis(500);

/// What a plan says of the file that is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replaced {
    /// The file itself, links resolved.
    pub path: PathBuf,
    /// Its device and number: another file of that name is not the one that was planned about.
    pub inode: [u64; 2],
    /// Whether it is an SQLite database, whose contents are replaced; otherwise the file is.
    pub is_database: bool,
    /// Whether it is in WAL mode.
    pub is_wal: bool,
    /// Bytes of a page; 0 where that cannot be told.
    pub page_size: u32,
    /// Its size, bytes.
    pub bytes: u64,
    /// Whether the rows of its tables were counted and compared.
    pub rows_compared: bool,
    /// Tables whose number of rows now differs from the backup's, those with most rows to lose first.
    pub changed_tables: Vec<ChangedTable>,
    /// How many such tables there are, the named ones included.
    pub changed_table_count: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Present {
    /// What is replaced; absent where there is nothing, or nothing that can be.
    pub(super) replaced: Option<Replaced>,
    pub(super) obstacles: Vec<Remark>,
    pub(super) notices: Vec<Remark>,
}

impl Present {
    fn obstacle(&mut self, what: &'static str, message: impl Into<String>) {
        self.obstacles.push(Remark { what, message: message.into() });
    }

    /// Looks. `lock_timeout` bounds the wait for who has the database locked.
    ///
    /// # Errors
    /// `DatabaseBusy`, the cancel's reason.
    pub(super) fn look(
        to: &Path,
        manifest: &Manifest,
        lock_timeout: Duration,
        context: &JobContext,
    ) -> Result<Self, SourceError> {
        let mut present = Self::default();
        if to.symlink_metadata().is_err() {
            return Ok(present);
        }
        let place = match Place::look_up(to) {
            Ok(place) => place,
            Err(error) => {
                let what = if error.code() == ErrorCode::DatabasePermission { "not-writable" } else { "target-exists" };
                present.obstacle(what, format!("what is there cannot be replaced: {error}"));
                return Ok(present);
            }
        };
        if eaccess(place.path(), AccessFlags::W_OK).is_err() {
            present.obstacle("not-writable", place.denied_to("restore into", "it may not be written").to_string());
            return Ok(present);
        }
        if let Err(errno) = eaccess(place.folder(), AccessFlags::W_OK | AccessFlags::X_OK) {
            let why = format!("no file can be made beside it ({errno})");
            present.obstacle("not-writable", place.denied_to("restore into", &why).to_string());
            return Ok(present);
        }
        if let Err(error) = place.check_sidecars() {
            present.obstacle("not-writable", error.to_string());
            return Ok(present);
        }
        let metadata = fs::metadata(place.path())
            .map_err(|error| SourceError::io(format_args!("look at {}", place.path().display()), &error))?;
        let mut replaced = Replaced {
            path: place.path().to_owned(),
            inode: [metadata.dev(), metadata.ino()],
            is_database: true,
            is_wal: false,
            page_size: 0,
            bytes: place.bytes,
            rows_compared: false,
            changed_tables: Vec::new(),
            changed_table_count: 0,
        };
        match present.look_into(&place, manifest, lock_timeout, context, &mut replaced) {
            Err(error) if matches!(error.code(), ErrorCode::NotADatabase | ErrorCode::DatabaseEncrypted) => {
                replaced.is_database = false;
                present.notices.push(Remark {
                    what: "no-database",
                    message: format!(
                        "{} is no SQLite database that can be read, so the whole file is replaced; who has it open goes on \
                         with the old one",
                        place.path().display()
                    ),
                });
            }
            Err(error) if error.code() == ErrorCode::DatabaseCorrupt => {
                present.notices.push(Remark { what: "damaged", message: error.to_string() });
            }
            Err(error) => return Err(error),
            Ok(()) => {}
        }
        present.replaced = Some(replaced);
        Ok(present)
    }

    fn look_into(
        &mut self,
        place: &Place,
        manifest: &Manifest,
        lock_timeout: Duration,
        context: &JobContext,
        replaced: &mut Replaced,
    ) -> Result<(), SourceError> {
        let limits = Limits { cancel: context.cancel.clone(), lock_timeout };
        let failed = |error: rusqlite::Error| explain(&error, "read", place, &context.cancel);
        let mut connection = open_live(place, &limits)?;
        replaced.page_size = page_size(&connection).map_err(failed)?;
        replaced.is_wal = begin(&connection).map_err(failed)?;
        let pages: u64 = connection.query_row("PRAGMA main.page_count", [], |row| row.get(0)).map_err(failed)?;
        replaced.bytes = replaced.bytes.max(pages * u64::from(replaced.page_size));
        let counting = if replaced.is_wal { COUNTING } else { COUNTING_BLOCKING };
        interrupt_when(&mut connection, context.cancel.clone(), Some(Instant::now() + counting)).map_err(failed)?;
        match count_rows(&connection) {
            Ok((tables, _)) => {
                replaced.rows_compared = true;
                let now = tables.into_iter().map(|table| (table.name, table.rows)).collect();
                replaced.changed_tables = changed_tables(now, manifest);
                replaced.changed_table_count = ChangedTable::most_lost_first(&mut replaced.changed_tables);
            }
            Err(error) => {
                context.cancel.check()?;
                self.notices.push(Remark {
                    what: "rows",
                    message: format!(
                        "the rows that are there now were not counted, so it is not known what is lost: {error}"
                    ),
                });
            }
        }
        Ok(())
    }
}

/// Bytes of a page, by the header. (The pragma alone does not read it.)
pub(super) fn page_size(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA main.schema_version", [], |_| Ok(()))?;
    connection.query_row("PRAGMA main.page_size", [], |row| row.get(0))
}

fn changed_tables(now: BTreeMap<Name, u64>, manifest: &Manifest) -> Vec<ChangedTable> {
    let mut both: BTreeMap<Name, [Option<u64>; 2]> =
        now.into_iter().map(|(name, rows)| (name, [Some(rows), None])).collect();
    for table in manifest.tables() {
        both.entry(table.name.clone()).or_default()[1] = Some(table.rows);
    }
    let changed = both.into_iter().filter(|(_, [now, in_backup])| now != in_backup);
    changed
        .map(|(name, [rows_now, rows_in_backup])| ChangedTable {
            schema: Name::from("main"),
            name,
            rows_now,
            rows_in_backup,
            counted: true,
        })
        .collect()
}
