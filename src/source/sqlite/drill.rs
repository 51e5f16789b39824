//! A drill of an SQLite backup: written to a scratch file as a restore would, and looked at more thoroughly than one.
//!
//! Nothing of the backup is trusted: this is for a process that may do nothing else.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::Path,
    time::Instant,
};

use rusqlite::{Connection, fallible_iterator::FallibleIterator as _, types::ValueRef};

use super::{
    IMAGE,
    connection::open_copy,
    contents::{self, Soundness},
};
use crate::{
    config::SqliteCheck,
    model::{
        ErrorCode,
        drill::DrillReport,
        job::Phase,
        manifest::{Manifest, Table},
    },
    source::{
        JobContext, SetReader, SourceError,
        drill::{Finding, check, judge, micros},
        space::free_bytes,
    },
};

/// Bytes that are read and written at once.
const BUFFER: usize = 256 << 10;
/// Findings that are named.
const NAMED: usize = 5;
/// Characters of a row that are named.
const SHOWN: usize = 300;

/// A drill of an SQLite backup.
#[derive(Debug)]
pub struct DrillRequest<'a> {
    /// A private, empty folder of this user's.
    pub folder: &'a Path,
    /// SQL whose rows must begin with a true value.
    pub assertions: Option<String>,
}

/// Restores the backup into the folder and looks at it. `report` has what was found, however it ends.
///
/// # Errors
/// `DrillUnavailable` for what is missing on this host; `DrillFailed`; the cancel; the reader's.
pub fn drill(
    request: &DrillRequest<'_>,
    reader: &dyn SetReader,
    context: &JobContext,
    report: &mut DrillReport,
) -> Result<(), SourceError> {
    report.server = format!("SQLite {}", rusqlite::version());
    let file = request.folder.join(IMAGE);
    let began = Instant::now();
    write(reader, &file, context)?;
    report.recovery = micros(began);
    context.progress.enter(Phase::Proving);
    let connection = open_copy(&file, &context.cancel).map_err(|error| damaged(&error, context))?;
    check(report, "integrity", || integrity(&connection, context))?;
    check(report, "foreign-keys", || foreign_keys(&connection, context))?;
    let (mut tables, mut rows) = (0, 0);
    check(report, "rows", || {
        let counted = contents::count_rows(&connection).map_err(|error| damaged(&error, context))?.0;
        (tables, rows) = (counted.len() as u64, counted.iter().map(|table| table.rows).sum());
        Ok(compare(reader.manifest(), &counted))
    })?;
    (report.tables, report.rows) = (tables, rows);
    if let Some(sql) = &request.assertions {
        check(report, "assertions", || assertions(&connection, sql, context))?;
    }
    judge(report)
}

/// Writes the image, every byte of it verified by the reader.
fn write(reader: &dyn SetReader, path: &Path, context: &JobContext) -> Result<(), SourceError> {
    context.progress.enter(Phase::Data);
    let length = reader.manifest().file(IMAGE).map_or(0, |file| file.raw_length);
    let folder = path.parent().unwrap_or(Path::new("/"));
    if let Some(free) = free_bytes(folder).filter(|free| *free < length) {
        let message = format!("the database takes {length} bytes and {free} are free in {}", folder.display());
        return Err(SourceError::new(ErrorCode::DrillUnavailable, message));
    }
    let failed = |error: &std::io::Error| match SourceError::io(format!("write {}", path.display()), error) {
        SourceError::Failed { message, .. } => SourceError::new(ErrorCode::DrillUnavailable, message),
        other => other,
    };
    let mut input = reader.open(IMAGE).map_err(SourceError::from_sink)?;
    let mut output = File::create_new(path).map_err(|error| failed(&error))?;
    let mut buffer = vec![0; BUFFER];
    loop {
        context.cancel.check()?;
        match input.read(&mut buffer).map_err(SourceError::from_sink)? {
            0 => break,
            length => output.write_all(&buffer[..length]).map_err(|error| failed(&error))?,
        }
    }
    // A restore is over when it is on disk.
    output.sync_all().map_err(|error| failed(&error))
}

/// An error of SQLite while it read the restored database.
fn damaged(error: &rusqlite::Error, context: &JobContext) -> SourceError {
    match context.cancel.check() {
        Err(reason) => reason.into(),
        Ok(()) => {
            SourceError::new(ErrorCode::DrillFailed, format!("SQLite cannot read the restored database: {error}"))
        }
    }
}

fn integrity(connection: &Connection, context: &JobContext) -> Result<Finding, SourceError> {
    Ok(match contents::check(connection, SqliteCheck::Integrity).map_err(|error| damaged(&error, context))? {
        Soundness::Sound(None) => Finding::Good("integrity_check finds everything in order".to_owned()),
        Soundness::Sound(Some(noted)) => Finding::Good(format!("integrity_check finds no damage; {}", noted.message)),
        Soundness::Unchecked(why) => Finding::Skipped(why.message),
        Soundness::Damaged(lines) => Finding::Bad(format!("integrity_check finds damage: {lines}")),
    })
}

/// Rows that refer to rows that are not there. An application that never switched foreign keys on may have them of old;
/// it learns of them here.
fn foreign_keys(connection: &Connection, context: &JobContext) -> Result<Finding, SourceError> {
    let look = || -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            if found.len() > NAMED {
                break;
            }
            let (table, parent): (String, String) = (row.get(0)?, row.get(2)?);
            found.push(format!("a row of {table} refers to none of {parent}"));
        }
        Ok(found)
    };
    let mut found = look().map_err(|error| damaged(&error, context))?;
    if found.is_empty() {
        return Ok(Finding::Good("foreign_key_check finds every row that is referred to".to_owned()));
    }
    let more = if found.len() > NAMED { " and more" } else { "" };
    found.truncate(NAMED);
    found.dedup();
    Ok(Finding::Bad(format!("foreign_key_check finds broken references: {}{more}", found.join("; "))))
}

fn compare(manifest: &Manifest, counted: &[Table]) -> Finding {
    let mut differences = Vec::new();
    for table in manifest.tables() {
        match counted.iter().find(|other| other.name == table.name) {
            Some(found) if found.rows == table.rows => {}
            Some(found) => {
                differences.push(format!("{} has {} rows, the backup counted {}", table.name, found.rows, table.rows));
            }
            None => differences.push(format!("{} is missing", table.name)),
        }
    }
    if differences.is_empty() {
        let rows: u64 = counted.iter().map(|table| table.rows).sum();
        return Finding::Good(format!("as many rows as were counted, {rows} in {} tables", counted.len()));
    }
    let more = differences.len().saturating_sub(NAMED);
    differences.truncate(NAMED);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    Finding::Bad(format!("the restored rows differ from the backup's: {}{more}", differences.join("; ")))
}

/// Runs every statement. An error is a failed assertion; so is a row whose first column is 0 or NULL.
fn assertions(connection: &Connection, sql: &str, context: &JobContext) -> Result<Finding, SourceError> {
    let (mut answers, mut failed) = (0_u64, Vec::new());
    let mut run = || -> rusqlite::Result<()> {
        let mut batch = rusqlite::Batch::new(connection, sql);
        while let Some(mut statement) = batch.next()? {
            let columns = statement.column_count();
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                answers += 1;
                if columns > 0
                    && matches!(row.get_ref(0)?, ValueRef::Null | ValueRef::Integer(0))
                    && failed.len() <= NAMED
                {
                    let cells: rusqlite::Result<Vec<String>> =
                        (0..columns).map(|at| Ok(shown(row.get_ref(at)?))).collect();
                    let line: String = cells?.join(" | ").chars().take(SHOWN).collect();
                    failed.push(format!("row {answers} of the answers is {line:?}"));
                }
            }
        }
        Ok(())
    };
    if let Err(error) = run() {
        context.cancel.check()?;
        return Ok(Finding::Bad(format!("the assertions failed: {error}")));
    }
    Ok(match (answers, failed.len()) {
        (0, _) => Finding::Bad("the assertions gave no row: nothing was asserted".to_owned()),
        (_, 0) => Finding::Good(format!("{answers} assertions hold")),
        (_, number) => {
            failed.truncate(NAMED);
            let more = if number > NAMED { "; and more" } else { "" };
            Finding::Bad(format!("an assertion does not hold: {}{more}", failed.join("; ")))
        }
    })
}

fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        ValueRef::Blob(bytes) => format!("{} bytes", bytes.len()),
    }
}
