//! Chunks that were new in this backup, so that one that comes again is stored once.
//!
//! The memory of both sides is bounded: only the last [`CAPACITY`] new chunks are remembered (8 GiB of new plaintext at
//! chunks of 64 KiB). A chunk that comes again later than that is stored again, which costs space and nothing else.
//! The writer numbers new chunks and remembers the last of them; the assembler, which meets the same chunks in the same
//! order, remembers the places of the same ones, so a number that the writer gives is always known there.

use std::collections::{HashMap, VecDeque};

use crate::{model::ids::ChunkId, stream::entry::Location};

/// How many new chunks are remembered.
pub(super) const CAPACITY: usize = 1 << 17;

/// The writer's side: numbers by id.
#[derive(Debug)]
pub(super) struct RecentIds {
    capacity: usize,
    numbers: HashMap<ChunkId, u64>,
    order: VecDeque<ChunkId>,
    next: u64,
}

impl RecentIds {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, numbers: HashMap::new(), order: VecDeque::new(), next: 0 }
    }

    /// The number of this chunk, if it was new not long ago.
    pub(super) fn number(&self, id: &ChunkId) -> Option<u64> {
        self.numbers.get(id).copied()
    }

    /// Numbers a new chunk.
    pub(super) fn push(&mut self, id: ChunkId) {
        if self.order.len() == self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.numbers.remove(&oldest);
        }
        self.order.push_back(id);
        self.numbers.insert(id, self.next);
        self.next += 1;
    }
}

/// The assembler's side: places by number.
#[derive(Debug)]
pub(super) struct RecentPlaces {
    capacity: usize,
    places: VecDeque<Location>,
    first: u64,
}

impl RecentPlaces {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, places: VecDeque::new(), first: 0 }
    }

    /// Where the chunk with this number was stored.
    pub(super) fn place(&self, number: u64) -> Option<Location> {
        let index = number.checked_sub(self.first)?;
        self.places.get(usize::try_from(index).ok()?).copied()
    }

    /// Notes where the next new chunk was stored.
    pub(super) fn push(&mut self, location: Location) {
        if self.places.len() == self.capacity {
            self.places.pop_front();
            self.first += 1;
        }
        self.places.push_back(location);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_forget_the_same_chunks() {
        let (mut ids, mut places) = (RecentIds::new(3), RecentPlaces::new(3));
        let id = |n: u8| ChunkId([n; 32]);
        for n in 0..10 {
            ids.push(id(n));
            places.push(Location { pack: u32::from(n), offset: 0, stored_length: 1 });
        }
        for n in 0..7 {
            assert_eq!(ids.number(&id(n)), None);
            assert_eq!(places.place(u64::from(n)), None);
        }
        for n in 7..10 {
            let number = ids.number(&id(n)).unwrap();
            assert_eq!(places.place(number).unwrap().pack, u32::from(n));
        }
        assert_eq!(places.place(10), None);
    }
}
