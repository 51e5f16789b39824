//! One session that lasts from the first statement of a restore to the one that publishes it.
//!
//! The sessions that restore commit without waiting for the log. A server that crashes, or a single process of it, loses the
//! last of these commits, comes back, and answers as if nothing had been: rows that were counted may be gone. It also ends
//! every session. Invariant: what is published was restored while this session lasted, and is published over it.

use std::time::Duration;

use tokio::{sync::oneshot, task::JoinHandle};

use super::survey::Decisions;
use crate::{
    model::ErrorCode,
    source::{JobContext, SourceError, postgres::connection::Session},
    stream::Cancel,
};

/// How often it says something, so that nothing between here and the server takes it for dead.
const EVERY: Duration = Duration::from_secs(30);

/// The session, in the keeping of a task that uses it now and then.
#[derive(Debug)]
pub(super) struct Witness {
    give_back: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<Session, SourceError>>,
}

impl Witness {
    /// Keeps a session.
    pub(super) fn keep(session: Session, context: &JobContext) -> Self {
        let (give_back, mut wanted) = oneshot::channel();
        let task = context.runtime.spawn(async move {
            loop {
                tokio::select! {
                    _ = &mut wanted => return Ok(session),
                    () = tokio::time::sleep(EVERY) => look(&session).await?,
                }
            }
        });
        Self { give_back: Some(give_back), task }
    }

    /// Opens one.
    ///
    /// # Errors
    /// The server's.
    pub(super) fn open(decisions: &Decisions, context: &JobContext) -> Result<Self, SourceError> {
        let session = context.runtime.block_on(Session::connect(&decisions.maintenance, &context.cancel))?;
        Ok(Self::keep(session, context))
    }

    /// Gives the session back, which has lasted.
    ///
    /// # Errors
    /// `RestoreFailed` where the server has ended it.
    pub(super) fn end(mut self, context: &JobContext) -> Result<Session, SourceError> {
        if let Some(give_back) = self.give_back.take() {
            // A task that has ended says why below.
            let _ = give_back.send(());
        }
        context.runtime.block_on(async {
            let session = (&mut self.task).await.map_err(|error| lost(&error))?.map_err(|error| lost(&error))?;
            look(&session).await.map_err(|error| lost(&error))?;
            Ok(session)
        })
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn look(session: &Session) -> Result<(), SourceError> {
    session.query_one(&Cancel::new(), "cannot ask the server", "SELECT 1", &[]).await.map(drop)
}

fn lost(why: &dyn std::fmt::Display) -> SourceError {
    let message = format!(
        "the server has ended a session that was to last for all of the restore, so it may have crashed and lost what it had \
         not written yet: {why}"
    );
    SourceError::new(ErrorCode::RestoreFailed, message)
}
