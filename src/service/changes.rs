//! Word that what is shown of the daemon may have changed: its repository, the backups in it, its configuration.
//!
//! Invariant: only that something changed is told, never what. Who hears it looks at how things are, so nothing queues
//! up for one who is slow, and of several changes he sees the last.

use tokio::sync::watch;

/// Where changes are noted and watched. Clones share it.
#[derive(Debug, Clone)]
pub struct Changes {
    sender: watch::Sender<()>,
}

impl Changes {
    /// Nothing has changed yet.
    #[must_use]
    pub fn new() -> Self {
        Self { sender: watch::Sender::new(()) }
    }

    /// Something may look different from now on.
    pub fn note(&self) {
        self.sender.send_replace(());
    }

    /// Is told of changes from now on.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.sender.subscribe()
    }
}

impl Default for Changes {
    fn default() -> Self {
        Self::new()
    }
}
