//! SQLite's errors (<https://sqlite.org/rescode.html>) as ours.

use std::{io::Read as _, path::Path};

use rusqlite::{Error, ErrorCode as Primary, ffi};

use super::access::Place;
use crate::{
    model::ErrorCode,
    source::SourceError,
    stream::{Cancel, CancelReason},
};

/// Bytes at the beginning of a file that are looked at to tell what it is.
const HEAD: usize = 4096;

/// What files that are no database begin with although they look random: gzip, zstd, xz, bzip2, zip, 7z, lz4.
const COMPRESSED: [&[u8]; 7] =
    [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"BZh", b"PK", b"7z\xbc\xaf", b"\x04\x22\x4d\x18"];

/// An error of SQLite while `attempted` was done with a live database, such as `"read"`.
pub(super) fn explain(error: &Error, attempted: &str, place: &Place, cancel: &Cancel) -> SourceError {
    let path = place.path().display();
    let failed = |code, message: String| SourceError::new(code, format!("cannot {attempted} {path}: {message}"));
    let Some(primary) = error.sqlite_error_code() else {
        return failed(ErrorCode::Failed, error.to_string());
    };
    let extended = error.sqlite_error().map_or(0, |error| error.extended_code);
    match primary {
        Primary::OperationInterrupted => match cancel.check() {
            Err(reason) => reason.into(),
            Ok(()) => CancelReason::TimedOut.into(),
        },
        Primary::NotADatabase => no_database(place.path()),
        Primary::DatabaseCorrupt => failed(ErrorCode::DatabaseCorrupt, format!("SQLite says: {error}")),
        Primary::DatabaseBusy | Primary::DatabaseLocked | Primary::FileLockingProtocolFailed => failed(
            ErrorCode::DatabaseBusy,
            "another process holds its lock; wait until it is done, or raise lock_timeout".to_owned(),
        ),
        Primary::ReadOnly if extended == ffi::SQLITE_READONLY_ROLLBACK => {
            place.denied("its last writer died within a transaction, which only who may write to it can roll back")
        }
        Primary::CannotOpen
        | Primary::PermissionDenied
        | Primary::ReadOnly
        | Primary::AuthorizationForStatementDenied => place.denied(&format!("SQLite says: {error}")),
        Primary::DiskFull => failed(ErrorCode::NoSpace, "the file system of a temporary file is full".to_owned()),
        Primary::SystemIoFailure => failed(ErrorCode::Io, format!("SQLite says: {error}")),
        _ => failed(ErrorCode::Failed, format!("SQLite says: {error}")),
    }
}

/// The error for a file that SQLite says is no database.
///
/// It is opened as a plain file: no connection of this process has a lock that this could drop, as none can be had on
/// what is no database.
fn no_database(path: &Path) -> SourceError {
    let mut head = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| {
        let length = file.metadata()?.len();
        file.take(HEAD as u64).read_to_end(&mut head)?;
        Ok(length)
    });
    match read {
        Ok(length) if seems_encrypted(&head, length) => SourceError::new(
            ErrorCode::DatabaseEncrypted,
            format!(
                "cannot read {}: it looks like an encrypted database (SQLCipher, SEE), which needs its key; \
                 let its application write an unencrypted copy, or a dump, and back that up",
                path.display()
            ),
        ),
        _ => SourceError::new(
            ErrorCode::NotADatabase,
            format!("cannot read {}: it is no SQLite database; check `path` of the source", path.display()),
        ),
    }
}

/// Whether a file that has no header of SQLite's may be an encrypted database: whole pages of bytes without a pattern.
fn seems_encrypted(head: &[u8], length: u64) -> bool {
    const SMALLEST_PAGE: u64 = 512;
    length.is_multiple_of(SMALLEST_PAGE)
        && head.len() >= 512
        && !COMPRESSED.iter().any(|magic| head.starts_with(magic))
        && is_random(head)
}

/// Whether bytes are spread as random ones are: the chi-squared statistic of their counts is near its mean of 255, whose
/// standard deviation is 22.6. Text, code and tables are in the tens of thousands.
fn is_random(bytes: &[u8]) -> bool {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    #[allow(clippy::cast_precision_loss, reason = "at most HEAD")]
    let expected = bytes.len() as f64 / 256.0;
    let chi_squared: f64 = counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
    chi_squared < 255.0 + 8.0 * 22.6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"noise");
        let mut bytes = vec![0; length];
        hasher.finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn random_pages_look_encrypted_and_nothing_else_does() {
        assert!(seems_encrypted(&noise(HEAD), 1 << 20));
        assert!(seems_encrypted(&noise(512), 512));
        assert!(!seems_encrypted(&noise(HEAD), (1 << 20) + 1), "no whole pages");
        assert!(!seems_encrypted(&[&b"\x1f\x8b"[..], &noise(HEAD)].concat()[..HEAD], 1 << 20), "gzip");
        let text = "CREATE TABLE t(x); INSERT INTO t VALUES (1);\n".repeat(100);
        assert!(!seems_encrypted(&text.as_bytes()[..HEAD], 1 << 20));
        assert!(!seems_encrypted(&[0; HEAD], 1 << 20));
    }
}
