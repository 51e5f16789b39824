//! A temporary folder that a failing test keeps.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
};

/// A folder of its own, removed on drop. Its path is short enough for sockets, and other users may enter it (the
/// server of a test that runs as root is another user).
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes one.
    pub fn new() -> Self {
        let path = tempfile::Builder::new().prefix("backupd-").tempdir().expect("make a temporary folder").keep();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("open the temporary folder");
        Self { path }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if thread::panicking() || env::var_os("BACKUPD_TEST_KEEP").is_some() {
            eprintln!("kept for you to look at: {}", self.path.display());
        } else if let Err(e) = fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {e}", self.path.display());
        }
    }
}
