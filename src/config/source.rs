//! `sources.d/NAME.toml`: what every type of source has in common.

use std::time::Duration;

use super::{
    drill::{self, DrillConfig},
    health::{self, HealthConfig, Within},
    postgres::{self, PostgresConfig},
    reader::Section,
    retention::{self, RetentionKeys},
    schedule::schedule,
    sqlite::{self, SqliteConfig},
    values,
};

/// `suspicious_loss` where none is configured, percent.
const SUSPICIOUS_LOSS: u64 = 50;

/// One source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    /// Whether it may be backed up.
    pub enabled: bool,
    /// Free text.
    pub description: String,
    /// When a timer begins a backup, as values of `OnCalendar=`; none where nothing is configured.
    pub schedule: Vec<String>,
    /// How old the newest good backup may get, at most; judged by the schedule where absent.
    pub rpo: Option<Within>,
    /// How long a backup may take in all.
    pub timeout: Option<Duration>,
    /// How many plaintext bytes a backup may have.
    pub max_size: Option<u64>,
    /// The share of rows, bytes or tables, in percent, that a backup may lack against the one before without being
    /// suspect; 100 for any.
    pub suspicious_loss: u64,
    /// How its backups are drilled.
    pub drill: DrillConfig,
    /// Which backups stay, where that is not as for all sources.
    pub retention: RetentionKeys,
    /// From when on its health is bad.
    pub health: HealthConfig,
    /// What it is.
    pub kind: SourceKind,
}

/// The kinds of sources.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceKind {
    /// `type = "postgresql"`.
    Postgres(Box<PostgresConfig>),
    /// `type = "sqlite"`.
    Sqlite(SqliteConfig),
}

impl SourceKind {
    /// The word of the key `type`, also on the bus.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgresql",
            Self::Sqlite(_) => "sqlite",
        }
    }
}

/// Reads the whole file of a source. `None` where that cannot be done, which is then reported; what is returned may
/// have defaults in place of what was reported.
pub(super) fn read(mut root: Section<'_>) -> Option<SourceConfig> {
    let is_sqlite = match root.take("type", values::text).as_deref() {
        Some("postgresql") => false,
        Some("sqlite") => true,
        Some(other) => {
            root.problem("type", format!("must be \"postgresql\" or \"sqlite\", not {other:?}"));
            return None;
        }
        None => {
            if !root.has("type") {
                root.problem("type", "is missing; write type = \"postgresql\" or type = \"sqlite\"");
            }
            return None;
        }
    };
    let enabled = root.take("enabled", values::boolean).unwrap_or(true);
    let description = root.take("description", values::text).unwrap_or_default();
    let schedule = root.take("schedule", schedule).unwrap_or_default();
    let rpo = root.take("rpo", health::within);
    let timeout = root.take("timeout", values::duration);
    let max_size = root.take("max_size", values::size);
    if max_size == Some(0) {
        root.problem("max_size", "allows no backup at all; leave the key out for no limit");
    }
    let suspicious_loss = root.take("suspicious_loss", values::integer(1..=100)).unwrap_or(SUSPICIOUS_LOSS);
    let kind = if is_sqlite {
        sqlite::read(&mut root).map(SourceKind::Sqlite)
    } else {
        postgres::read(&mut root).map(|config| SourceKind::Postgres(Box::new(config)))
    };
    let drill = drill::read(root.section("drill"), is_sqlite);
    let health = health::read(root.section("health"));
    let retention = retention::read(root.section("retention"));
    root.finish();
    let kind = kind?;
    Some(SourceConfig {
        enabled,
        description,
        schedule,
        rpo,
        timeout,
        max_size,
        suspicious_loss,
        drill,
        health,
        retention,
        kind,
    })
}
