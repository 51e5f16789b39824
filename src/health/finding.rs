//! What is found: a stable code, how bad it is, about what, and what to do.
//!
//! Invariant: a code, once released, keeps its name and its meaning.

use serde::{Deserialize, Serialize};

/// How bad something is. In the order by which the worst of several is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be; a finding of this severity is advice.
    #[default]
    Ok,
    /// It could not be told.
    Unknown,
    /// Somebody should look soon.
    Warning,
    /// Somebody should look now: backups are missing, damaged or not taken.
    Critical,
}

impl Severity {
    /// The word used on the bus, in JSON and in the journal.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The exit code of monitoring plugins: 0, 1, 2, 3.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }
}

impl std::str::FromStr for Severity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Ok, Self::Unknown, Self::Warning, Self::Critical];
        all.into_iter().find(|one| one.as_str() == text).ok_or_else(|| format!("{text:?} is no severity"))
    }
}

macro_rules! codes {
    ($( $(#[doc = $doc:literal])* $code:ident; )*) => {
        /// What is wrong, by a name that monitoring can rely on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code { $( $(#[doc = $doc])* $code, )* }

        impl Code {
            /// All of them, in the order of the documentation.
            pub const ALL: &[Self] = &[ $( Self::$code, )* ];

            /// The name used on the bus, in JSON, in metrics and in the journal.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $( Self::$code => stringify!($code), )* }
            }

            /// What it means, for the documentation.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $( Self::$code => concat!($($doc),*).trim_ascii(), )* }
            }
        }
    };
}

codes! {
    /// The source has no good backup: none at all, or only suspect and damaged ones.
    NoBackup;
    /// The newest good backup is older than the `rpo` or the schedule allows.
    BackupOverdue;
    /// The last backup job failed or was interrupted.
    BackupFailed;
    /// The newest backup holds suspiciously less than the one before.
    BackupSuspect;
    /// A part of a backup is missing or is not what it was.
    BackupDamaged;
    /// A backup in the repository cannot be listed.
    BackupUnreadable;
    /// There are fewer good backups than `min_backups`.
    TooFewBackups;
    /// No backup was verified within `verified_within`.
    NotVerified;
    /// No backup was drilled with success within `drilled_within`.
    NotDrilled;
    /// The last drill failed.
    DrillFailed;
    /// The newest backup has a time in the future.
    BackupInFuture;
    /// The clock of this host was set back.
    ClockWentBack;
    /// The file of the source has errors, so it is disabled.
    SourceBroken;
    /// The source is disabled by its file.
    SourceDisabled;
    /// A password that the source needs cannot be read.
    CredentialUnreadable;
    /// No client programs of PostgreSQL fit the server, as after an upgrade of the server.
    ClientProgramMissing;
    /// The retention of the source changed and would delete much, or is new; nothing is deleted until somebody says so.
    RetentionHeld;
    /// The timer of the source is not active, so no backup is taken.
    TimerInactive;
    /// The timer is masked, so it cannot even be started.
    TimerMasked;
    /// Nothing says when the source is backed up.
    NoSchedule;
    /// systemd does not answer, so nothing is known of timers.
    SystemdUnreachable;
    /// The repository is being opened.
    RepositoryOpening;
    /// The repository cannot be opened, or its file system does not answer.
    RepositoryUnavailable;
    /// Another daemon owns the repository.
    RepositoryLocked;
    /// The repository cannot be written to.
    RepositoryReadOnly;
    /// So little space is left that backups are refused.
    RepositoryFull;
    /// The next backups may not fit any more.
    SpaceLow;
    /// The file system of the repository will be full soon, by the trend.
    FillsUp;
    /// An undo copy could not be dropped when its time was over.
    UndoOverdue;
    /// Undo copies take more space than is left beside them, or than `max_undo` allows.
    UndoSpace;
}

/// One thing that is wrong, or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What, as a stable name.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// The source it is about; absent where it is about the host.
    pub source: Option<String>,
    /// What is wrong, a sentence.
    pub message: String,
    /// What to do.
    pub advice: String,
}

/// What is known of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceHealth {
    /// Its name.
    pub source: String,
    /// The worst of its findings.
    pub severity: Severity,
    /// The state that its newest good backup holds, microseconds since the epoch; of a source with several databases,
    /// the oldest of their newest ones. 0 for none.
    pub last_good_at: u64,
    /// From which age on that is too old, microseconds; 0 where nothing says so.
    pub age_limit: u64,
    /// Its good backups.
    pub good_backups: u64,
    /// When one was last verified; 0 for never.
    pub verified_at: u64,
    /// When one was last drilled with success; 0 for never.
    pub drilled_at: u64,
}

/// Everything that was looked at, at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When, microseconds since the epoch.
    pub at: u64,
    /// The worst of all findings.
    pub severity: Severity,
    /// The sources, in order of their names.
    pub sources: Vec<SourceHealth>,
    /// The worst first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// What it says of one source and of what concerns all of them.
    #[must_use]
    pub fn of_source(&self, source: &str) -> Self {
        let mut report = self.clone();
        report.sources.retain(|one| one.source == source);
        report.findings.retain(|finding| finding.source.as_deref().is_none_or(|about| about == source));
        report.severity = worst(&report.findings);
        report
    }
}

/// The worst severity among findings.
pub(super) fn worst<'f>(findings: impl IntoIterator<Item = &'f Finding>) -> Severity {
    findings.into_iter().map(|finding| finding.severity).max().unwrap_or_default()
}
