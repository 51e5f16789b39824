//! The threads of a pipeline, and the queues between them.

use std::{io, sync::Arc, thread};

use crossbeam_channel::{Receiver, SendError, Sender, bounded};

use super::{
    EntrySink, MemberSink, Totals,
    assembler::Assembler,
    batch::{Batch, Place},
    worker::Worker,
};
use crate::stream::{error::StreamError, shared::Shared};

/// Workers and assembler. Dropping stops their work and waits for them.
pub(super) struct Threads<M, E> {
    shared: Arc<Shared>,
    free: Receiver<Batch>,
    files: Receiver<Totals>,
    /// Without these the threads end.
    queues: Option<Queues>,
    workers: Vec<thread::JoinHandle<()>>,
    assembler: Option<thread::JoinHandle<(M, E)>>,
}

struct Queues {
    work: Sender<Batch>,
    done: Sender<Batch>,
}

impl<M: MemberSink + 'static, E: EntrySink + 'static> Threads<M, E> {
    /// Starts a thread for each worker and one for the assembler. Each queue has room for all the `batches` that there
    /// are, so sending never blocks.
    pub(super) fn start(
        shared: &Arc<Shared>,
        workers: Vec<Worker>,
        assembler: Assembler<M, E>,
        batches: usize,
    ) -> Result<Self, StreamError> {
        let (work, work_out) = bounded(batches);
        let (done, done_out) = bounded(batches);
        let (free_in, free) = bounded(batches);
        let (files_in, files) = bounded(batches);
        let for_assembler = Arc::clone(shared);
        let mut threads = Self {
            shared: Arc::clone(shared),
            free,
            files,
            queues: None,
            workers: Vec::with_capacity(workers.len()),
            assembler: Some(spawn("assembler".to_owned(), move || {
                assembler.run(&for_assembler, &done_out, &free_in, &files_in)
            })?),
        };
        for (number, worker) in workers.into_iter().enumerate() {
            let (shared, work_out, done) = (Arc::clone(shared), work_out.clone(), done.clone());
            let thread = spawn(format!("compressor-{number}"), move || worker.run(&shared, &work_out, &done))?;
            threads.workers.push(thread);
        }
        threads.queues = Some(Queues { work, done });
        Ok(threads)
    }

    /// Sends a batch on: to the workers, or straight to the assembler when there is nothing to compress.
    pub(super) fn submit(&self, batch: Batch) -> Result<(), SendError<Batch>> {
        let Some(queues) = &self.queues else { return Err(SendError(batch)) };
        let is_new = batch.items.iter().any(|item| matches!(item.place, Place::New { .. }));
        if is_new { queues.work.send(batch) } else { queues.done.send(batch) }
    }

    /// Where batches come back.
    pub(super) fn free(&self) -> &Receiver<Batch> {
        &self.free
    }

    /// Where the totals of every ended file come.
    pub(super) fn files(&self) -> &Receiver<Totals> {
        &self.files
    }
}

impl<M, E> Threads<M, E> {
    /// Lets the threads work off what they have, waits for them, and gives the sinks back; `None` the second time.
    pub(super) fn join(&mut self) -> Option<(M, E)> {
        self.queues = None;
        for worker in self.workers.drain(..) {
            // Panics have been caught and reported where they happened.
            let _ = worker.join();
        }
        self.assembler.take()?.join().ok()
    }
}

impl<M, E> Drop for Threads<M, E> {
    fn drop(&mut self) {
        self.shared.stop();
        self.join();
    }
}

fn spawn<T: Send + 'static>(
    name: String,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<thread::JoinHandle<T>, StreamError> {
    let build: io::Result<_> = thread::Builder::new().name(name.clone()).spawn(body);
    build.map_err(|source| StreamError::Spawn { thread: name, source })
}
