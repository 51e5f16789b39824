//! Where chunks end: by content, so that equal stretches of two dumps give equal chunks wherever they stand.
//!
//! FastCDC (Xia et al., USENIX ATC 2016) with normalized chunking of level 1 and skipping of the minimum, on the gear
//! hash; a cut that the content gives moves on to the end of its line, so that rows stay whole.
//!
//! Invariants: cuts depend on the bytes since the last cut and on the marks only, never on how the bytes arrived; no
//! chunk exceeds the maximum; none is empty.

use memchr::memchr;

use super::Cut;
use crate::model::manifest::ChunkerParameters;

/// A soft mark ends a chunk that has at least this part of the average.
const SOFT_PART: usize = 16;

/// Finds the ends of chunks in a stream that arrives in pieces.
#[derive(Debug, Clone)]
pub struct Chunker {
    minimum: usize,
    average: usize,
    maximum: usize,
    /// A hash below this ends a chunk that is shorter than the average: half as likely as one in `average` bytes.
    rare: u64,
    /// A hash below this ends a chunk that is longer: twice as likely.
    frequent: u64,
    /// Length of the chunk so far.
    length: usize,
    hash: u64,
    /// The content gave a cut; the chunk ends with its line.
    ends_with_line: bool,
}

impl Chunker {
    /// A chunker before its first byte. Sizes that contradict each other are brought into order.
    #[must_use]
    pub fn new(parameters: ChunkerParameters) -> Self {
        let maximum = (parameters.maximum as usize).max(1);
        let minimum = (parameters.minimum as usize).min(maximum);
        let average = (parameters.average as usize).clamp(minimum.max(1), maximum);
        Self {
            minimum,
            average,
            maximum,
            rare: u64::MAX / (2 * average as u64),
            frequent: u64::MAX / (average as u64).div_ceil(2),
            length: 0,
            hash: 0,
            ends_with_line: false,
        }
    }

    /// Takes the next bytes up to the end of the chunk: how many of them belong to it when it ends, `None` when all do
    /// and it goes on. The bytes behind the end have not been taken.
    pub fn scan(&mut self, bytes: &[u8]) -> Option<usize> {
        let window = &bytes[..bytes.len().min(self.maximum - self.length)];
        let mut taken = 0;
        if !self.ends_with_line {
            taken = self.minimum.saturating_sub(self.length).min(window.len());
            let small = self.average.saturating_sub(self.length).clamp(taken, window.len());
            let found = find(&mut self.hash, self.rare, &window[taken..small])
                .map(|at| taken + at)
                .or_else(|| find(&mut self.hash, self.frequent, &window[small..]).map(|at| small + at));
            self.ends_with_line = found.is_some();
            taken = found.unwrap_or(window.len());
        }
        if self.ends_with_line {
            // `taken` is where the byte lies that made the cut; after it was looked at, it may itself end the line.
            if let Some(at) = memchr(b'\n', &window[taken..]) {
                self.restart();
                return Some(taken + at + 1);
            }
        }
        self.length += window.len();
        if self.length == self.maximum {
            self.restart();
            return Some(window.len());
        }
        None
    }

    /// Marks the place behind the bytes taken so far: whether the chunk ends here.
    pub fn cut(&mut self, cut: Cut) -> bool {
        let ends = match cut {
            Cut::Hard => self.length > 0,
            Cut::Soft => self.length > 0 && self.length >= self.average / SOFT_PART,
        };
        if ends {
            self.restart();
        }
        ends
    }

    fn restart(&mut self) {
        self.length = 0;
        self.hash = 0;
        self.ends_with_line = false;
    }
}

/// Rolls the hash over the bytes until it falls below `limit`; gives the place of the byte that did it.
///
/// The comparison looks at the hash's highest bits, which depend on the last 64 bytes.
fn find(hash: &mut u64, limit: u64, bytes: &[u8]) -> Option<usize> {
    let mut value = *hash;
    let (pairs, rest) = bytes.as_chunks::<2>();
    for (index, &[first, second]) in pairs.iter().enumerate() {
        let (first, second) = (GEAR[usize::from(first)], GEAR[usize::from(second)]);
        // Both steps from the old value: one dependent operation for two bytes instead of two.
        let middle = (value << 1).wrapping_add(first);
        value = (value << 2).wrapping_add((first << 1).wrapping_add(second));
        if middle < limit {
            *hash = middle;
            return Some(2 * index);
        }
        if value < limit {
            *hash = value;
            return Some(2 * index + 1);
        }
    }
    for &byte in rest {
        value = (value << 1).wrapping_add(GEAR[usize::from(byte)]);
        if value < limit {
            *hash = value;
            return Some(bytes.len() - 1);
        }
    }
    *hash = value;
    None
}

/// A random number for every byte. Another table gives other chunks, so that the next backup would share none with the
/// last: it never changes.
static GEAR: [u64; 256] = {
    let mut table = [0; 256];
    let mut state = 0_u64;
    let mut index = 0;
    while index < table.len() {
        // SplitMix64 (Steele, Lea, Flood 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[index] = z ^ (z >> 31);
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMALL: ChunkerParameters = ChunkerParameters::with_average(1024);

    fn rows(seed: u64, count: usize) -> Vec<u8> {
        let mut state = seed;
        let mut out = Vec::new();
        for _ in 0..count {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            out.extend_from_slice(format!("{}\t{}\tname {}\n", state >> 33, state >> 50, state >> 40).as_bytes());
        }
        out
    }

    /// The chunks of `bytes`, which arrive in pieces that end at `splits`.
    fn chunks(parameters: ChunkerParameters, bytes: &[u8], splits: &[usize]) -> Vec<Vec<u8>> {
        let mut chunker = Chunker::new(parameters);
        let mut ends = Vec::new();
        let mut at = 0;
        for &split in splits.iter().chain([&bytes.len()]) {
            while at < split {
                match chunker.scan(&bytes[at..split]) {
                    Some(length) => {
                        at += length;
                        ends.push(at);
                    }
                    None => at = split,
                }
            }
        }
        if chunker.cut(Cut::Hard) {
            ends.push(bytes.len());
        }
        let starts = std::iter::once(0).chain(ends.iter().copied());
        starts.zip(&ends).map(|(start, &end)| bytes[start..end].to_vec()).collect()
    }

    #[test]
    fn chunks_are_whole_lines_of_about_the_average() {
        let bytes = rows(1, 100_000);
        let chunks = chunks(SMALL, &bytes, &[]);
        assert_eq!(chunks.concat(), bytes);
        let mean = bytes.len() / chunks.len();
        assert!((800..1700).contains(&mean), "the mean is {mean}");
        for chunk in &chunks[..chunks.len() - 1] {
            assert!((256..=8192).contains(&chunk.len()));
            assert!(chunk.ends_with(b"\n") || chunk.len() == 8192);
        }
    }

    #[test]
    fn bytes_without_lines_end_at_the_maximum_at_the_latest() {
        for byte in [0, b'x', b'\n'] {
            let bytes = vec![byte; 100_000];
            let chunks = chunks(SMALL, &bytes, &[]);
            assert!(chunks.iter().all(|chunk| chunk.len() <= 8192));
            assert_eq!(chunks.concat(), bytes);
        }
    }

    #[test]
    fn an_insertion_leaves_later_chunks_as_they_were() {
        let before = rows(2, 50_000);
        let mut after = before.clone();
        let middle = before.len() / 2;
        after.splice(middle..middle, b"a new row\tin the middle\n".iter().copied());
        let old: std::collections::HashSet<_> = chunks(SMALL, &before, &[]).into_iter().collect();
        let new = chunks(SMALL, &after, &[]);
        let fresh = new.iter().filter(|chunk| !old.contains(*chunk)).count();
        assert!(fresh <= 6, "{fresh} of {} chunks are new", new.len());
    }

    #[test]
    fn marks_end_chunks_by_their_rules() {
        let mut chunker = Chunker::new(SMALL);
        assert!(!chunker.cut(Cut::Hard), "there is nothing to end");
        assert_eq!(chunker.scan(&[b'a'; 63]), None);
        assert!(!chunker.cut(Cut::Soft), "the chunk is tiny");
        assert_eq!(chunker.scan(b"a"), None);
        assert!(chunker.cut(Cut::Soft));
        assert_eq!(chunker.scan(b"a"), None);
        assert!(chunker.cut(Cut::Hard));
        assert!(!chunker.cut(Cut::Hard));
    }

    proptest! {
        #[test]
        fn cuts_do_not_depend_on_how_bytes_arrive(
            seed: u64,
            count in 0_usize..3000,
            splits in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let bytes = rows(seed, count);
            let mut splits: Vec<_> = splits.iter().map(|at| at.index(bytes.len() + 1)).collect();
            splits.sort_unstable();
            prop_assert_eq!(chunks(SMALL, &bytes, &splits), chunks(SMALL, &bytes, &[]));
        }
    }
}
