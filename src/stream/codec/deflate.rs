//! Raw deflate (RFC 1951) by the fastest library in this build: which one serves a level was decided by
//! `benches/codec.rs` and is invisible in the format.

use std::{fmt, ptr::NonNull};

use libdeflater::{CompressionLvl, Compressor};

use super::DecodeError;
use crate::{model::manifest::CodecName, stream::error::StreamError};

/// Length of a buffer that is large enough for anything a [`Deflater`] makes of this many bytes.
///
/// Both libraries store what does not shrink, at 5 bytes for each block of at least 5,000; the rest is slack that ISA-L
/// wants at the end of its output.
pub(super) fn bound(length: usize) -> usize {
    length + 5 * (length / 5000 + 2) + 64
}

/// Compresses whole chunks.
pub(super) enum Deflater {
    /// ISA-L.
    #[cfg(feature = "isal")]
    Isal(super::isal::Deflater),
    /// libdeflate.
    Libdeflate(Box<Compressor>),
}

impl Deflater {
    pub(super) fn new(level: i32) -> Result<Self, StreamError> {
        #[cfg(feature = "isal")]
        if let Some(level) = super::isal::Level::of(level) {
            return Ok(Self::Isal(super::isal::Deflater::new(level)));
        }
        let level = CompressionLvl::new(level).map_err(|_| error("libdeflate does not know the level"))?;
        Ok(Self::Libdeflate(Box::new(Compressor::new(level))))
    }

    /// Compresses `plaintext` into `out`, which has [`bound`] bytes; gives the length of the result.
    pub(super) fn deflate(&mut self, plaintext: &[u8], out: &mut [u8]) -> Result<usize, StreamError> {
        match self {
            #[cfg(feature = "isal")]
            Self::Isal(deflater) => deflater.deflate(plaintext, out).map_err(error),
            Self::Libdeflate(compressor) => {
                compressor.deflate_compress(plaintext, out).map_err(|_| error("the result exceeds its bound"))
            }
        }
    }
}

fn error(reason: &str) -> StreamError {
    StreamError::Encode { codec: CodecName::Gzip, reason: reason.to_owned() }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(feature = "isal")]
            Self::Isal(_) => "Deflater::Isal",
            Self::Libdeflate(_) => "Deflater::Libdeflate",
        })
    }
}

/// Decompresses whole chunks.
pub(super) enum Inflater {
    /// ISA-L.
    #[cfg(feature = "isal")]
    Isal(super::isal::Inflater),
    /// libdeflate.
    Libdeflate(Libdeflate),
}

impl Inflater {
    /// By the fastest library, as `benches/codec.rs` measures it.
    pub(super) fn new() -> Result<Self, StreamError> {
        #[cfg(feature = "isal")]
        {
            Ok(Self::Isal(super::isal::Inflater::new()))
        }
        #[cfg(not(feature = "isal"))]
        {
            Libdeflate::new().map(Self::Libdeflate)
        }
    }

    /// By another library than the one that a [`Deflater`] of this level uses, where this build has two.
    #[cfg_attr(not(feature = "isal"), expect(unused_variables, reason = "there is only one library"))]
    pub(super) fn independent(level: i32) -> Result<Self, StreamError> {
        #[cfg(feature = "isal")]
        if super::isal::Level::of(level).is_none() {
            return Self::new();
        }
        Libdeflate::new().map(Self::Libdeflate)
    }

    /// Decompresses `body`, which must be used up, into `out`, which must be filled.
    pub(super) fn inflate(&mut self, body: &[u8], out: &mut [u8]) -> Result<(), DecodeError> {
        match self {
            #[cfg(feature = "isal")]
            Self::Isal(inflater) => inflater.inflate(body, out),
            Self::Libdeflate(inflater) => inflater.inflate(body, out),
        }
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(feature = "isal")]
            Self::Isal(_) => "Inflater::Isal",
            Self::Libdeflate(_) => "Inflater::Libdeflate",
        })
    }
}

/// libdeflate's decompressor.
///
/// By the C interface, because the safe wrapper does not say how much of the input was used, and bytes after the end of
/// the deflate stream have to be refused.
#[derive(Debug)]
pub(super) struct Libdeflate(NonNull<libdeflate_sys::libdeflate_decompressor>);

// SAFETY: the decompressor is plain memory that belongs to this value alone; libdeflate ties none of it to a thread.
#[allow(unsafe_code)]
unsafe impl Send for Libdeflate {}

impl Libdeflate {
    fn new() -> Result<Self, StreamError> {
        // SAFETY: the function has no preconditions; null means that there is no memory.
        #[allow(unsafe_code)]
        let raw = unsafe { libdeflate_sys::libdeflate_alloc_decompressor() };
        NonNull::new(raw).map(Self).ok_or_else(|| error("there is no memory for a decompressor"))
    }

    fn inflate(&mut self, body: &[u8], out: &mut [u8]) -> Result<(), DecodeError> {
        let (mut used, mut given) = (0, 0);
        // SAFETY: the decompressor is alive and borrowed mutably; both pointers come with the lengths of their slices,
        // and libdeflate reads and writes within these whatever the input is.
        #[allow(unsafe_code)]
        let result = unsafe {
            libdeflate_sys::libdeflate_deflate_decompress_ex(
                self.0.as_ptr(),
                body.as_ptr().cast(),
                body.len(),
                out.as_mut_ptr().cast(),
                out.len(),
                &mut used,
                &mut given,
            )
        };
        match result {
            libdeflate_sys::libdeflate_result_LIBDEFLATE_SUCCESS => {}
            libdeflate_sys::libdeflate_result_LIBDEFLATE_INSUFFICIENT_SPACE => {
                return Err(DecodeError("it decompresses to more than its length"));
            }
            _ => return Err(DecodeError("it does not decompress")),
        }
        if given != out.len() {
            return Err(DecodeError("it decompresses to less than its length"));
        }
        if used != body.len() {
            return Err(DecodeError("there are bytes behind its end"));
        }
        Ok(())
    }
}

impl Drop for Libdeflate {
    fn drop(&mut self) {
        // SAFETY: the pointer came from libdeflate_alloc_decompressor and is freed here only.
        #[allow(unsafe_code)]
        unsafe {
            libdeflate_sys::libdeflate_free_decompressor(self.0.as_ptr());
        }
    }
}
