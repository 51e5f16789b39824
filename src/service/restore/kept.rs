//! What a restore in place puts away and an undo brings back: a database under another name on the same server, or a file
//! beside the one that was replaced. Here, and only here, the two are told apart.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::target::{PostgresTarget, SqliteTarget};
use crate::{
    clock,
    config::SourceKind,
    model::{ErrorCode, RunId},
    service::{ServiceError, engine::Engine, operations::UndoOptions},
    source::{
        JobContext, Settled,
        postgres::restore::{self as postgres, Swap},
        sqlite::restore::{self as sqlite, FileSwap},
    },
};

/// What changed places, and how it comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kept {
    /// A database, under another name on the same server.
    Database(Swap),
    /// The contents of a file, in another one beside it.
    File(FileSwap),
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Database(swap) => write!(f, "database {}", swap.kept),
            Self::File(swap) => write!(f, "{}", swap.kept.display()),
        }
    }
}

impl Kept {
    /// The name that clients use.
    pub(super) fn target(&self) -> String {
        match self {
            Self::Database(swap) => swap.name.lossy().into_owned(),
            Self::File(swap) => swap.path.to_string_lossy().into_owned(),
        }
    }

    /// Where it is kept.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Database(swap) => swap.kept.lossy().into_owned(),
            Self::File(swap) => swap.kept.to_string_lossy().into_owned(),
        }
    }

    /// The way back, as what another run does.
    pub(super) fn reversed(&self, run: RunId) -> Self {
        match self {
            Self::Database(swap) => Self::Database(swap.reversed(run)),
            Self::File(swap) => Self::File(swap.reversed(run)),
        }
    }

    /// Refuses where the source is not configured any more, which its server is reached by. A file needs no source.
    pub(super) fn check_reachable(&self, engine: &Engine, source: &str) -> Result<(), ServiceError> {
        match self {
            Self::Database(_) => server(engine, source).map(drop),
            Self::File(_) => Ok(()),
        }
    }

    /// Its size, bytes; `None` where it is gone.
    pub(super) fn size(&self, engine: &Engine, source: &str) -> Result<Option<u64>, ServiceError> {
        match self {
            Self::Database(swap) => {
                let checks = engine.early_checks()?;
                Ok(postgres::kept_size(&server(engine, source)?.connection, swap, checks.context())?)
            }
            Self::File(swap) => Ok(sqlite::kept_size(swap)),
        }
    }

    /// Why it cannot be brought back, if something is in the way; `size` is what [`Kept::size`] gave.
    pub(super) fn objection(&self, size: Option<u64>) -> Option<String> {
        match self {
            Self::Database(swap) => size.is_none().then(|| format!("the database {} is not there any more", swap.kept)),
            Self::File(swap) => sqlite::objection(swap),
        }
    }

    /// What bringing it back does, a sentence each.
    pub(super) fn steps(&self, since: u64) -> Vec<String> {
        let since = clock::rfc3339(since);
        match self {
            Self::Database(swap) => {
                let (name, kept) = (swap.name.display(), swap.kept.display());
                vec![
                    format!("let nobody into {name:?} any more, and end the sessions with it"),
                    format!("in one transaction give {name:?} another name and {kept:?} its own again"),
                    format!("keep what is {name:?} now, with all that was written since {since}, as an undo copy"),
                ]
            }
            Self::File(swap) => {
                let (path, kept) = (swap.path.display(), swap.kept.display());
                vec![
                    format!("wait for those who use {path}, and lock it"),
                    format!("keep what it holds now, with all that was written since {since}, as an undo copy"),
                    format!("in one transaction give it the contents of {kept} again, and remove that"),
                ]
            }
        }
    }

    /// Changes the places. Whether that happened is told by [`Kept::settle`].
    pub(super) fn exchange(
        &self,
        engine: &Engine,
        source: &str,
        options: &UndoOptions,
        context: &JobContext,
    ) -> Result<(), ServiceError> {
        match self {
            Self::Database(swap) => {
                let connection = server(engine, source)?.connection;
                postgres::undo(&connection, swap, options.break_replication, context)?;
            }
            Self::File(swap) => sqlite::exchange(swap, lock_timeout(engine, source), &context.cancel)?,
        }
        Ok(())
    }

    /// Finds out whether the places were changed, and puts everything in order where they were not.
    pub(super) fn settle(&self, engine: &Engine, source: &str) -> Result<Settled, ServiceError> {
        Ok(match self {
            Self::Database(swap) => {
                let checks = engine.early_checks()?;
                postgres::settle(&server(engine, source)?.connection, swap, checks.context())?
            }
            Self::File(swap) => sqlite::settle(swap, lock_timeout(engine, source))?,
        })
    }

    /// Removes what has no use after the places were changed.
    pub(super) fn finish(&self) -> Result<(), ServiceError> {
        match self {
            Self::Database(_) => Ok(()),
            Self::File(swap) => Ok(sqlite::finish(swap)?),
        }
    }

    /// Drops what is kept.
    pub(super) fn drop(&self, engine: &Engine, source: &str) -> Result<(), ServiceError> {
        match self {
            Self::Database(swap) => {
                let checks = engine.housekeeping()?;
                Ok(postgres::drop_kept(&server(engine, source)?.connection, swap, checks.context())?)
            }
            Self::File(swap) => Ok(sqlite::drop_kept(swap)?),
        }
    }
}

/// Where the databases of a source are restored to.
pub(super) fn server(engine: &Engine, source: &str) -> Result<PostgresTarget, ServiceError> {
    match kind(engine, source) {
        Some(SourceKind::Postgres(postgres)) => Ok(PostgresTarget::of(&postgres)),
        Some(_) => {
            Err(ServiceError::new(ErrorCode::NoSuchSource, format!("source {source} is no PostgreSQL server any more")))
        }
        None => Err(ServiceError::new(ErrorCode::NoSuchSource, format!("source {source} is not configured any more"))),
    }
}

fn kind(engine: &Engine, source: &str) -> Option<SourceKind> {
    let config = engine.config();
    source.parse().ok().and_then(|name| config.sources.get(&name)).map(|source| source.kind.clone())
}

/// How long those who use a file are waited for.
fn lock_timeout(engine: &Engine, source: &str) -> Duration {
    match kind(engine, source) {
        Some(SourceKind::Sqlite(sqlite)) => sqlite.lock_timeout,
        _ => SqliteTarget::default().lock_timeout,
    }
}
