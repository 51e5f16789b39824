//! The chunk table: where each chunk of a backup's files lies, in order.
//!
//! The table is cut into segments, and each segment is itself stored as a chunk in a pack, so that a backup whose data
//! did not change shares its table too. `chunks.idx` in the backup's folder lists the segments as entries of the same
//! form. Invariants: a segment begins at each file's start; where else it ends depends on the ids of its own entries
//! alone, so that a change in one place leaves the segments behind it as they were.

use crate::stream::Entry;

/// No segment has fewer entries, but at a file's end.
const SEGMENT_MINIMUM: usize = 32;
/// No segment has more entries.
pub(crate) const SEGMENT_MAXIMUM: usize = 1024;

/// The entries in these bytes; `None` where they are not whole entries.
pub(crate) fn entries(bytes: &[u8]) -> Option<impl ExactSizeIterator<Item = Entry> + '_> {
    let (entries, rest) = bytes.as_chunks::<{ Entry::LENGTH }>();
    rest.is_empty().then(|| entries.iter().map(Entry::from_bytes))
}

/// Cuts the table into segments.
#[derive(Debug, Default)]
pub(crate) struct SegmentCutter {
    segment: Vec<u8>,
}

impl SegmentCutter {
    /// Takes the next entry; gives the segment that it ends, if it ends one.
    pub(crate) fn push(&mut self, entry: &Entry) -> Option<Vec<u8>> {
        self.segment.extend_from_slice(&entry.to_bytes());
        let count = self.segment.len() / Entry::LENGTH;
        let ends = count >= SEGMENT_MAXIMUM || (count >= SEGMENT_MINIMUM && entry.id.0[0] == 0);
        if ends { self.end_file() } else { None }
    }

    /// Ends the segment here, as at the end of a file; gives it unless it is empty.
    pub(crate) fn end_file(&mut self) -> Option<Vec<u8>> {
        (!self.segment.is_empty()).then(|| std::mem::take(&mut self.segment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::ChunkId, stream::Location};

    fn entry(n: u64) -> Entry {
        let id = ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes());
        Entry {
            id,
            location: Location { pack: n as u32, offset: n << 33 | 5, stored_length: 1 + n as u32 },
            raw_length: 7,
        }
    }

    fn segments(entries: &[Entry]) -> Vec<Vec<u8>> {
        let mut cutter = SegmentCutter::default();
        let mut all: Vec<_> = entries.iter().filter_map(|e| cutter.push(e)).collect();
        all.extend(cutter.end_file());
        all
    }

    #[test]
    fn a_change_in_one_place_leaves_other_segments_alone() {
        let all: Vec<_> = (0..20_000).map(entry).collect();
        let before = segments(&all);
        assert_eq!(before.concat().len(), all.len() * Entry::LENGTH);
        assert!(before.iter().all(|s| s.len() <= SEGMENT_MAXIMUM * Entry::LENGTH));
        assert!((40..160).contains(&before.len()), "{} segments", before.len());
        let mut changed = all;
        changed.splice(10_000..10_001, [entry(900_000), entry(900_001)]);
        let after = segments(&changed);
        let fresh = after.iter().filter(|s| !before.contains(s)).count();
        assert!(fresh <= 3, "{fresh} segments changed");
        assert!(super::entries(&[0; 53]).is_none());
    }
}
