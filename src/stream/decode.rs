//! The way out: members are read, decompressed and proved ahead of a reader that sees one stream of plaintext.
//!
//! One thread reads members in order; the others decompress them and compare their BLAKE3 with the chunk's id; the
//! reader's own thread puts them into order and hashes the whole file.
//!
//! Invariants: no byte is given before its chunk's id was proved; the end of the file is not reported before its length
//! and SHA-256 were; a fixed number of buffers circulates, so memory does not grow with the file; all threads have
//! ended when the reader is gone.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    sync::Arc,
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use sha2::{Digest, Sha256};

use super::{
    Cancel,
    codec::Decoder,
    entry::{Entry, Location},
    error::StreamError,
    shared::Shared,
};
use crate::model::{ids::Sha256Hash, manifest::CodecName};

/// Chunks are handed over together until they have so many bytes.
const BATCH: usize = 512 << 10;
/// How often the reader, when it waits, looks at the cancel flag.
const POLL: Duration = Duration::from_millis(50);

/// Reads members.
pub trait MemberSource: Send {
    /// Appends the bytes at `location` to `member`, exactly [`Location::stored_length`] of them.
    ///
    /// # Errors
    /// Any failure of the storage. It comes out of the reader as it is, so it should name the pack.
    fn read(&mut self, location: &Location, member: &mut Vec<u8>) -> io::Result<()>;
}

/// How a [`ChunkReader`] works.
#[derive(Debug, Clone, Copy)]
pub struct DecodeOptions {
    /// The codec of the members.
    pub codec: CodecName,
    /// Number of decompressing threads; at least one is started.
    pub threads: usize,
    /// Plaintext length of the file, bytes.
    pub raw_length: u64,
    /// SHA-256 of its plaintext.
    pub raw_sha256: Sha256Hash,
}

/// Some chunks of the file, in order.
#[derive(Debug, Default)]
struct Batch {
    sequence: u64,
    entries: Vec<Entry>,
    stored: Vec<u8>,
    plain: Vec<u8>,
}

/// The proved plaintext of one file. See [`StreamError`] for the errors that are this layer's own.
pub struct ChunkReader {
    shared: Arc<Shared>,
    /// Where plaintext comes from; without it the threads end.
    decoded: Option<Receiver<Batch>>,
    /// Where used batches go; without it the threads end.
    free: Option<Sender<Batch>>,
    threads: Vec<thread::JoinHandle<()>>,
    early: BTreeMap<u64, Batch>,
    next: u64,
    current: Option<Batch>,
    /// How much of the current batch was given.
    given: usize,
    sha256: Sha256,
    length: u64,
    options: DecodeOptions,
    /// The end was proved, or an error was given.
    ended: bool,
}

impl ChunkReader {
    /// Starts to read ahead.
    ///
    /// The entries may fail too: reading the table is I/O.
    ///
    /// # Errors
    /// [`StreamError`] when a thread cannot be started.
    pub fn start<I, S>(options: DecodeOptions, entries: I, source: S, cancel: Cancel) -> Result<Self, StreamError>
    where
        I: Iterator<Item = io::Result<Entry>> + Send + 'static,
        S: MemberSource + 'static,
    {
        let decoders = options.threads.max(1);
        let batches = decoders + 2;
        let shared = Arc::new(Shared::new(cancel));
        let (free, free_out) = bounded(batches);
        let (work, work_out) = bounded(batches);
        let (decoded_in, decoded) = bounded(batches);
        for _ in 0..batches {
            // There is room for all of them.
            let _ = free.send(Batch::default());
        }
        let mut reader = Self {
            shared,
            decoded: Some(decoded),
            free: Some(free),
            threads: Vec::with_capacity(decoders + 1),
            early: BTreeMap::new(),
            next: 0,
            current: None,
            given: 0,
            sha256: Sha256::new(),
            length: 0,
            options,
            ended: false,
        };
        let shared = Arc::clone(&reader.shared);
        reader.spawn("member-reader".to_owned(), move || fetch(&shared, entries, source, &free_out, &work))?;
        for number in 0..decoders {
            let (shared, work, decoded) = (Arc::clone(&reader.shared), work_out.clone(), decoded_in.clone());
            let decoder = Decoder::new(options.codec)?;
            reader.spawn(format!("decompressor-{number}"), move || decode(&shared, decoder, &work, &decoded))?;
        }
        Ok(reader)
    }

    fn spawn(&mut self, name: String, body: impl FnOnce() + Send + 'static) -> Result<(), StreamError> {
        let thread = thread::Builder::new().name(name.clone()).spawn(body);
        self.threads.push(thread.map_err(|source| StreamError::Spawn { thread: name, source })?);
        Ok(())
    }

    /// Makes the next batch the current one; false when there is none left.
    fn advance(&mut self) -> io::Result<bool> {
        let (Some(free), Some(decoded)) = (&self.free, &self.decoded) else { return Ok(false) };
        self.given = 0;
        if let Some(used) = self.current.take() {
            // The thread that takes it may have read all it has to read.
            let _ = free.send(used);
        }
        loop {
            if let Some(batch) = self.early.remove(&self.next) {
                self.next += 1;
                self.sha256.update(&batch.plain);
                self.length += batch.plain.len() as u64;
                self.current = Some(batch);
                return Ok(true);
            }
            match decoded.recv_timeout(POLL) {
                Ok(batch) => {
                    self.early.insert(batch.sequence, batch);
                }
                Err(RecvTimeoutError::Timeout) => self.shared.check()?,
                Err(RecvTimeoutError::Disconnected) => {
                    self.shared.check()?;
                    return Ok(false);
                }
            }
            if self.shared.is_stopped() {
                self.shared.check()?;
            }
        }
    }

    /// Compares what was given with what the file should be.
    fn prove(&mut self) -> io::Result<()> {
        let sha256 = Sha256Hash(std::mem::take(&mut self.sha256).finalize().into());
        if (self.length, sha256) == (self.options.raw_length, self.options.raw_sha256) {
            return Ok(());
        }
        Err(StreamError::WrongFile {
            length: self.length,
            sha256,
            expected_length: self.options.raw_length,
            expected_sha256: self.options.raw_sha256,
        }
        .into())
    }

    fn try_read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let rest = self.current.as_ref().map_or(&[][..], |batch| &batch.plain[self.given..]);
            if !rest.is_empty() {
                let length = rest.len().min(out.len());
                out[..length].copy_from_slice(&rest[..length]);
                self.given += length;
                return Ok(length);
            }
            self.shared.check()?;
            if !self.advance()? {
                self.prove()?;
                self.ended = true;
                return Ok(0);
            }
        }
    }
}

impl Read for ChunkReader {
    /// After an error every further read fails: a file that broke off must not look like a short one.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        if self.ended {
            return if self.shared.is_stopped() { self.shared.check().map(|()| 0) } else { Ok(0) };
        }
        self.try_read(out).inspect_err(|_| {
            self.shared.stop();
            self.ended = true;
        })
    }
}

impl Drop for ChunkReader {
    fn drop(&mut self) {
        self.shared.stop();
        self.free = None;
        self.decoded = None;
        for thread in self.threads.drain(..) {
            // Panics have been caught and reported where they happened.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for ChunkReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkReader").field("length", &self.length).field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// The reading thread: fills batches with members until there are no entries left, an error, or no reader.
fn fetch<I, S>(shared: &Shared, mut entries: I, mut source: S, free: &Receiver<Batch>, work: &Sender<Batch>)
where
    I: Iterator<Item = io::Result<Entry>>,
    S: MemberSource,
{
    let mut sequence = 0;
    while let Ok(mut batch) = free.recv() {
        batch.entries.clear();
        for buffer in [&mut batch.stored, &mut batch.plain] {
            buffer.clear();
            // What one large chunk made larger is given back.
            buffer.shrink_to(2 * BATCH);
        }
        batch.sequence = sequence;
        shared.run(|| fill(&mut batch, &mut entries, &mut source));
        if shared.is_stopped() || batch.entries.is_empty() || work.send(batch).is_err() {
            return;
        }
        sequence += 1;
    }
}

fn fill<I, S>(batch: &mut Batch, entries: &mut I, source: &mut S) -> io::Result<()>
where
    I: Iterator<Item = io::Result<Entry>>,
    S: MemberSource,
{
    let mut raw = 0;
    // Members count as well, so that a table of empty chunks ends a batch too.
    while raw.max(batch.stored.len()) < BATCH {
        let Some(entry) = entries.next().transpose()? else { break };
        let before = batch.stored.len();
        source.read(&entry.location, &mut batch.stored)?;
        if batch.stored.len() - before != entry.location.stored_length as usize {
            return Err(damaged(&entry, "another number of bytes was read").into());
        }
        raw += entry.raw_length as usize;
        batch.entries.push(entry);
    }
    Ok(())
}

/// A decompressing thread: gives only batches that are proved.
fn decode(shared: &Shared, mut decoder: Decoder, work: &Receiver<Batch>, decoded: &Sender<Batch>) {
    let mut chunk = Vec::new();
    while let Ok(mut batch) = work.recv() {
        shared.run(|| decode_batch(&mut decoder, &mut batch, &mut chunk));
        if shared.is_stopped() || decoded.send(batch).is_err() {
            return;
        }
    }
}

fn decode_batch(decoder: &mut Decoder, batch: &mut Batch, chunk: &mut Vec<u8>) -> io::Result<()> {
    let mut stored = batch.stored.as_slice();
    for entry in &batch.entries {
        let (member, rest) = stored.split_at(entry.location.stored_length as usize);
        stored = rest;
        decoder.decode(member, entry.raw_length, chunk).map_err(|error| damaged(entry, error.0))?;
        if *blake3::hash(chunk).as_bytes() != entry.id.0 {
            return Err(damaged(entry, "its plaintext has another BLAKE3 hash").into());
        }
        batch.plain.extend_from_slice(chunk);
    }
    Ok(())
}

fn damaged(entry: &Entry, reason: &'static str) -> StreamError {
    StreamError::Damaged { id: entry.id, location: entry.location, reason }
}

#[cfg(test)]
mod tests;
