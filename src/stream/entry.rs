//! Where a chunk is stored, and the 52 bytes that say so in a chunk table.

use crate::model::ids::ChunkId;

/// The place of one member in the packs of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Location {
    /// Position of the pack in the manifest's list of packs.
    pub pack: u32,
    /// First byte of the member within the pack.
    pub offset: u64,
    /// Length of the member, framing included, bytes.
    pub stored_length: u32,
}

/// One chunk of a file: what it is, where it is, how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    /// BLAKE3 of the plaintext.
    pub id: ChunkId,
    /// Where the member is.
    pub location: Location,
    /// Length of the plaintext, bytes.
    pub raw_length: u32,
}

impl Entry {
    /// Length of an entry on disk, bytes.
    pub const LENGTH: usize = 52;

    /// The form on disk: id, pack, offset, stored length, raw length; integers little endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..32].copy_from_slice(&self.id.0);
        bytes[32..36].copy_from_slice(&self.location.pack.to_le_bytes());
        bytes[36..44].copy_from_slice(&self.location.offset.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.location.stored_length.to_le_bytes());
        bytes[48..].copy_from_slice(&self.raw_length.to_le_bytes());
        bytes
    }

    /// Reads the form on disk. Any 52 bytes are an entry; whether it is a true one, the hash of its table says.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::LENGTH]) -> Self {
        let (id, rest) = take(bytes);
        let (pack, rest) = take(rest);
        let (offset, rest) = take(rest);
        let (stored_length, rest) = take(rest);
        let (raw_length, _) = take(rest);
        Self {
            id: ChunkId(id),
            location: Location {
                pack: u32::from_le_bytes(pack),
                offset: u64::from_le_bytes(offset),
                stored_length: u32::from_le_bytes(stored_length),
            },
            raw_length: u32::from_le_bytes(raw_length),
        }
    }
}

/// Splits the first `N` bytes off a slice that is known to have them.
fn take<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    let mut head = [0; N];
    let (first, rest) = bytes.split_at(N);
    head.copy_from_slice(first);
    (head, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_52_little_endian_bytes() {
        let entry = Entry {
            id: ChunkId([7; 32]),
            location: Location { pack: 1, offset: 0x0102_0304_0506, stored_length: 0x0a0b },
            raw_length: 65_536,
        };
        let bytes = entry.to_bytes();
        assert_eq!(&bytes[32..], [1, 0, 0, 0, 6, 5, 4, 3, 2, 1, 0, 0, 0x0b, 0x0a, 0, 0, 0, 0, 1, 0]);
        assert_eq!(Entry::from_bytes(&bytes), entry);
    }
}
