//! The contents of a file in use are replaced, and what they were is kept in a file beside it: what a restore in place
//! and its undo have in common.
//!
//! Invariants: `kept` exists only when it holds all that there was, on disk, and nothing of it is changed before that;
//! [`settle`] tells what a crash left, however often it is called; where it cannot be told, more is kept than is needed,
//! never less.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{hit, overwrite, sync_folder};
use crate::{
    model::{ErrorCode, RunId},
    source::{
        Settled, SourceError,
        sqlite::{
            access::Place,
            connection::{Limits, open_to_write},
            problem::explain,
        },
    },
    stream::Cancel,
};

/// Where the schema cookie is in the header (<https://sqlite.org/fileformat2.html#schema_cookie>).
const COOKIE: std::ops::Range<usize> = 40..44;
/// Bytes that a name of a kept file takes of the name of its database: there must be room for the rest.
const NAME_BYTES: usize = 200;

/// How a file gets its new contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// By SQLite, in one transaction: the file stays.
    Overwrite,
    /// By a rename, where one of both is no database.
    Rename,
}

/// A file, its contents to be, and where those go that it has. It says what shall be as well as what was done, so it is
/// written down before anything happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSwap {
    /// The file that applications use, its links resolved.
    pub path: PathBuf,
    /// The file beside it with what it gets.
    pub incoming: PathBuf,
    /// The file beside it that keeps what it had.
    pub kept: PathBuf,
    /// How.
    pub way: Way,
    /// Whether the database was in WAL mode, in which it stays.
    pub is_wal: bool,
}

impl FileSwap {
    /// One that replaces what is at `path` by `incoming`.
    pub(super) fn new(path: &Path, incoming: PathBuf, way: Way, is_wal: bool, run: RunId) -> Self {
        Self { path: path.to_owned(), incoming, kept: kept_path(path, run), way, is_wal }
    }

    /// The way back, as a swap of another run.
    #[must_use]
    pub fn reversed(&self, run: RunId) -> Self {
        Self::new(&self.path, self.kept.clone(), self.way, self.is_wal, run)
    }

    /// Where the kept contents are while they are written.
    pub(super) fn half_kept(&self) -> PathBuf {
        let mut name = OsString::from(&self.kept);
        name.push(".tmp");
        name.into()
    }

    fn failed(&self, attempted: impl std::fmt::Display) -> impl FnOnce(io::Error) -> SourceError {
        let message = format!("{attempted} {}", self.path.display());
        move |error| SourceError::io(message, &error)
    }
}

/// A name beside the file, hidden, which no application takes for a database of its own.
fn kept_path(path: &Path, run: RunId) -> PathBuf {
    let name = path.file_name().unwrap_or_default().as_bytes();
    // The first digits of a UUIDv7 are the clock's and change slowly; the last are random.
    let run = run.0.simple().to_string();
    let mut kept = OsString::from(".");
    kept.push(std::ffi::OsStr::from_bytes(&name[..name.len().min(NAME_BYTES)]));
    kept.push(format!(".before_{}", &run[run.len() - 8..]));
    path.with_file_name(kept)
}

/// Swaps.
///
/// # Errors
/// `DatabaseBusy` when others do not let go within `lock_timeout`; `NoSpace`, `Io`, what SQLite meets. Whether the swap
/// happened is then told by [`settle`] alone.
pub fn exchange(swap: &FileSwap, lock_timeout: Duration, cancel: &Cancel) -> Result<(), SourceError> {
    for file in [&swap.kept, &swap.half_kept()] {
        if file.symlink_metadata().is_ok() {
            let message = format!("{} exists already; move it away", file.display());
            return Err(SourceError::new(ErrorCode::RestoreRefused, message));
        }
    }
    let limits = Limits { cancel: cancel.clone(), lock_timeout };
    match swap.way {
        Way::Overwrite => overwrite::overwrite(swap, &limits),
        Way::Rename => rename(swap, &limits),
    }
}

/// Lets the incoming file take the name. The old one stays under the kept name: it is the same file.
fn rename(swap: &FileSwap, limits: &Limits) -> Result<(), SourceError> {
    overwrite::close(swap, limits)?;
    fs::hard_link(&swap.path, &swap.kept).map_err(swap.failed("keep the present"))?;
    sync_folder(&swap.path)?;
    hit("file-kept")?;
    fs::rename(&swap.incoming, &swap.path).map_err(swap.failed("replace"))?;
    hit("file-written")?;
    sync_folder(&swap.path)
}

/// Finds out whether a swap happened, and takes away what it made where it did not.
///
/// # Errors
/// `DatabaseBusy`, `Io`: then it is not known.
pub fn settle(swap: &FileSwap, lock_timeout: Duration) -> Result<Settled, SourceError> {
    remove(&swap.half_kept())?;
    let is_kept = swap.kept.symlink_metadata().is_ok();
    let was_swapped = is_kept
        && match swap.way {
            Way::Overwrite => Some(cookie_of_kept(swap)?) != cookie_of_live(swap, lock_timeout)?,
            Way::Rename => !is_same_file(&swap.kept, &swap.path)?,
        };
    if was_swapped {
        return Ok(Settled::Swapped);
    }
    if swap.way == Way::Overwrite && swap.is_wal && swap.path.exists() {
        overwrite::back_to_wal(swap, lock_timeout)?;
    }
    remove(&swap.kept)?;
    Ok(Settled::NotSwapped)
}

/// The schema cookie of the database that is kept: SQLite moves that of a database whose contents it replaces on by one,
/// in the same transaction, and never lets it go back. A cookie that the application itself moved after a crash counts
/// as a swap, so that the copy is kept.
fn cookie_of_kept(swap: &FileSwap) -> Result<u32, SourceError> {
    let mut header = Vec::new();
    let read = File::open(&swap.kept).and_then(|file| file.take(COOKIE.end as u64).read_to_end(&mut header));
    read.map_err(|error| SourceError::io(format_args!("read {}", swap.kept.display()), &error))?;
    // Without a page there is no header.
    let cookie = header.get(COOKIE).and_then(|bytes| bytes.try_into().ok());
    Ok(cookie.map_or(0, u32::from_be_bytes))
}

/// That of the database now; `None` where it is gone, or is a database no more.
fn cookie_of_live(swap: &FileSwap, lock_timeout: Duration) -> Result<Option<u32>, SourceError> {
    let limits = Limits { cancel: Cancel::new(), lock_timeout };
    let read = || {
        let place = Place::look_up(&swap.path)?;
        let connection = open_to_write(&place, &limits)?;
        let cookie = connection.query_row("PRAGMA main.schema_version", [], |row| row.get::<_, i64>(0));
        cookie.map_err(|error| explain(&error, "read", &place, &limits.cancel))
    };
    match read() {
        // The pragma gives the four bytes as a signed number.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "four bytes, as they are")]
        Ok(cookie) => Ok(Some(cookie as u32)),
        Err(error) if is_gone(error.code()) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_gone(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::NoSuchDatabase | ErrorCode::NotADatabase | ErrorCode::DatabaseEncrypted)
}

fn is_same_file(one: &Path, other: &Path) -> Result<bool, SourceError> {
    let identity = |path: &Path| match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some((metadata.dev(), metadata.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SourceError::io(format_args!("look at {}", path.display()), &error)),
    };
    Ok(identity(one)? == identity(other)?)
}

/// Removes what a swap that happened has no use for any more: the file that its contents came from.
///
/// # Errors
/// `Io`.
pub fn finish(swap: &FileSwap) -> Result<(), SourceError> {
    remove(&swap.incoming)
}

/// Bytes of what is kept; `None` where it is gone.
#[must_use]
pub fn kept_size(swap: &FileSwap) -> Option<u64> {
    fs::symlink_metadata(&swap.kept).ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len())
}

/// Removes what a swap kept. What is gone counts as removed.
///
/// # Errors
/// `Io`.
pub fn drop_kept(swap: &FileSwap) -> Result<(), SourceError> {
    remove(&swap.kept)
}

/// Why the way back cannot be gone, if something is in it; `swap` is the one that is undone.
#[must_use]
pub fn objection(swap: &FileSwap) -> Option<String> {
    if kept_size(swap).is_none() {
        return Some(format!("the file {} is not there any more", swap.kept.display()));
    }
    let (path, kept) = (swap.path.display(), swap.kept.display());
    (!swap.path.exists())
        .then(|| format!("there is no file {path} any more that could be replaced; copy {kept} to its place"))
}

/// Removes a file of our own. One that is not there is no error.
pub(super) fn remove(path: &Path) -> Result<(), SourceError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(SourceError::io(format_args!("remove {}", path.display()), &error))
        }
        _ => Ok(()),
    }
}
