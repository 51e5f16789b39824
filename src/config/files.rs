//! Reading the files of a configuration: regular, of a sane size, in UTF-8, and not writable by everybody.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

/// No configuration that people write is longer; it keeps a wrong path from filling the memory.
const MAX_LENGTH: u64 = 1 << 20;

/// Reads a file. `Ok(None)` if it does not exist.
///
/// # Errors
/// A sentence without the file's name.
pub(super) fn read(path: &Path) -> Result<Option<String>, String> {
    // Not blocking: opening a named pipe would wait for a writer.
    let opened = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot be opened: {error}")),
    };
    let metadata = file.metadata().map_err(|error| format!("cannot be examined: {error}"))?;
    if !metadata.is_file() {
        return Err("is not a regular file".to_owned());
    }
    if metadata.mode() & 0o002 != 0 {
        return Err("can be written by everybody, so it is not trusted; run chmod o-w on it".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(MAX_LENGTH + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_LENGTH {
        return Err(format!("is longer than {MAX_LENGTH} bytes, which no configuration is"));
    }
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|&&b| b == b'\n').count();
        format!("line {line} is not UTF-8, which TOML has to be")
    })
}

/// What is wrong with a password file, as libpq judges it: it must be there, and be nobody else's to read. `None`
/// also where it cannot be examined by who asks; the daemon finds out when it needs it.
pub(super) fn password_file_problem(path: &Path) -> Option<String> {
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Some(format!("{} is not a regular file", path.display())),
        Ok(metadata) if metadata.mode() & 0o077 != 0 => Some(format!(
            "{} can be accessed by others (mode {:04o}); run chmod 0600 on it",
            path.display(),
            metadata.mode() & 0o7777
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(format!("{} does not exist", path.display())),
        Ok(_) | Err(_) => None,
    }
}
