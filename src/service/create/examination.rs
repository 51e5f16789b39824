//! What a source would meet, asked before it is configured: the early checks of a backup, who restores, and what either
//! will lack. Needs no daemon and no repository.

use serde::{Deserialize, Serialize};

use super::{databases::takes, taking::Taking};
use crate::{
    config::{PostgresConfig, SourceConfig, SourceKind},
    model::{Name, manifest::Selection},
    service::ServiceError,
    source::{
        JobContext, SourceError,
        postgres::{
            databases,
            dump::SharedGlobals,
            examine::{self, Owner},
            restore::restorer,
        },
    },
};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Examination {
    /// The server's version, for people; empty where none was reached.
    pub server: String,
    /// The server's major version.
    pub major: Option<u32>,
    /// How many databases were looked at.
    pub databases: usize,
    /// What stops a backup or a restore.
    pub problems: Vec<Finding>,
    /// What is worth knowing, a sentence each.
    pub notices: Vec<String>,
}

/// One thing that stops a backup or a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The name of the error's code.
    pub code: String,
    /// What is wrong and what helps.
    pub message: String,
    /// Whether only restoring is concerned.
    pub restoring: bool,
}

impl Examination {
    fn stops(&mut self, error: &ServiceError, restoring: bool) {
        let found = Finding { code: error.code().row().name.to_owned(), message: error.to_string(), restoring };
        if !self.problems.contains(&found) {
            self.problems.push(found);
        }
    }

    fn notice(&mut self, message: String) {
        if !self.notices.contains(&message) {
            self.notices.push(message);
        }
    }
}

/// Looks at what the source is, as the user that this process runs as. Blocks; the cancel flag ends it early.
#[must_use]
pub fn examine(source: &SourceConfig, context: &JobContext) -> Examination {
    let mut found = Examination::default();
    match &source.kind {
        SourceKind::Postgres(postgres) => examine_server(postgres, &mut found, context),
        SourceKind::Sqlite(_) => {
            let taking = Taking::of(&source.kind, &Selection::default());
            match taking.and_then(|taking| taking.preflight(context)) {
                Ok(_) => found.databases = 1,
                Err(error) => found.stops(&error, false),
            }
        }
    }
    found
}

fn examine_server(postgres: &PostgresConfig, found: &mut Examination, context: &JobContext) {
    let mut owners: Vec<Owner> = Vec::new();
    match names(postgres, context) {
        Ok(names) => {
            for name in &names {
                if let Err(error) = examine_database(postgres, name, &mut owners, found, context) {
                    let error = if postgres.all.is_some() { error.context(format!("database {name}")) } else { error };
                    found.stops(&error, false);
                }
            }
        }
        Err(error) => found.stops(&error.into(), false),
    }
    let Some(connection) = &postgres.restore else { return };
    match restorer::look(connection, &owners, context) {
        Ok(restorer) => {
            for message in restorer.missing {
                found.stops(&ServiceError::new(crate::model::ErrorCode::DatabasePermission, message), true);
            }
            restorer.notices.into_iter().for_each(|notice| found.notice(notice));
            if restorer.superuser {
                // It can restore everything.
                found.notices.retain(|notice| !notice.starts_with(SUPERUSER));
            }
        }
        Err(error) => found.stops(&error.into(), true),
    }
}

/// How a notice about what only a superuser can restore begins.
const SUPERUSER: &str = "only a superuser can restore ";

/// The databases that a backup would take.
fn names(postgres: &PostgresConfig, context: &JobContext) -> Result<Vec<Name>, SourceError> {
    let Some(all) = &postgres.all else { return Ok(vec![postgres.connection.database.clone()]) };
    let listed = databases::list(&postgres.connection, postgres.client_bin_dir.as_deref(), context)?;
    Ok(listed.into_iter().filter(|database| takes(all, database)).map(|database| database.name).collect())
}

fn examine_database(
    postgres: &PostgresConfig,
    name: &Name,
    owners: &mut Vec<Owner>,
    found: &mut Examination,
    context: &JobContext,
) -> Result<(), ServiceError> {
    let connection = crate::config::ConnectionSpec { database: name.clone(), ..postgres.connection.clone() };
    // First, so that the owners are known also where the reading role lacks something.
    let examined = examine::examine(&connection, &postgres.selection, context)?;
    found.server.clone_from(&examined.server.version);
    found.major = Some(examined.server.major());
    examined.gaps.into_iter().for_each(|gap| found.notice(gap));
    for thing in examined.superuser_needed {
        found.notice(format!("{SUPERUSER}{thing}"));
    }
    let new: Vec<Owner> = examined.owners.into_iter().filter(|owner| !owners.contains(owner)).collect();
    owners.extend(new);
    let taking = Taking::of_database(postgres, name, &Selection::default(), &SharedGlobals::default())?;
    taking.preflight(context)?;
    found.databases += 1;
    Ok(())
}

/// The SQL that gives the roles of a source what they need; empty for a source that is no server's. `major` is the
/// server's version as far as it is known, `daemon` the system user that the daemon runs as.
#[must_use]
pub fn role_sql(source: &SourceConfig, major: Option<u32>, daemon: &str) -> String {
    use crate::source::postgres::grants;
    let SourceKind::Postgres(postgres) = &source.kind else { return String::new() };
    let mut sql = grants::restoring(postgres, daemon).map(|restoring| restoring + "\n").unwrap_or_default();
    // Last, since it goes into the database itself.
    sql.push_str(&grants::reading(postgres, major, daemon));
    sql
}
