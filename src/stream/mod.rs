//! The way of the bytes: cut into chunks, hash, compress, and back. Plain threads, bounded queues; knows no database.
//!
//! A source writes plaintext and cut marks into a [`ByteSink`]; a restore reads plaintext from a [`std::io::Read`] that
//! has verified it. What lies between belongs to this layer and, for packs, to [`crate::repository`].

pub mod cancel;
pub mod chunker;
pub mod codec;
pub mod decode;
pub mod encode;
pub mod entry;
pub mod error;
pub mod progress;
mod shared;

pub use cancel::{Cancel, CancelReason};
pub use entry::{Entry, Location};
pub use error::StreamError;
pub use progress::Progress;

/// Where a chunk must or should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The chunk ends here whatever its size: what follows must not depend on what came before.
    Hard,
    /// The chunk ends here if it is not tiny: a good place, such as the start of a table's rows.
    Soft,
}

/// Takes the plaintext of one file, in order.
///
/// The error is the one that ends the job; after it, no further call may be made but dropping the sink.
pub trait ByteSink {
    /// Takes the next bytes. Blocks while the queues behind it are full.
    ///
    /// # Errors
    /// Any failure of the storage, of a codec that did not give back what it was given, a cancel, or a size limit;
    /// the `io::Error`'s inner error is the layer's own and can be downcast.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()>;

    /// Marks the place after the bytes written so far.
    ///
    /// # Errors
    /// As [`ByteSink::write`].
    fn cut(&mut self, cut: Cut) -> std::io::Result<()>;
}
