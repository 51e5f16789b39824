//! Tests of the way out: the same bytes, or an error that says what is wrong, and never a short file.

use proptest::prelude::*;

use super::*;
use crate::{
    model::{error_code::ErrorCode, ids::ChunkId, manifest::Codec},
    stream::{CancelReason, codec::Encoder},
};

/// A pack in memory; can fail or panic at the n-th member.
#[derive(Debug, Clone, Default)]
struct Pack {
    bytes: Vec<u8>,
    reads: usize,
    fail_at: Option<usize>,
    panic_at: Option<usize>,
}

impl MemberSource for Pack {
    fn read(&mut self, location: &Location, member: &mut Vec<u8>) -> io::Result<()> {
        assert_ne!(self.panic_at, Some(self.reads), "the source panics");
        if self.fail_at == Some(self.reads) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.reads += 1;
        let start = location.offset as usize;
        member.extend_from_slice(&self.bytes[start..start + location.stored_length as usize]);
        Ok(())
    }
}

struct Stored {
    plain: Vec<u8>,
    pack: Pack,
    entries: Vec<Entry>,
    options: DecodeOptions,
}

impl Stored {
    fn new(codec: CodecName, chunks: usize) -> Self {
        let mut encoder = Encoder::new(Codec { name: codec, level: 1 }).unwrap();
        let (mut plain, mut pack, mut entries) = (Vec::new(), Pack::default(), Vec::new());
        for n in 0..chunks {
            let chunk = format!("chunk {n} ").repeat(1 + n * 7919 % 3000).into_bytes();
            let id = ChunkId(*blake3::hash(&chunk).as_bytes());
            let offset = pack.bytes.len();
            encoder.encode(&id, &chunk, &mut pack.bytes).unwrap();
            let stored_length = (pack.bytes.len() - offset) as u32;
            let location = Location { pack: 0, offset: offset as u64, stored_length };
            entries.push(Entry { id, location, raw_length: chunk.len() as u32 });
            plain.extend(chunk);
        }
        let raw_sha256 = Sha256Hash(Sha256::digest(&plain).into());
        let options = DecodeOptions { codec, threads: 2, raw_length: plain.len() as u64, raw_sha256 };
        Self { plain, pack, entries, options }
    }

    fn reader(&self, cancel: &Cancel) -> ChunkReader {
        let entries = self.entries.clone().into_iter().map(Ok);
        ChunkReader::start(self.options, entries, self.pack.clone(), cancel.clone()).unwrap()
    }

    /// Reads it all; what was given must be a beginning of the plaintext even when an error follows.
    fn read(&self) -> Result<Vec<u8>, io::Error> {
        let mut reader = self.reader(&Cancel::new());
        let mut out = Vec::new();
        let result = reader.read_to_end(&mut out);
        if result.is_err() {
            assert!(reader.read(&mut [0; 10]).is_err(), "after an error it looks like a short file");
        }
        result.map(|_| out)
    }

    fn error(&self) -> StreamError {
        self.read().unwrap_err().downcast::<StreamError>().unwrap()
    }
}

#[test]
fn gives_back_the_plaintext() {
    for codec in [CodecName::Gzip, CodecName::Zstd] {
        for chunks in [0, 1, 2, 500] {
            let stored = Stored::new(codec, chunks);
            assert!(stored.read().unwrap() == stored.plain);
        }
    }
}

#[test]
fn every_flipped_byte_is_found() {
    let mut stored = Stored::new(CodecName::Gzip, 3);
    for at in 0..stored.pack.bytes.len() {
        stored.pack.bytes[at] ^= 0x10;
        if let Ok(plain) = stored.read() {
            assert!(plain == stored.plain, "byte {at}");
        }
        stored.pack.bytes[at] ^= 0x10;
    }
}

#[test]
fn a_damaged_chunk_is_named() {
    let mut stored = Stored::new(CodecName::Zstd, 400);
    let entry = stored.entries[300];
    stored.pack.bytes[entry.location.offset as usize + 60] ^= 1;
    let error = stored.error();
    assert_eq!(error.code(), ErrorCode::BackupDamaged);
    assert!(error.to_string().contains(&entry.id.to_string()), "{error}");
}

#[test]
fn another_chunk_in_its_place_is_found() {
    let mut stored = Stored::new(CodecName::Gzip, 10);
    stored.entries[4].location = stored.entries[5].location;
    stored.entries[4].raw_length = stored.entries[5].raw_length;
    assert!(matches!(stored.error(), StreamError::Damaged { reason: "its plaintext has another BLAKE3 hash", .. }));
}

#[test]
fn missing_and_reordered_chunks_are_found_before_the_end() {
    for change in [|entries: &mut Vec<Entry>| entries.truncate(9), |entries: &mut Vec<Entry>| entries.swap(1, 2)] {
        let mut stored = Stored::new(CodecName::Gzip, 10);
        change(&mut stored.entries);
        let error = stored.error();
        assert!(matches!(error, StreamError::WrongFile { .. }), "{error}");
        assert_eq!(error.code(), ErrorCode::BackupDamaged);
    }
}

#[test]
fn errors_and_panics_of_the_source_come_out() {
    for at in [0, 1, 350, 499] {
        let mut stored = Stored::new(CodecName::Gzip, 500);
        stored.pack.fail_at = Some(at);
        assert_eq!(stored.read().unwrap_err().raw_os_error(), Some(5));
        stored.pack = Pack { fail_at: None, panic_at: Some(at), ..stored.pack };
        assert!(stored.error().to_string().contains("member-reader"));
    }
}

#[test]
fn an_error_of_the_table_comes_out() {
    let stored = Stored::new(CodecName::Gzip, 5);
    let entries = stored.entries.clone().into_iter().map(Ok).chain([Err(io::Error::other("the table is gone"))]);
    let mut reader = ChunkReader::start(stored.options, entries, stored.pack.clone(), Cancel::new()).unwrap();
    assert_eq!(io::copy(&mut reader, &mut io::sink()).unwrap_err().to_string(), "the table is gone");
}

#[test]
fn a_cancel_ends_reading_and_dropping_early_ends_the_threads() {
    let stored = Stored::new(CodecName::Gzip, 500);
    let cancel = Cancel::new();
    let mut reader = stored.reader(&cancel);
    reader.read_exact(&mut [0; 100]).unwrap();
    cancel.cancel(CancelReason::Requested);
    let error = io::copy(&mut reader, &mut io::sink()).unwrap_err();
    assert_eq!(error.downcast::<CancelReason>().unwrap(), CancelReason::Requested);
    let mut reader = stored.reader(&Cancel::new());
    reader.read_exact(&mut [0; 100]).unwrap();
    drop(reader);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn reads_of_any_size_give_the_same_bytes(zstd: bool, chunks in 0_usize..60, sizes in prop::collection::vec(1_usize..70_000, 1..20)) {
        let stored = Stored::new(if zstd { CodecName::Zstd } else { CodecName::Gzip }, chunks);
        let mut reader = stored.reader(&Cancel::new());
        let mut out = Vec::new();
        for size in sizes.iter().cycle() {
            let mut piece = vec![0; *size];
            let length = reader.read(&mut piece).unwrap();
            if length == 0 {
                break;
            }
            out.extend_from_slice(&piece[..length]);
        }
        prop_assert!(out == stored.plain);
    }
}
