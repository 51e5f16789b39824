//! Speed and ratio of everything on the way of the bytes, on text like that of `pg_dump`: `cargo bench --bench codec`.
//!
//! Prints Markdown. Codecs are measured through the product's own door, so levels that another library serves in this
//! build (`--features isal`) show that library; zlib-rs, which the product uses for exports only, is measured beside.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{
    hint::black_box,
    io::{self, Read, Write},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use backupd::{
    model::{
        ids::ChunkId,
        manifest::{ChunkerParameters, Codec, CodecName},
    },
    stream::{
        ByteSink, Cancel, Cut, Entry, Location, Progress,
        chunker::Chunker,
        codec::{Decoder, Encoder},
        decode::{ChunkReader, DecodeOptions, MemberSource},
        encode::{ChunkWriter, EncodeOptions, EntrySink, Known, MemberSink},
    },
};
use sha2::{Digest, Sha256};

const MIB: f64 = 1_000_000.0;

fn main() {
    let (lines, documents, customers) = (order_lines(16 << 20), documents(8 << 20), customers(8 << 20));
    let mixed = [&lines[..], &documents, &customers].concat();
    let by_hand = gzip_6(&mixed);
    println!(
        "Text: {} MB; `gzip -6` (zlib-rs, one stream) makes it {:.2} times smaller.\n",
        mixed.len() / 1_000_000,
        { mixed.len() as f64 / by_hand as f64 }
    );
    codecs(&mixed, by_hand);
    kinds(&[("order lines", &lines), ("JSON documents", &documents), ("customers", &customers)]);
    passes(&mixed);
    pipeline(&mixed);
}

/// Runs `work` until it has taken half a second of CPU; CPU seconds for one run.
fn seconds(mut work: impl FnMut()) -> f64 {
    work();
    let (start, wall) = (cpu(), Instant::now());
    let mut runs = 0.0;
    while wall.elapsed() < Duration::from_millis(500) {
        work();
        runs += 1.0;
    }
    (cpu() - start) / runs
}

/// CPU seconds of this process, all threads.
fn cpu() -> f64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap();
    Duration::from(time).as_secs_f64()
}

fn codecs(text: &[u8], by_hand: usize) {
    println!("| codec | block | encode MB/s | decode MB/s | ratio | stored / gzip -6 |\n|---|---|---|---|---|---|");
    for block in [64 << 10, 256 << 10] {
        for level in [1, 2, 3, 4, 6] {
            codec(text, by_hand, block, Codec { name: CodecName::Gzip, level });
        }
        for level in [1, 2, 3, 6] {
            codec(text, by_hand, block, Codec { name: CodecName::Zstd, level });
        }
        for level in [1, 6] {
            libdeflate(text, by_hand, block, level);
        }
        for level in [1, 6] {
            zlib_rs(text, by_hand, block, level);
        }
    }
    println!();
}

fn row(name: &str, block: usize, text: &[u8], times: (f64, f64), stored: usize, by_hand: usize) {
    let length = text.len() as f64;
    println!(
        "| {name} | {}K | {:.0} | {:.0} | {:.2} | {:.3} |",
        block >> 10,
        length / MIB / times.0,
        length / MIB / times.1,
        length / stored as f64,
        stored as f64 / by_hand as f64
    );
}

fn codec(text: &[u8], by_hand: usize, block: usize, codec: Codec) {
    let (mut encoder, mut decoder) = (Encoder::new(codec).unwrap(), Decoder::new(codec.name).unwrap());
    let id = ChunkId([0; 32]);
    let (mut out, mut plain) = (Vec::new(), Vec::new());
    let members: Vec<_> = text
        .chunks(block)
        .map(|chunk| {
            let mut member = Vec::new();
            encoder.encode(&id, chunk, &mut member).unwrap();
            (member, chunk.len() as u32)
        })
        .collect();
    let stored = members.iter().map(|(member, _)| member.len()).sum();
    let encode = seconds(|| {
        for chunk in text.chunks(block) {
            out.clear();
            encoder.encode(&id, chunk, &mut out).unwrap();
        }
    });
    let decode = seconds(|| {
        for (member, length) in &members {
            decoder.decode(member, *length, &mut plain).unwrap();
        }
    });
    row(&format!("{} {}", codec.name.as_str(), codec.level), block, text, (encode, decode), stored, by_hand);
}

fn libdeflate(text: &[u8], by_hand: usize, block: usize, level: i32) {
    let mut encoder = libdeflater::Compressor::new(libdeflater::CompressionLvl::new(level).unwrap());
    let mut decoder = libdeflater::Decompressor::new();
    let mut out = vec![0; encoder.gzip_compress_bound(block)];
    let mut plain = vec![0; block];
    let mut members = Vec::new();
    for chunk in text.chunks(block) {
        let length = encoder.gzip_compress(chunk, &mut out).unwrap();
        members.push(out[..length].to_vec());
    }
    let stored = members.iter().map(|member| member.len() + 42).sum();
    let encode = seconds(|| {
        for chunk in text.chunks(block) {
            black_box(encoder.gzip_compress(chunk, &mut out).unwrap());
        }
    });
    let decode = seconds(|| {
        for member in &members {
            black_box(decoder.gzip_decompress(member, &mut plain).unwrap());
        }
    });
    row(&format!("libdeflate {level}"), block, text, (encode, decode), stored, by_hand);
}

fn zlib_rs(text: &[u8], by_hand: usize, block: usize, level: u32) {
    let mut encoder = flate2::Compress::new(flate2::Compression::new(level), false);
    let mut decoder = flate2::Decompress::new(false);
    let mut out = vec![0; 2 * block];
    let mut plain = vec![0; block];
    let mut deflate = |chunk: &[u8], out: &mut [u8]| {
        encoder.reset();
        encoder.compress(chunk, out, flate2::FlushCompress::Finish).unwrap();
        encoder.total_out() as usize
    };
    let mut members = Vec::new();
    for chunk in text.chunks(block) {
        let length = deflate(chunk, &mut out);
        members.push(out[..length].to_vec());
    }
    let stored = members.iter().map(|member| member.len() + 60).sum();
    let encode = seconds(|| {
        for chunk in text.chunks(block) {
            black_box(deflate(chunk, &mut out));
        }
    });
    let decode = seconds(|| {
        for member in &members {
            decoder.reset(false);
            decoder.decompress(member, &mut plain, flate2::FlushDecompress::Finish).unwrap();
            black_box(libdeflater::crc32(&plain));
        }
    });
    row(&format!("zlib-rs {level}"), block, text, (encode, decode), stored, by_hand);
}

fn gzip_6(text: &[u8]) -> usize {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap().len()
}

fn kinds(kinds: &[(&str, &[u8])]) {
    println!("| text, 64K | gzip 1 MB/s, ratio | gzip 3 | zstd 1 | zstd 3 |\n|---|---|---|---|---|");
    for (name, text) in kinds {
        print!("| {name} |");
        for (name, level) in [(CodecName::Gzip, 1), (CodecName::Gzip, 3), (CodecName::Zstd, 1), (CodecName::Zstd, 3)] {
            let mut encoder = Encoder::new(Codec { name, level }).unwrap();
            let mut out = Vec::new();
            let time = seconds(|| {
                out.clear();
                for chunk in text.chunks(64 << 10) {
                    encoder.encode(&ChunkId([0; 32]), chunk, &mut out).unwrap();
                }
            });
            print!(" {:.0}, {:.2} |", text.len() as f64 / MIB / time, text.len() as f64 / out.len() as f64);
        }
        println!();
    }
    println!();
}

fn passes(text: &[u8]) {
    println!("| pass | MB/s |\n|---|---|");
    let print = |name: &str, time: f64| println!("| {name} | {:.0} |", text.len() as f64 / MIB / time);
    for average in [16 << 10, 64 << 10, 256 << 10] {
        let mut count = 0;
        let time = seconds(|| {
            let mut chunker = Chunker::new(ChunkerParameters::with_average(average));
            count = 0;
            for mut piece in text.chunks(64 << 10) {
                while let Some(end) = chunker.scan(piece) {
                    piece = &piece[end..];
                    count += 1;
                }
            }
            chunker.cut(Cut::Hard);
        });
        print(&format!("chunker, {}K wanted, {}K on average", average >> 10, (text.len() / count) >> 10), time);
    }
    let blocks = |pass: &mut dyn FnMut(&[u8])| seconds(|| text.chunks(64 << 10).for_each(&mut *pass));
    let mut blake3 = |block: &[u8]| {
        black_box(blake3::hash(block));
    };
    print("BLAKE3 of 64K", blocks(&mut blake3));
    let mut sha256 = Sha256::new();
    print("SHA-256", blocks(&mut |block| sha256.update(block)));
    let mut crc32 = |block: &[u8]| {
        black_box(libdeflater::crc32(block));
    };
    print("CRC-32", blocks(&mut crc32));
    println!();
}

struct NothingKnown;

impl Known for NothingKnown {
    fn lookup(&mut self, _: &ChunkId, _: u32) -> io::Result<Option<Location>> {
        Ok(None)
    }
}

/// A pack in memory, or only its length.
#[derive(Default)]
struct Sink {
    length: u64,
    kept: Option<Vec<u8>>,
}

impl MemberSink for Sink {
    fn store(&mut self, _: &ChunkId, _: u32, member: &[u8]) -> io::Result<Location> {
        let location = Location { pack: 0, offset: self.length, stored_length: member.len() as u32 };
        self.length += member.len() as u64;
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(member);
        }
        Ok(location)
    }
}

#[derive(Default)]
struct Entries(Arc<Mutex<Vec<Entry>>>);

impl EntrySink for Entries {
    fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.0.lock().unwrap().push(*entry);
        Ok(())
    }
}

struct Pack(Vec<u8>);

impl MemberSource for Pack {
    fn read(&mut self, location: &Location, member: &mut Vec<u8>) -> io::Result<()> {
        let start = location.offset as usize;
        member.extend_from_slice(&self.0[start..start + location.stored_length as usize]);
        Ok(())
    }
}

/// Writes about 1 GB: the text again and again, each time with a line of its own in every 8 KiB, so that no chunk of it
/// comes twice.
fn write_gigabyte(text: &[u8], sink: &mut dyn ByteSink) {
    for round in 0..(1_000_000_000 / text.len()).max(1) {
        for (number, piece) in text.chunks(8 << 10).enumerate() {
            sink.write(format!("\n{round}\t{number}\n").as_bytes()).unwrap();
            sink.write(piece).unwrap();
        }
    }
}

fn pipeline(text: &[u8]) {
    println!("| pipeline, 1 GB | threads | checked | CPU s/GB | wall s/GB | ratio |\n|---|---|---|---|---|---|");
    for (name, level) in [(CodecName::Gzip, 1), (CodecName::Zstd, 1)] {
        for threads in [1, 2] {
            for verify in [true, false] {
                let codec = Codec { name, level };
                let options = EncodeOptions {
                    verify,
                    ..EncodeOptions::new(codec, ChunkerParameters::with_average(64 << 10), threads)
                };
                let (start, wall) = (cpu(), Instant::now());
                let (sink, raw, _) = encode(text, options, Sink::default());
                let gigabytes = raw.raw_length as f64 / 1e9;
                println!(
                    "| {} {level} | {threads} | {verify} | {:.2} | {:.2} | {:.2} |",
                    name.as_str(),
                    (cpu() - start) / gigabytes,
                    wall.elapsed().as_secs_f64() / gigabytes,
                    raw.raw_length as f64 / sink.length as f64
                );
            }
        }
    }
    println!("\n| reading back, 1 GB | threads | CPU s/GB | wall s/GB |\n|---|---|---|---|");
    for (name, level) in [(CodecName::Gzip, 1), (CodecName::Zstd, 1)] {
        let options = EncodeOptions::new(Codec { name, level }, ChunkerParameters::with_average(64 << 10), 2);
        let (sink, file, entries) = encode(text, options, Sink { length: 0, kept: Some(Vec::new()) });
        let (start, wall) = (cpu(), Instant::now());
        let options =
            DecodeOptions { codec: name, threads: 1, raw_length: file.raw_length, raw_sha256: file.raw_sha256 };
        let pack = Pack(sink.kept.unwrap());
        let mut reader = ChunkReader::start(options, entries.into_iter().map(Ok), pack, Cancel::new()).unwrap();
        let mut buffer = vec![0; 256 << 10];
        while reader.read(&mut buffer).unwrap() > 0 {}
        let gigabytes = file.raw_length as f64 / 1e9;
        println!(
            "| {} {level} | 1 | {:.2} | {:.2} |",
            name.as_str(),
            (cpu() - start) / gigabytes,
            wall.elapsed().as_secs_f64() / gigabytes
        );
    }
}

fn encode(text: &[u8], options: EncodeOptions, sink: Sink) -> (Sink, backupd::stream::encode::FileResult, Vec<Entry>) {
    let entries = Entries::default();
    let kept = Arc::clone(&entries.0);
    let mut writer =
        ChunkWriter::start(options, NothingKnown, sink, entries, Cancel::new(), Arc::new(Progress::default())).unwrap();
    writer.begin_file().unwrap();
    write_gigabyte(text, &mut writer);
    let file = writer.end_file().unwrap();
    let (_, sink, _) = writer.finish().unwrap();
    let entries = std::mem::take(&mut *kept.lock().unwrap());
    (sink, file, entries)
}

/// Numbers that look random and are the same in every run (xorshift64, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn word(&mut self) -> &'static str {
        const WORDS: &str = "the of and to in order invoice shipping address customer please deliver before Monday \
            red blue large small cotton wooden steel kitchen garden office chair table lamp shelf with without extra \
            warranty returned damaged replaced express standard parcel courier signature required gift note happy \
            birthday from your friends at the company thank you for buying our product we hope that you enjoy it";
        let index = self.below(60) as usize;
        WORDS.split_ascii_whitespace().nth(index).unwrap_or("and")
    }
}

fn order_lines(length: usize) -> Vec<u8> {
    let mut random = Random(1);
    let mut out = Vec::new();
    for n in 0.. {
        if out.len() >= length {
            break;
        }
        let (order, product, count) = (n / 4, random.below(20_000), 1 + random.below(9));
        let (price, discount) = (random.below(50_000), random.below(30));
        writeln!(
            out,
            "{n}\t{order}\t{product}\t{count}\t{}.{:02}\t0.{discount:02}\t2024-{:02}-{:02} {:02}:{:02}:{:02}.{:06}+00",
            price / 100,
            price % 100,
            1 + n / 40_000 % 12,
            1 + n / 1400 % 28,
            n / 60 % 24,
            n % 60,
            random.below(60),
            random.below(1_000_000)
        )
        .unwrap();
    }
    out
}

fn documents(length: usize) -> Vec<u8> {
    let mut random = Random(2);
    let mut out = Vec::new();
    for n in 0.. {
        if out.len() >= length {
            break;
        }
        write!(out, "{n}\t{{\"id\": {n}, \"kind\": \"{}\", \"tags\": [", random.word()).unwrap();
        for i in 0..random.below(5) {
            write!(out, "{}\"{}\"", if i > 0 { ", " } else { "" }, random.word()).unwrap();
        }
        write!(out, "], \"score\": {}.{}, \"body\": \"", random.below(100), random.below(1000)).unwrap();
        for _ in 0..10 + random.below(60) {
            write!(out, "{} ", random.word()).unwrap();
        }
        writeln!(out, "\", \"hash\": \"{:013x}\"}}", random.below(1 << 52)).unwrap();
    }
    out
}

fn customers(length: usize) -> Vec<u8> {
    let mut random = Random(3);
    let mut out = Vec::new();
    for n in 0.. {
        if out.len() >= length {
            break;
        }
        let (first, last) = (random.word(), random.word());
        writeln!(
            out,
            "{n}\t{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}\t{first} {last}\t{first}.{last}{}@example.com\t+49 {} {}\t{} {}\tt",
            random.below(1 << 32),
            random.below(1 << 16),
            random.below(1 << 12),
            random.below(1 << 12),
            random.below(1 << 48),
            random.below(10_000),
            100 + random.below(900),
            random.below(10_000_000),
            random.word(),
            random.below(300)
        )
        .unwrap();
    }
    out
}
