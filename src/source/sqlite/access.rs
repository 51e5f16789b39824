//! Where a database lies and which rights reading it needs: the file, the folders above it, and the files that SQLite
//! keeps beside it.
//!
//! A database in WAL mode is read through `-wal` and `-shm` beside it, which every reader must be able to make: hence
//! write access to the folder (<https://sqlite.org/wal.html#read_only_databases>). What this process makes there must
//! not lock out the application that owns the database; [`Place::check_sidecars`] refuses before that happens.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, Uid, User, eaccess, geteuid};

use crate::{
    model::ErrorCode,
    source::{SourceError, shell::quoted},
};

/// A database file, its links resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    path: PathBuf,
    owner: u32,
    /// Permission bits.
    pub(super) mode: u32,
    /// Bytes of the file.
    pub(super) bytes: u64,
}

/// How a database is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// What other processes have left beside the database stays as it is.
    ReadOnly,
    /// SQLite may roll back what a writer that died left, and takes away again what it makes beside the database.
    ReadWrite,
}

impl Place {
    /// Looks a database up.
    ///
    /// # Errors
    /// `NoSuchDatabase`, `NotADatabase` for what is no file, `DatabasePermission` with the rights that are needed, `Io`.
    pub(super) fn look_up(configured: &Path) -> Result<Self, SourceError> {
        // Whose it is cannot be seen then; most likely his whose folder keeps others out.
        let denied = |path: &Path| {
            let owner =
                path.ancestors().skip(1).find_map(|folder| fs::metadata(folder).ok()).map(|folder| folder.uid());
            Self { path: path.to_owned(), owner: owner.unwrap_or(0), mode: 0, bytes: 0 }
        };
        let found = fs::canonicalize(configured).and_then(|path| Ok((fs::metadata(&path)?, path)));
        let (metadata, path) = found.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SourceError::new(
                ErrorCode::NoSuchDatabase,
                format!(
                    "there is no file {}; is `path` of the source right, and its file system mounted?",
                    configured.display()
                ),
            ),
            io::ErrorKind::PermissionDenied => denied(configured).denied("a folder above it cannot be entered"),
            _ => SourceError::io(format_args!("look at {}", configured.display()), &error),
        })?;
        if !metadata.is_file() {
            let message = format!("{} is not a file; check `path` of the source", configured.display());
            return Err(SourceError::new(ErrorCode::NotADatabase, message));
        }
        let place = Self { path, owner: metadata.uid(), mode: metadata.mode() & 0o7777, bytes: metadata.len() };
        if eaccess(place.path(), AccessFlags::R_OK).is_err() {
            return Err(place.denied("it may not be read"));
        }
        Ok(place)
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file beside it whose name ends so: `-wal`, `-shm`, `-journal`.
    pub(super) fn sidecar(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(suffix);
        name.into()
    }

    /// Bytes of a file beside it; 0 where there is none.
    pub(super) fn sidecar_bytes(&self, suffix: &str) -> u64 {
        fs::metadata(self.sidecar(suffix)).map_or(0, |metadata| metadata.len())
    }

    /// How to open it. A log that is there is left to its writers: closing a connection that may write would
    /// checkpoint it where it is the last one. Without one, the connection that makes it must be able to remove it.
    pub(super) fn access(&self) -> Access {
        let has_log = self.sidecar("-wal").exists();
        let may_write = eaccess(self.path(), AccessFlags::W_OK).is_ok();
        if has_log || !may_write { Access::ReadOnly } else { Access::ReadWrite }
    }

    /// Sees to it that files which SQLite may make beside the database are of use to the database's owner: otherwise
    /// its application would find a log that it cannot open, and stop. (For root, SQLite gives them to the owner.)
    ///
    /// # Errors
    /// `DatabasePermission` with the rights that are needed.
    pub(super) fn check_sidecars(&self) -> Result<(), SourceError> {
        let own = geteuid();
        if own.is_root() || own.as_raw() == self.owner {
            return Ok(());
        }
        if self.sidecar("-wal").exists() && self.sidecar("-shm").exists() {
            return Ok(());
        }
        let folder = self.folder();
        // SQLite makes its files with the database's mode, whatever the umask (findCreateFileMode and robust_open in its
        // os_unix.c).
        let mode = self.mode & 0o777;
        let probe = tempfile::Builder::new().prefix(".backupd-").make_in(folder, |path| {
            let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            Ok(file)
        });
        let probe = match probe {
            Ok(probe) => probe,
            // Then SQLite makes none either, and says whether it can do without.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            Err(error) => return Err(SourceError::io(format_args!("make a file in {}", folder.display()), &error)),
        };
        let metadata = probe.as_file().metadata();
        let metadata = metadata.map_err(|error| SourceError::io("look at a file just made", &error))?;
        let by_mode = metadata.mode() & 0o006 == 0o006
            || (metadata.mode() & 0o060 == 0o060 && belongs_to(self.owner, metadata.gid()));
        if by_mode || acl_grants(&access_list(probe.as_file()), self.owner) {
            return Ok(());
        }
        Err(self.denied("what SQLite makes beside it could not be used by its owner's application"))
    }

    /// The folder that it lies in.
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// The error for rights to read that are missing, with the commands that grant them.
    pub(super) fn denied(&self, why: &str) -> SourceError {
        self.denied_to("read", why)
    }

    /// The error for rights that are missing for what is `attempted`, with the commands that grant them.
    pub(super) fn denied_to(&self, attempted: &str, why: &str) -> SourceError {
        let user = name_of(geteuid());
        let owner = name_of(Uid::from_raw(self.owner));
        let mut commands = Vec::new();
        for folder in self.folder().ancestors().filter(|folder| !can_enter(folder)) {
            commands.push(format!("setfacl -m u:{user}:x {}", quoted(folder.as_os_str().as_encoded_bytes())));
        }
        commands.reverse();
        let folder = quoted(self.folder().as_os_str().as_encoded_bytes());
        commands.push(format!("setfacl -m u:{user}:rwx {folder}"));
        commands.push(format!("setfacl -d -m u:{user}:rw,u:{owner}:rw {folder}"));
        let files = ["", "-wal", "-shm"].map(|suffix| self.sidecar(suffix));
        let files: Vec<_> = files
            .iter()
            .filter(|file| **file == self.path || file.exists())
            .map(|file| quoted(file.as_os_str().as_encoded_bytes()))
            .collect();
        commands.push(format!("setfacl -m u:{user}:rw {}", files.join(" ")));
        SourceError::new(
            ErrorCode::DatabasePermission,
            format!(
                "the user {user} cannot {attempted} {}: {why}. Rights on the folder and the file that are enough, also in WAL \
                 mode: {}",
                self.path.display(),
                commands.join(" && ")
            ),
        )
    }
}

fn can_enter(folder: &Path) -> bool {
    eaccess(folder, AccessFlags::X_OK).is_ok()
}

fn name_of(user: Uid) -> String {
    User::from_uid(user).ok().flatten().map_or_else(|| user.to_string(), |user| user.name)
}

/// Whether a user is in a group, by the databases of users and groups.
fn belongs_to(user: u32, group: u32) -> bool {
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(user)) else { return false };
    let Ok(name) = std::ffi::CString::new(user.name) else { return false };
    nix::unistd::getgrouplist(&name, user.gid).is_ok_and(|groups| groups.iter().any(|known| known.as_raw() == group))
}

/// The extended attribute that holds the access control list of a file, empty where there is none.
fn access_list(file: &fs::File) -> Vec<u8> {
    let mut list = vec![0; 4096];
    let length = rustix::fs::fgetxattr(file, "system.posix_acl_access", &mut list[..]).unwrap_or_default();
    list.truncate(length);
    list
}

/// Whether an access control list lets a user read and write (acl(5); the layout is that of linux/posix_acl_xattr.h: a
/// version, then tag, rights and id of each entry, little endian).
fn acl_grants(list: &[u8], user: u32) -> bool {
    const USER: u16 = 0x02;
    const MASK: u16 = 0x10;
    const READ_WRITE: u16 = 0o6;
    let Some((version, entries)) = list.split_first_chunk::<4>() else { return false };
    if u32::from_le_bytes(*version) != 2 {
        return false;
    }
    let (mut granted, mut mask) = (0, 0o7);
    for entry in entries.as_chunks::<8>().0 {
        let [tag_low, tag_high, rights_low, rights_high, id @ ..] = *entry;
        let (tag, rights) = (u16::from_le_bytes([tag_low, tag_high]), u16::from_le_bytes([rights_low, rights_high]));
        match tag {
            USER if u32::from_le_bytes(id) == user => granted = rights,
            MASK => mask = rights,
            _ => {}
        }
    }
    granted & mask & READ_WRITE == READ_WRITE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, rights, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(rights.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn an_access_control_list_is_read_with_its_mask() {
        let none = u32::MAX;
        let entries = |mask| list(&[(1, 6, none), (2, 6, 1000), (4, 4, none), (0x10, mask, none), (0x20, 0, none)]);
        assert!(acl_grants(&entries(6), 1000));
        assert!(!acl_grants(&entries(4), 1000), "the mask takes it away");
        assert!(!acl_grants(&entries(6), 1001));
        assert!(!acl_grants(&[], 1000));
        assert!(!acl_grants(&[1, 2, 3], 1000));
    }

    #[test]
    fn a_place_says_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it's a.db");
        let code = |path: &Path| Place::look_up(path).unwrap_err().code();
        assert_eq!(code(&path), ErrorCode::NoSuchDatabase);
        assert_eq!(code(folder.path()), ErrorCode::NotADatabase);
        fs::write(&path, b"12345").unwrap();
        std::os::unix::fs::symlink(&path, folder.path().join("link")).unwrap();
        let place = Place::look_up(&folder.path().join("link")).unwrap();
        assert_eq!(place.path(), fs::canonicalize(&path).unwrap(), "SQLite keeps its files beside the real one");
        assert_eq!(place.bytes, 5);
        assert_eq!(place.access(), Access::ReadWrite);
        fs::write(place.sidecar("-wal"), b"1").unwrap();
        assert_eq!(place.access(), Access::ReadOnly);
        let message = place.denied("no").to_string();
        assert!(message.contains("setfacl -m u:") && message.contains(r"it'\''s a.db-wal'"), "{message}");
    }
}
