//! The daemon's interfaces as this program calls it: with leave to ask a person for authentication or to start a daemon, or
//! without.
//!
//! Invariant: every method of the daemon's is here, so that none goes out without the flag by mistake; a test compares.

use std::{collections::HashMap, ops::Deref};

use zbus::{
    OwnedFd, OwnedObjectPath, OwnedVariant,
    proxy::{CacheProperties, MethodFlags},
};

use crate::bus::{
    proxy::ManagerProxy,
    types::{BackupRow, DeletedRow, JobRow, Options, SourceRow, UndoRow},
};

/// A proxy whose methods carry flags; properties and signals are the proxy's own.
#[derive(Debug, Clone)]
pub(crate) struct Manager {
    proxy: ManagerProxy<'static>,
    /// Whether a person may be asked, and whether the bus may start the daemon.
    flags: MethodFlags,
}

impl Deref for Manager {
    type Target = ManagerProxy<'static>;

    fn deref(&self) -> &Self::Target {
        &self.proxy
    }
}

macro_rules! methods {
    ($( interface $interface:literal {
        $( $method:ident = $member:literal ( $( $argument:ident: $type:ty ),* ) -> $answer:ty; )*
    } )*) => {
        impl Manager {
            $( $(
                /// The method of the daemon's that is called so.
                pub(crate) async fn $method(&self, $( $argument: $type ),*) -> zbus::Result<$answer> {
                    self.call(concat!("org.backupd1.", $interface), $member, &( $( $argument, )* )).await
                }
            )* )*
        }

        /// The methods above, as the contract calls them.
        #[cfg(test)]
        const METHODS: &[(&str, &[&str])] = &[ $( ($interface, &[ $( $member, )* ]), )* ];
    };
}

methods! {
    interface "Manager" {
        create_backup = "CreateBackup"(source: &str, options: &Options<'_>, flags: u64) -> (u64, OwnedObjectPath);
        plan_restore = "PlanRestore"(backup: &str, options: &Options<'_>, flags: u64) -> String;
        restore_backup = "RestoreBackup"(backup: &str, options: &Options<'_>, flags: u64) -> (u64, OwnedObjectPath);
        plan_undo = "PlanUndo"(restored: u64, flags: u64) -> String;
        undo_restore = "UndoRestore"(restored: u64, options: &Options<'_>, flags: u64) -> (u64, OwnedObjectPath);
        forget_undo = "ForgetUndo"(restored: u64, flags: u64) -> (u64, OwnedObjectPath);
        list_undo = "ListUndo"(flags: u64) -> Vec<UndoRow>;
        verify_backup = "VerifyBackup"(backup: &str, options: &Options<'_>, flags: u64) -> (u64, OwnedObjectPath);
        drill_backup = "DrillBackup"(backup: &str, options: &Options<'_>, flags: u64) -> (u64, OwnedObjectPath);
        delete_backup = "DeleteBackup"(backup: &str, options: &Options<'_>, flags: u64) -> (u64, OwnedObjectPath);
        export_backup = "ExportBackup"(backup: &str, output: OwnedFd, options: &Options<'_>, flags: u64)
            -> (u64, OwnedObjectPath);
        list_backups = "ListBackups"(filter: &Options<'_>, limit: u64, cursor: &str, flags: u64)
            -> (Vec<BackupRow>, String);
        get_backup = "GetBackup"(backup: &str, flags: u64) -> HashMap<String, OwnedVariant>;
        describe_backup = "DescribeBackup"(backup: &str, flags: u64) -> String;
        list_sources = "ListSources"(flags: u64) -> Vec<SourceRow>;
        list_jobs = "ListJobs"(flags: u64) -> Vec<JobRow>;
        describe_job = "DescribeJob"(id: u64, flags: u64) -> String;
        cancel_job = "CancelJob"(id: u64, flags: u64) -> ();
        reload = "Reload"(flags: u64) -> ();
    }
    interface "Health" {
        get_health = "GetHealth"(source: &str, flags: u64) -> String;
    }
    interface "Notices" {
        test_notice = "TestNotice"(notifier: &str, flags: u64) -> String;
        list_notices = "ListNotices"(flags: u64) -> String;
    }
    interface "Retention" {
        pin_backup = "PinBackup"(backup: &str, options: &Options<'_>, flags: u64) -> ();
        unpin_backup = "UnpinBackup"(backup: &str, flags: u64) -> ();
        prune = "Prune"(options: &Options<'_>, flags: u64) -> (u64, OwnedObjectPath);
        explain_retention = "ExplainRetention"(source: &str, options: &Options<'_>, flags: u64) -> String;
        list_deleted = "ListDeleted"(flags: u64) -> Vec<DeletedRow>;
        undelete_backup = "UndeleteBackup"(backup: &str, flags: u64) -> String;
        describe_space = "DescribeSpace"(flags: u64) -> String;
    }
    interface "Statistics" {
        get_statistics = "GetStatistics"(source: &str, flags: u64) -> String;
        diff_backups = "DiffBackups"(from: &str, to: &str, flags: u64) -> String;
    }
}

impl Manager {
    /// All calls carry these flags.
    pub(crate) fn new(proxy: ManagerProxy<'static>, flags: MethodFlags) -> Self {
        Self { proxy, flags }
    }

    async fn call<B, R>(&self, interface: &'static str, member: &'static str, body: &B) -> zbus::Result<R>
    where
        B: serde::ser::Serialize + zbus::DynamicType,
        R: for<'d> zbus::wire::DynamicDeserialize<'d>,
    {
        let manager = self.proxy.inner();
        let proxy = zbus::proxy::Builder::<zbus::Proxy<'_>>::new(manager.connection())
            .destination(manager.destination())
            .path(manager.path())
            .interface(interface)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        let answer = proxy.call_with_flags(member, self.flags, body).await?;
        // There is none only where none was asked for.
        answer.ok_or(zbus::Error::InvalidReply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_daemon_that_is_called_is_here() {
        // This program has no use for the others.
        let unused = ["OpenBackup", "GetSource", "GetJob"];
        let contract = crate::bus::INTROSPECTION;
        for (interface, known) in METHODS {
            let (_, rest) = contract.split_once(&format!("<interface name=\"org.backupd1.{interface}\"")).unwrap();
            let (interface_text, _) = rest.split_once("</interface>").unwrap();
            let methods = interface_text.split("<method name=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
            let mut methods: Vec<&str> = methods.filter(|method| !unused.contains(method)).collect();
            let mut known = known.to_vec();
            known.sort_unstable();
            methods.sort_unstable();
            assert_eq!(methods, known, "{interface}");
        }
        // The objects of sources and jobs are for others; all else is here.
        let interfaces = contract.matches("<interface name=\"").count();
        assert_eq!(interfaces, METHODS.len() + 2, "an interface is missing here");
    }
}
