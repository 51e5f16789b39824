//! The one table of errors: what the bus, the exit code, the journal and the documentation share.
//!
//! Invariants: a code, once released, keeps its name, D-Bus name and exit code; no two codes share a name; exit codes
//! 0 to 3 are left to monitoring (`health`), except 1 (any failure without a code of its own) and 2 (usage).

/// Why an operation did not do what was asked, as a stable code.
///
/// Every layer's error type has a method `code()` that gives one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the table below documents each")]
pub enum ErrorCode {
    Failed,
    InvalidArgs,
    AccessDenied,
    InteractiveAuthorizationRequired,
    NoSuchSource,
    NoSuchBackup,
    NoSuchJob,
    AmbiguousBackup,
    Canceled,
    SourceBusy,
    LimitsExceeded,
    ShuttingDown,
    ConfigInvalid,
    SourceDisabled,
    CredentialsMissing,
    DaemonUnreachable,
    Io,
    Internal,
    RepositoryUnavailable,
    RepositoryLocked,
    RepositoryDamaged,
    BackupDamaged,
    NoSpace,
    UnsupportedFormat,
    DatabaseUnreachable,
    AuthenticationFailed,
    DatabasePermission,
    NoSuchDatabase,
    ClientProgramMissing,
    LockTimeout,
    SnapshotUnstable,
    DumpFailed,
    DumpIncomplete,
    SizeLimit,
    TimedOut,
    TargetExists,
    RestoreRefused,
    RestoreFailed,
    RestoreMismatch,
    NotSupported,
    DatabaseCorrupt,
    DatabaseEncrypted,
    NotADatabase,
    DatabaseBusy,
    PartlyFailed,
    Interrupted,
    NoSuchPlan,
    DrillUnavailable,
    DrillFailed,
    /// A changed retention would delete much, and waits for somebody's word.
    PruneHeld,
}

/// One row of the table.
#[derive(Debug)]
pub struct ErrorRow {
    /// The code that the row describes.
    pub code: ErrorCode,
    /// The stable name, in the journal (`BACKUPD_ERROR=`) and in JSON.
    pub name: &'static str,
    /// The name of the error on D-Bus.
    pub dbus_name: &'static str,
    /// The exit code of `backupctl`.
    pub exit_code: u8,
    /// Whether the same call can succeed later with nothing changed by a person.
    pub retry: bool,
    /// What it means and what to do, for documentation and for the client's hint line.
    pub hint: &'static str,
}

macro_rules! own {
    ($name:literal) => {
        concat!("org.backupd1.Error.", $name)
    };
}

macro_rules! rows {
    ($( $code:ident, $dbus:expr, $exit:literal, $retry:literal, $hint:literal; )*) => {
        /// Every code, in the order of the documentation.
        pub const TABLE: &[ErrorRow] = &[
            $( ErrorRow { code: ErrorCode::$code, name: stringify!($code), dbus_name: $dbus, exit_code: $exit, retry: $retry, hint: $hint }, )*
        ];
        impl ErrorCode {
            /// The row of the table that describes this code.
            #[must_use]
            pub fn row(self) -> &'static ErrorRow {
                // The macro makes the enum's rows and this match from one list; a code without a row does not compile.
                let index = match self { $( ErrorCode::$code => Index::$code as usize, )* };
                &TABLE[index]
            }
        }
        enum Index { $( $code, )* }
    };
}

rows! {
    Failed, own!("Failed"), 1, false, "The operation failed; the message says at which step.";
    InvalidArgs, "org.freedesktop.DBus.Error.InvalidArgs", 2, false, "An argument, option or flag is not understood.";
    AccessDenied, "org.freedesktop.DBus.Error.AccessDenied", 77, false, "The caller may not do this. Run the command as root or as the user of the daemon, or let a polkit rule allow it.";
    InteractiveAuthorizationRequired, "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", 77, false, "Somebody must authenticate for this, and could not be asked. Run the command on a terminal without --no-ask-password, or as root.";
    NoSuchSource, own!("NoSuchSource"), 4, false, "No source has this name. `backupctl sources` lists them.";
    NoSuchBackup, own!("NoSuchBackup"), 4, false, "No backup matches. `backupctl list` shows what there is.";
    NoSuchJob, own!("NoSuchJob"), 4, false, "No job has this number. `backupctl jobs` lists them.";
    AmbiguousBackup, own!("AmbiguousBackup"), 4, false, "More than one backup begins with this id. Give more digits.";
    Canceled, own!("Canceled"), 5, false, "The job was cancelled. Nothing of it is left but what was complete by itself, such as backups of other databases.";
    SourceBusy, own!("SourceBusy"), 75, true, "A job for this source is running; the message names it.";
    LimitsExceeded, "org.freedesktop.DBus.Error.LimitsExceeded", 43, true, "Too many jobs are waiting. Try again later.";
    ShuttingDown, own!("ShuttingDown"), 42, true, "The daemon is stopping and ended the job cleanly. Run it again.";
    ConfigInvalid, own!("ConfigInvalid"), 78, false, "The configuration has an error. `backupctl config check` names file, line and key.";
    SourceDisabled, own!("SourceDisabled"), 78, false, "The source is disabled, by `enabled = false` or by an error in its file. `backupctl sources` says which.";
    CredentialsMissing, own!("CredentialsMissing"), 78, false, "The password of the source cannot be read. Check the credential or the password file.";
    DaemonUnreachable, own!("DaemonUnreachable"), 69, true, "The daemon does not answer. Is it running? `systemctl status backupd`; `--no-daemon --repository DIR` works without it.";
    Io, own!("Io"), 74, false, "The operating system refused to read or write; the message names the file.";
    Internal, own!("Internal"), 70, false, "A defect in backupd. Please report it with the journal of the job.";
    RepositoryUnavailable, own!("RepositoryUnavailable"), 10, true, "The repository cannot be opened. Is its file system mounted, and may the daemon read and write there?";
    RepositoryLocked, own!("RepositoryLocked"), 11, true, "Another daemon owns the repository; the message names it. One repository has one writer.";
    RepositoryDamaged, own!("RepositoryDamaged"), 12, false, "A part of the repository is missing or does not match its hash. `backupctl verify` shows which backups it touches.";
    BackupDamaged, own!("BackupDamaged"), 12, false, "The backup does not match its hashes. Restore another one, and take a new backup now.";
    NoSpace, own!("NoSpace"), 13, false, "A file system is full, or would be. The message names it.";
    UnsupportedFormat, own!("UnsupportedFormat"), 14, false, "The backup was written by a newer backupd. Update this program, or restore with restore.sh.";
    DatabaseUnreachable, own!("DatabaseUnreachable"), 20, true, "The server does not answer. Is it running, and are host and port right?";
    AuthenticationFailed, own!("AuthenticationFailed"), 21, false, "The server refused the user. Check user, password and pg_hba.conf.";
    DatabasePermission, own!("DatabasePermission"), 22, false, "The user may not read everything. The message has the GRANT, or the commands, that help.";
    NoSuchDatabase, own!("NoSuchDatabase"), 23, false, "The database does not exist on the server, or its file does not.";
    ClientProgramMissing, own!("ClientProgramMissing"), 24, false, "pg_dump of the server's version or newer is missing. Install postgresql-client of that version or set `client_bin_dir`.";
    LockTimeout, own!("LockTimeout"), 25, true, "A table stayed locked by somebody else for longer than `lock_timeout`.";
    SnapshotUnstable, own!("SnapshotUnstable"), 26, true, "Tables came and went faster than they could be locked. Try again when less DDL runs.";
    DumpFailed, own!("DumpFailed"), 27, true, "pg_dump failed; its last lines are in the message.";
    DumpIncomplete, own!("DumpIncomplete"), 28, true, "The dump ended without its completion mark, although the program reported success.";
    SizeLimit, own!("SizeLimit"), 29, false, "The backup grew beyond `max_size` of its source.";
    TimedOut, own!("TimedOut"), 30, true, "The job took longer than the `timeout` of its source, or held a snapshot for longer than `read_timeout`.";
    TargetExists, own!("TargetExists"), 31, false, "The target database or file exists. Restore under another name with --to.";
    RestoreRefused, own!("RestoreRefused"), 32, false, "The plan shows why the restore would fail; nothing was touched. `--dry-run` prints the plan.";
    RestoreFailed, own!("RestoreFailed"), 33, false, "The restore failed, and what was half built was taken away.";
    RestoreMismatch, own!("RestoreMismatch"), 34, false, "The restored rows differ from what was counted at backup time; what was restored was taken away.";
    NotSupported, own!("NotSupported"), 36, false, "This backup, server or build cannot do that.";
    DatabaseCorrupt, own!("DatabaseCorrupt"), 37, false, "The database itself is damaged; the message has what SQLite said. Restore it from an earlier backup.";
    DatabaseEncrypted, own!("DatabaseEncrypted"), 38, false, "The file seems to be an encrypted database, which cannot be read without its key.";
    NotADatabase, own!("NotADatabase"), 39, false, "The file is no SQLite database. Check `path` in the file of the source.";
    DatabaseBusy, own!("DatabaseBusy"), 40, true, "Somebody else held the lock on the database for longer than `lock_timeout`, or kept changing it while it was copied.";
    PartlyFailed, own!("PartlyFailed"), 41, true, "Some of the databases failed, which the message names; the others were done.";
    Interrupted, own!("Interrupted"), 42, true, "The daemon died while the job ran. What the job left is taken away at the start. Run it again.";
    NoSuchPlan, own!("NoSuchPlan"), 4, false, "No plan has this id, or not any more. `restore --dry-run` makes one.";
    DrillUnavailable, own!("DrillUnavailable"), 45, false, "The drill could not be carried out here, which says nothing about the backup. The message names the program, extension or right that is missing.";
    DrillFailed, own!("DrillFailed"), 46, false, "The backup did not restore as it should. Look at the message, take a new backup, and drill that one.";
    PruneHeld, own!("PruneHeld"), 47, false, "The retention of a source changed and would delete more than a third of its backups, or was never applied to it before. Look at `backupctl retention explain`, then prune with --force.";
}

impl ErrorCode {
    /// The stable name, as in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The code that has this D-Bus error name, if one does.
    #[must_use]
    pub fn from_dbus_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.dbus_name == name).map(|row| row.code)
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_names() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.code.row().name, row.name);
            assert_eq!(ErrorCode::from_dbus_name(row.dbus_name), Some(row.code));
            assert!(row.exit_code != 0 && row.exit_code != 3, "{} uses a code of `health`", row.name);
            for other in &TABLE[i + 1..] {
                assert_ne!(row.name, other.name);
                assert_ne!(row.dbus_name, other.dbus_name);
            }
        }
    }
}
