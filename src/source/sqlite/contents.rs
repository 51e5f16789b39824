//! What a database holds: its facts, its tables with their rows, and whether SQLite finds it sound.

use rusqlite::{Connection, Row, types::ValueRef};

use crate::{
    config::SqliteCheck,
    model::{
        Name,
        manifest::{Incomplete, SqliteObject, Table},
    },
};

/// How many lines of a check are read. One is enough to know; some more help to see how bad it is.
const CHECK_LINES: u32 = 20;
/// How many things that could not be counted are named.
const NAMED: usize = 8;

/// Header fields and the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) page_size: u32,
    pub(super) pages: u64,
    pub(super) free_pages: u64,
    pub(super) is_wal: bool,
    pub(super) encoding: String,
    pub(super) auto_vacuum: &'static str,
    pub(super) user_version: i32,
    pub(super) application_id: i32,
    pub(super) schema: Vec<SqliteObject>,
}

impl Facts {
    /// Reads them within the transaction that is open. Bytes of the database are pages times their size.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            page_size: pragma(connection, "page_size")?,
            pages: pragma(connection, "page_count")?,
            free_pages: pragma(connection, "freelist_count")?,
            is_wal: pragma::<String>(connection, "journal_mode")? == "wal",
            encoding: pragma(connection, "encoding")?,
            auto_vacuum: match pragma::<u8>(connection, "auto_vacuum")? {
                0 => "none",
                1 => "full",
                _ => "incremental",
            },
            user_version: pragma(connection, "user_version")?,
            application_id: pragma(connection, "application_id")?,
            schema: schema(connection)?,
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.pages * u64::from(self.page_size)
    }
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<T> {
    connection.query_row(&format!("PRAGMA main.{name}"), [], |row| row.get(0))
}

fn schema(connection: &Connection) -> rusqlite::Result<Vec<SqliteObject>> {
    let mut statement =
        connection.prepare("SELECT type, name, tbl_name, sql FROM main.sqlite_schema ORDER BY rowid")?;
    let rows = statement.query_map([], |row| {
        Ok(SqliteObject {
            object_type: row.get(0)?,
            name: name(row, 1)?.unwrap_or_else(|| Name::from("")),
            table: name(row, 2)?.unwrap_or_else(|| Name::from("")),
            sql: name(row, 3)?,
        })
    })?;
    rows.collect()
}

/// A text whose bytes may be no UTF-8.
fn name(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Name>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(Name::from(bytes.to_vec())),
        _ => None,
    })
}

/// The tables with their rows, counted, and those that cannot be counted here. Shadow tables of virtual ones are among
/// them, as they hold the rows; virtual tables themselves hold none.
pub(super) fn count_rows(connection: &Connection) -> rusqlite::Result<(Vec<Table>, Option<Incomplete>)> {
    let mut statement = connection.prepare(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'shadow') \
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    )?;
    let names = statement.query_map([], |row| name(row, 0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut tables = Vec::new();
    let mut uncounted = Vec::new();
    for name in names.into_iter().flatten() {
        match count(connection, &name) {
            Ok(rows) => {
                tables.push(Table { schema: Name::from("main"), name, rows, bytes: 0, ranges: Vec::new() });
            }
            Err(error) if is_unknown_here(&error) => uncounted.push(format!("{name} ({error})")),
            Err(error) => return Err(error),
        }
    }
    let more = uncounted.len().saturating_sub(NAMED);
    uncounted.truncate(NAMED);
    let incomplete = (!uncounted.is_empty()).then(|| Incomplete {
        what: "row-counts".to_owned(),
        message: format!(
            "the rows of some tables could not be counted, their pages are all included: {}{}",
            uncounted.join("; "),
            if more > 0 { format!("; and {more} more") } else { String::new() }
        ),
    });
    Ok((tables, incomplete))
}

fn count(connection: &Connection, name: &Name) -> rusqlite::Result<u64> {
    let unnamed = || rusqlite::Error::InvalidColumnName("its name is not UTF-8".to_owned());
    let quoted = format!("\"{}\"", name.as_str().ok_or_else(unnamed)?.replace('"', "\"\""));
    connection.query_row(&format!("SELECT count(*) FROM main.{quoted}"), [], |row| row.get(0))
}

/// Whether an error is about something that the application brings along: a collation, a function, a module. (SQLite has
/// no code for these: <https://sqlite.org/rescode.html#error>.)
fn is_unknown_here(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::InvalidColumnName(_) => true,
        rusqlite::Error::SqliteFailure(failure, Some(message))
        | rusqlite::Error::SqlInputError { error: failure, msg: message, .. } => {
            failure.extended_code & 0xff == rusqlite::ffi::SQLITE_ERROR
                && ["no such collation", "no such function", "no such module", "unknown function", "unsafe use of"]
                    .iter()
                    .any(|text| message.contains(text))
        }
        _ => false,
    }
}

/// What SQLite says of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Soundness {
    /// All in order; rows that break constraints of their tables are named.
    Sound(Option<Incomplete>),
    /// It could not look.
    Unchecked(Incomplete),
    /// Its structure is damaged; the lines that say so.
    Damaged(String),
}

/// Lets SQLite check the database (<https://sqlite.org/pragma.html#pragma_integrity_check>).
pub(super) fn check(connection: &Connection, check: SqliteCheck) -> rusqlite::Result<Soundness> {
    // What breaks a CHECK was let in by its application and must be backed up like all else.
    connection.execute_batch("PRAGMA ignore_check_constraints = ON")?;
    let lines =
        connection.prepare(&format!("PRAGMA main.{}({CHECK_LINES})", check.as_str())).and_then(|mut statement| {
            statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
        });
    let lines = match lines {
        Ok(lines) => lines,
        Err(error) if is_unknown_here(&error) => {
            return Ok(Soundness::Unchecked(Incomplete {
                what: "check".to_owned(),
                message: format!("SQLite could not check the database, its pages are all included: {error}"),
            }));
        }
        Err(error) => return Err(error),
    };
    let (contents, damage): (Vec<_>, Vec<_>) =
        lines.into_iter().filter(|line| line != "ok").partition(|line| is_about_contents(line));
    if !damage.is_empty() {
        return Ok(Soundness::Damaged(damage.join("; ")));
    }
    Ok(Soundness::Sound((!contents.is_empty()).then(|| Incomplete {
        what: "constraints".to_owned(),
        message: format!("rows do not fit their table's declaration, and are included: {}", contents.join("; ")),
    })))
}

/// Whether a line of a check is about what an application stored, not about the structure that holds it: NOT NULL,
/// STRICT, and full-text and R-tree tables that disagree with their shadow tables.
fn is_about_contents(line: &str) -> bool {
    line.contains(" value in ") || line.contains("inverted index for FTS") || line.starts_with("In RTree ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(sql: &str) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(sql).unwrap();
        connection
    }

    #[test]
    fn rows_of_all_kinds_of_tables_are_counted() {
        let connection = database(
            "CREATE TABLE \"it\"\"s\"(a); INSERT INTO \"it\"\"s\" VALUES (1), (2);
             CREATE TABLE wr(k TEXT PRIMARY KEY, g AS (k || '!') STORED) WITHOUT ROWID; INSERT INTO wr VALUES ('a');
             CREATE VIEW v AS SELECT * FROM wr;
             CREATE VIRTUAL TABLE f USING fts5(body); INSERT INTO f VALUES ('one'), ('two'), ('three');
             CREATE TABLE \"sqlit_x\"(a)",
        );
        let (tables, incomplete) = count_rows(&connection).unwrap();
        let rows = |name: &str| tables.iter().find(|table| table.name == Name::from(name)).map(|table| table.rows);
        assert_eq!((rows("it\"s"), rows("wr"), rows("sqlit_x")), (Some(2), Some(1), Some(0)));
        assert_eq!((rows("f_content"), rows("f"), rows("v")), (Some(3), None, None));
        assert_eq!(incomplete, None);
    }

    #[test]
    fn what_the_application_brings_along_is_no_failure() {
        let connection =
            database("CREATE TABLE t(a COLLATE NOCASE PRIMARY KEY) WITHOUT ROWID; INSERT INTO t VALUES ('x');");
        connection
            .execute_batch(
                "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'NOCASE', 'german');
                 PRAGMA writable_schema = RESET;",
            )
            .unwrap();
        let (tables, incomplete) = count_rows(&connection).unwrap();
        assert!(tables.is_empty() && incomplete.unwrap().message.contains("german"));
        let sound = check(&connection, SqliteCheck::Integrity).unwrap();
        assert!(matches!(sound, Soundness::Unchecked(_)), "{sound:?}");
    }

    #[test]
    fn what_an_application_let_in_is_told_from_damage() {
        let connection = database(
            "CREATE TABLE t(a CHECK (a > 0), b NOT NULL); PRAGMA ignore_check_constraints = ON;
             INSERT INTO t VALUES (-1, 2);",
        );
        for kind in [SqliteCheck::Quick, SqliteCheck::Integrity] {
            assert_eq!(check(&connection, kind).unwrap(), Soundness::Sound(None));
        }
        connection
            .execute_batch(
                "CREATE TABLE n(b); INSERT INTO n VALUES (NULL); PRAGMA writable_schema = ON;
                 UPDATE sqlite_schema SET sql = 'CREATE TABLE n(b NOT NULL)' WHERE name = 'n';
                 PRAGMA writable_schema = RESET;",
            )
            .unwrap();
        let sound = check(&connection, SqliteCheck::Quick).unwrap();
        assert!(matches!(&sound, Soundness::Sound(Some(note)) if note.message.contains("n.b")), "{sound:?}");
    }

    #[test]
    fn an_index_that_disagrees_with_its_table_is_damage_to_the_deeper_check() {
        let connection = database(
            "CREATE TABLE t(a); CREATE INDEX i ON t(a); INSERT INTO t VALUES (1), (2);
             PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE INDEX i ON t(a DESC)' WHERE name = 'i';
             PRAGMA writable_schema = RESET;",
        );
        let sound = check(&connection, SqliteCheck::Integrity).unwrap();
        assert!(matches!(sound, Soundness::Damaged(_)), "{sound:?}");
    }
}
