//! How much room there is.

use std::path::Path;

/// Bytes that this user can still write in the file system of a folder; `None` where that cannot be told.
pub(crate) fn free_bytes(folder: &Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(folder).ok()?;
    Some(stat.blocks_available().saturating_mul(stat.fragment_size()))
}
