//! What can go wrong on the way of the bytes.

use std::io;

use super::entry::Location;
use crate::model::{
    error_code::ErrorCode,
    ids::{ChunkId, Sha256Hash},
    manifest::CodecName,
};

/// Why bytes could not be encoded, or what was read back cannot be trusted.
///
/// It travels as the inner error of an [`io::Error`]. Errors of the storage behind a pipeline are passed on as they are.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The level is not on the codec's scale.
    #[error("{} has no level {level}; use {lowest} to {highest}", codec.as_str())]
    NoSuchLevel {
        /// The codec.
        codec: CodecName,
        /// The level that was asked for.
        level: i32,
        /// The lowest there is.
        lowest: i32,
        /// The highest there is.
        highest: i32,
    },
    /// A chunk is longer than any chunk may be.
    #[error("a chunk of {length} bytes is longer than the {maximum} bytes that a chunk may have")]
    TooLong {
        /// Its length, bytes.
        length: usize,
        /// The limit, bytes.
        maximum: usize,
    },
    /// The compressor refused its input or has no memory.
    #[error("{} could not compress a chunk: {reason}", codec.as_str())]
    Encode {
        /// The codec.
        codec: CodecName,
        /// What the library said.
        reason: String,
    },
    /// A fresh member does not decode to what was encoded.
    #[error(
        "chunk {id} does not decompress to what was compressed ({reason}); nothing of it was stored. This is a defect of \
         the compressor or of the machine's memory: test the memory, then run the backup again"
    )]
    Mismatch {
        /// The chunk.
        id: ChunkId,
        /// How it differs.
        reason: &'static str,
    },
    /// A stored member is not what the chunk table says.
    #[error(
        "chunk {id} in pack {} at {} of {} bytes is damaged: {reason}",
        location.pack, location.offset, location.stored_length
    )]
    Damaged {
        /// The chunk.
        id: ChunkId,
        /// Where it was read.
        location: Location,
        /// What is wrong.
        reason: &'static str,
    },
    /// All chunks are good, but together they are not the file.
    #[error(
        "the chunks give {length} bytes with SHA-256 {sha256}, but the backup recorded {expected_length} bytes with \
         {expected_sha256}: chunks are missing, or in another order"
    )]
    WrongFile {
        /// What came out, bytes.
        length: u64,
        /// Its SHA-256.
        sha256: Sha256Hash,
        /// What should have come, bytes.
        expected_length: u64,
        /// Its SHA-256.
        expected_sha256: Sha256Hash,
    },
    /// A thread of the pipeline panicked.
    #[error("the thread {thread} panicked: {message}")]
    Panicked {
        /// Its name.
        thread: String,
        /// What it said.
        message: String,
    },
    /// A thread could not be started.
    #[error("cannot start the thread {thread}: {source}")]
    Spawn {
        /// Its name.
        thread: String,
        /// Why.
        source: io::Error,
    },
    /// The pipeline was used after it had failed, or out of order.
    #[error("the pipeline cannot go on: {0}")]
    Misuse(&'static str),
}

impl StreamError {
    /// The code of the table of errors.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NoSuchLevel { .. } => ErrorCode::ConfigInvalid,
            Self::Mismatch { .. } | Self::Encode { .. } => ErrorCode::Failed,
            Self::Damaged { .. } | Self::WrongFile { .. } => ErrorCode::BackupDamaged,
            Self::Spawn { .. } => ErrorCode::Io,
            Self::TooLong { .. } | Self::Panicked { .. } | Self::Misuse(_) => ErrorCode::Internal,
        }
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match error {
            StreamError::Damaged { .. } | StreamError::WrongFile { .. } => io::ErrorKind::InvalidData,
            StreamError::NoSuchLevel { .. } => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
