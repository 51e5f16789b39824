//! One chunk as one gzip member (RFC 1952): a header with an extra field, raw deflate, CRC-32 and length.

use super::{DecodeError, MemberHeader, deflate};
use crate::{
    model::{ids::ChunkId, manifest::CodecName},
    stream::error::StreamError,
};

/// ID1, ID2, CM = deflate, FLG = FEXTRA, no time, no hint, OS unknown; XLEN = 40; the subfield `BK` of 36 bytes.
const HEADER: [u8; 16] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 40, 0, b'B', b'K', 36, 0];
const BODY: usize = HEADER.len() + MemberHeader::PAYLOAD;
const TRAILER: usize = 8;

/// Reads the header of a member.
pub(super) fn read_header(bytes: &[u8]) -> Option<MemberHeader> {
    let payload = bytes.get(..BODY)?.strip_prefix(&HEADER)?;
    MemberHeader::from_payload(payload).filter(|header| header.stored_length as usize >= BODY + TRAILER)
}

#[derive(Debug)]
pub(super) struct GzipEncoder {
    deflater: deflate::Deflater,
    /// Keeps its length, so that it is filled with zeros once and not for every chunk.
    scratch: Vec<u8>,
}

impl GzipEncoder {
    pub(super) fn new(level: i32) -> Result<Self, StreamError> {
        Ok(Self { deflater: deflate::Deflater::new(level)?, scratch: Vec::new() })
    }

    pub(super) fn encode(&mut self, id: &ChunkId, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), StreamError> {
        let bound = deflate::bound(plaintext.len());
        if self.scratch.len() < bound {
            self.scratch.resize(bound, 0);
        }
        let length = self.deflater.deflate(plaintext, &mut self.scratch)?;
        let stored_length = u32::try_from(BODY + length + TRAILER).map_err(|_| too_long())?;
        let raw_length = u32::try_from(plaintext.len()).map_err(|_| too_long())?;
        out.reserve(BODY + length + TRAILER);
        out.extend_from_slice(&HEADER);
        out.extend_from_slice(&MemberHeader { id: *id, stored_length }.to_payload());
        out.extend_from_slice(&self.scratch[..length]);
        out.extend_from_slice(&libdeflater::crc32(plaintext).to_le_bytes());
        out.extend_from_slice(&raw_length.to_le_bytes());
        Ok(())
    }
}

fn too_long() -> StreamError {
    StreamError::Encode { codec: CodecName::Gzip, reason: "the result does not fit into 4 GiB".into() }
}

#[derive(Debug)]
pub(super) struct GzipDecoder(deflate::Inflater);

impl GzipDecoder {
    pub(super) fn new() -> Result<Self, StreamError> {
        deflate::Inflater::new().map(Self)
    }

    pub(super) fn independent(level: i32) -> Result<Self, StreamError> {
        deflate::Inflater::independent(level).map(Self)
    }

    /// Fills `out`, which has the length of the plaintext.
    pub(super) fn decode(&mut self, member: &[u8], out: &mut [u8]) -> Result<MemberHeader, DecodeError> {
        let header = read_header(member).ok_or(DecodeError("it does not begin with the header of a gzip member"))?;
        if header.stored_length as usize != member.len() {
            return Err(DecodeError("its header gives another stored length"));
        }
        let (body, trailer) = member[BODY..].split_at(member.len() - BODY - TRAILER);
        let (crc, length) = trailer.split_at(4);
        if u32::try_from(out.len()).map(u32::to_le_bytes).is_ok_and(|expected| expected != length) {
            return Err(DecodeError("its trailer gives another length"));
        }
        self.0.inflate(body, out)?;
        if libdeflater::crc32(out).to_le_bytes() != crc {
            return Err(DecodeError("its CRC-32 does not match"));
        }
        Ok(header)
    }
}
