//! The last step of a restore: the new database gets its name, alone or in the place of another.

use std::time::{Duration, Instant};

use super::{
    create_roles,
    database::{self, belongings},
    existing::Existing,
    hooks::{self, When},
    plan::Remark,
    report::hit,
    request::{Milestone, OnExisting, replaced_name},
    run::{Restore, State},
    swap::{self, Swap},
};
use crate::{
    model::{ErrorCode, Name},
    source::{Settled, SourceError, postgres::connection::Session},
    stream::Cancel,
};

/// How long is waited for a server that went away in the middle of a swap. Its restart is what tells.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is asked meanwhile.
const ASKED_EVERY: Duration = Duration::from_millis(500);

impl Restore<'_> {
    /// Gives the database its name.
    pub(super) fn publish(&mut self) -> Result<(), SourceError> {
        let decisions = self.decisions;
        let session = self.witness()?;
        match &decisions.replaces {
            Some((existing, kept)) => self.replace(existing, kept, &session)?,
            None if decisions.beside => self.tables_beside = self.put_beside(session)?,
            None => self.name(&session)?,
        }
        if !decisions.me.superuser {
            let given_up = self.context.runtime.block_on(async {
                // It is there now: a cancel comes too late.
                let never = Cancel::new();
                let session = Session::connect(&decisions.maintenance, &never).await?;
                create_roles::stop_acting_for(&session, &never, &self.created_roles).await
            });
            if let Err(error) = given_up {
                self.notices.push(Remark { what: "membership".to_owned(), message: error.to_string() });
            }
        }
        if !decisions.beside {
            self.over();
        }
        Ok(())
    }

    /// The session that has lasted since before the first statement, over which alone may be published.
    fn witness(&mut self) -> Result<Session, SourceError> {
        match self.witness.take() {
            Some(witness) => witness.end(self.context),
            None => Err(SourceError::new(ErrorCode::Internal, "a restore without a witness")),
        }
    }

    /// The name is free, or that of a database that holds nothing.
    fn name(&mut self, session: &Session) -> Result<(), SourceError> {
        let (decisions, cancel) = (self.decisions, &self.context.cancel);
        let (temporary, target, state) = (&self.temporary, self.target, &mut self.state);
        let replaced = decisions.replaces_vacant.then(|| replaced_name(temporary));
        let connection = &self.request.connection;
        let made_way = self.context.runtime.block_on(async {
            let properties = &decisions.properties;
            database::publish(session, cancel, temporary, target, replaced.as_ref(), properties).await?;
            *state = State::Published;
            hit("restore-published")?;
            // It is there now: a cancel comes too late.
            let never = Cancel::new();
            Ok::<_, SourceError>(match &replaced {
                Some(replaced) => database::drop_replaced(session, connection, &never, replaced).await,
                None => Ok(true),
            })
        })?;
        if let Some((replaced, problem)) = replaced.zip(not_dropped(made_way)) {
            let message = format!(
                "the database that was called {:?} is there as {:?}: {problem}",
                target.display(),
                replaced.display()
            );
            tracing::warn!("{message}");
            self.notices.push(Remark { what: "replaced".to_owned(), message });
        }
        Ok(())
    }

    /// The name is that of a database that is kept under another.
    fn replace(&mut self, existing: &Existing, kept: &Name, session: &Session) -> Result<(), SourceError> {
        let (request, context) = (self.request, self.context);
        let swap = self.planned_swap(existing, kept)?;
        (request.journal)(Milestone::Swapping(&swap))?;
        hit("swap-planned")?;
        let hooks = &request.hooks;
        let before = hooks::run(&hooks.before, When::Before, &swap, request.run_id, context);
        let exchanged = before.and_then(|()| self.exchange(&swap, session));
        let settled = match &exchanged {
            Ok(()) => Ok(Settled::Swapped),
            Err(_) => self.settle(&swap),
        };
        match settled {
            Ok(Settled::Swapped) => self.state = State::Published,
            Ok(Settled::NotSwapped) => {}
            Err(_) => self.state = State::Unknown,
        }
        let swapped = self.state == State::Published;
        if let Err(error) = hooks::run(&hooks.after, When::After { swapped }, &swap, request.run_id, context) {
            tracing::error!("{error}");
            self.notices.push(Remark { what: "post-swap".to_owned(), message: error.to_string() });
        }
        match (exchanged, settled) {
            (_, Ok(Settled::Swapped)) => {
                hit("swap-committed")?;
                (request.journal)(Milestone::Swapped(&swap))
            }
            (Err(error), Ok(Settled::NotSwapped)) => Err(error),
            (Err(error), Err(unknown)) => Err(SourceError::new(
                ErrorCode::RestoreFailed,
                format!(
                    "{error}; whether the databases were swapped could not be told: {unknown}; it is looked at again until it can"
                ),
            )),
            // An exchange without an error has happened.
            (Ok(()), _) => Err(SourceError::new(ErrorCode::Internal, "a swap that was done is not done")),
        }
    }

    fn planned_swap(&self, existing: &Existing, kept: &Name) -> Result<Swap, SourceError> {
        let cancel = &self.context.cancel;
        let incoming = self.context.runtime.block_on(async {
            let session = Session::connect(&self.decisions.maintenance, cancel).await?;
            swap::oid_of(&session, cancel, &self.temporary).await
        })?;
        let incoming = incoming.ok_or_else(|| {
            let message = format!("the new database {:?} is gone", self.temporary.display());
            SourceError::new(ErrorCode::RestoreFailed, message)
        })?;
        Ok(existing.swap(self.target, &self.temporary, incoming, kept.clone()))
    }

    fn exchange(&self, swap: &Swap, session: &Session) -> Result<(), SourceError> {
        let (decisions, context) = (self.decisions, self.context);
        let break_replication =
            matches!(self.request.options.existing, OnExisting::Replace { break_replication: true });
        let properties = belongings(&decisions.properties, self.target);
        // The last moment: from here on it is carried through.
        context.cancel.check()?;
        let connection = &self.request.connection;
        context.runtime.block_on(swap::exchange(session, connection, swap, &properties, break_replication))
    }

    /// Finds out what became of a swap that met an error, also over a restart of the server.
    fn settle(&self, swap: &Swap) -> Result<Settled, SourceError> {
        let began = Instant::now();
        loop {
            let error = match swap::settle(&self.request.connection, swap, self.context) {
                Ok(settled) => return Ok(settled),
                Err(error) => error,
            };
            let may_come_back = !matches!(error.code(), ErrorCode::RestoreRefused | ErrorCode::AuthenticationFailed);
            let waits = may_come_back && began.elapsed() < PATIENCE && self.context.cancel.check().is_ok();
            if !waits {
                return Err(error);
            }
            self.context.runtime.block_on(tokio::time::sleep(ASKED_EVERY));
        }
    }

    /// The journal is only longer than needed when this fails.
    pub(super) fn over(&self) {
        if let Err(error) = (self.request.journal)(Milestone::Over) {
            tracing::warn!(%error, "the temporary name of a restore stays in the journal");
        }
    }
}

/// Why a database that made way is still there.
fn not_dropped(made_way: Result<bool, SourceError>) -> Option<String> {
    match made_way {
        Ok(true) => None,
        Ok(false) => Some("somebody has used it meanwhile".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}
