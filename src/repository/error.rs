//! Why a repository could not do what was asked.

use std::io;

use super::storage::{StorageError, StorageErrorKind};
use crate::{
    model::{BackupId, ErrorCode},
    stream::CancelReason,
};

/// Why a repository could not do what was asked. Where an `io::Error` leaves this layer, this is its inner error.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// There is no repository, or it cannot be reached.
    #[error("cannot open the repository {name}: {reason}")]
    Unavailable {
        /// Its path or URL.
        name: String,
        /// Why.
        reason: String,
    },
    /// Another process writes to it.
    #[error("the repository {name} belongs to another writer: {owner}. Stop that one first")]
    Locked {
        /// Its path or URL.
        name: String,
        /// What the owner wrote about itself.
        owner: String,
    },
    /// It was created with another codec than the configuration now asks for.
    #[error(
        "the repository {name} was created with codec {created}; codec {asked} cannot be used in it. \
         Set `codec = \"{created}\"`, or give another path to begin a new repository"
    )]
    OtherCodec {
        /// Its path or URL.
        name: String,
        /// The codec that it has.
        created: &'static str,
        /// The codec that was asked for.
        asked: &'static str,
    },
    /// A call to the storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A file of this process (scratch) could not be used.
    #[error("cannot use the scratch file for {purpose}: {source}")]
    Scratch {
        /// What the file is for.
        purpose: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A part that all backups depend on is missing or wrong.
    #[error("{object} is damaged: {reason}")]
    Damaged {
        /// The object.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A backup does not match its hashes.
    #[error("backup {id} is damaged: {reason}. Restore another backup, and take a new one now")]
    BackupDamaged {
        /// The backup.
        id: BackupId,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such backup.
    #[error("there is no backup {0} in the repository")]
    NoSuchBackup(BackupId),
    /// Written by a newer program.
    #[error("{object}: {reason}. Update this program, or restore with restore.sh")]
    TooNew {
        /// The object.
        object: String,
        /// What is new about it.
        reason: String,
    },
    /// The source gave more than it may.
    #[error("the backup has more than {limit} bytes, the `max_size` of its source")]
    SizeLimit {
        /// The limit, plaintext bytes.
        limit: u64,
    },
    /// Deleting was refused because it might have been wrong.
    #[error("nothing was deleted: {0}")]
    Refused(String),
    /// The caller used the writer or reader in a way that has no meaning.
    #[error("{0}")]
    Misuse(String),
    /// The job was ended from outside.
    #[error(transparent)]
    Canceled(#[from] CancelReason),
    /// The way of the bytes failed.
    #[error("{0}")]
    Stream(io::Error),
}

impl RepositoryError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unavailable { .. } => ErrorCode::RepositoryUnavailable,
            Self::Locked { .. } => ErrorCode::RepositoryLocked,
            Self::OtherCodec { .. } => ErrorCode::ConfigInvalid,
            Self::Storage(error) => match error.kind {
                StorageErrorKind::NoSpace => ErrorCode::NoSpace,
                StorageErrorKind::Locked => ErrorCode::RepositoryLocked,
                StorageErrorKind::Unavailable => ErrorCode::RepositoryUnavailable,
                _ => ErrorCode::Io,
            },
            Self::Scratch { source, .. } | Self::Stream(source) => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::NoSpace,
                _ => ErrorCode::Io,
            },
            Self::Damaged { .. } => ErrorCode::RepositoryDamaged,
            Self::BackupDamaged { .. } => ErrorCode::BackupDamaged,
            Self::NoSuchBackup(_) => ErrorCode::NoSuchBackup,
            Self::TooNew { .. } => ErrorCode::UnsupportedFormat,
            Self::SizeLimit { .. } => ErrorCode::SizeLimit,
            Self::Refused(_) => ErrorCode::Failed,
            Self::Misuse(_) => ErrorCode::Internal,
            Self::Canceled(CancelReason::Requested) => ErrorCode::Canceled,
            Self::Canceled(CancelReason::Shutdown) => ErrorCode::ShuttingDown,
            Self::Canceled(CancelReason::TimedOut) => ErrorCode::TimedOut,
        }
    }

    /// The repository's error inside an `io::Error`, or that error as one of the way of the bytes.
    #[must_use]
    pub fn from_io(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(own) => own,
            Err(error) => match error.downcast::<CancelReason>() {
                Ok(reason) => Self::Canceled(reason),
                Err(error) => Self::Stream(error),
            },
        }
    }

    pub(crate) fn scratch(purpose: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Scratch { purpose, source }
    }

    pub(crate) fn damaged(object: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Damaged { object: object.into(), reason: reason.into() }
    }
}

impl From<RepositoryError> for io::Error {
    fn from(error: RepositoryError) -> Self {
        Self::other(error)
    }
}
