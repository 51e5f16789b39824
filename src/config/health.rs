//! `[health]`: from when on `backupctl health` complains; in `backupd.toml` for all sources, in the file of a source for that one.

use std::time::Duration;

use toml::de::DeValue;

use super::{reader::Section, values};

/// How soon a file system that fills up is worth a warning, where nothing is configured.
const FULL_WITHIN: Duration = Duration::from_secs(14 * 86_400);

/// A time within which something has to happen, or a deliberate none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within {
    /// Written as "off".
    Off,
    /// At most this long.
    Time(Duration),
}

impl Within {
    /// The time, if one is wanted.
    #[must_use]
    pub fn time(self) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::Time(time) => Some(time),
        }
    }
}

/// What both files can say. What a source leaves out is as in `backupd.toml`; what that leaves out is not wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthConfig {
    /// Within which time some backup was verified (level `packs` or `data`).
    pub verified_within: Option<Within>,
    /// Within which time some backup was drilled with success.
    pub drilled_within: Option<Within>,
    /// How many good backups there have to be of each database.
    pub min_backups: Option<u32>,
}

impl HealthConfig {
    /// These, and from `below` what they leave out.
    #[must_use]
    pub fn or(&self, below: &Self) -> Self {
        Self {
            verified_within: self.verified_within.or(below.verified_within),
            drilled_within: self.drilled_within.or(below.drilled_within),
            min_backups: self.min_backups.or(below.min_backups),
        }
    }
}

/// `[health]` of `backupd.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthHost {
    /// For the sources.
    pub sources: HealthConfig,
    /// A repository whose file system would be full so soon, by the trend, is worth a warning.
    pub full_within: Option<Duration>,
    /// How many bytes undo copies may hold in all; no limit where absent.
    pub max_undo: Option<u64>,
}

impl Default for HealthHost {
    fn default() -> Self {
        Self { sources: HealthConfig::default(), full_within: Some(FULL_WITHIN), max_undo: None }
    }
}

pub(super) fn read_host(mut section: Section<'_>) -> HealthHost {
    let default = HealthHost::default();
    let sources = read_keys(&mut section);
    let full_within = section.take("full_within", within).map_or(default.full_within, Within::time);
    let max_undo = section.take("max_undo", values::size);
    section.finish();
    HealthHost { sources, full_within, max_undo }
}

pub(super) fn read(mut section: Section<'_>) -> HealthConfig {
    let config = read_keys(&mut section);
    section.finish();
    config
}

fn read_keys(section: &mut Section<'_>) -> HealthConfig {
    HealthConfig {
        verified_within: section.take("verified_within", within),
        drilled_within: section.take("drilled_within", within),
        min_backups: section.take("min_backups", values::integer(0..=10_000)),
    }
}

/// A duration, or "off".
pub(super) fn within(value: DeValue<'_>) -> Result<Within, String> {
    match value {
        DeValue::String(text) if text == "off" => Ok(Within::Off),
        other => values::duration(other).map(Within::Time).map_err(|problem| format!("{problem}, or write \"off\"")),
    }
}
