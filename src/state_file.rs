//! Small files of the daemon's own state, replaced as a whole.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
};

/// Puts a file with these bytes in the place of another, or where there was none: after a crash there is either the old one
/// or the new one. Only this user may read it.
///
/// # Errors
/// The operating system's; then the old one is there.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}
