//! Creating missing roles from `globals.sql`.
//!
//! Invariant: no statement, and so no password verifier, gets into an error or the journal.

use std::collections::BTreeSet;

use super::survey::Decisions;
use crate::{
    model::Name,
    source::{
        SourceError,
        postgres::{connection::Session, quote::quote_ident},
    },
    stream::Cancel,
};

/// Creates the decided roles, their attributes and memberships. Each created role is added to `created` at once, so
/// that a failure can be undone. A role that came to exist meanwhile is left as it is.
pub(super) async fn create(
    session: &Session,
    cancel: &Cancel,
    decisions: &Decisions,
    created: &mut Vec<Name>,
) -> Result<(), SourceError> {
    for role in &decisions.create_roles {
        if exists(session, cancel, role).await? {
            continue;
        }
        let attempted = format!("cannot create role {:?} from the backup", role.display());
        let mut statements = decisions.globals.statements_for(role).into_iter();
        let Some(create) = statements.next() else { continue };
        if let Err(error) = session.execute(cancel, &attempted, &create).await {
            if !matches!(error, SourceError::Canceled(_)) && exists(session, cancel, role).await? {
                continue;
            }
            return Err(error);
        }
        created.push(role.clone());
        for statement in statements {
            session.execute(cancel, &attempted, &statement).await?;
        }
    }
    let made: BTreeSet<Name> = created.iter().cloned().collect();
    let present: BTreeSet<Name> = decisions.existing_roles.union(&made).cloned().collect();
    for statement in decisions.globals.memberships_of(&made, &present) {
        session.execute(cancel, "cannot restore the membership of a created role", &statement).await?;
    }
    if !decisions.me.superuser {
        act_for(session, cancel, created).await?;
    }
    Ok(())
}

/// Makes the restoring role a member of what it created, so that it can give objects to these roles.
async fn act_for(session: &Session, cancel: &Cancel, roles: &[Name]) -> Result<(), SourceError> {
    for role in roles {
        let sql = [b"GRANT ".as_slice(), &quote_ident(role.as_bytes()), b" TO CURRENT_USER"].concat();
        let attempted = format!("cannot act for the created role {:?}", role.display());
        session.execute(cancel, &attempted, &sql).await?;
    }
    Ok(())
}

/// Ends the memberships that [`create`] added for the time of the restore.
pub(super) async fn stop_acting_for(session: &Session, cancel: &Cancel, roles: &[Name]) -> Result<(), SourceError> {
    for role in roles {
        let sql = [b"REVOKE ".as_slice(), &quote_ident(role.as_bytes()), b" FROM CURRENT_USER"].concat();
        session.execute(cancel, "cannot give up a membership", &sql).await?;
    }
    Ok(())
}

async fn exists(session: &Session, cancel: &Cancel, role: &Name) -> Result<bool, SourceError> {
    let sql = "SELECT 1 FROM pg_roles WHERE rolname::text = $1";
    Ok(!session.query(cancel, "cannot list the roles", sql, &[role]).await?.is_empty())
}
