//! Which chunks are stored already: a sorted file of table entries, searched in place.
//!
//! Invariants: memory does not grow with the number of entries, but for pages that the system may drop; an entry is
//! found only if its pack may be used: one that is there and of which at least half is still referenced. Chunks of other packs
//! are stored afresh, so that old packs drain and can be deleted whole.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
};

use memmap2::Mmap;

use crate::{
    model::ChunkId,
    stream::{Entry, Location},
};

type Raw = [u8; Entry::LENGTH];

/// Entries that are sorted in memory at once (6.5 MiB).
const RUN: usize = 128 << 10;

/// The packs that entries point into, by position.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackState {
    /// Its size, bytes.
    pub(crate) size: u64,
    /// Whether it is there with that size.
    pub(crate) present: bool,
}

/// Collects entries.
pub(crate) struct LookupBuilder {
    scratch: PathBuf,
    run: Vec<Raw>,
    runs: Vec<File>,
}

impl LookupBuilder {
    pub(crate) fn new(scratch: &Path) -> Self {
        Self { scratch: scratch.to_owned(), run: Vec::new(), runs: Vec::new() }
    }

    pub(crate) fn push(&mut self, entry: &Entry) -> io::Result<()> {
        self.run.push(entry.to_bytes());
        if self.run.len() >= RUN { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> io::Result<()> {
        self.run.sort_unstable();
        let mut output = BufWriter::new(tempfile::tempfile_in(&self.scratch)?);
        for raw in &self.run {
            output.write_all(raw)?;
        }
        let mut file = output.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        self.runs.push(file);
        self.run.clear();
        Ok(())
    }

    /// Sorts what was collected, and judges the packs.
    pub(crate) fn finish(mut self, packs: &[Option<PackState>]) -> io::Result<Lookup> {
        self.spill()?;
        let mut live = vec![0_u64; packs.len()];
        let mut output = BufWriter::new(tempfile::tempfile_in(&self.scratch)?);
        let mut length = 0_u64;
        let mut last = None;
        merge(self.runs, |raw| {
            let Location { pack, stored_length, .. } = Entry::from_bytes(raw).location;
            let pack = pack as usize;
            if last == Some(*raw) || pack >= packs.len() {
                return Ok(());
            }
            last = Some(*raw);
            live[pack] += u64::from(stored_length);
            length += 1;
            output.write_all(raw)
        })?;
        let file = output.into_inner().map_err(io::IntoInnerError::into_error)?;
        let usable = packs
            .iter()
            .zip(live)
            .map(|(pack, live)| pack.is_some_and(|pack| pack.present && live.saturating_mul(2) >= pack.size))
            .collect();
        // An empty file cannot be mapped.
        let map = if length == 0 { None } else { Some(map(&file)?) };
        Ok(Lookup { map, usable })
    }
}

#[allow(unsafe_code, reason = "memory mapping")]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the file is an unlinked temporary of this process that nobody else can open and that is not written or
    // truncated any more, so the mapped bytes do not change.
    unsafe { Mmap::map(file) }
}

/// Gives the entries of sorted runs in order.
fn merge(runs: Vec<File>, mut each: impl FnMut(&Raw) -> io::Result<()>) -> io::Result<()> {
    let mut runs: Vec<_> = runs.into_iter().map(|file| BufReader::with_capacity(64 << 10, file)).collect();
    let mut heap = BinaryHeap::new();
    for (number, run) in runs.iter_mut().enumerate() {
        heap.extend(next(run)?.map(|raw| Reverse((raw, number))));
    }
    while let Some(Reverse((raw, number))) = heap.pop() {
        each(&raw)?;
        heap.extend(next(&mut runs[number])?.map(|raw| Reverse((raw, number))));
    }
    Ok(())
}

fn next(run: &mut BufReader<File>) -> io::Result<Option<Raw>> {
    let mut raw = [0; Entry::LENGTH];
    match run.read_exact(&mut raw) {
        Ok(()) => Ok(Some(raw)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// The chunks that are stored already.
#[derive(Debug)]
pub(crate) struct Lookup {
    map: Option<Mmap>,
    usable: Vec<bool>,
}

impl Lookup {
    /// Where the chunk lies, if it does in a pack that may be used.
    pub(crate) fn find(&self, id: &ChunkId) -> Option<Entry> {
        let (entries, _) = self.map.as_ref()?.as_chunks::<{ Entry::LENGTH }>();
        let first = entries.partition_point(|raw| raw[..32] < id.0[..]);
        entries[first..]
            .iter()
            .take_while(|raw| raw[..32] == id.0)
            .map(Entry::from_bytes)
            .find(|entry| self.usable[entry.location.pack as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u32, pack: u32) -> Entry {
        Entry {
            id: ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes()),
            location: Location { pack, offset: u64::from(n) * 10, stored_length: 10 },
            raw_length: 20,
        }
    }

    #[test]
    fn finds_what_lies_in_usable_packs_over_several_runs() {
        let count = u32::try_from(RUN + RUN / 2).unwrap();
        let mut builder = LookupBuilder::new(&std::env::temp_dir());
        for n in 0..count {
            builder.push(&entry(n, n % 4)).unwrap();
        }
        // Also in pack 1, which is there; and twice the same.
        builder.push(&entry(3, 1)).unwrap();
        builder.push(&entry(3, 1)).unwrap();
        let size = u64::from(count / 4) * 10;
        let pack = |size, present| Some(PackState { size, present });
        let packs = [pack(2 * size, true), pack(size, true), pack(3 * size, true), pack(size, false)];
        let lookup = builder.finish(&packs).unwrap();
        for n in 0..2000 {
            let expected = match n % 4 {
                0 | 1 => Some(entry(n, n % 4)),
                _ if n == 3 => Some(entry(3, 1)),
                _ => None,
            };
            assert_eq!(lookup.find(&entry(n, 0).id), expected, "entry {n}");
        }
        assert_eq!(lookup.find(&entry(count + 1, 0).id), None);
        let empty = LookupBuilder::new(&std::env::temp_dir()).finish(&[]).unwrap();
        assert_eq!(empty.find(&ChunkId([0; 32])), None);
    }
}
