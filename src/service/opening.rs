//! The repository as the daemon has it: being opened, open, or unavailable and tried again.
//!
//! Invariants: there is at most one [`Opened`] at a time, and it holds the lease; its list of backups is brought up to
//! date by the jobs of this daemon after they wrote, for nobody else writes.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, sync::watch};

use super::{
    engine::Folders,
    error::ServiceError,
    jobs::{JobEvent, Jobs},
    known_repository,
};
use crate::{
    config::RepositoryConfig,
    model::{ErrorCode, summary::BackupSummary},
    repository::{Catalog, OwnedRepository, Problem, Repository},
};

/// How long to wait before a repository that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(15);

/// An opened repository and the backups in it.
#[derive(Debug)]
pub struct Opened {
    owned: OwnedRepository,
    index: PathBuf,
    catalog: Mutex<Catalog>,
    backups: Mutex<Arc<Vec<BackupSummary>>>,
}

impl Opened {
    fn open(config: &RepositoryConfig, folders: &Folders) -> Result<Self, ServiceError> {
        let owned = known_repository::open(config, &folders.state)?;
        let index = folders.cache.join("backups.jsonl");
        let catalog = Catalog::open(&owned, Some(&index))?;
        let opened = Self { owned, index, backups: Mutex::new(Arc::new(list(&catalog))), catalog: Mutex::new(catalog) };
        opened.save(&opened.catalog());
        Ok(opened)
    }

    /// For reading.
    #[must_use]
    pub fn reading(&self) -> &Repository {
        &self.owned
    }

    /// For writing.
    #[must_use]
    pub fn owned(&self) -> &OwnedRepository {
        &self.owned
    }

    /// All backups, in the order of listings.
    #[must_use]
    pub fn backups(&self) -> Arc<Vec<BackupSummary>> {
        self.backups.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Backups that cannot be listed.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.catalog().problems().collect()
    }

    /// Bytes free in its file system; nothing where that has no meaning.
    ///
    /// # Errors
    /// `RepositoryUnavailable`.
    pub fn free_bytes(&self) -> Result<Option<u64>, ServiceError> {
        self.reading().storage().free_bytes().map_err(|error| {
            ServiceError::new(ErrorCode::RepositoryUnavailable, format!("cannot ask for free space: {error}"))
        })
    }

    /// Brings the list up to date, after something was written, and tells the listeners of what came and went.
    ///
    /// # Errors
    /// `RepositoryUnavailable`, `Io`; the list stays as it was.
    pub(super) fn refresh(&self, jobs: &Jobs) -> Result<(), ServiceError> {
        let mut catalog = self.catalog();
        if catalog.refresh(self.reading())? {
            let before = self.backups();
            *self.backups.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(list(&catalog));
            // The catalog is still locked, so each difference is told once.
            changes(&before, &self.backups()).into_iter().for_each(|change| jobs.tell(change));
            self.save(&catalog);
        }
        Ok(())
    }

    /// The index only saves time: where it cannot be written, the next start reads the manifests again.
    fn save(&self, catalog: &Catalog) {
        if let Err(error) = catalog.save(self.reading(), &self.index) {
            tracing::warn!("cannot write the index {}, going on without it: {error}", self.index.display());
        }
    }

    fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn list(catalog: &Catalog) -> Vec<BackupSummary> {
    catalog.backups().into_iter().cloned().collect()
}

/// The backups that one list has and the other has not.
fn changes(before: &[BackupSummary], now: &[BackupSummary]) -> Vec<JobEvent> {
    let ids = |list: &[BackupSummary]| list.iter().map(|backup| backup.id).collect::<HashSet<_>>();
    let (old, new) = (ids(before), ids(now));
    let added = now.iter().filter(|backup| !old.contains(&backup.id));
    let removed = before.iter().filter(|backup| !new.contains(&backup.id));
    let added = added.map(|backup| JobEvent::BackupAdded { id: backup.id, source: backup.source.to_string() });
    let removed = removed.map(|backup| JobEvent::BackupRemoved { id: backup.id, source: backup.source.to_string() });
    added.chain(removed).collect()
}

/// What `status` says of the repository.
#[derive(Debug)]
pub(super) struct RepositoryStatus {
    pub(super) state: &'static str,
    pub(super) problem: String,
    pub(super) backups: u64,
    pub(super) free_bytes: u64,
}

#[derive(Debug)]
enum State {
    Opening,
    Open(Arc<Opened>),
    Unavailable(ServiceError),
}

/// A repository that is opened in the background and tried again until it is open. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    state: watch::Sender<State>,
}

impl Opening {
    /// Begins to open the repository. Reading ten thousand manifests for the first time takes a while, and a daemon
    /// that serves only `status` meanwhile is better than one that is not there.
    pub(super) fn begin(config: &RepositoryConfig, folders: &Folders, runtime: &Handle) -> Self {
        let opening = Self { state: watch::Sender::new(State::Opening) };
        runtime.spawn(opening.clone().open(config.clone(), folders.clone()));
        opening
    }

    async fn open(self, config: RepositoryConfig, folders: Folders) {
        let mut reported = None;
        loop {
            let (config, folders) = (config.clone(), folders.clone());
            let opened = tokio::task::spawn_blocking(move || Opened::open(&config, &folders)).await;
            let error = match opened {
                Ok(Ok(opened)) => {
                    for problem in opened.problems() {
                        tracing::error!("{}", problem.message);
                    }
                    tracing::info!(
                        "repository {} is open, {} backups",
                        opened.reading().storage().name(),
                        opened.backups().len()
                    );
                    self.state.send_replace(State::Open(Arc::new(opened)));
                    return;
                }
                Ok(Err(error)) => error,
                Err(panic) => ServiceError::new(ErrorCode::Internal, format!("opening the repository failed: {panic}")),
            };
            let code = error.code();
            // Another owner ends the daemon, which says why.
            if code != ErrorCode::RepositoryLocked && reported.as_ref() != Some(&error) {
                tracing::error!(BACKUPD_ERROR = code.name(), "{error}");
                reported = Some(error.clone());
            }
            self.state.send_replace(State::Unavailable(error));
            if code == ErrorCode::RepositoryLocked {
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The opened repository, or why it is not open.
    pub(super) fn get(&self) -> Result<Arc<Opened>, ServiceError> {
        match &*self.state.borrow() {
            State::Open(opened) => Ok(opened.clone()),
            State::Opening => Err(ServiceError::new(
                ErrorCode::RepositoryUnavailable,
                "the repository is still being opened; try again in a moment",
            )),
            State::Unavailable(error) => Err(error.clone()),
        }
    }

    /// Waits until the first attempt to open is over.
    pub(super) async fn settled(&self) {
        // The sender is this very value, so the channel does not close.
        let _ = self.state.subscribe().wait_for(|state| !matches!(state, State::Opening)).await;
    }

    /// Waits until another owner of the repository is found. Never returns otherwise.
    pub(super) async fn locked_by_another(&self) -> ServiceError {
        let mut states = self.state.subscribe();
        loop {
            if let State::Unavailable(error) = &*states.borrow_and_update()
                && error.code() == ErrorCode::RepositoryLocked
            {
                return error.clone();
            }
            if states.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub(super) fn status(&self) -> RepositoryStatus {
        let (state, problem, backups, free_bytes) = match &*self.state.borrow() {
            State::Opening => ("opening", String::new(), 0, 0),
            State::Unavailable(error) => ("unavailable", error.to_string(), 0, 0),
            State::Open(opened) => match opened.free_bytes() {
                Ok(free) => {
                    let problems: Vec<_> = opened.problems().into_iter().map(|problem| problem.message).collect();
                    ("ready", problems.join("; "), opened.backups().len(), free.unwrap_or_default())
                }
                Err(error) => ("unavailable", error.to_string(), opened.backups().len(), 0),
            },
        };
        RepositoryStatus { state, problem, backups: backups as u64, free_bytes }
    }
}
