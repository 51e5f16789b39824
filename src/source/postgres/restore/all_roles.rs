//! All roles of a server that another one lacks, made before the databases that need them.

use std::collections::BTreeSet;

use super::{
    archive,
    create_roles::{self, ToCreate},
    plan::Remark,
    roles::{Globals, MissingRole, is_predefined},
    survey::{self, Me, maintenance},
};
use crate::{
    config::ConnectionSpec,
    model::{Name, manifest::FileRole},
    source::{
        JobContext, SetReader, SourceError,
        postgres::connection::{Session, get},
    },
    stream::Cancel,
};

/// What would be done about roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolesPlan {
    /// The roles that would be created.
    pub create: Vec<Name>,
    /// Why that would fail.
    pub obstacles: Vec<Remark>,
}

/// Roles that were created for the databases that are restored next.
#[derive(Debug, Default)]
pub struct CreatedRoles {
    /// Their names.
    pub names: Vec<Name>,
    /// Whether the restoring role was made a member of each for the time of the restore.
    acting: bool,
}

/// What a server lacks.
struct Lack {
    me: Me,
    globals: Globals,
    existing: BTreeSet<Name>,
    missing: Vec<MissingRole>,
}

impl Lack {
    async fn find(session: &Session, globals: Globals, cancel: &Cancel) -> Result<Self, SourceError> {
        let me = survey::me(session, cancel).await?;
        let sql = "SELECT rolname::text FROM pg_roles";
        let rows = session.query(cancel, "cannot list the roles", sql, &[]).await?;
        let existing: BTreeSet<Name> = rows.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
        let wanted: BTreeSet<Name> = globals.roles().filter(|role| !is_predefined(role)).cloned().collect();
        let missing = globals.missing(&wanted, &existing);
        Ok(Self { me, globals, existing, missing })
    }

    fn create(&self) -> impl Iterator<Item = &MissingRole> {
        self.missing.iter().filter(|role| role.in_backup)
    }

    fn obstacles(&self) -> Vec<Remark> {
        let mut obstacles = Vec::new();
        if self.me.superuser {
            return obstacles;
        }
        if !self.me.create_role && self.create().next().is_some() {
            let message = format!("role {:?} may not create roles: ALTER ROLE … CREATEROLE", self.me.name.display());
            obstacles.push(Remark { what: "createrole".to_owned(), message });
        }
        for role in self.create().filter(|role| !role.superuser_attributes.is_empty()) {
            let attributes = role.superuser_attributes.join(", ");
            let message =
                format!("role {:?} is to have {attributes}, which only a superuser may give", role.name.display());
            obstacles.push(Remark { what: "superuser".to_owned(), message });
        }
        obstacles
    }
}

fn globals(reader: &dyn SetReader, context: &JobContext) -> Result<Globals, SourceError> {
    Ok(Globals::parse(&archive::read_role(reader, FileRole::Globals, context)?))
}

/// Which roles of the backup the server lacks, and what stands in the way of creating them. Touches nothing.
///
/// # Errors
/// `DatabaseUnreachable`, `AuthenticationFailed`…; the reader's.
pub fn plan_roles(
    connection: &ConnectionSpec,
    reader: &dyn SetReader,
    context: &JobContext,
) -> Result<RolesPlan, SourceError> {
    let globals = globals(reader, context)?;
    context.runtime.block_on(async {
        let (session, _) = maintenance(connection, &context.cancel).await?;
        let lack = Lack::find(&session, globals, &context.cancel).await?;
        Ok(RolesPlan { create: lack.create().map(|role| role.name.clone()).collect(), obstacles: lack.obstacles() })
    })
}

/// Creates the roles of the backup that the server lacks, with their attributes, settings and memberships. A role that
/// exists is left as it is.
///
/// # Errors
/// The server's, or the cancel, after the roles that were created were dropped again.
pub fn create_all_roles(
    connection: &ConnectionSpec,
    reader: &dyn SetReader,
    context: &JobContext,
) -> Result<CreatedRoles, SourceError> {
    let globals = globals(reader, context)?;
    context.runtime.block_on(async {
        let (session, _) = maintenance(connection, &context.cancel).await?;
        let lack = Lack::find(&session, globals, &context.cancel).await?;
        let create: BTreeSet<Name> = lack.create().map(|role| role.name.clone()).collect();
        let what = ToCreate {
            globals: &lack.globals,
            create: &create,
            existing: &lack.existing,
            act_for_them: !lack.me.superuser,
        };
        let mut names = Vec::new();
        match create_roles::create(&session, &context.cancel, &what, &mut names).await {
            Ok(()) => Ok(CreatedRoles { names, acting: !lack.me.superuser }),
            Err(error) => {
                create_roles::drop_again(&session, &names).await;
                Err(error)
            }
        }
    })
}

impl CreatedRoles {
    /// Ends what was only for the time of the restore. The job's cancel does not end it.
    ///
    /// # Errors
    /// The server's.
    pub fn settle(&self, connection: &ConnectionSpec, context: &JobContext) -> Result<(), SourceError> {
        if !self.acting || self.names.is_empty() {
            return Ok(());
        }
        let never = Cancel::new();
        context.runtime.block_on(async {
            let (session, _) = maintenance(connection, &never).await?;
            create_roles::stop_acting_for(&session, &never, &self.names).await
        })
    }
}
