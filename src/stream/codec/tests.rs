//! Tests of the codecs through their common door.

use std::io::Read;

use proptest::prelude::*;

use super::*;

fn id_of(plaintext: &[u8]) -> ChunkId {
    ChunkId(*blake3::hash(plaintext).as_bytes())
}

fn member(codec: Codec, plaintext: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::new(codec).unwrap().encode(&id_of(plaintext), plaintext, &mut out).unwrap();
    out
}

fn all_levels() -> impl Iterator<Item = Codec> {
    [CodecName::Gzip, CodecName::Zstd].into_iter().flat_map(|name| {
        let (lowest, highest) = name.levels();
        (lowest..=highest).map(move |level| Codec { name, level })
    })
}

fn rows(count: usize) -> Vec<u8> {
    (0..count).flat_map(|n| format!("{n}\t{}\tcustomer {}\n", n * 7919 % 1000, n % 37).into_bytes()).collect()
}

/// Bytes that no compressor can shrink.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn every_level_gives_back_what_it_was_given() {
    for codec in all_levels() {
        let mut encoder = Encoder::new(codec).unwrap();
        let mut decoders = [Decoder::new(codec.name).unwrap(), Decoder::independent(codec).unwrap()];
        let mut plain = vec![1, 2, 3];
        for plaintext in [rows(5000), Vec::new(), noise(100_000), b"x".to_vec(), vec![0; 300_000]] {
            let mut stored = b"before".to_vec();
            encoder.encode(&id_of(&plaintext), &plaintext, &mut stored).unwrap();
            let stored = stored.strip_prefix(b"before").unwrap();
            for decoder in &mut decoders {
                let header = decoder.decode(stored, plaintext.len() as u32, &mut plain).unwrap();
                assert_eq!(header, MemberHeader { id: id_of(&plaintext), stored_length: stored.len() as u32 });
                assert_eq!(read_member_header(&stored[..MemberHeader::PREFIX.min(stored.len())]), Some(header));
                assert!(plain == plaintext, "{codec:?}");
            }
        }
    }
}

#[test]
fn levels_off_the_scale_are_refused() {
    for (name, level) in [(CodecName::Gzip, 0), (CodecName::Gzip, 10), (CodecName::Zstd, 0), (CodecName::Zstd, 20)] {
        assert!(matches!(Encoder::new(Codec { name, level }), Err(StreamError::NoSuchLevel { .. })));
    }
}

#[test]
fn what_does_not_compress_hardly_grows() {
    for codec in all_levels() {
        for length in [0, 1, 100, 5000, 65_536, 1 << 20] {
            let stored = member(codec, &noise(length)).len();
            assert!(stored <= length + length / 1000 + 75, "{codec:?}: {length} became {stored}");
        }
    }
}

#[test]
fn a_gzip_member_has_sixty_bytes_of_framing() {
    let stored = member(Codec { name: CodecName::Gzip, level: 6 }, b"");
    assert_eq!(stored.len() - 60, 5, "libdeflate stores nothing as one empty stored block");
}

/// Runs a decompressor of the system over bytes.
fn by_hand(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let output = std::process::Command::new(program).arg("-dc").stdin(file).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn members_in_a_row_are_an_ordinary_file() {
    let chunks = [rows(3000), noise(70_000), b"end\n".to_vec()];
    let whole = chunks.concat();
    for (name, program) in [(CodecName::Gzip, "gzip"), (CodecName::Zstd, "zstd")] {
        let codec = Codec { name, level: name.default_level() };
        let file: Vec<u8> = chunks.iter().flat_map(|chunk| member(codec, chunk)).collect();
        let mut read = Vec::new();
        match name {
            CodecName::Gzip => flate2::read::MultiGzDecoder::new(&file[..]).read_to_end(&mut read).unwrap(),
            CodecName::Zstd => ::zstd::stream::read::Decoder::new(&file[..]).unwrap().read_to_end(&mut read).unwrap(),
        };
        assert!(read == whole);
        assert!(by_hand(program, &file) == whole);
    }
}

#[test]
fn trailing_and_missing_bytes_are_refused() {
    for name in [CodecName::Gzip, CodecName::Zstd] {
        let plaintext = rows(500);
        let stored = member(Codec { name, level: 1 }, &plaintext);
        let length = plaintext.len() as u32;
        let mut decoder = Decoder::new(name).unwrap();
        let mut plain = Vec::new();
        for end in 0..stored.len() {
            assert!(decoder.decode(&stored[..end], length, &mut plain).is_err());
        }
        assert!(decoder.decode(&[&stored[..], b"x"].concat(), length, &mut plain).is_err());
        assert!(decoder.decode(&stored, length - 1, &mut plain).is_err());
        assert!(decoder.decode(&stored, length + 1, &mut plain).is_err());
        assert!(decoder.decode(&stored, u32::MAX, &mut plain).is_err());
        assert!(plain.is_empty());
        decoder.decode(&stored, length, &mut plain).unwrap();
    }
}

#[test]
fn bytes_between_the_deflate_stream_and_the_trailer_are_refused() {
    let plaintext = rows(100);
    let mut stored = member(Codec { name: CodecName::Gzip, level: 1 }, &plaintext);
    let trailer = stored.len() - 8;
    let copy = stored[trailer..].to_vec();
    stored.splice(trailer..trailer, copy);
    let length = (stored.len() as u32).to_le_bytes();
    stored[48..52].copy_from_slice(&length);
    let error = Decoder::new(CodecName::Gzip).unwrap().decode(&stored, plaintext.len() as u32, &mut Vec::new());
    assert_eq!(error, Err(DecodeError("there are bytes behind its end")));
}

proptest! {
    /// A flipped bit is either refused or does no harm to the plaintext; one in the id is for the caller to find.
    #[test]
    fn flipped_bits_never_give_other_bytes(zstd: bool, seed in 1_usize..400, at: prop::sample::Index, bit in 0_u8..8) {
        let name = if zstd { CodecName::Zstd } else { CodecName::Gzip };
        let plaintext = rows(seed);
        let mut stored = member(Codec { name, level: 1 }, &plaintext);
        let at = at.index(stored.len());
        stored[at] ^= 1 << bit;
        let mut plain = Vec::new();
        match Decoder::new(name).unwrap().decode(&stored, plaintext.len() as u32, &mut plain) {
            Ok(_) => prop_assert!(plain == plaintext),
            Err(_) => prop_assert!(plain.is_empty()),
        }
    }

    /// Whatever the bytes are, there is an answer.
    #[test]
    fn any_bytes_are_refused(zstd: bool, mut bytes in prop::collection::vec(any::<u8>(), 0..400), framed: bool, length in 0_u32..5000) {
        let name = if zstd { CodecName::Zstd } else { CodecName::Gzip };
        if framed {
            // A true header before random bytes reaches the libraries behind it.
            let header = member(Codec { name, level: 1 }, b"");
            let total = (bytes.len() + 52) as u32;
            bytes.splice(0..0, header[..52].iter().copied());
            let at = if zstd { 40 } else { 48 };
            bytes[at..at + 4].copy_from_slice(&total.to_le_bytes());
        }
        let mut plain = Vec::new();
        if Decoder::new(name).unwrap().decode(&bytes, length, &mut plain).is_ok() {
            prop_assert_eq!(plain.len(), length as usize);
        }
    }
}
