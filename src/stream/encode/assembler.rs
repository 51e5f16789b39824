//! The thread that puts batches back into order and hands members and entries to the repository.

use std::{collections::BTreeMap, io};

use crossbeam_channel::{Receiver, Sender};

use super::{
    EntrySink, MemberSink, Totals,
    batch::{Batch, Place},
    recent::{CAPACITY, RecentPlaces},
};
use crate::stream::{
    entry::{Entry, Location},
    error::StreamError,
    shared::Shared,
};

/// The state of the thread.
pub(super) struct Assembler<M, E> {
    members: M,
    entries: E,
    recent: RecentPlaces,
    totals: Totals,
    /// Batches that came before their turn; no more than circulate.
    early: BTreeMap<u64, Batch>,
    next: u64,
}

impl<M: MemberSink, E: EntrySink> Assembler<M, E> {
    pub(super) fn new(members: M, entries: E) -> Self {
        let recent = RecentPlaces::new(CAPACITY);
        Self { members, entries, recent, totals: Totals::default(), early: BTreeMap::new(), next: 0 }
    }

    /// Works until writer and workers are gone; gives the sinks back.
    pub(super) fn run(
        mut self,
        shared: &Shared,
        done: &Receiver<Batch>,
        free: &Sender<Batch>,
        files: &Sender<Totals>,
    ) -> (M, E) {
        while let Ok(batch) = done.recv() {
            self.early.insert(batch.sequence, batch);
            while let Some(batch) = self.early.remove(&self.next) {
                self.next += 1;
                shared.run(|| self.store(&batch));
                // The writer may be gone: then nobody waits for what is sent here.
                if batch.ends_file {
                    let _ = files.send(std::mem::take(&mut self.totals));
                }
                let _ = free.send(batch);
            }
        }
        (self.members, self.entries)
    }

    fn store(&mut self, batch: &Batch) -> io::Result<()> {
        let mut stored_start = 0;
        for item in &batch.items {
            let location = match item.place {
                Place::Known(location) => self.reuse(location, item.raw_length),
                Place::Repeat(number) => {
                    let location = self.recent.place(number);
                    let location = location.ok_or(StreamError::Misuse("a repeated chunk has no place"))?;
                    self.reuse(location, item.raw_length)
                }
                Place::New { stored_end } => {
                    let member = &batch.stored[stored_start..stored_end];
                    stored_start = stored_end;
                    let location = self.members.store(&item.id, item.raw_length, member)?;
                    self.recent.push(location);
                    self.totals.new_stored_bytes += u64::from(location.stored_length);
                    location
                }
            };
            self.totals.chunks += 1;
            self.totals.stored_bytes += u64::from(location.stored_length);
            self.entries.entry(&Entry { id: item.id, location, raw_length: item.raw_length })?;
        }
        Ok(())
    }

    fn reuse(&mut self, location: Location, raw_length: u32) -> Location {
        self.totals.reused_chunks += 1;
        self.totals.reused_bytes += u64::from(raw_length);
        location
    }
}
