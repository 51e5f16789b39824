//! All databases of a run, restored onto one server: a plan over all of them, then the roles, then each database under
//! its own name.
//!
//! Invariants: nothing is touched while anything stands in the way of any of them; a database that fails stops no other;
//! a database that exists is left alone unless it holds nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::target::{OnStep, PostgresTarget, Step};
use crate::{
    model::{ErrorCode, Name, RunId, SourceName, job::Phase, summary::BackupSummary},
    repository::{BackupReader, Repository},
    service::{
        ServiceError, jobs::JobOutcome, operations::RestoreOptions, reading::open_reader, runs, several, tally::Tally,
    },
    source::{
        JobContext,
        postgres::restore::{self as postgres, CreatedRoles, RestorePlan, RestoreReport, plan::Remark},
    },
};

/// A restore of all databases of a run.
#[derive(Debug)]
pub struct WholeRestore<'a> {
    repository: &'a Repository,
    target: &'a PostgresTarget,
    source: SourceName,
    backups: Vec<BackupSummary>,
    left_out: Vec<String>,
    options: &'a RestoreOptions,
}

/// What it would do and what stands in its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WholePlan {
    /// The source that the run was about.
    pub source: SourceName,
    /// The run.
    pub run_id: Option<RunId>,
    /// The server, for people.
    pub server: String,
    /// Its version, for people.
    pub server_version: String,
    /// Roles that would be created first.
    pub create_roles: Vec<Name>,
    /// What would be done to each database, in order.
    pub databases: Vec<RestorePlan>,
    /// Databases that exist, and of which the backup holds nothing: they stay as they are.
    pub skipped: Vec<Name>,
    /// Why the restore would fail, each with the databases that it is about. If there is one, nothing is touched.
    pub obstacles: Vec<Remark>,
    /// What differs from the originals, could not be checked, or is not part of it.
    pub notices: Vec<Remark>,
    /// Rows that would be restored.
    pub rows: u64,
    /// Plaintext bytes of rows that would be restored.
    pub bytes: u64,
    /// Bytes that the new databases will take, about.
    pub space_needed: u64,
    /// Bytes free where the server keeps its data; absent where that is not known here.
    pub space_free: Option<u64>,
}

/// The plan, and what carrying it out needs besides.
struct Planned {
    plan: WholePlan,
    /// The backups of `plan.databases`.
    backups: Vec<BackupSummary>,
    /// Backups that cannot be read: they fail, whatever becomes of the others.
    unreadable: Vec<(Name, ServiceError)>,
}

impl<'a> WholeRestore<'a> {
    /// Of these backups of one run; `all` are those that there are.
    ///
    /// # Errors
    /// `InvalidArgs` for options that are about a single database, or when there is no backup.
    pub fn new(
        repository: &'a Repository,
        target: &'a PostgresTarget,
        backups: Vec<BackupSummary>,
        all: &[BackupSummary],
        options: &'a RestoreOptions,
    ) -> Result<Self, ServiceError> {
        if !options.to.is_empty() || !options.owner.is_empty() || !options.tables.is_empty() || options.replace {
            let message = "all databases are restored under their own names and whole; another name, an owner of a file, \
                 tables or the replacing of a database are chosen for one of them: NAME/DATABASE@latest";
            return Err(ServiceError::new(ErrorCode::InvalidArgs, message));
        }
        let Some(source) = backups.first().map(|backup| backup.source.source.clone()) else {
            return Err(ServiceError::new(ErrorCode::InvalidArgs, "there is no backup to restore"));
        };
        let left_out = runs::newest_of_each(all, &source)
            .into_values()
            .filter(|other| backups.iter().all(|backup| backup.source != other.source))
            .map(|backup| backup.source.to_string())
            .collect();
        Ok(Self { repository, target, source, backups, left_out, options })
    }

    /// The source whose databases they are.
    #[must_use]
    pub fn source(&self) -> &SourceName {
        &self.source
    }

    /// What would be done and what stands in the way, for every database. Touches nothing.
    ///
    /// # Errors
    /// When the server does not answer. Obstacles, and backups that cannot be read, are part of the plan.
    pub fn plan(&self, context: &JobContext) -> Result<WholePlan, ServiceError> {
        Ok(self.look(context)?.plan)
    }

    /// Plans, and restores if nothing stands in the way. The outcome has the statistics, and the error where some
    /// databases failed or the job was stopped.
    ///
    /// # Errors
    /// `TargetExists` or `RestoreRefused` with the obstacles before anything is touched; what creating the roles meets,
    /// after those that were created were dropped.
    pub fn carry_out(
        &self,
        run_id: RunId,
        context: &JobContext,
        on_step: OnStep<'_>,
    ) -> Result<JobOutcome, ServiceError> {
        context.progress.enter(Phase::Checking);
        let Planned { plan, backups, unreadable } = self.look(context)?;
        refuse(&plan)?;
        context.progress.enter(Phase::Schema);
        let roles = match backups.first().filter(|_| !plan.create_roles.is_empty()) {
            Some(backup) => {
                postgres::create_all_roles(&self.target.connection, &self.reader(backup, context)?, context)?
            }
            None => CreatedRoles::default(),
        };
        let mut tally = Tally::new(self.source.clone(), plan.databases.len() + unreadable.len());
        for (database, error) in unreadable {
            tally.failed(&database, error);
        }
        let mut restored = Restored::default();
        let mut left = plan.bytes;
        let mut hopeless = None;
        for (planned, backup) in plan.databases.iter().zip(&backups) {
            if let Some(reason) = context.cancel.reason() {
                tally.stopped(reason);
                break;
            }
            if let Some(error) = &hopeless {
                tally.failed(&planned.target, ServiceError::clone(error).context("not tried"));
                continue;
            }
            left = left.saturating_sub(planned.backup.bytes);
            context.progress.begin_part(planned.backup.bytes, left);
            match self.restore(planned, backup, run_id, context, on_step) {
                Ok(report) => {
                    tally.done();
                    restored.add(report);
                }
                Err(error) => match context.cancel.reason().filter(|_| error.code() != ErrorCode::Internal) {
                    Some(reason) => {
                        tally.stopped(reason);
                        break;
                    }
                    None => {
                        tracing::error!("database {} was not restored: {error}", planned.target);
                        hopeless = self.hopeless(&error, context);
                        tally.failed(&planned.target, error);
                    }
                },
            }
        }
        if let Err(error) = roles.settle(&self.target.connection, context) {
            restored.notices.push((None, Remark { what: "membership".to_owned(), message: error.to_string() }));
        }
        let failure = tally.failure("restored");
        Ok(JobOutcome { backup: None, statistics: restored.statistics(&tally, &plan, roles.names), failure })
    }

    /// Why no other database can succeed either.
    fn hopeless(&self, error: &ServiceError, context: &JobContext) -> Option<ServiceError> {
        match error.code() {
            ErrorCode::DatabaseUnreachable => postgres::reach(&self.target.connection, context).err().map(Into::into),
            ErrorCode::RepositoryUnavailable => Some(error.clone()),
            _ => None,
        }
    }

    fn reader(&self, backup: &BackupSummary, context: &JobContext) -> Result<BackupReader, ServiceError> {
        open_reader(self.repository, backup, context)
    }

    fn restore(
        &self,
        planned: &RestorePlan,
        backup: &BackupSummary,
        run_id: RunId,
        context: &JobContext,
        on_step: OnStep<'_>,
    ) -> Result<RestoreReport, ServiceError> {
        let reader = self.reader(backup, context)?;
        let told = |milestone: postgres::Milestone<'_>| on_step(Step::Database(milestone));
        let request = self.target.request(self.options, run_id, &told)?;
        Ok(postgres::carry_out(planned, &request, &reader, context)?)
    }

    /// Looks at every database.
    fn look(&self, context: &JobContext) -> Result<Planned, ServiceError> {
        let mut plans = Vec::new();
        let mut backups = Vec::new();
        let mut unreadable = Vec::new();
        let mut skipped = Vec::new();
        for backup in &self.backups {
            context.cancel.check()?;
            let name = backup.source.child.clone().unwrap_or_else(|| Name::from(""));
            match self.plan_one(backup, context) {
                Ok(plan) if is_needless(&plan) => skipped.push(plan.target),
                Ok(plan) => {
                    plans.push(plan);
                    backups.push(backup.clone());
                }
                Err(error) if is_of_the_backup(error.code()) => unreadable.push((name, error)),
                Err(error) => return Err(error.context(format!("cannot plan the restore of {}", backup.source))),
            }
        }
        let roles = self.plan_roles(backups.first(), context)?;
        let plan = self.whole_plan(plans, skipped, &unreadable, roles);
        Ok(Planned { plan, backups, unreadable })
    }

    fn plan_one(&self, backup: &BackupSummary, context: &JobContext) -> Result<RestorePlan, ServiceError> {
        let reader = self.reader(backup, context)?;
        let request = self.target.request(self.options, RunId::new(), &|_| Ok(()))?;
        Ok(postgres::plan(&request, &reader, context)?)
    }

    /// All roles of the run, unless neither owners nor privileges are restored.
    fn plan_roles(
        &self,
        backup: Option<&BackupSummary>,
        context: &JobContext,
    ) -> Result<postgres::RolesPlan, ServiceError> {
        let wanted = !(self.options.no_owner && self.options.no_privileges);
        match backup.filter(|_| wanted) {
            Some(backup) => {
                let reader = self.reader(backup, context)?;
                Ok(postgres::plan_roles(&self.target.connection, &reader, context)?)
            }
            None => Ok(postgres::RolesPlan { create: Vec::new(), obstacles: Vec::new() }),
        }
    }

    fn whole_plan(
        &self,
        databases: Vec<RestorePlan>,
        skipped: Vec<Name>,
        unreadable: &[(Name, ServiceError)],
        roles: postgres::RolesPlan,
    ) -> WholePlan {
        let of_each = |remarks: fn(&RestorePlan) -> &[Remark]| {
            // What is said of space is about one database; all of them together are judged below.
            let some = databases.iter().flat_map(move |plan| remarks(plan).iter().map(move |remark| (plan, remark)));
            let some = some.filter(|(_, remark)| remark.what != "space");
            some.map(|(plan, remark)| (Some(plan.target.clone()), remark.clone())).collect::<Vec<_>>()
        };
        let mut obstacles = grouped(of_each(|plan| &plan.obstacles));
        obstacles.extend(roles.obstacles);
        let mut notices = grouped(of_each(|plan| &plan.notices));
        let space_needed = databases.iter().map(|plan| plan.space_needed).sum();
        let space_free = databases.iter().filter_map(|plan| plan.space_free).min();
        match space_free {
            Some(free) if free < space_needed => obstacles.push(Remark {
                what: "space".to_owned(),
                message: format!(
                    "the new databases take about {space_needed} bytes and {free} are free where the server keeps its data"
                ),
            }),
            _ => {}
        }
        for (name, error) in unreadable {
            notices.push(Remark { what: "unreadable".to_owned(), message: format!("{name} will fail: {error}") });
        }
        if !self.left_out.is_empty() {
            let names = several::names(self.left_out.iter().cloned());
            let message = format!("there are backups of other databases, which this run did not take: {names}");
            notices.push(Remark { what: "not-in-run".to_owned(), message });
        }
        let first = databases.first();
        WholePlan {
            source: self.source.clone(),
            run_id: self.backups.first().and_then(|backup| backup.run_id),
            server: first.map(|plan| plan.server.clone()).unwrap_or_default(),
            server_version: first.map(|plan| plan.server_version.clone()).unwrap_or_default(),
            create_roles: roles.create,
            rows: databases.iter().map(|plan| plan.backup.rows).sum(),
            bytes: databases.iter().map(|plan| plan.backup.bytes).sum(),
            databases,
            skipped,
            obstacles,
            notices,
            space_needed,
            space_free,
        }
    }
}

/// What was restored.
#[derive(Debug, Default)]
struct Restored {
    /// Rows by database.
    rows: Map<String, Value>,
    row_count: u64,
    table_count: u64,
    notices: Vec<(Option<Name>, Remark)>,
}

impl Restored {
    fn add(&mut self, report: RestoreReport) {
        let RestoreReport { database, tables, rows, kept: _, tables_beside: _, created_roles: _, notices } = report;
        self.row_count += rows;
        self.table_count += tables;
        self.rows.insert(database.lossy().into_owned(), rows.into());
        let not_of_space = notices.into_iter().filter(|notice| notice.what != "space");
        self.notices.extend(not_of_space.map(|notice| (Some(database.clone()), notice)));
    }

    fn statistics(self, tally: &Tally, plan: &WholePlan, created_roles: Vec<Name>) -> Map<String, Value> {
        let mut statistics = tally.statistics();
        let facts = serde_json::json!({
            "restored": self.rows,
            "skipped": plan.skipped,
            "created_roles": created_roles,
            "rows": self.row_count,
            "tables": self.table_count,
            "notices": grouped(self.notices),
        });
        if let Value::Object(facts) = facts {
            statistics.extend(facts);
        }
        statistics
    }
}

/// Whether a database need not be restored: it exists, and the backup of it holds nothing.
fn is_needless(plan: &RestorePlan) -> bool {
    plan.holds_nothing && plan.obstacles.iter().all(|obstacle| obstacle.what == "target-exists") && !plan.is_possible()
}

/// Whether an error is about one backup, so that the others may be restored.
fn is_of_the_backup(code: ErrorCode) -> bool {
    use ErrorCode::{BackupDamaged, NoSuchBackup, NotSupported, RepositoryDamaged, UnsupportedFormat};
    matches!(code, BackupDamaged | RepositoryDamaged | NoSuchBackup | NotSupported | UnsupportedFormat)
}

/// What is said of several databases in the same words is said once, with their names before it.
fn grouped(remarks: Vec<(Option<Name>, Remark)>) -> Vec<Remark> {
    let mut groups: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for (database, Remark { what, message }) in remarks {
        groups.entry((what, message)).or_default().extend(database.map(|name| name.display()));
    }
    let remark = |((what, message), names): ((String, String), Vec<String>)| match names.is_empty() {
        true => Remark { what, message },
        false => Remark { what, message: format!("{}: {message}", several::names(names)) },
    };
    groups.into_iter().map(remark).collect()
}

/// Refuses what cannot succeed.
fn refuse(plan: &WholePlan) -> Result<(), ServiceError> {
    let is = |what: &str| plan.obstacles.iter().any(|obstacle| obstacle.what == what);
    let code = match () {
        () if plan.obstacles.is_empty() => return Ok(()),
        () if is("target-exists") => ErrorCode::TargetExists,
        () if is("client-programs") => ErrorCode::ClientProgramMissing,
        () => ErrorCode::RestoreRefused,
    };
    let obstacles = plan.obstacles.iter().map(|obstacle| obstacle.message.clone());
    let message = format!("cannot restore all databases of {}: {}", plan.source, several::sentences(obstacles));
    Err(ServiceError::new(code, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remark(what: &str, message: &str) -> Remark {
        Remark { what: what.to_owned(), message: message.to_owned() }
    }

    #[test]
    fn what_is_said_of_many_is_said_once() {
        let mut remarks: Vec<_> =
            (0..20).map(|n| (Some(Name::from(format!("db{n:02}"))), remark("locale", "it sorts otherwise"))).collect();
        remarks.push((Some("x".into()), remark("extension", "is missing")));
        remarks.push((None, remark("membership", "stays")));
        let grouped = grouped(remarks);
        let messages: Vec<&str> = grouped.iter().map(|remark| remark.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "x: is missing",
                "db00, db01, db02, db03, db04, db05, db06, db07 and 12 more: it sorts otherwise",
                "stays"
            ]
        );
    }
}
