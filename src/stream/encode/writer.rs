//! The caller's end of the pipeline: cuts, names and hashes plaintext, and asks what is stored already.

use std::{io, sync::Arc, time::Duration};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use sha2::{Digest, Sha256};

use super::{
    EncodeOptions, EntrySink, FileResult, Known, MemberSink,
    assembler::Assembler,
    batch::{Batch, Item, Place},
    recent::{CAPACITY, RecentIds},
    threads::Threads,
    worker::Worker,
};
use crate::{
    model::ids::{ChunkId, Sha256Hash},
    stream::{ByteSink, Cancel, Cut, Progress, chunker::Chunker, error::StreamError, shared::Shared},
};

/// Plaintext is hashed, searched for cuts and copied in pieces that stay in the processor's cache in between.
const PIECE: usize = 64 << 10;
/// A batch is handed on when it has so many bytes of new plaintext: few wake-ups, and still several in each queue.
const BATCH: usize = 512 << 10;
/// A batch is handed on when it has so many chunks, as batches of known ones have.
const ITEMS: usize = 1024;
/// How often a thread that waits for another looks at the cancel flag.
const POLL: Duration = Duration::from_millis(50);

/// Takes the files of one backup, one after the other, and sends their chunks on their way.
///
/// For each file: [`ChunkWriter::begin_file`], any number of [`ByteSink`] calls, [`ChunkWriter::end_file`]; at last
/// [`ChunkWriter::finish`]. An error anywhere in the pipeline comes out of the next call; after it only dropping is of
/// use. Dropping ends all threads and waits for them.
pub struct ChunkWriter<K, M: MemberSink, E: EntrySink> {
    known: K,
    chunker: Chunker,
    progress: Arc<Progress>,
    shared: Arc<Shared>,
    threads: Threads<M, E>,
    recent: RecentIds,
    /// The batch that is being filled; an empty one until `holding`.
    batch: Batch,
    holding: bool,
    /// Where the current chunk begins in the batch's plaintext.
    chunk_start: usize,
    sequence: u64,
    /// Batches that came back and are not in use.
    idle: Vec<Batch>,
    /// Bytes charged for the batches that are on their way.
    in_flight: usize,
    budget: Budget,
    file: Option<OpenFile>,
}

/// Sizes that follow from the options, bytes.
struct Budget {
    /// A batch is handed on when it has so many bytes of new plaintext.
    batch: usize,
    /// The most that one batch can come to: almost full, then one more chunk, and all of it incompressible.
    worst_batch: usize,
    total: usize,
}

struct OpenFile {
    sha256: Sha256,
    length: u64,
}

impl<K: Known, M: MemberSink + 'static, E: EntrySink + 'static> ChunkWriter<K, M, E> {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`StreamError`]: the codec has no such level, or a thread cannot be started.
    pub fn start(
        options: EncodeOptions,
        known: K,
        members: M,
        entries: E,
        cancel: Cancel,
        progress: Arc<Progress>,
    ) -> Result<Self, StreamError> {
        let shared = Arc::new(Shared::new(cancel));
        let batch = BATCH.max(options.chunker.average as usize);
        let worst_batch = 2 * (batch + options.chunker.maximum as usize);
        let batches = (options.budget / (3 * batch)).clamp(4, 32);
        let workers = (0..options.threads.max(1))
            .map(|_| Worker::new(options.codec, options.verify))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            known,
            chunker: Chunker::new(options.chunker),
            progress,
            threads: Threads::start(&shared, workers, Assembler::new(members, entries), batches)?,
            shared,
            recent: RecentIds::new(CAPACITY),
            batch: Batch::default(),
            holding: false,
            chunk_start: 0,
            sequence: 0,
            idle: (0..batches).map(|_| Batch::default()).collect(),
            in_flight: 0,
            budget: Budget { batch, worst_batch, total: options.budget },
            file: None,
        })
    }

    /// Begins a file. Its first byte begins a chunk.
    ///
    /// # Errors
    /// The first error of the pipeline; [`StreamError::Misuse`] when the last file has not been ended.
    pub fn begin_file(&mut self) -> io::Result<()> {
        self.shared.check()?;
        if self.file.is_some() {
            return self.stop(StreamError::Misuse("a file was begun within a file").into());
        }
        self.file = Some(OpenFile { sha256: Sha256::new(), length: 0 });
        Ok(())
    }

    /// Ends the file: returns when all of its members are stored and all of its entries are noted.
    ///
    /// # Errors
    /// The first error of the pipeline; [`StreamError::Misuse`] when no file was begun.
    pub fn end_file(&mut self) -> io::Result<FileResult> {
        self.shared.check()?;
        self.try_end_file().or_else(|error| self.stop(error))
    }

    /// Ends all threads and gives back what they worked with.
    ///
    /// # Errors
    /// The first error of the pipeline; [`StreamError::Misuse`] when a file has not been ended.
    pub fn finish(mut self) -> io::Result<(K, M, E)> {
        self.shared.check()?;
        if self.file.is_some() {
            return self.stop(StreamError::Misuse("it was finished within a file").into());
        }
        let sinks = self.threads.join();
        self.shared.check()?;
        let (members, entries) = sinks.ok_or(StreamError::Misuse("the assembler is gone"))?;
        Ok((self.known, members, entries))
    }

    fn try_end_file(&mut self) -> io::Result<FileResult> {
        if self.chunker.cut(Cut::Hard) {
            self.end_chunk()?;
        }
        let file = self.file.take().ok_or(StreamError::Misuse("no file was begun"))?;
        self.hold_batch()?;
        self.batch.ends_file = true;
        self.submit()?;
        let totals = wait(&self.shared, self.threads.files())?;
        // The thread sends these even when it stored nothing, so that nobody waits in vain.
        self.shared.check()?;
        Ok(FileResult { raw_length: file.length, raw_sha256: Sha256Hash(file.sha256.finalize().into()), totals })
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE) {
            let file = self.file.as_mut().ok_or(StreamError::Misuse("no file was begun"))?;
            file.sha256.update(piece);
            file.length += piece.len() as u64;
            self.take(piece)?;
        }
        self.progress.add_bytes(bytes.len() as u64);
        Ok(())
    }

    /// Cuts a piece and sends what is complete on its way.
    fn take(&mut self, mut piece: &[u8]) -> io::Result<()> {
        while !piece.is_empty() {
            self.hold_batch()?;
            let end = self.chunker.scan(piece);
            let (belongs, rest) = piece.split_at(end.unwrap_or(piece.len()));
            self.batch.plain.extend_from_slice(belongs);
            if end.is_some() {
                self.end_chunk()?;
            }
            piece = rest;
        }
        Ok(())
    }

    /// Names the chunk at the end of the batch's plaintext, and drops its bytes when they are stored already.
    fn end_chunk(&mut self) -> io::Result<()> {
        let plaintext = &self.batch.plain[self.chunk_start..];
        let id = ChunkId(*blake3::hash(plaintext).as_bytes());
        let length = plaintext.len();
        let raw_length =
            u32::try_from(length).map_err(|_| StreamError::TooLong { length, maximum: u32::MAX as usize })?;
        let place = if let Some(number) = self.recent.number(&id) {
            Place::Repeat(number)
        } else if let Some(location) = self.known.lookup(&id, raw_length)? {
            Place::Known(location)
        } else {
            self.recent.push(id);
            Place::New { stored_end: 0 }
        };
        if !matches!(place, Place::New { .. }) {
            self.batch.plain.truncate(self.chunk_start);
        }
        self.chunk_start = self.batch.plain.len();
        self.batch.items.push(Item { id, raw_length, place });
        if self.chunk_start >= self.budget.batch || self.batch.items.len() >= ITEMS {
            self.submit()?;
        }
        Ok(())
    }

    /// Sends the batch to the workers, or past them when there is nothing to compress.
    fn submit(&mut self) -> io::Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        self.holding = false;
        self.chunk_start = 0;
        batch.sequence = self.sequence;
        self.sequence += 1;
        batch.charge = 2 * batch.plain.len();
        self.in_flight += batch.charge;
        self.threads.submit(batch).map_or_else(|_| Err(StreamError::Misuse("its threads are gone").into()), Ok)
    }

    /// Sees to it that there is a batch to fill: waits until one is back and the budget allows it.
    fn hold_batch(&mut self) -> io::Result<()> {
        while !self.holding {
            let fits = self.in_flight == 0 || self.in_flight + self.budget.worst_batch <= self.budget.total;
            if fits && let Some(batch) = self.idle.pop() {
                self.batch = batch;
                self.holding = true;
            } else {
                let mut batch = wait(&self.shared, self.threads.free())?;
                self.in_flight -= batch.charge;
                batch.recycle(2 * self.budget.batch);
                self.idle.push(batch);
            }
        }
        Ok(())
    }

    /// Ends the pipeline's work with an error that goes to the caller.
    fn stop<T>(&mut self, error: io::Error) -> io::Result<T> {
        self.shared.stop();
        Err(error)
    }
}

impl<K: Known, M: MemberSink + 'static, E: EntrySink + 'static> ByteSink for ChunkWriter<K, M, E> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.shared.check()?;
        self.try_write(bytes).or_else(|error| self.stop(error))
    }

    fn cut(&mut self, cut: Cut) -> io::Result<()> {
        self.shared.check()?;
        if self.chunker.cut(cut) {
            return self.end_chunk().or_else(|error| self.stop(error));
        }
        Ok(())
    }
}

/// Waits for what another thread sends, as long as the work goes on.
fn wait<T>(shared: &Shared, from: &Receiver<T>) -> io::Result<T> {
    loop {
        match from.recv_timeout(POLL) {
            Ok(value) => return Ok(value),
            Err(RecvTimeoutError::Timeout) => shared.check()?,
            Err(RecvTimeoutError::Disconnected) => {
                shared.check()?;
                return Err(StreamError::Misuse("its threads are gone").into());
            }
        }
    }
}
