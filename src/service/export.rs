//! Writing a backup out as one plain file: `.sql.gz`, which `gunzip | psql` reads on any machine, or `.sqlite.gz`, which
//! gunzip makes a database of.
//!
//! Invariant: what could not be read to its end is never taken for whole. It ends without gzip's trailer, so that
//! `gunzip` fails; a script ends with [`POISON`], so that `psql -v ON_ERROR_STOP=1` does too, where a stream that merely
//! ended inside COPY would be committed.

use std::io::{self, BufWriter, Read, Write};

use flate2::{Compression, write::GzEncoder};

use super::{error::ServiceError, export_output::ExportOutput};
use crate::{
    model::{
        ErrorCode,
        job::Phase,
        manifest::{File, FileRole, Kind, Manifest},
    },
    source::{JobContext, SetReader},
    stream::CancelReason,
};

/// What makes psql fail wherever the script breaks off: within COPY, a quoted literal, a quoted name, or a statement.
pub const POISON: &str =
    "\n\\.\n;\nBACKUPD_INCOMPLETE_SCRIPT;\n'; BACKUPD_INCOMPLETE_SCRIPT;\n\"; BACKUPD_INCOMPLETE_SCRIPT;\n";

/// zlib's level: the scripts are for moving data once, so time counts more than the last few per cent.
const LEVEL: u32 = 4;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// Plaintext bytes.
    pub raw_bytes: u64,
    /// Bytes of the compressed file.
    pub written_bytes: u64,
}

/// The files that are written, in order: those of the script that psql reads, or the image.
fn exported_files(manifest: &Manifest) -> Vec<&File> {
    let wanted = |role| match manifest.kind {
        Kind::Sqlite => role == FileRole::SqliteImage,
        _ => matches!(role, FileRole::PreData | FileRole::Data | FileRole::PostData),
    };
    manifest.files.iter().filter(|file| wanted(file.role)).collect()
}

/// Writes the backup to `output` as one gzip member that holds pre-data, data and post-data, or the SQLite database.
///
/// # Errors
/// `BackupDamaged` and whatever else reading gives; `Io` when `output` takes no more (a reader that went away
/// included); `NotSupported` for a backup that holds neither; the cancel's reason.
pub fn export(reader: &dyn SetReader, output: &mut dyn Write, context: &JobContext) -> Result<Exported, ServiceError> {
    let manifest = reader.manifest();
    let files = exported_files(manifest);
    if files.is_empty() {
        return Err(ServiceError::new(
            ErrorCode::NotSupported,
            format!("backup of {} holds neither SQL files nor a database file to export", manifest.source),
        ));
    }
    context.progress.enter(Phase::Reading);
    context.progress.expect_bytes(files.iter().map(|file| file.raw_length).sum());

    let mut encoder = GzEncoder::new(Counting { inner: output, written: 0, closed: false }, Compression::new(LEVEL));
    let mut raw_bytes = 0;
    let mut buffer = vec![0; 256 << 10];
    for file in files {
        let name = &file.name;
        match copy_file(reader, name, &mut encoder, &mut buffer, context) {
            Ok(length) => raw_bytes += length,
            Err(error) => {
                // The error that is reported is the first one; whether the poison still arrives does not change it.
                let poison = if manifest.kind == Kind::Sqlite { "" } else { POISON };
                let _ = encoder.write_all(poison.as_bytes()).and_then(|()| encoder.flush());
                // An encoder that is dropped writes the trailer, too.
                encoder.get_mut().closed = true;
                return Err(error.context(format!("cannot export {name} of the backup of {}", manifest.source)));
            }
        }
    }
    let mut counting = encoder.finish().map_err(write_error)?;
    counting.flush().map_err(write_error)?;
    Ok(Exported { raw_bytes, written_bytes: counting.written })
}

/// [`export`] to a file, pipe or socket. A reader that takes nothing does not hold up a cancel.
///
/// # Errors
/// As [`export`].
pub fn export_to_file(
    reader: &dyn SetReader,
    output: std::fs::File,
    context: &JobContext,
) -> Result<Exported, ServiceError> {
    let output = ExportOutput::new(output, context.cancel.clone()).map_err(write_error)?;
    export(reader, &mut BufWriter::with_capacity(64 << 10, output), context)
}

fn copy_file(
    reader: &dyn SetReader,
    name: &str,
    output: &mut impl Write,
    buffer: &mut [u8],
    context: &JobContext,
) -> Result<u64, ServiceError> {
    let mut file = reader.open(name).map_err(ServiceError::from)?;
    let mut length = 0;
    loop {
        context.cancel.check()?;
        let count = match file.read(buffer) {
            Ok(0) => return Ok(length),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        output.write_all(&buffer[..count]).map_err(write_error)?;
        length += count as u64;
        context.progress.add_bytes(count as u64);
    }
}

fn write_error(error: io::Error) -> ServiceError {
    let error = match error.downcast::<CancelReason>() {
        Ok(reason) => return reason.into(),
        Err(error) => error,
    };
    let why =
        if error.kind() == io::ErrorKind::BrokenPipe { "the reader went away".to_owned() } else { error.to_string() };
    let code = if error.kind() == io::ErrorKind::StorageFull { ErrorCode::NoSpace } else { ErrorCode::Io };
    ServiceError::new(code, format!("cannot write the export: {why}"))
}

struct Counting<'a> {
    inner: &'a mut dyn Write,
    written: u64,
    closed: bool,
}

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = self.inner.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
