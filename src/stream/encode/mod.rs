//! The way in: plaintext is cut, named, compressed, checked and handed to the repository, in order.
//!
//! `writer` runs in the caller's thread and cuts and names chunks; `worker` has the compressing threads; `assembler` has
//! the one thread that stores members and notes entries in the order of the stream; `threads` starts and joins them;
//! `batch` is what travels between them; `recent` finds chunks that come twice in one backup.
//!
//! Invariants: a fixed number of batches circulates, so no thread ever blocks on sending and memory does not grow with
//! the input; every batch reaches the assembler, also a failed one, so nobody waits for a batch that never comes; after
//! the first error nothing more is stored; all threads have ended when the writer is gone.

mod assembler;
mod batch;
mod recent;
#[cfg(test)]
mod tests;
mod threads;
mod worker;
mod writer;

use std::io;

use super::entry::{Entry, Location};
use crate::model::{
    ids::{ChunkId, Sha256Hash},
    manifest::{ChunkerParameters, Codec},
};

pub use writer::ChunkWriter;

/// How a [`ChunkWriter`] works.
#[derive(Debug, Clone, Copy)]
pub struct EncodeOptions {
    /// How chunks are stored.
    pub codec: Codec,
    /// Where chunks end.
    pub chunker: ChunkerParameters,
    /// Number of compressing threads; at least one is started.
    pub threads: usize,
    /// Whether every new member is decompressed and compared before it is stored, so that a bad compressor or bad memory
    /// is found now and not when the backup is needed.
    pub verify: bool,
    /// Most bytes that may be on their way at any time. Exceeded only where a single chunk of the largest size needs
    /// more.
    pub budget: usize,
}

impl EncodeOptions {
    /// What [`EncodeOptions::budget`] is unless somebody needs another.
    pub const DEFAULT_BUDGET: usize = 32 << 20;

    /// Checked encoding within the default budget.
    #[must_use]
    pub const fn new(codec: Codec, chunker: ChunkerParameters, threads: usize) -> Self {
        Self { codec, chunker, threads, verify: true, budget: Self::DEFAULT_BUDGET }
    }
}

/// Knows the chunks that need not be stored again. Asked in the thread that writes plaintext.
pub trait Known {
    /// Where the chunk is, if it is stored already.
    ///
    /// # Errors
    /// Whatever keeps the answer from being given; it ends the backup.
    fn lookup(&mut self, id: &ChunkId, raw_length: u32) -> io::Result<Option<Location>>;
}

/// Stores members. Called in one thread, in the order of the stream.
pub trait MemberSink: Send {
    /// Stores a member and says where it will be.
    ///
    /// # Errors
    /// Any failure of the storage; it ends the backup.
    fn store(&mut self, id: &ChunkId, raw_length: u32, member: &[u8]) -> io::Result<Location>;
}

/// Takes the entries of all files. Called in the thread of the [`MemberSink`], in the order of the stream.
pub trait EntrySink: Send {
    /// Takes the next entry of the file that is being written.
    ///
    /// # Errors
    /// Any failure to keep it; it ends the backup.
    fn entry(&mut self, entry: &Entry) -> io::Result<()>;
}

/// What became of one file. All of its entries have been given to the [`EntrySink`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileResult {
    /// Length of the plaintext, bytes.
    pub raw_length: u64,
    /// SHA-256 of the plaintext.
    pub raw_sha256: Sha256Hash,
    /// Chunks and bytes.
    pub totals: Totals,
}

/// Chunks and bytes of one file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Number of entries.
    pub chunks: u64,
    /// Length of all members, shared ones included, bytes.
    pub stored_bytes: u64,
    /// Number of entries whose chunk was stored by an earlier backup or earlier in this one.
    pub reused_chunks: u64,
    /// Plaintext bytes of these.
    pub reused_bytes: u64,
    /// Bytes of the members that were stored for this file.
    pub new_stored_bytes: u64,
}
