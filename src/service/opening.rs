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
    changes::Changes,
    engine::Folders,
    error::ServiceError,
    jobs::{JobEvent, Jobs},
    known_repository,
};
use crate::{
    config::RepositoryConfig,
    model::{ErrorCode, message_id, summary::BackupSummary},
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
    listed: Mutex<Listed>,
    /// Why its file system could not be asked the last time.
    trouble: Mutex<Option<ServiceError>>,
    changes: Changes,
}

/// What the catalog holds, kept apart from it: nobody who only looks waits for one who reads manifests.
#[derive(Debug, Clone)]
struct Listed {
    backups: Arc<Vec<BackupSummary>>,
    problems: Arc<Vec<Problem>>,
}

impl Listed {
    fn of(catalog: &Catalog) -> Self {
        let backups = catalog.backups().into_iter().cloned().collect();
        Self { backups: Arc::new(backups), problems: Arc::new(catalog.problems().collect()) }
    }
}

impl Opened {
    fn open(config: &RepositoryConfig, folders: &Folders, changes: Changes) -> Result<Self, ServiceError> {
        let owned = known_repository::open(config, &folders.state)?;
        let index = folders.cache.join("backups.jsonl");
        let catalog = Catalog::open(&owned, Some(&index))?;
        let listed = Mutex::new(Listed::of(&catalog));
        let opened = Self { owned, index, catalog: Mutex::new(catalog), listed, trouble: Mutex::new(None), changes };
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
        self.listed().backups.clone()
    }

    /// Backups that cannot be listed.
    #[must_use]
    pub fn problems(&self) -> Arc<Vec<Problem>> {
        self.listed().problems.clone()
    }

    /// Bytes free in its file system; nothing where that has no meaning.
    ///
    /// # Errors
    /// `RepositoryUnavailable`.
    pub fn free_bytes(&self) -> Result<Option<u64>, ServiceError> {
        let free = self.reading().storage().free_bytes().map_err(|error| {
            ServiceError::new(ErrorCode::RepositoryUnavailable, format!("cannot ask for free space: {error}"))
        });
        let trouble = free.as_ref().err().cloned();
        let before = std::mem::replace(&mut *self.trouble(), trouble.clone());
        if before != trouble {
            self.changes.note();
        }
        free
    }

    /// Brings the list up to date, after something was written, and tells the listeners of what came and went.
    ///
    /// # Errors
    /// `RepositoryUnavailable`, `Io`; the list stays as it was.
    pub(super) fn refresh(&self, jobs: &Jobs) -> Result<(), ServiceError> {
        let mut catalog = self.catalog();
        if catalog.refresh(self.reading())? {
            let before = self.backups();
            *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = Listed::of(&catalog);
            // The catalog is still locked, so each difference is told once.
            changes(&before, &self.backups()).into_iter().for_each(|change| jobs.tell(change));
            self.changes.note();
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

    fn listed(&self) -> Listed {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn trouble(&self) -> MutexGuard<'_, Option<ServiceError>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

/// What is known of the repository.
#[derive(Debug)]
pub(super) struct RepositoryStatus {
    pub(super) state: &'static str,
    pub(super) problem: String,
    pub(super) backups: u64,
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
    changes: Changes,
}

impl Opening {
    /// Begins to open the repository. Reading ten thousand manifests for the first time takes a while, and a daemon
    /// that serves only `status` meanwhile is better than one that is not there.
    pub(super) fn begin(config: &RepositoryConfig, folders: &Folders, runtime: &Handle, changes: Changes) -> Self {
        let opening = Self { state: watch::Sender::new(State::Opening), changes };
        runtime.spawn(opening.clone().open(config.clone(), folders.clone()));
        opening
    }

    async fn open(self, config: RepositoryConfig, folders: Folders) {
        let mut reported = None;
        loop {
            let (config, folders, changes) = (config.clone(), folders.clone(), self.changes.clone());
            let opened = tokio::task::spawn_blocking(move || Opened::open(&config, &folders, changes)).await;
            let error = match opened {
                Ok(Ok(opened)) => {
                    for problem in opened.problems().iter() {
                        tracing::error!(MESSAGE_ID = message_id::DAMAGE_FOUND, "{}", problem.message);
                    }
                    tracing::info!(
                        MESSAGE_ID = message_id::REPOSITORY_OPENED,
                        "repository {} is open, {} backups",
                        opened.reading().storage().name(),
                        opened.backups().len()
                    );
                    self.enter(State::Open(Arc::new(opened)));
                    return;
                }
                Ok(Err(error)) => error,
                Err(panic) => ServiceError::new(ErrorCode::Internal, format!("opening the repository failed: {panic}")),
            };
            let code = error.code();
            // Another owner ends the daemon, which says why.
            if code != ErrorCode::RepositoryLocked && reported.as_ref() != Some(&error) {
                tracing::error!(
                    MESSAGE_ID = message_id::REPOSITORY_UNAVAILABLE,
                    BACKUPD_ERROR = code.name(),
                    "{error}"
                );
                reported = Some(error.clone());
            }
            self.enter(State::Unavailable(error));
            if code == ErrorCode::RepositoryLocked {
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn enter(&self, state: State) {
        self.state.send_replace(state);
        self.changes.note();
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

    /// What is known; asks nobody.
    pub(super) fn status(&self) -> RepositoryStatus {
        let (state, problem, backups) = match &*self.state.borrow() {
            State::Opening => ("opening", String::new(), 0),
            State::Unavailable(error) => ("unavailable", error.to_string(), 0),
            State::Open(opened) => {
                let Listed { backups, problems } = opened.listed();
                match &*opened.trouble() {
                    Some(error) => ("unavailable", error.to_string(), backups.len()),
                    None => {
                        let problems: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
                        ("ready", problems.join("; "), backups.len())
                    }
                }
            }
        };
        RepositoryStatus { state, problem, backups: backups as u64 }
    }

    /// Bytes free in the repository's file system, 0 where they are not known. What keeps it from answering is in the
    /// status afterwards.
    pub(super) fn free_bytes(&self) -> u64 {
        let opened = self.get();
        opened.and_then(|opened| opened.free_bytes()).ok().flatten().unwrap_or_default()
    }
}
