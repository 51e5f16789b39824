//! Creating missing roles from `globals.sql`.
//!
//! Invariant: no statement, and so no password verifier, gets into an error or the journal.

use std::collections::BTreeSet;

use super::roles::Globals;
use crate::{
    model::Name,
    source::{
        SourceError,
        postgres::{connection::Session, quote::quote_ident},
    },
    stream::Cancel,
};

/// What is to be created.
pub(super) struct ToCreate<'a> {
    /// How.
    pub(super) globals: &'a Globals,
    /// Which roles.
    pub(super) create: &'a BTreeSet<Name>,
    /// Those that exist.
    pub(super) existing: &'a BTreeSet<Name>,
    /// Whether the restoring role becomes a member of them for the time of the restore: a superuser need not.
    pub(super) act_for_them: bool,
}

/// Creates the decided roles, their attributes and memberships. Each created role is added to `created` at once, so
/// that a failure can be undone. A role that came to exist meanwhile is left as it is.
pub(super) async fn create(
    session: &Session,
    cancel: &Cancel,
    what: &ToCreate<'_>,
    created: &mut Vec<Name>,
) -> Result<(), SourceError> {
    for role in what.create {
        if exists(session, cancel, role).await? {
            continue;
        }
        let attempted = format!("cannot create role {:?} from the backup", role.display());
        let mut statements = what.globals.statements_for(role).into_iter();
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
    let present: BTreeSet<Name> = what.existing.union(&made).cloned().collect();
    for statement in what.globals.memberships_of(&made, &present) {
        session.execute(cancel, "cannot restore the membership of a created role", &statement).await?;
    }
    if what.act_for_them {
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

/// Drops roles that were created, the last first. One that cannot be dropped is only reported. Whatever the cancel flag
/// says.
pub(super) async fn drop_again(session: &Session, roles: &[Name]) {
    let never = Cancel::new();
    for role in roles.iter().rev() {
        let sql = [b"DROP ROLE IF EXISTS ".as_slice(), &quote_ident(role.as_bytes())].concat();
        if let Err(error) = session.execute(&never, "cannot drop a role", &sql).await {
            tracing::warn!(role = %role, %error, "a role that this restore created was not dropped");
        }
    }
}

async fn exists(session: &Session, cancel: &Cancel, role: &Name) -> Result<bool, SourceError> {
    let sql = "SELECT 1 FROM pg_roles WHERE rolname::text = $1";
    Ok(!session.query(cancel, "cannot list the roles", sql, &[role]).await?.is_empty())
}
