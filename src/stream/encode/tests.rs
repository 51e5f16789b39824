//! Tests of the whole way in: what was stored gives back what was written, and every failure ends it cleanly.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::{
    model::{error_code::ErrorCode, manifest::CodecName},
    stream::{ByteSink, Cancel, CancelReason, Cut, Progress, StreamError, codec::Decoder},
};

/// A repository in memory: one pack, and the entries that were given.
#[derive(Debug, Default)]
struct Memory {
    pack: Vec<u8>,
    stored: Vec<ChunkId>,
    fail_at: Option<usize>,
    panic_at: Option<usize>,
}

impl MemberSink for Memory {
    fn store(&mut self, id: &ChunkId, _: u32, member: &[u8]) -> io::Result<Location> {
        assert_ne!(self.panic_at, Some(self.stored.len()), "the sink panics");
        if self.fail_at == Some(self.stored.len()) {
            return Err(io::Error::from_raw_os_error(28));
        }
        let location = Location { pack: 0, offset: self.pack.len() as u64, stored_length: member.len() as u32 };
        self.pack.extend_from_slice(member);
        self.stored.push(*id);
        Ok(location)
    }
}

#[derive(Debug, Default)]
struct Entries(Vec<Entry>);

impl EntrySink for Entries {
    fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.0.push(*entry);
        Ok(())
    }
}

/// What an earlier backup stored; can fail at the n-th question.
#[derive(Debug, Default)]
struct Base {
    places: HashMap<ChunkId, Location>,
    questions: usize,
    fail_at: Option<usize>,
}

impl Known for Base {
    fn lookup(&mut self, id: &ChunkId, _: u32) -> io::Result<Option<Location>> {
        if self.fail_at == Some(self.questions) {
            return Err(io::Error::other("the table is gone"));
        }
        self.questions += 1;
        Ok(self.places.get(id).copied())
    }
}

type Writer = ChunkWriter<Base, Memory, Entries>;

fn options() -> EncodeOptions {
    let codec = Codec { name: CodecName::Gzip, level: 1 };
    EncodeOptions { budget: 4 << 20, ..EncodeOptions::new(codec, ChunkerParameters::with_average(1024), 2) }
}

fn start(base: Base, memory: Memory, cancel: &Cancel) -> Writer {
    let progress = Arc::new(Progress::default());
    ChunkWriter::start(options(), base, memory, Entries::default(), cancel.clone(), progress).unwrap()
}

fn rows(seed: u64, count: usize) -> Vec<u8> {
    (0..count as u64).flat_map(|n| format!("{n}\t{}\trow\n", (n + seed) * 2_654_435_761).into_bytes()).collect()
}

fn plaintext(memory: &Memory, entries: &[Entry]) -> Vec<u8> {
    let mut decoder = Decoder::new(CodecName::Gzip).unwrap();
    let (mut all, mut plain) = (Vec::new(), Vec::new());
    for entry in entries {
        let start = entry.location.offset as usize;
        let member = &memory.pack[start..start + entry.location.stored_length as usize];
        let header = decoder.decode(member, entry.raw_length, &mut plain).unwrap();
        assert_eq!(header.id, entry.id);
        assert_eq!(entry.id.0, *blake3::hash(&plain).as_bytes());
        all.extend_from_slice(&plain);
    }
    all
}

fn write_file(writer: &mut Writer, bytes: &[u8]) -> io::Result<FileResult> {
    writer.begin_file()?;
    for piece in bytes.chunks(100_000) {
        writer.write(piece)?;
    }
    writer.end_file()
}

#[test]
fn files_come_back_and_a_second_backup_stores_nothing() {
    let files = [rows(1, 100_000), Vec::new(), b"x".to_vec(), rows(2, 1000)];
    let mut writer = start(Base::default(), Memory::default(), &Cancel::new());
    let mut results = Vec::new();
    for file in &files {
        results.push(write_file(&mut writer, file).unwrap());
    }
    let (_, memory, entries) = writer.finish().unwrap();
    let mut from = 0;
    for (file, result) in files.iter().zip(&results) {
        let to = from + result.totals.chunks as usize;
        assert!(plaintext(&memory, &entries.0[from..to]) == *file);
        assert_eq!(result.raw_length, file.len() as u64);
        assert_eq!(result.raw_sha256.0[..], Sha256::digest(file)[..]);
        let stored: u64 = entries.0[from..to].iter().map(|entry| u64::from(entry.location.stored_length)).sum();
        assert_eq!(result.totals.stored_bytes, stored);
        from = to;
    }
    assert_eq!(from, entries.0.len());

    let places = entries.0.iter().map(|entry| (entry.id, entry.location)).collect();
    let mut writer = start(Base { places, ..Base::default() }, Memory::default(), &Cancel::new());
    for (file, first) in files.iter().zip(&results) {
        let again = write_file(&mut writer, file).unwrap();
        assert_eq!(again.totals.new_stored_bytes, 0);
        assert_eq!(again.totals.reused_bytes, file.len() as u64);
        assert_eq!(again.totals.stored_bytes, first.totals.stored_bytes);
    }
    let (_, memory, again) = writer.finish().unwrap();
    assert!(memory.stored.is_empty());
    assert_eq!(again.0, entries.0);
}

#[test]
fn a_chunk_that_comes_twice_is_stored_once() {
    let block = rows(3, 30_000);
    let mut writer = start(Base::default(), Memory::default(), &Cancel::new());
    writer.begin_file().unwrap();
    for _ in 0..5 {
        writer.write(&block).unwrap();
        writer.cut(Cut::Hard).unwrap();
    }
    let result = writer.end_file().unwrap();
    let (_, memory, entries) = writer.finish().unwrap();
    let distinct: std::collections::HashSet<_> = memory.stored.iter().collect();
    assert_eq!(distinct.len(), memory.stored.len());
    assert_eq!(result.totals.chunks as usize, 5 * memory.stored.len());
    assert_eq!(result.totals.reused_bytes as usize, 4 * block.len());
    assert!(plaintext(&memory, &entries.0) == block.repeat(5));
}

/// Writes until the pipeline says no.
fn first_error(mut writer: Writer) -> io::Error {
    for seed in 0.. {
        if let Err(error) = write_file(&mut writer, &rows(seed, 20_000)) {
            assert!(writer.write(b"more").is_err(), "it went on after an error");
            return error;
        }
    }
    unreachable!()
}

#[test]
fn an_error_of_the_storage_comes_out_as_it_is() {
    for fail_at in [0, 1, 100, 1000] {
        let memory = Memory { fail_at: Some(fail_at), ..Memory::default() };
        let error = first_error(start(Base::default(), memory, &Cancel::new()));
        assert_eq!(error.raw_os_error(), Some(28));
    }
}

#[test]
fn an_error_of_the_lookup_comes_out_as_it_is() {
    let base = Base { fail_at: Some(700), ..Base::default() };
    let error = first_error(start(base, Memory::default(), &Cancel::new()));
    assert_eq!(error.to_string(), "the table is gone");
}

#[test]
fn a_panic_becomes_an_error_that_names_the_thread() {
    let memory = Memory { panic_at: Some(40), ..Memory::default() };
    let error = first_error(start(Base::default(), memory, &Cancel::new()));
    let error = error.downcast::<StreamError>().unwrap();
    assert_eq!(error.code(), ErrorCode::Internal);
    assert!(error.to_string().contains("assembler"), "{error}");
}

/// Cancels the job at its first member, then hangs until the test lets go.
struct Gate(Cancel, crossbeam_channel::Receiver<()>, Arc<AtomicUsize>);

impl MemberSink for Gate {
    fn store(&mut self, _: &ChunkId, _: u32, member: &[u8]) -> io::Result<Location> {
        self.0.cancel(CancelReason::Shutdown);
        let _ = self.1.recv();
        self.2.fetch_add(1, Ordering::Relaxed);
        Ok(Location { pack: 0, offset: 0, stored_length: member.len() as u32 })
    }
}

#[test]
fn a_cancel_ends_a_write_that_waits_for_the_storage() {
    let (open, gate) = crossbeam_channel::bounded(0);
    let cancel = Cancel::new();
    let stored = Arc::new(AtomicUsize::new(0));
    let sink = Gate(cancel.clone(), gate, Arc::clone(&stored));
    let progress = Arc::new(Progress::default());
    let mut writer =
        ChunkWriter::start(options(), Base::default(), sink, Entries::default(), cancel, progress).unwrap();
    writer.begin_file().unwrap();
    // Far more in one call than may be on its way: without the cancel it would never return.
    let error = writer.write(&rows(0, 1_000_000)).unwrap_err();
    assert_eq!(error.downcast::<CancelReason>().unwrap(), CancelReason::Shutdown);
    drop(open);
    drop(writer);
    assert!(stored.load(Ordering::Relaxed) < 5000, "batches were stored after the end");
}

#[test]
fn calls_out_of_order_are_refused() {
    let new = || start(Base::default(), Memory::default(), &Cancel::new());
    assert!(new().write(b"x").is_err());
    assert!(new().end_file().is_err());
    let mut writer = new();
    writer.begin_file().unwrap();
    assert!(writer.begin_file().is_err());
    let mut writer = new();
    writer.begin_file().unwrap();
    assert!(writer.finish().is_err());
}

#[derive(Debug, Clone)]
enum Step {
    Rows(u64, usize),
    Cut(bool),
    NextFile,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0_u64..4, 0_usize..4000).prop_map(|(seed, count)| Step::Rows(seed, count)),
        2 => any::<bool>().prop_map(Step::Cut),
        1 => Just(Step::NextFile),
    ];
    prop::collection::vec(step, 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn whatever_is_written_comes_back(steps in steps()) {
        let mut writer = start(Base::default(), Memory::default(), &Cancel::new());
        let mut written = Vec::new();
        let mut lengths = vec![0];
        writer.begin_file().unwrap();
        for step in steps {
            match step {
                Step::Rows(seed, count) => {
                    let bytes = rows(seed, count);
                    writer.write(&bytes).unwrap();
                    written.extend(bytes);
                }
                Step::Cut(hard) => writer.cut(if hard { Cut::Hard } else { Cut::Soft }).unwrap(),
                Step::NextFile => {
                    lengths.push(lengths[lengths.len() - 1] + writer.end_file().unwrap().raw_length as usize);
                    writer.begin_file().unwrap();
                }
            }
        }
        lengths.push(lengths[lengths.len() - 1] + writer.end_file().unwrap().raw_length as usize);
        let (_, memory, entries) = writer.finish().unwrap();
        prop_assert_eq!(lengths[lengths.len() - 1], written.len());
        prop_assert!(plaintext(&memory, &entries.0) == written);
    }

    #[test]
    fn a_failure_at_any_call_ends_cleanly(store in prop::option::of(0_usize..300), lookup in prop::option::of(0_usize..300)) {
        let memory = Memory { fail_at: store, ..Memory::default() };
        let base = Base { fail_at: lookup, ..Base::default() };
        let mut writer = start(base, memory, &Cancel::new());
        let done = write_file(&mut writer, &rows(9, 15_000)).and_then(|_| writer.finish());
        let chunks = done.as_ref().map_or(usize::MAX, |(_, memory, _)| memory.stored.len());
        prop_assert_eq!(done.is_ok(), store.is_none_or(|n| n >= chunks) && lookup.is_none_or(|n| n >= chunks));
    }
}
