//! Deflate and inflate by ISA-L (the system's libisal), whole chunks in one call.
//!
//! The bindings of `isal-sys` were made for a newer ISA-L than Debian's 2.30; the structures that are used here have
//! the same layout in both, which a test below holds against the numbers of 2.30's `igzip_lib.h`.

use isal_sys::igzip_lib as sys;

use super::DecodeError;

/// A level of ISA-L that is worth using, by `benches/codec.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    level: u32,
    buffer: usize,
}

impl Level {
    /// The level that serves this level of gzip's scale, if one does; above, libdeflate packs tighter.
    pub(super) fn of(gzip: i32) -> Option<Self> {
        match gzip {
            1 => Some(Self { level: 1, buffer: sys::ISAL_DEF_LVL1_DEFAULT as usize }),
            2 => Some(Self { level: 2, buffer: sys::ISAL_DEF_LVL2_DEFAULT as usize }),
            3 => Some(Self { level: 3, buffer: sys::ISAL_DEF_LVL3_DEFAULT as usize }),
            _ => None,
        }
    }
}

/// Compresses whole chunks.
pub(super) struct Deflater {
    level: Level,
    stream: Box<sys::isal_zstream>,
    buffer: Vec<u8>,
}

// SAFETY: the pointers within the stream are set anew by every call of `deflate` and not followed between the calls.
#[allow(unsafe_code)]
unsafe impl Send for Deflater {}

impl Deflater {
    pub(super) fn new(level: Level) -> Self {
        let mut stream = Box::<sys::isal_zstream>::new_uninit();
        // SAFETY: all-zero bytes are a valid value of this C structure of integers, arrays and raw pointers (its
        // enumeration is an integer in the bindings), and writing them initialises it.
        #[allow(unsafe_code)]
        let stream = unsafe {
            stream.as_mut_ptr().write_bytes(0, 1);
            stream.assume_init()
        };
        Self { level, stream, buffer: vec![0; level.buffer] }
    }

    /// Compresses `plaintext` into `out`; gives the length of the result.
    pub(super) fn deflate(&mut self, plaintext: &[u8], out: &mut [u8]) -> Result<usize, &'static str> {
        let too_long = |_| "the chunk does not fit into 4 GiB";
        let (length, room) =
            (u32::try_from(plaintext.len()).map_err(too_long)?, u32::try_from(out.len()).map_err(too_long)?);
        let stream = &mut *self.stream;
        // SAFETY: the stream is a whole structure that this value owns. Input, output and level buffer are given with
        // their true lengths and live until the call returns; ISA-L does not write to its input. The pointers left
        // behind in the stream are overwritten before the next call and never followed in between.
        #[allow(unsafe_code)]
        let result = unsafe {
            sys::isal_deflate_stateless_init(stream);
            stream.level = self.level.level;
            stream.level_buf = self.buffer.as_mut_ptr();
            stream.level_buf_size = self.level.buffer as u32;
            stream.end_of_stream = 1;
            stream.next_in = plaintext.as_ptr().cast_mut();
            stream.avail_in = length;
            stream.next_out = out.as_mut_ptr();
            stream.avail_out = room;
            sys::isal_deflate_stateless(stream)
        };
        if result != sys::COMP_OK as i32 || stream.avail_in != 0 {
            return Err("ISA-L failed");
        }
        Ok(stream.total_out as usize)
    }
}

/// Decompresses whole chunks.
pub(super) struct Inflater(Box<sys::inflate_state>);

// SAFETY: the pointers within the state are set anew by every call of `inflate` and not followed between the calls.
#[allow(unsafe_code)]
unsafe impl Send for Inflater {}

impl Inflater {
    pub(super) fn new() -> Self {
        let mut state = Box::<sys::inflate_state>::new_uninit();
        // SAFETY: all-zero bytes are a valid value of this C structure of integers, arrays, a union of integers and raw
        // pointers (its enumeration is an integer in the bindings), and writing them initialises it.
        #[allow(unsafe_code)]
        let state = unsafe {
            state.as_mut_ptr().write_bytes(0, 1);
            state.assume_init()
        };
        Self(state)
    }

    /// Decompresses `body`, which must be used up, into `out`, which must be filled.
    pub(super) fn inflate(&mut self, body: &[u8], out: &mut [u8]) -> Result<(), DecodeError> {
        let too_long = |_| DecodeError("it does not fit into 4 GiB");
        let (length, room) =
            (u32::try_from(body.len()).map_err(too_long)?, u32::try_from(out.len()).map_err(too_long)?);
        let state = &mut *self.0;
        // SAFETY: the state is a whole structure that this value owns; initialising it leaves nothing of a member that
        // failed. Input and output are given with their true lengths and live until the call returns; ISA-L does not
        // write to its input, keeps within both whatever the input is, and refuses distances to before the output.
        #[allow(unsafe_code)]
        let result = unsafe {
            sys::isal_inflate_init(state);
            state.next_in = body.as_ptr().cast_mut();
            state.avail_in = length;
            state.next_out = out.as_mut_ptr();
            state.avail_out = room;
            sys::isal_inflate_stateless(state)
        };
        match u32::try_from(result) {
            Ok(sys::ISAL_DECOMP_OK) => {}
            Ok(sys::ISAL_OUT_OVERFLOW) => return Err(DecodeError("it decompresses to more than its length")),
            _ => return Err(DecodeError("it does not decompress")),
        }
        if state.avail_out != 0 {
            return Err(DecodeError("it decompresses to less than its length"));
        }
        if state.avail_in != 0 {
            return Err(DecodeError("there are bytes behind its end"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use proptest::prelude::*;

    use super::*;

    /// The numbers were printed by a C program compiled against the header of ISA-L 2.30 on x86-64.
    #[test]
    fn the_bindings_have_the_layout_of_isal_2_30() {
        assert_eq!(size_of::<sys::isal_zstream>(), 82_384);
        assert_eq!(size_of::<sys::isal_zstate>(), 82_320);
        assert_eq!(offset_of!(sys::isal_zstream, level_buf), 48);
        assert_eq!(offset_of!(sys::isal_zstream, end_of_stream), 56);
        assert_eq!(offset_of!(sys::isal_zstream, gzip_flag), 60);
        assert_eq!(offset_of!(sys::isal_zstream, hist_bits), 62);
        assert_eq!(offset_of!(sys::isal_zstream, internal_state), 64);
        assert_eq!(offset_of!(sys::isal_zstate, state), 20);
        assert_eq!(offset_of!(sys::isal_zstate, crc), 64);
        assert_eq!(offset_of!(sys::isal_zstate, head), 65_936);
        assert_eq!(sys::ISAL_DEF_LVL1_DEFAULT, 282_624);
        assert_eq!(sys::ISAL_DEF_LVL2_DEFAULT, 331_776);
        assert_eq!(sys::ISAL_DEF_LVL3_DEFAULT, 348_160);
        assert_eq!(size_of::<sys::inflate_state>(), 87_368);
        assert_eq!(offset_of!(sys::inflate_state, avail_out), 8);
        assert_eq!(offset_of!(sys::inflate_state, next_in), 16);
        assert_eq!(offset_of!(sys::inflate_state, avail_in), 32);
        assert_eq!(offset_of!(sys::inflate_state, dist_huff_code), 18_952);
        assert_eq!(offset_of!(sys::inflate_state, block_state), 21_160);
        assert_eq!(offset_of!(sys::inflate_state, hist_bits), 21_180);
        assert_eq!(offset_of!(sys::inflate_state, tmp_in_size), 21_206);
        assert_eq!(offset_of!(sys::inflate_state, tmp_out_buffer), 21_544);
        assert_eq!((sys::ISAL_DECOMP_OK, sys::ISAL_OUT_OVERFLOW), (0, 2));
    }

    /// Deflate by libdeflate, of text with matches at all distances and with literals in between.
    fn deflated(length: usize, level: i32) -> (Vec<u8>, Vec<u8>) {
        let plain: Vec<u8> =
            (0_usize..).flat_map(|n| format!("{}\t{}\n", n * n % 7919, n % 13).into_bytes()).take(length).collect();
        let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::new(level).unwrap());
        let mut body = vec![0; compressor.deflate_compress_bound(length)];
        let used = compressor.deflate_compress(&plain, &mut body).unwrap();
        body.truncate(used);
        (plain, body)
    }

    proptest! {
        /// Whatever is done to the stream and however long the output is: nothing beside the output is touched, and the
        /// same state then decodes a good stream.
        #[test]
        fn nothing_outside_the_output_is_written(
            length in 0_usize..40_000, level in 0_i32..=12, flips in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 0..4),
            cut in any::<prop::sample::Index>(), room in any::<prop::sample::Index>(),
        ) {
            const GUARD: usize = 512;
            let (plain, body) = deflated(length, level);
            let mut damaged = body.clone();
            for (at, bit) in flips {
                let at = at.index(damaged.len());
                damaged[at] ^= 1 << bit;
            }
            damaged.truncate(cut.index(damaged.len()) + 1);
            let room = room.index(length + 300);
            let mut out = vec![0xa5; GUARD + room + GUARD];
            let mut inflater = Inflater::new();
            let _ = inflater.inflate(&damaged, &mut out[GUARD..GUARD + room]);
            prop_assert!(out[..GUARD].iter().chain(&out[GUARD + room..]).all(|byte| *byte == 0xa5));
            let mut whole = vec![0; length];
            prop_assert_eq!(inflater.inflate(&body, &mut whole), Ok(()));
            prop_assert!(whole == plain);
        }
    }
}
