//! What travels between the threads: some chunks of one file, in order.

use crate::{model::ids::ChunkId, stream::entry::Location};

/// Where the member of a chunk is, as far as is known.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// Stored by an earlier backup.
    Known(Location),
    /// Stored, or about to be, as the new chunk with this number of this backup.
    Repeat(u64),
    /// New: its member is stored when the batch is.
    New {
        /// Where its member ends in [`Batch::stored`]; set by a worker.
        stored_end: usize,
    },
}

/// One chunk of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) id: ChunkId,
    pub(super) raw_length: u32,
    pub(super) place: Place,
}

/// Some chunks of one file.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Its place in the stream.
    pub(super) sequence: u64,
    /// All chunks, in order.
    pub(super) items: Vec<Item>,
    /// The plaintext of the new ones, one after the other.
    pub(super) plain: Vec<u8>,
    /// Their members, one after the other.
    pub(super) stored: Vec<u8>,
    /// Whether the file ends with this batch.
    pub(super) ends_file: bool,
    /// The bytes that the writer counts for it while it is on its way.
    pub(super) charge: usize,
}

impl Batch {
    /// Makes it as good as new. Buffers that one large chunk made larger than `keep` are given back.
    pub(super) fn recycle(&mut self, keep: usize) {
        self.items.clear();
        self.ends_file = false;
        for buffer in [&mut self.plain, &mut self.stored] {
            buffer.clear();
            buffer.shrink_to(keep);
        }
    }
}
