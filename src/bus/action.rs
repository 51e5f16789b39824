//! What a call does, as polkit and the journal know it: its action, and what it is about.
//!
//! Invariant: the actions are those of `systemd/org.backupd1.policy`, which a test compares.

use std::collections::HashMap;

use crate::{
    model::{
        job::{JobRecord, JobType},
        summary::BackupSummary,
    },
    service::operations::{Caller, RestoreOptions},
};

macro_rules! actions {
    ($( $(#[$doc:meta])* $name:ident = $id:literal; )*) => {
        /// A polkit action: one per verb and danger.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Action { $( $(#[$doc])* $name, )* }

        impl Action {
            /// All of them.
            pub const ALL: &[Self] = &[ $( Self::$name, )* ];

            /// The name that the policy file gives it.
            #[must_use]
            pub fn id(self) -> &'static str {
                match self { $( Self::$name => concat!("org.backupd1.", $id), )* }
            }
        }
    };
}

actions! {
    /// Looking: lists, descriptions, properties, plans.
    Inspect = "inspect";
    /// Taking a backup.
    Create = "create";
    /// Reading backups back.
    Verify = "verify";
    /// Restoring one.
    Restore = "restore";
    /// Deleting one.
    Delete = "delete";
    /// Deleting those that the retention of their source does not keep.
    Prune = "prune";
    /// Getting the data of one.
    Export = "export";
    /// Changing how the daemon runs: its configuration read again, its log level.
    Reload = "reload";
}

impl Action {
    /// The action that starts such a job, and that cancelling it needs.
    #[must_use]
    pub fn of_job(job_type: JobType) -> Self {
        match job_type {
            JobType::Create => Self::Create,
            JobType::Restore | JobType::Undo => Self::Restore,
            JobType::Verify | JobType::Drill => Self::Verify,
            JobType::Delete | JobType::Forget => Self::Delete,
            JobType::Export => Self::Export,
            JobType::Prune => Self::Prune,
        }
    }
}

/// What a call does, and with what: the details that a polkit rule can match.
#[derive(Debug, Clone)]
pub struct About {
    pub(super) action: Action,
    pub(super) source: String,
    pub(super) backup: String,
    /// `database`, `to` and so on, by name.
    more: Vec<(&'static str, String)>,
    starter: Option<u32>,
}

impl About {
    /// The daemon as a whole.
    pub(super) fn daemon(action: Action) -> Self {
        Self { action, source: String::new(), backup: String::new(), more: Vec::new(), starter: None }
    }

    /// A source.
    pub(super) fn source(action: Action, source: &str) -> Self {
        Self { source: source.to_owned(), ..Self::daemon(action) }
    }

    /// A backup, as the caller named it.
    pub(super) fn backup(action: Action, backup: &str) -> Self {
        Self { backup: backup.to_owned(), ..Self::daemon(action) }
    }

    /// A restore of a backup, or its plan: rules may let somebody restore beside what there is, and nothing more.
    pub(super) fn restore(action: Action, backup: &str, options: &RestoreOptions) -> Self {
        let replace = if options.replace { "true" } else { "" };
        Self::backup(action, backup).with("to", options.to.clone()).with("replace", replace)
    }

    /// The cancelling of a job, which its starter may without being asked.
    pub(super) fn cancel(record: &JobRecord) -> Self {
        let action = Action::of_job(record.job_type);
        Self {
            source: record.source.clone(),
            backup: record.backup.clone(),
            starter: Some(record.started_by_uid),
            ..Self::daemon(action)
        }
        .with("job", record.number.to_string())
    }

    /// One detail more.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.more.push((name, value.into()));
        self
    }

    /// The backup that was found for what the caller named.
    pub(super) fn found(mut self, backup: &BackupSummary) -> Self {
        self.source = backup.source.source.to_string();
        self.backup = backup.id.to_string();
        match &backup.source.child {
            Some(database) => self.with("database", database.lossy()),
            None => self,
        }
    }

    /// The run of a source that is a whole server that was found for what the caller named: `SOURCE@RUN`.
    pub(super) fn found_run(self, source: &str, run: &str) -> Self {
        Self { source: source.to_owned(), backup: run.to_owned(), ..self }
    }

    /// Whether this caller needs nobody's leave.
    pub(super) fn is_free_for(&self, caller: Caller) -> bool {
        self.starter == Some(caller.uid)
    }

    /// The details as polkit takes them; those without a value are left out.
    pub(super) fn details(&self) -> HashMap<&str, &str> {
        let named = [("source", &self.source), ("backup", &self.backup)];
        let all = named.into_iter().chain(self.more.iter().map(|(name, value)| (*name, value)));
        all.filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name, value.as_str())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_job_has_the_action_of_its_name_or_of_its_danger() {
        for job_type in JobType::ALL {
            let name = match job_type {
                JobType::Undo => "restore",
                JobType::Forget => "delete",
                JobType::Drill => "verify",
                other => other.as_str(),
            };
            assert_eq!(Action::of_job(*job_type).id(), format!("org.backupd1.{name}"));
        }
    }

    #[test]
    fn details_without_a_value_are_left_out() {
        let about = About::source(Action::Restore, "shop").with("to", "").with("job", "7");
        assert_eq!(about.details(), HashMap::from([("source", "shop"), ("job", "7")]));
    }
}
