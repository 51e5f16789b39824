//! How far a job is, written by its threads without locks and read by whoever shows it.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::model::job::Phase;

/// Progress of one job.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
}

impl Progress {
    /// Enters a phase.
    pub fn enter(&self, phase: Phase) {
        let index = Phase::ALL.iter().position(|p| *p == phase).unwrap_or_default();
        self.phase.store(u8::try_from(index).unwrap_or_default(), Ordering::Relaxed);
    }

    /// The phase entered last; [`Phase::Queued`] before any.
    #[must_use]
    pub fn phase(&self) -> Phase {
        Phase::ALL.get(usize::from(self.phase.load(Ordering::Relaxed))).copied().unwrap_or(Phase::Queued)
    }

    /// Counts plaintext bytes that were moved.
    pub fn add_bytes(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// States how many bytes are expected in all, as well as can be known; 0 for unknown.
    pub fn expect_bytes(&self, bytes: u64) {
        self.bytes_total.store(bytes, Ordering::Relaxed);
    }

    /// Plaintext bytes moved so far.
    #[must_use]
    pub fn bytes_done(&self) -> u64 {
        self.bytes_done.load(Ordering::Relaxed)
    }

    /// Bytes expected in all; 0 for unknown. An estimate: fewer or more may come.
    #[must_use]
    pub fn bytes_total(&self) -> u64 {
        self.bytes_total.load(Ordering::Relaxed)
    }
}
