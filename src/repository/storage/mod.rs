//! Where the repository's objects lie: a flat map from keys to immutable bytes, narrow enough for an object store.
//!
//! - [`local`]: a directory of a file system;
//! - `faulty`: a decorator that fails, tears or lies at the n-th call, for tests;
//! - `conformance`: one suite that every storage passes.
//!
//! Invariants that every storage keeps, and that the repository is built on:
//! 1. An object is visible completely or not at all, also after a crash: there is no append and no partial update.
//! 2. A call that returned `Ok` is durable: the object (or its absence) survives a power failure.
//! 3. A call that failed may have happened all the same. Every call may be repeated; the repetition gives the same
//!    end state ([`PutMode::IfAbsent`] may then report the caller's own object as already there).
//! 4. A listing is complete or an error, never partial. A storage that is not there is an error, not an empty listing.

#[cfg(test)]
pub(crate) mod conformance;
#[cfg(test)]
pub(crate) mod faulty;
pub mod local;

use std::{fmt, io};

pub use local::LocalStorage;

/// The bytes and names of a repository. Keys are relative paths of plain components, such as `packs/ab/abcd.gz`.
pub trait Storage: Send + Sync + fmt::Debug {
    /// What the storage is called in messages: its path or URL.
    fn name(&self) -> String;

    /// Stores a small object whole.
    ///
    /// # Errors
    /// [`StorageErrorKind::AlreadyExists`] with [`PutMode::IfAbsent`]; anything else may have happened all the same.
    /// Repeating is harmless.
    fn put(&self, key: &str, bytes: &[u8], mode: PutMode) -> Result<(), StorageError>;

    /// Begins an object whose key is known only at its end. Nothing is visible before [`Upload::publish`].
    ///
    /// # Errors
    /// Nothing was begun; may be repeated.
    fn upload(&self) -> Result<Box<dyn Upload>, StorageError>;

    /// A whole object; only for what is known to be small.
    ///
    /// # Errors
    /// [`StorageErrorKind::NotFound`] where there is none. May be repeated.
    fn get(&self, key: &str) -> Result<Vec<u8>, StorageError>;

    /// Exactly these bytes of an object.
    ///
    /// # Errors
    /// [`StorageErrorKind::NotFound`], also where the object is shorter than the range. May be repeated.
    fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Vec<u8>, StorageError>;

    /// Size of an object, bytes.
    ///
    /// # Errors
    /// [`StorageErrorKind::NotFound`] where there is none. May be repeated.
    fn size(&self, key: &str) -> Result<u64, StorageError>;

    /// All objects below `prefix` (empty, or ending in `/`), in order of their keys.
    ///
    /// # Errors
    /// Any failure on the way: a partial listing is never given. May be repeated.
    fn list(&self, prefix: &str) -> Result<Vec<Object>, StorageError>;

    /// Removes an object. That there is none is no error.
    ///
    /// # Errors
    /// The object may be gone all the same. May be repeated.
    fn delete(&self, key: &str) -> Result<(), StorageError>;

    /// Removes what interrupted uploads left. Only for the owner, while it uploads nothing.
    ///
    /// # Errors
    /// Some may be left; may be repeated.
    fn sweep(&self) -> Result<(), StorageError>;

    /// Bytes that can still be stored; `None` where the storage knows no limit.
    ///
    /// # Errors
    /// May be repeated.
    fn free_bytes(&self) -> Result<Option<u64>, StorageError>;

    /// Becomes the one writer; `owner` is a line that tells others who that is.
    ///
    /// # Errors
    /// [`StorageErrorKind::Locked`], whose message names the present owner. May be repeated.
    fn lock(&self, owner: &str) -> Result<Box<dyn Lease>, StorageError>;
}

/// What to do where an object is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// Replace it.
    Overwrite,
    /// Fail with [`StorageErrorKind::AlreadyExists`], and leave it.
    IfAbsent,
}

/// An object that is being written. Dropping it abandons it and removes what was written.
pub trait Upload: Send {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// The upload cannot go on; begin another.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError>;

    /// Makes the object durable and visible under `key`, in place of any object of that key.
    ///
    /// # Errors
    /// The object may be there all the same. The upload is lost; begin another.
    fn publish(self: Box<Self>, key: &str) -> Result<(), StorageError>;
}

/// Reads an object that may be long, from its beginning, in the pieces that are asked for.
pub(crate) struct ObjectReader<'a> {
    storage: &'a dyn Storage,
    key: &'a str,
    at: u64,
    size: u64,
}

impl<'a> ObjectReader<'a> {
    /// Begins with the first byte.
    ///
    /// # Errors
    /// [`StorageErrorKind::NotFound`] where there is no such object.
    pub(crate) fn new(storage: &'a dyn Storage, key: &'a str) -> Result<Self, StorageError> {
        Ok(Self { storage, key, at: 0, size: storage.size(key)? })
    }
}

impl io::Read for ObjectReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        if length > 0 {
            let piece = self.storage.get_range(self.key, self.at, length).map_err(super::RepositoryError::from)?;
            buffer[..length].copy_from_slice(&piece);
            self.at += length as u64;
        }
        Ok(length)
    }
}

/// The right to write, given back on drop.
pub trait Lease: Send + Sync + fmt::Debug {}

/// One row of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Its size, bytes.
    pub size: u64,
}

/// Why a call to a storage failed, as far as a caller can act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageErrorKind {
    /// There is no such object, or it is shorter than asked for.
    NotFound,
    /// There is such an object already.
    AlreadyExists,
    /// The storage or a quota is full.
    NoSpace,
    /// Another writer owns the storage.
    Locked,
    /// The storage itself is not there.
    Unavailable,
    /// Everything else.
    Other,
}

/// Why a call to a storage failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {object}: {source}")]
pub struct StorageError {
    /// What a caller can act on.
    pub kind: StorageErrorKind,
    /// The verb: `read`, `write`, `list`…
    pub operation: &'static str,
    /// The object's full name.
    pub object: String,
    /// The cause.
    pub source: io::Error,
}

impl StorageError {
    /// An error of the operating system; its kind is read from the cause.
    #[must_use]
    pub fn new(operation: &'static str, object: impl Into<String>, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => StorageErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => StorageErrorKind::AlreadyExists,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                StorageErrorKind::NoSpace
            }
            _ => StorageErrorKind::Other,
        };
        Self { kind, operation, object: object.into(), source }
    }

    /// The same error with another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: StorageErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Whether there is no such object.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.kind == StorageErrorKind::NotFound
    }
}

/// Whether a key is a relative path of plain, visible components.
#[must_use]
pub(crate) fn is_valid_key(key: &str) -> bool {
    !key.is_empty() && key.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.contains('\0'))
}
