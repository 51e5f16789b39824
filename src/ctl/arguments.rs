//! The command line of `backupctl`.

mod health;
mod notify;
mod restore;
mod retention;
mod source;
mod statistics;
mod watch;

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use crate::{config, service::operations::VerifyLevel};

pub use health::HealthArguments;
pub use notify::NotifyVerb;
pub use restore::{RestoreArguments, RestoreVerb, UndoArguments};
pub use retention::{ExplainArguments, PinArguments, PruneArguments, RetentionVerb, UndeleteArguments, UnpinArguments};
pub use source::{AddArguments, NameArguments, PlaceArguments, RemoveArguments, SourceVerb};
pub use statistics::{DiffArguments, StatsArguments};
pub use watch::WatchArguments;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "backupctl", version, about = "Create, list, verify and restore database backups", long_about = None)]
#[command(after_help = "A BACKUP is an id or a unique beginning of one, SOURCE@latest, SOURCE@2026-11-01 or \
    SOURCE@2026-11-01T14:30 (the newest of that time or before, in the local time zone).\n\
    Exit codes: 0 done, 2 usage, 4 no such source, backup or job, 5 cancelled, 69 daemon unreachable, 75 busy, \
    77 not allowed, 78 configuration; backupctl(1) has them all.")]
pub struct Arguments {
    /// Options of every verb.
    #[command(flatten)]
    pub common: Common,
    /// What to do; `status` if nothing is given.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// Options of every verb.
#[derive(Debug, Args)]
pub struct Common {
    /// Reach the daemon at this D-Bus address, such as unix:path=SOCKET [default: $BACKUPD_ADDRESS, else the system bus]
    #[arg(long, global = true, value_name = "ADDRESS", conflicts_with = "bus")]
    pub address: Option<String>,
    /// Reach the daemon on this bus
    #[arg(long, global = true, value_enum)]
    pub bus: Option<Bus>,
    /// Do not ask for a password; what needs one fails
    #[arg(long, global = true)]
    pub no_ask_password: bool,
    /// Print JSON instead of text
    #[arg(long, global = true, value_enum, default_value_t = Json::Off, value_name = "MODE",
          num_args = 0..=1, default_missing_value = "pretty", require_equals = true)]
    pub json: Json,
    /// Print no header and no legend
    #[arg(long, global = true)]
    pub no_legend: bool,
    /// Print no progress, and of a new backup only its id
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Read the repository without a daemon (list, show, diff, stats, verify, export, restore)
    #[arg(long, global = true)]
    pub no_daemon: bool,
    /// The folder of the repository, with --no-daemon
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub repository: Option<PathBuf>,
}

impl Arguments {
    /// The repository to read without a daemon, if that is asked for. What belongs together is checked here because
    /// clap sees only the options on the same side of the verb, and knows one rule for all verbs with a backup.
    ///
    /// # Errors
    /// A sentence about options that contradict or need each other.
    pub fn offline_repository(&self) -> Result<Option<&Path>, &'static str> {
        let common = &self.common;
        let named = match &self.verb {
            Some(Verb::Show(backup) | Verb::Export(ExportArguments { backup, .. })) => backup.is_given(),
            Some(Verb::Restore(restore)) => {
                restore.verb.is_some() || restore.apply.is_some() || restore.backup.is_given()
            }
            _ => true,
        };
        if !named {
            return Err("name a backup: an id, SOURCE@latest or SOURCE@TIME");
        }
        let connection = matches!(&self.verb, Some(Verb::Restore(restore)) if restore.connection.is_some());
        match (common.no_daemon, &common.repository) {
            (true, None) => Err("--no-daemon needs --repository DIR, the repository to read"),
            (true, Some(_)) if common.address.is_some() || common.bus.is_some() => {
                Err("--no-daemon contradicts --address and --bus")
            }
            (true, Some(repository)) => Ok(Some(repository)),
            (false, Some(_)) => Err("--repository is for --no-daemon; a daemon knows its repository"),
            (false, None) if connection => {
                Err("--connection is for --no-daemon; a daemon knows the servers of its sources")
            }
            (false, None) => Ok(None),
        }
    }
}

/// A message bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Bus {
    /// The system's.
    System,
    /// The user's.
    Session,
}

/// Whether and how JSON is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Json {
    /// Indented.
    Pretty,
    /// On one line.
    Short,
    /// Text for people.
    Off,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show the daemon, its repository and running jobs
    Status,
    /// List the configured sources
    Sources,
    /// Add, remove, enable or disable a source
    #[command(subcommand)]
    Source(SourceVerb),
    /// Say whether the backups are as they should be; the exit code is that of a monitoring plugin
    Health(HealthArguments),
    /// Try the notifiers, and see what waits to be told
    #[command(subcommand)]
    Notify(NotifyVerb),
    /// Show when sources were and will be backed up by their timers
    Schedule,
    /// Take a backup of a source
    Create(CreateArguments),
    /// List backups
    List(ListArguments),
    /// Show everything about a backup, and how to restore it by hand
    Show(BackupArguments),
    /// Show what changed from one backup to another
    Diff(DiffArguments),
    /// Show numbers about backups and jobs: sizes, rates, ratios, trends
    Stats(StatsArguments),
    /// Restore a backup beside what there is, then let it take its place; or undo that
    Restore(RestoreArguments),
    /// Check that backups are complete and unchanged
    Verify(VerifyArguments),
    /// Restore backups where nothing depends on them, and look at what came out
    Drill(DrillArguments),
    /// Delete backups and free their space
    Delete(DeleteArguments),
    /// Bring deleted backups back, or list those that can be
    Undelete(UndeleteArguments),
    /// Delete the backups that retention does not keep, and free space
    Prune(PruneArguments),
    /// Look into retention
    #[command(subcommand)]
    Retention(RetentionVerb),
    /// Show who needs how much of the repository's space
    Space,
    /// Keep a backup, whatever the retention of its source says
    Pin(PinArguments),
    /// Let retention decide about a backup again
    Unpin(UnpinArguments),
    /// Write a backup as one .sql.gz that gunzip and psql read, or one .sqlite.gz
    Export(ExportArguments),
    /// List jobs, or show one
    Jobs(JobsArguments),
    /// Cancel jobs
    Cancel {
        /// Numbers of the jobs
        #[arg(required = true, value_name = "JOB")]
        jobs: Vec<u64>,
    },
    /// Show what the journal has about a job or a source
    Log(LogArguments),
    /// Look into the configuration
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Look whether the daemon runs and the newest backups are not too old, without the daemon
    Watch(WatchArguments),
    /// Let the daemon read its configuration again
    Reload,
}

/// `create`
#[derive(Debug, Args)]
pub struct CreateArguments {
    /// The source
    pub source: String,
    /// A text to find the backup by
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub description: String,
    /// A word to find the backup by (can be repeated)
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Take no data
    #[arg(long)]
    pub schema_only: bool,
    /// Take only these tables: schema.table, with * and ? (can be repeated)
    #[arg(long = "table", value_name = "TABLE")]
    pub tables: Vec<String>,
    /// Leave these tables out (can be repeated)
    #[arg(long = "exclude-table", value_name = "TABLE")]
    pub exclude_tables: Vec<String>,
    /// Take only these schemas (can be repeated)
    #[arg(long = "schema", value_name = "SCHEMA")]
    pub schemas: Vec<String>,
    /// Leave these schemas out (can be repeated)
    #[arg(long = "exclude-schema", value_name = "SCHEMA")]
    pub exclude_schemas: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "documented at its type")]
    pub waiting: Waiting,
}

/// `list`
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only backups of this source
    pub source: Option<String>,
    /// Only backups of this source, for names that look like something else
    #[arg(long = "source", value_name = "SOURCE", conflicts_with = "source")]
    pub source_option: Option<String>,
    /// Only backups with this tag
    #[arg(long, default_value = "", hide_default_value = true)]
    pub tag: String,
    /// Only backups of this day or time, or later
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only backups of this day or time, or earlier
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only backups that are known to be damaged
    #[arg(long)]
    pub damaged: bool,
    /// Only backups that hold suspiciously less than an earlier one
    #[arg(long)]
    pub suspect: bool,
}

/// Which backup.
#[derive(Debug, Args)]
pub struct BackupArguments {
    /// The backup
    // Whether one must be named depends on the verb: see `offline_repository`.
    #[arg(conflicts_with_all = ["of_source", "backup_option"])]
    pub backup: Option<String>,
    /// The newest backup of this source, for names that look like something else
    #[arg(id = "of_source", long = "source", value_name = "SOURCE")]
    pub of_source: Option<String>,
    /// The backup: an id, or with --source also `latest` or a time
    #[arg(id = "backup_option", long = "backup", value_name = "BACKUP")]
    pub backup_option: Option<String>,
}

impl BackupArguments {
    fn is_given(&self) -> bool {
        self.backup.is_some() || self.of_source.is_some() || self.backup_option.is_some()
    }
}

/// `verify`
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// The backup; all of them if neither it nor a source is given
    #[arg(conflicts_with = "source")]
    pub backup: Option<String>,
    /// All backups of this source
    #[arg(long)]
    pub source: Option<String>,
    /// Only so much, what was not verified for longest first: a share such as 10%, or a size such as 5GiB
    #[arg(long, value_name = "SHARE|SIZE", default_value = "", hide_default_value = true, conflicts_with = "backup")]
    pub subset: String,
    /// How deep to look
    #[arg(long, value_enum, default_value_t = Level::Packs)]
    pub level: Level,
    #[command(flatten)]
    #[allow(missing_docs, reason = "documented at its type")]
    pub waiting: Waiting,
}

/// `drill`
#[derive(Debug, Args)]
pub struct DrillArguments {
    /// The source, for its newest backup; or a backup
    #[arg(value_name = "SOURCE|BACKUP", conflicts_with = "all", required_unless_present = "all")]
    pub backup: Option<String>,
    /// The newest backup of every source, one after the other
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "documented at its type")]
    pub waiting: Waiting,
}

/// How deep `verify` looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Manifests, and that every pack is there in its size
    List,
    /// The hash of every pack
    Packs,
    /// Every chunk decoded and hashed, every file compared
    Data,
}

impl From<Level> for VerifyLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::List => Self::List,
            Level::Packs => Self::Packs,
            Level::Data => Self::Data,
        }
    }
}

/// `delete`
#[derive(Debug, Args)]
pub struct DeleteArguments {
    /// The backups
    #[arg(required = true, value_name = "BACKUP")]
    pub backups: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Free their space at once: they cannot be brought back
    #[arg(long)]
    pub no_undelete: bool,
}

/// `export`
#[derive(Debug, Args)]
pub struct ExportArguments {
    #[command(flatten)]
    #[allow(missing_docs, reason = "documented at its type")]
    pub backup: BackupArguments,
    /// Write to this file, which appears only when it is complete [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `jobs`
#[derive(Debug, Args)]
pub struct JobsArguments {
    /// Show everything about this job
    pub job: Option<u64>,
    /// List this many of the newest jobs [default: 20 as text, all as JSON]
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "job")]
    pub lines: Option<usize>,
}

/// `log`
#[derive(Debug, Args)]
pub struct LogArguments {
    /// The number of a job, or a source; all messages if neither is given
    #[arg(value_name = "JOB|SOURCE")]
    pub about: Option<String>,
    /// The source, for names that look like something else
    #[arg(long = "source", value_name = "SOURCE", conflicts_with = "about")]
    pub source: Option<String>,
    /// Show new messages as they come
    #[arg(short, long)]
    pub follow: bool,
    /// Show this many of the newest messages
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<usize>,
    /// Explain the messages
    #[arg(short = 'x', long)]
    pub catalog: bool,
}

/// `config`
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Check all files of the configuration, without a daemon
    Check {
        /// The directory of backupd.toml
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, default_value = config::DEFAULT_DIRECTORY)]
        config_dir: PathBuf,
    },
}

/// Whether to wait for a job.
#[derive(Debug, Clone, Copy, Args)]
pub struct Waiting {
    /// Do not wait; print the number of the job
    #[arg(long)]
    pub no_block: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn global_options_stand_anywhere() {
        for line in
            ["backupctl --json=short list shop", "backupctl list --json=short shop", "backupctl list shop --json=short"]
        {
            let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(arguments.common.json, Json::Short);
            assert!(matches!(arguments.verb, Some(Verb::List(list)) if list.source.as_deref() == Some("shop")));
        }
        let arguments = Arguments::try_parse_from(["backupctl", "list", "--json", "shop"]).unwrap();
        assert_eq!(arguments.common.json, Json::Pretty);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for line in [
            "--address a --bus system status",
            "show abcd --source shop",
            "delete",
            "cancel",
            "cancel x",
            "verify abcd --source shop",
            "verify --level=deep",
            "jobs 1 -n 3",
            "unknown",
        ] {
            let words = std::iter::once("backupctl").chain(line.split(' '));
            let error = Arguments::try_parse_from(words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn reading_without_a_daemon_is_all_or_nothing() {
        let offline = |line: &str| {
            let words = std::iter::once("backupctl").chain(line.split(' '));
            let arguments = Arguments::try_parse_from(words).unwrap();
            arguments.offline_repository().map(|repository| repository.map(Path::to_owned))
        };
        assert_eq!(offline("list"), Ok(None));
        for good in
            ["--no-daemon --repository /x list", "--no-daemon list --repository /x", "list --no-daemon --repository /x"]
        {
            assert_eq!(offline(good), Ok(Some("/x".into())), "{good}");
        }
        let restore = "--no-daemon --repository /x restore abcd --connection postgresql://h";
        assert_eq!(offline(restore), Ok(Some("/x".into())));
        for bad in [
            "show",
            "export",
            "restore",
            "--no-daemon list",
            "list --repository /x",
            "--address a list --no-daemon --repository /x",
            "restore abcd --connection postgresql://h",
        ] {
            assert!(offline(bad).is_err(), "{bad}");
        }
    }
}
