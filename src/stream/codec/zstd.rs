//! One chunk as a skippable frame that names it, and one zstd frame with content size and checksum (RFC 8878).

use std::fmt;

use zstd::{
    bulk::{Compressor, Decompressor},
    zstd_safe::{self, CParameter},
};

use super::{DecodeError, MemberHeader};
use crate::{
    model::{ids::ChunkId, manifest::CodecName},
    stream::error::StreamError,
};

/// A skippable frame (RFC 8878, 3.1.2) of 36 bytes. Any of its sixteen magic numbers will do; this one is ours.
const HEADER: [u8; 8] = [0x5b, 0x2a, 0x4d, 0x18, 36, 0, 0, 0];
const BODY: usize = HEADER.len() + MemberHeader::PAYLOAD;

/// Reads the header of a member.
pub(super) fn read_header(bytes: &[u8]) -> Option<MemberHeader> {
    let payload = bytes.get(..BODY)?.strip_prefix(&HEADER)?;
    MemberHeader::from_payload(payload).filter(|header| header.stored_length as usize > BODY)
}

fn encode_error(reason: impl ToString) -> StreamError {
    StreamError::Encode { codec: CodecName::Zstd, reason: reason.to_string() }
}

pub(super) struct ZstdEncoder {
    compressor: Compressor<'static>,
    /// Keeps its length, so that it is filled with zeros once and not for every chunk.
    scratch: Vec<u8>,
}

impl ZstdEncoder {
    pub(super) fn new(level: i32) -> Result<Self, StreamError> {
        let mut compressor = Compressor::new(level).map_err(encode_error)?;
        for parameter in [CParameter::ContentSizeFlag(true), CParameter::ChecksumFlag(true)] {
            compressor.set_parameter(parameter).map_err(encode_error)?;
        }
        Ok(Self { compressor, scratch: Vec::new() })
    }

    pub(super) fn encode(&mut self, id: &ChunkId, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), StreamError> {
        let bound = zstd_safe::compress_bound(plaintext.len());
        if self.scratch.len() < bound {
            self.scratch.resize(bound, 0);
        }
        let length =
            self.compressor.compress_to_buffer(plaintext, self.scratch.as_mut_slice()).map_err(encode_error)?;
        let stored_length = u32::try_from(BODY + length).map_err(encode_error)?;
        out.reserve(BODY + length);
        out.extend_from_slice(&HEADER);
        out.extend_from_slice(&MemberHeader { id: *id, stored_length }.to_payload());
        out.extend_from_slice(&self.scratch[..length]);
        Ok(())
    }
}

impl fmt::Debug for ZstdEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZstdEncoder").finish_non_exhaustive()
    }
}

pub(super) struct ZstdDecoder(Decompressor<'static>);

impl ZstdDecoder {
    pub(super) fn new() -> Result<Self, StreamError> {
        Decompressor::new().map(Self).map_err(encode_error)
    }

    /// Fills `out`, which has the length of the plaintext.
    pub(super) fn decode(&mut self, member: &[u8], out: &mut [u8]) -> Result<MemberHeader, DecodeError> {
        let header = read_header(member).ok_or(DecodeError("it does not begin with the header of a zstd member"))?;
        if header.stored_length as usize != member.len() {
            return Err(DecodeError("its header gives another stored length"));
        }
        let frame = &member[BODY..];
        if zstd_safe::find_frame_compressed_size(frame) != Ok(frame.len()) {
            return Err(DecodeError("it is not exactly one zstd frame"));
        }
        match zstd_safe::get_frame_content_size(frame) {
            Ok(Some(length)) if length == out.len() as u64 => {}
            _ => return Err(DecodeError("its frame gives another length")),
        }
        match self.0.decompress_to_buffer(frame, out) {
            Ok(length) if length == out.len() => Ok(header),
            Ok(_) => Err(DecodeError("it decompresses to another length")),
            Err(_) => Err(DecodeError("it does not decompress")),
        }
    }
}

impl fmt::Debug for ZstdDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZstdDecoder").finish_non_exhaustive()
    }
}
