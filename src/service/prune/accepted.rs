//! Under which policy the backups of a source were last pruned: one that changed is noticed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{config::RetentionPolicy, model::SourceName, service::state_file};

/// The policies, in a file of the daemon's state. One that cannot be read is as one that is not there: then every policy
/// is new, which deletes less, not more.
#[derive(Debug)]
pub(in crate::service) struct Accepted {
    path: PathBuf,
    policies: Mutex<BTreeMap<SourceName, RetentionPolicy>>,
}

impl Accepted {
    /// As the file in the state folder has them.
    pub(in crate::service) fn open(state: &Path) -> Self {
        let path = state.join("retention.json");
        let read = std::fs::read(&path).map_err(|error| error.to_string());
        let policies = read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
        let policies = policies.unwrap_or_else(|error| {
            if path.exists() {
                tracing::warn!("cannot read {}, so every retention counts as new: {error}", path.display());
            }
            BTreeMap::new()
        });
        Self { path, policies: Mutex::new(policies) }
    }

    /// Under which policy the source was pruned last, if it ever was.
    pub(super) fn of(&self, source: &SourceName) -> Option<RetentionPolicy> {
        self.policies().get(source).cloned()
    }

    /// From now on it was. Where that cannot be written, the next start asks again.
    pub(super) fn accept(&self, source: &SourceName, policy: &RetentionPolicy) {
        let mut policies = self.policies();
        if policies.get(source) == Some(policy) {
            return;
        }
        policies.insert(source.clone(), policy.clone());
        let written = serde_json::to_vec(&*policies).map_err(std::io::Error::other);
        if let Err(error) = written.and_then(|bytes| state_file::replace(&self.path, &bytes)) {
            tracing::warn!("cannot write {}: {error}", self.path.display());
        }
    }

    fn policies(&self) -> MutexGuard<'_, BTreeMap<SourceName, RetentionPolicy>> {
        self.policies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_remembered_over_restarts_and_a_torn_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (shop, policy) = ("shop".parse().unwrap(), RetentionPolicy::default());
        let accepted = Accepted::open(folder.path());
        assert_eq!(accepted.of(&shop), None);
        accepted.accept(&shop, &policy);
        assert_eq!(Accepted::open(folder.path()).of(&shop), Some(policy));
        std::fs::write(folder.path().join("retention.json"), "{").unwrap();
        assert_eq!(Accepted::open(folder.path()).of(&shop), None);
    }
}
