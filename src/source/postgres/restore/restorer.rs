//! Whether the restoring role has what restores of a source will need, before there is a backup. The plan of a restore
//! asks the same, and more, of one backup.

use std::time::Duration;

use super::survey;
use crate::{
    config::ConnectionSpec,
    model::{ErrorCode, Name},
    source::{
        JobContext, SourceError,
        postgres::{
            connection::{Session, get, location},
            examine::Owner,
            quote::quote_ident,
        },
    },
    stream::Cancel,
};

/// How long looking may take, the connection included.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What was found about the restoring role.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restorer {
    /// Whether it is a superuser.
    pub superuser: bool,
    /// What it lacks, a sentence each, with the statement that helps.
    pub missing: Vec<String>,
    /// What no privilege of an ordinary role can give.
    pub notices: Vec<String>,
}

/// Connects as the restoring role and looks what it may do for these owners. Blocks, at most ten seconds.
///
/// # Errors
/// As [`Session::connect`] and [`Session::query`].
pub fn look(connection: &ConnectionSpec, owners: &[Owner], context: &JobContext) -> Result<Restorer, SourceError> {
    let looking = async {
        let (session, _) = survey::maintenance(connection, &context.cancel).await?;
        judge(&session, &context.cancel, owners).await
    };
    context.runtime.block_on(async {
        tokio::time::timeout(TIMEOUT, looking).await.unwrap_or_else(|_| {
            let message = format!("{} did not answer within {} s", location(connection), TIMEOUT.as_secs());
            Err(SourceError::new(ErrorCode::DatabaseUnreachable, message))
        })
    })
}

async fn judge(session: &Session, cancel: &Cancel, owners: &[Owner]) -> Result<Restorer, SourceError> {
    let me = survey::me(session, cancel).await?;
    let mut found = Restorer { superuser: me.superuser, ..Restorer::default() };
    if me.superuser {
        return Ok(found);
    }
    let (shown, role) = (me.name.display(), quoted(&me.name));
    if !me.create_db {
        found.missing.push(format!("role {shown:?} may not create databases: ALTER ROLE {role} CREATEDB"));
    }
    for owner in owners {
        let name = owner.name.display();
        if owner.superuser {
            found.notices.push(format!(
                "objects of the superuser {name:?} cannot be given to it by {shown:?}: restore them as a superuser, or with --no-owner"
            ));
            continue;
        }
        match may_act_for(session, cancel, &owner.name).await? {
            Some(true) => {}
            Some(false) => found.missing.push(format!(
                "role {shown:?} is no member of {name:?} (or does not inherit its rights), which owns objects of the source: \
                 GRANT {} TO {role}",
                quoted(&owner.name)
            )),
            None => found.notices.push(format!(
                "the owner {name:?} does not exist where restores go to: they need --create-roles and the right CREATEROLE"
            )),
        }
    }
    Ok(found)
}

/// Whether the session's role may give objects to another and work on them afterwards; `None` where there is no such role.
pub(super) async fn may_act_for(session: &Session, cancel: &Cancel, owner: &Name) -> Result<Option<bool>, SourceError> {
    // A membership allows SET ROLE by itself before PostgreSQL 16.
    let set = if session.server().major() >= 16 { "AND pg_has_role(current_user, oid, 'SET')" } else { "" };
    let sql = format!("SELECT pg_has_role(current_user, oid, 'USAGE') {set} FROM pg_roles WHERE rolname::text = $1");
    let rows = session.query(cancel, "cannot read the restoring role's memberships", &sql, &[owner]).await?;
    rows.first().map(|row| get(row, 0)).transpose()
}

fn quoted(name: &Name) -> String {
    String::from_utf8_lossy(&quote_ident(name.as_bytes())).into_owned()
}
