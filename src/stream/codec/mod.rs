//! How one chunk becomes one stored member, and back: `gzip` (framing of RFC 1952), `zstd` (RFC 8878), `deflate` (the
//! library that is in this build: `isal` or libdeflate).
//!
//! Invariants: a member is complete in itself, so members one after the other are a valid `.gz` or `.zst` file; every
//! member begins with a header that names its chunk and its own length, so that an index can be rebuilt by walking a
//! pack; decoding accepts nothing but exactly one whole member of exactly the expected length, and never panics.

mod deflate;
mod gzip;
#[cfg(feature = "isal")]
mod isal;
mod zstd;

use super::error::StreamError;
use crate::model::{
    ids::ChunkId,
    manifest::{Codec, CodecName},
};

/// No chunk is longer, bytes. Keeps a damaged table from asking for absurd amounts of memory.
pub const MAX_CHUNK_LENGTH: usize = 64 << 20;

/// What the header of a member says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberHeader {
    /// The chunk, as the writer named it; only the plaintext's hash proves it.
    pub id: ChunkId,
    /// Length of the whole member, framing included, bytes.
    pub stored_length: u32,
}

impl MemberHeader {
    /// Length of the header's payload, bytes: the id and the stored length, little endian.
    const PAYLOAD: usize = 36;

    /// Enough bytes of a member to read its header, whatever the codec.
    pub const PREFIX: usize = 52;

    fn to_payload(self) -> [u8; Self::PAYLOAD] {
        let mut payload = [0; Self::PAYLOAD];
        payload[..32].copy_from_slice(&self.id.0);
        payload[32..].copy_from_slice(&self.stored_length.to_le_bytes());
        payload
    }

    fn from_payload(payload: &[u8]) -> Option<Self> {
        let (id, length) = payload.split_at_checked(32)?;
        Some(Self { id: ChunkId(id.try_into().ok()?), stored_length: u32::from_le_bytes(length.try_into().ok()?) })
    }
}

/// Why bytes are not the member that they should be: a clause that completes "the chunk is damaged: …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(pub &'static str);

/// Reads the header at the start of a member of either codec. `None`: these bytes do not begin a member.
///
/// [`MemberHeader::PREFIX`] bytes are always enough.
#[must_use]
pub fn read_member_header(bytes: &[u8]) -> Option<MemberHeader> {
    gzip::read_header(bytes).or_else(|| zstd::read_header(bytes))
}

/// Makes members. One per thread; it keeps its buffers from chunk to chunk.
#[derive(Debug)]
pub struct Encoder(Encoding);

#[derive(Debug)]
enum Encoding {
    Gzip(gzip::GzipEncoder),
    Zstd(zstd::ZstdEncoder),
}

impl Encoder {
    /// An encoder for this codec and level.
    ///
    /// # Errors
    /// [`StreamError::NoSuchLevel`]; [`StreamError::Encode`] when the library has no memory.
    pub fn new(codec: Codec) -> Result<Self, StreamError> {
        let (lowest, highest) = codec.name.levels();
        if !(lowest..=highest).contains(&codec.level) {
            return Err(StreamError::NoSuchLevel { codec: codec.name, level: codec.level, lowest, highest });
        }
        Ok(Self(match codec.name {
            CodecName::Gzip => Encoding::Gzip(gzip::GzipEncoder::new(codec.level)?),
            CodecName::Zstd => Encoding::Zstd(zstd::ZstdEncoder::new(codec.level)?),
        }))
    }

    /// Appends the member of this chunk to `out`.
    ///
    /// # Errors
    /// [`StreamError::TooLong`], or [`StreamError::Encode`] when the library fails; `out` is then as before.
    pub fn encode(&mut self, id: &ChunkId, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), StreamError> {
        if plaintext.len() > MAX_CHUNK_LENGTH {
            return Err(StreamError::TooLong { length: plaintext.len(), maximum: MAX_CHUNK_LENGTH });
        }
        match &mut self.0 {
            Encoding::Gzip(encoder) => encoder.encode(id, plaintext, out),
            Encoding::Zstd(encoder) => encoder.encode(id, plaintext, out),
        }
    }
}

/// Takes members apart. One per thread; it keeps its state from chunk to chunk.
#[derive(Debug)]
pub struct Decoder(Decoding);

#[derive(Debug)]
enum Decoding {
    Gzip(gzip::GzipDecoder),
    Zstd(zstd::ZstdDecoder),
}

impl Decoder {
    /// A decoder for the members of this codec.
    ///
    /// # Errors
    /// [`StreamError::Encode`] when the library has no memory.
    pub fn new(codec: CodecName) -> Result<Self, StreamError> {
        Ok(Self(match codec {
            CodecName::Gzip => Decoding::Gzip(gzip::GzipDecoder::new()?),
            CodecName::Zstd => Decoding::Zstd(zstd::ZstdDecoder::new()?),
        }))
    }

    /// A decoder that proves what an [`Encoder`] of this codec and level makes: by another library where this build has
    /// two, so that what passes is deflate by two opinions and not by one library's habit.
    ///
    /// # Errors
    /// [`StreamError::Encode`] when the library has no memory.
    pub fn independent(codec: Codec) -> Result<Self, StreamError> {
        match codec.name {
            CodecName::Gzip => Ok(Self(Decoding::Gzip(gzip::GzipDecoder::independent(codec.level)?))),
            CodecName::Zstd => Self::new(codec.name),
        }
    }

    /// Replaces the content of `out` by the plaintext of `member`, which must be one whole member, its header's length
    /// right, and give exactly `raw_length` bytes. Whether they are the chunk's, its id must say: see
    /// [`MemberHeader::id`] and BLAKE3.
    ///
    /// # Errors
    /// What is wrong with the member; `out` is then empty.
    pub fn decode(&mut self, member: &[u8], raw_length: u32, out: &mut Vec<u8>) -> Result<MemberHeader, DecodeError> {
        let length = raw_length as usize;
        if length > MAX_CHUNK_LENGTH {
            out.clear();
            return Err(DecodeError("its length is beyond what a chunk may have"));
        }
        // Only growth is filled with zeros; what is there is overwritten anyway.
        out.resize(length, 0);
        let result = match &mut self.0 {
            Decoding::Gzip(decoder) => decoder.decode(member, out),
            Decoding::Zstd(decoder) => decoder.decode(member, out),
        };
        if result.is_err() {
            out.clear();
        }
        result
    }
}

#[cfg(test)]
mod tests;
