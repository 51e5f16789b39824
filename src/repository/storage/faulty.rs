//! A storage that fails, tears or lies at the n-th call.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Lease, Object, PutMode, Storage, StorageError, StorageErrorKind, Upload};

/// What happens at the n-th call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The call does nothing and says so.
    Fail,
    /// The call is carried out, and says that it was not.
    Lie,
    /// This and every later call fails: the storage is gone, or the process has died.
    Gone,
    /// The storage is full from here on: what writes fails, what reads and deletes works.
    Full,
}

/// The decorator. Clones share the count.
#[derive(Debug, Clone)]
pub(crate) struct FaultyStorage {
    inner: Arc<dyn Storage>,
    plan: Arc<Plan>,
}

#[derive(Debug)]
struct Plan {
    fault: Fault,
    at: u64,
    calls: AtomicU64,
}

enum Verdict {
    Pass,
    Refuse(io::Error),
    Lie(io::Error),
}

impl Plan {
    fn judge(&self, writes: bool) -> Verdict {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let error = || io::Error::other("injected fault");
        match self.fault {
            Fault::Fail if call == self.at => Verdict::Refuse(error()),
            Fault::Lie if call == self.at => Verdict::Lie(error()),
            Fault::Gone if call >= self.at => Verdict::Refuse(error()),
            Fault::Full if call >= self.at && writes => Verdict::Refuse(io::ErrorKind::StorageFull.into()),
            _ => Verdict::Pass,
        }
    }

    fn run<T>(
        &self,
        operation: &'static str,
        key: &str,
        call: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        match self.judge(matches!(operation, "write" | "upload")) {
            Verdict::Pass => call(),
            Verdict::Refuse(error) => Err(StorageError::new(operation, key, error)),
            Verdict::Lie(error) => {
                let _ = call();
                Err(StorageError::new(operation, key, error).with_kind(StorageErrorKind::Other))
            }
        }
    }
}

impl FaultyStorage {
    pub(crate) fn new(inner: Arc<dyn Storage>, fault: Fault, at: u64) -> Self {
        Self { inner, plan: Arc::new(Plan { fault, at, calls: AtomicU64::new(0) }) }
    }

    /// How many calls were made so far.
    pub(crate) fn calls(&self) -> u64 {
        self.plan.calls.load(Ordering::SeqCst)
    }
}

impl Storage for FaultyStorage {
    fn name(&self) -> String {
        self.inner.name()
    }
    fn put(&self, key: &str, bytes: &[u8], mode: PutMode) -> Result<(), StorageError> {
        self.plan.run("write", key, || self.inner.put(key, bytes, mode))
    }
    fn upload(&self) -> Result<Box<dyn Upload>, StorageError> {
        let upload = self.plan.run("upload", "", || self.inner.upload())?;
        Ok(Box::new(FaultyUpload { inner: upload, plan: self.plan.clone() }))
    }
    fn get(&self, key: &str) -> Result<Vec<u8>, StorageError> {
        self.plan.run("read", key, || self.inner.get(key))
    }
    fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Vec<u8>, StorageError> {
        self.plan.run("read", key, || self.inner.get_range(key, offset, length))
    }
    fn size(&self, key: &str) -> Result<u64, StorageError> {
        self.plan.run("look at", key, || self.inner.size(key))
    }
    fn list(&self, prefix: &str) -> Result<Vec<Object>, StorageError> {
        self.plan.run("list", prefix, || self.inner.list(prefix))
    }
    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.plan.run("delete", key, || self.inner.delete(key))
    }
    fn sweep(&self) -> Result<(), StorageError> {
        self.plan.run("sweep", "", || self.inner.sweep())
    }
    fn free_bytes(&self) -> Result<Option<u64>, StorageError> {
        self.plan.run("look at", "", || self.inner.free_bytes())
    }
    fn lock(&self, owner: &str) -> Result<Box<dyn Lease>, StorageError> {
        self.inner.lock(owner)
    }
}

struct FaultyUpload {
    inner: Box<dyn Upload>,
    plan: Arc<Plan>,
}

impl Upload for FaultyUpload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let plan = self.plan.clone();
        plan.run("write", "", || self.inner.write(bytes))
    }
    fn publish(self: Box<Self>, key: &str) -> Result<(), StorageError> {
        let Self { inner, plan } = *self;
        plan.run("write", key, || inner.publish(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::storage::{LocalStorage, conformance};

    #[test]
    fn conforms_where_nothing_is_injected() {
        let folder = tempfile::tempdir().unwrap();
        conformance::suite(&FaultyStorage::new(Arc::new(LocalStorage::new(folder.path())), Fault::Fail, u64::MAX));
    }
}
