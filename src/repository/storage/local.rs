//! A directory of a file system as storage.
//!
//! Invariants: an object is written to a temporary file in `tmp/`, synced, renamed to its place, and the directory is
//! synced, so that it is visible only when it is complete and durable. Directories are made with mode 0700 and files
//! with 0600 whatever the umask. No symbolic link is followed below the root. Reading creates nothing, so a directory
//! on read-only media can be read.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::libc;

use super::{Lease, Object, PutMode, Storage, StorageError, StorageErrorKind, Upload, is_valid_key};
use crate::{fail_point, repository::layout::PACKS};

/// Where files lie until they are complete.
const TEMPORARY: &str = "tmp";
/// The file that the owner holds a `flock` on. It stays when the owner goes.
const LOCK: &str = "LOCK";
/// How often a rename is tried again when the folder was taken away in between by a deletion.
const RENAME_ATTEMPTS: u32 = 3;

/// A directory as storage.
#[derive(Debug, Clone)]
pub struct LocalStorage {
    root: Arc<Path>,
    next_temporary: Arc<AtomicU64>,
}

impl LocalStorage {
    /// The storage in the directory `root`. Nothing is read or made yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into().into(), next_temporary: Arc::default() }
    }

    /// Makes the directory (mode 0700) where it is missing; its parent must exist, so that a file system that is not
    /// mounted is not mistaken for an empty one deeper down.
    ///
    /// # Errors
    /// As the operating system says. May be repeated.
    pub fn create_root(&self) -> Result<(), StorageError> {
        if self.root.is_dir() {
            return Ok(());
        }
        make_directory(&self.root).map_err(|e| StorageError::new("create", self.name(), e))
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, operation: &'static str, key: &str) -> Result<PathBuf, StorageError> {
        if is_valid_key(key) {
            Ok(self.root.join(key))
        } else {
            Err(StorageError::new(operation, format!("{key:?}"), io::Error::other("not a valid key")))
        }
    }

    fn error(&self, operation: &'static str, key: &str, error: io::Error) -> StorageError {
        StorageError::new(operation, self.root.join(key).display().to_string(), error)
    }

    fn open(&self, key: &str) -> Result<File, StorageError> {
        open_plain(&self.path("read", key)?).map_err(|e| self.error("read", key, e))
    }

    /// A new file in `tmp/`, and its path.
    fn temporary(&self) -> io::Result<Temporary> {
        let folder = self.root.join(TEMPORARY);
        loop {
            let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{}-{number}", std::process::id()));
            match new_file(&path) {
                Ok(file) => return Ok(Temporary { file, path: Some(path), storage: self.clone() }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if !self.root.is_dir() {
                        return Err(error);
                    }
                    make_directory(&folder)?;
                }
                // Left by a process that had the same id: not ours to touch.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes the folders above `path`, below the root.
    fn make_parents(&self, path: &Path) -> io::Result<()> {
        let Some(parent) = path.parent().filter(|parent| parent.starts_with(&self.root)) else { return Ok(()) };
        if parent == &*self.root || parent.is_dir() {
            return Ok(());
        }
        self.make_parents(parent)?;
        match make_directory(parent) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn walk(&self, folder: &Path, key: &str, found: &mut Vec<Object>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().filter(|name| !name.starts_with('.'));
            // Names that are no keys are none of ours.
            let Some(name) = name else { continue };
            let key = format!("{key}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() {
                if key != TEMPORARY {
                    match self.walk(&entry.path(), &format!("{key}/"), found) {
                        // A folder that goes away while it is listed had become empty.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        other => other?,
                    }
                }
            } else if kind.is_file() && key != LOCK {
                match entry.metadata() {
                    Ok(metadata) => found.push(Object { key, size: metadata.len() }),
                    // Deleted while it was listed: as if it had been deleted before.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

impl Storage for LocalStorage {
    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn put(&self, key: &str, bytes: &[u8], mode: PutMode) -> Result<(), StorageError> {
        let path = self.path("write", key)?;
        let write = || {
            if mode == PutMode::IfAbsent && path.symlink_metadata().is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let mut temporary = self.temporary()?;
            temporary.file.write_all(bytes)?;
            temporary.file.sync_all()?;
            if key.ends_with("/manifest.json") {
                fail_point::hit("manifest-temporary")?;
            }
            temporary.rename(&path, mode)?;
            if key.ends_with("/manifest.json") { fail_point::hit("manifest-renamed") } else { Ok(()) }
        };
        write().map_err(|e| self.error("write", key, e))
    }

    fn upload(&self) -> Result<Box<dyn Upload>, StorageError> {
        let begin = || {
            let temporary = self.temporary()?;
            fail_point::hit("pack-created")?;
            Ok(temporary)
        };
        match begin() {
            Ok(temporary) => Ok(Box::new(temporary)),
            Err(error) => Err(self.error("create a file in", TEMPORARY, error)),
        }
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, StorageError> {
        let mut bytes = Vec::new();
        self.open(key)?.read_to_end(&mut bytes).map_err(|e| self.error("read", key, e))?;
        Ok(bytes)
    }

    fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Vec<u8>, StorageError> {
        let mut bytes = vec![0; length];
        self.open(key)?.read_exact_at(&mut bytes, offset).map_err(|e| self.error("read", key, e))?;
        Ok(bytes)
    }

    fn size(&self, key: &str) -> Result<u64, StorageError> {
        let metadata = self.path("look at", key)?.symlink_metadata().map_err(|e| self.error("look at", key, e))?;
        if metadata.is_file() {
            Ok(metadata.len())
        } else {
            Err(self.error("look at", key, io::Error::new(io::ErrorKind::NotFound, "not a plain file")))
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<Object>, StorageError> {
        let folder = match prefix.strip_suffix('/') {
            Some(folder) => self.path("list", folder)?,
            None if prefix.is_empty() => self.root.to_path_buf(),
            None => return Err(self.error("list", prefix, io::Error::other("a prefix ends in a slash"))),
        };
        let mut found = Vec::new();
        match self.walk(&folder, prefix, &mut found) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && !prefix.is_empty() && self.root.is_dir() => {}
            Err(error) => return Err(self.error("list", prefix, error)),
        }
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        let path = self.path("delete", key)?;
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.root.is_dir() => {}
            Err(error) => return Err(self.error("delete", key, error)),
        }
        let mut folder = path.parent();
        while let Some(here) = folder.filter(|here| here.starts_with(&self.root)) {
            // An emptied folder below backups/ is no object; it goes as soon as it can. Any failure means that it is
            // not empty, or gone already.
            let removable =
                here.strip_prefix(&self.root).is_ok_and(|p| p.starts_with("backups") && p.components().count() > 1);
            if !(removable && fs::remove_dir(here).is_ok()) {
                match sync_directory(here) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => return other.map_err(|e| self.error("sync the folder of", key, e)),
                }
            }
            folder = here.parent();
        }
        Ok(())
    }

    fn sweep(&self) -> Result<(), StorageError> {
        let folder = self.root.join(TEMPORARY);
        let sweep = || {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                other => other?,
            };
            for entry in entries {
                fs::remove_file(entry?.path())?;
            }
            Ok(())
        };
        sweep().map_err(|e| self.error("sweep", TEMPORARY, e))
    }

    fn free_bytes(&self) -> Result<Option<u64>, StorageError> {
        let space =
            nix::sys::statvfs::statvfs(&*self.root).map_err(|e| self.error("look at the space of", "", e.into()))?;
        // What a process without privileges can still write.
        #[allow(clippy::unnecessary_cast, reason = "the types differ between platforms")]
        Ok(Some((space.blocks_available() as u64).saturating_mul(space.fragment_size() as u64)))
    }

    fn lock(&self, owner: &str) -> Result<Box<dyn Lease>, StorageError> {
        let fail = |error| self.error("lock", LOCK, error);
        let path = self.root.join(LOCK);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(&path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.take(1000).read_to_string(&mut text);
                let text = text.trim();
                let owner = if text.is_empty() { "a process that left no name" } else { text };
                let error = fail(io::Error::new(io::ErrorKind::WouldBlock, owner.to_owned()));
                return Err(error.with_kind(StorageErrorKind::Locked));
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        let write = |file: &mut File| {
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            writeln!(file, "{owner}")
        };
        write(&mut file).map_err(fail)?;
        Ok(Box::new(LocalLease { file }))
    }
}

#[derive(Debug)]
struct LocalLease {
    file: File,
}

impl Lease for LocalLease {}

impl Drop for LocalLease {
    fn drop(&mut self) {
        // The lock itself goes with the descriptor; the text would only mislead.
        let _ = self.file.set_len(0);
    }
}

/// A file in `tmp/` that is removed unless it is renamed.
struct Temporary {
    file: File,
    path: Option<PathBuf>,
    storage: LocalStorage,
}

impl Temporary {
    fn rename(mut self, target: &Path, mode: PutMode) -> io::Result<()> {
        let Some(path) = self.path.take() else { return Ok(()) };
        let result = self.try_rename(&path, target, mode);
        if result.is_err() {
            let _ = fs::remove_file(&path);
        }
        result?;
        target.parent().map_or(Ok(()), sync_directory)
    }

    fn try_rename(&self, path: &Path, target: &Path, mode: PutMode) -> io::Result<()> {
        let mut attempts = 0;
        loop {
            self.storage.make_parents(target)?;
            match rename(path, target, mode) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempts < RENAME_ATTEMPTS => attempts += 1,
                other => return other,
            }
        }
    }
}

impl Upload for Temporary {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.file.write_all(bytes).map_err(|e| self.storage.error("write", TEMPORARY, e))
    }

    fn publish(self: Box<Self>, key: &str) -> Result<(), StorageError> {
        let storage = self.storage.clone();
        let path = storage.path("write", key)?;
        let is_pack = key.starts_with(PACKS);
        let hit = |place| if is_pack { fail_point::hit(place) } else { Ok(()) };
        let publish = || {
            hit("pack-written")?;
            self.file.sync_data()?;
            hit("pack-synced")?;
            self.rename(&path, PutMode::Overwrite)?;
            hit("pack-renamed")
        };
        publish().map_err(|e| storage.error("write", key, e))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

fn rename(from: &Path, to: &Path, mode: PutMode) -> io::Result<()> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    if mode == PutMode::Overwrite {
        return fs::rename(from, to);
    }
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // A file system without the flag. The lock makes this process the only writer, so looking first is enough.
        Err(nix::Error::EINVAL | nix::Error::ENOSYS) => match to.symlink_metadata() {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(from, to),
        },
        other => Ok(other?),
    }
}

fn new_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

fn open_plain(path: &Path) -> io::Result<File> {
    // O_NONBLOCK keeps a FIFO that somebody put there from blocking us for ever; it means nothing to plain files.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a plain file")) }
}

fn make_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        other => other?,
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    path.parent().filter(|p| !p.as_os_str().is_empty()).map_or(Ok(()), sync_directory)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;
    use crate::repository::storage::conformance;

    fn storage() -> (tempfile::TempDir, LocalStorage) {
        let folder = tempfile::tempdir().unwrap();
        let storage = LocalStorage::new(folder.path().join("r"));
        storage.create_root().unwrap();
        (folder, storage)
    }

    #[test]
    fn conforms() {
        let (_folder, storage) = storage();
        conformance::suite(&storage);
    }

    #[test]
    fn files_are_private_and_links_are_not_followed() {
        let (folder, storage) = storage();
        storage.put("a/b", b"x", PutMode::Overwrite).unwrap();
        assert_eq!(storage.root.join("a/b").metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(storage.root.join("a").metadata().unwrap().mode() & 0o777, 0o700);
        fs::write(folder.path().join("secret"), b"s").unwrap();
        symlink(folder.path().join("secret"), storage.root.join("a/link")).unwrap();
        assert!(storage.get("a/link").is_err());
        assert!(storage.size("a/link").is_err());
        assert_eq!(storage.list("").unwrap().len(), 1);
    }

    #[test]
    fn a_root_that_vanished_is_an_error_not_an_empty_listing() {
        let (_folder, storage) = storage();
        fs::remove_dir_all(storage.root()).unwrap();
        assert!(storage.list("packs/").is_err());
        assert!(storage.list("").is_err());
        assert!(storage.delete("packs/a").is_err());
        assert!(storage.put("a", b"", PutMode::Overwrite).is_err());
        assert!(!storage.root().exists());
    }

    #[test]
    fn emptied_backup_folders_go() {
        let (_folder, storage) = storage();
        storage.put("backups/s/_/b/x", b"", PutMode::Overwrite).unwrap();
        storage.delete("backups/s/_/b/x").unwrap();
        assert!(!storage.root.join("backups/s").exists());
        assert!(storage.root.join("backups").exists());
    }
}
