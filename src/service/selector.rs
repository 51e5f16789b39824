//! Which backup is meant: an id, a unique prefix of one, `SOURCE@latest`, `SOURCE@<microseconds>`.
//!
//! "Latest" is the highest sequence, never the clock's opinion. A source with children is written `NAME/DATABASE`; the
//! split is at the first `/` and the last `@`.

use super::error::ServiceError;
use crate::{
    model::{ErrorCode, Name, SourceKey, SourceName, error_code::TABLE, summary::BackupSummary},
    repository::Problem,
};

/// A parsed selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The first hex digits of an id.
    Id(String),
    /// The highest sequence of a source.
    Latest(SourceKey),
    /// The highest sequence of a source whose snapshot is before this time, microseconds since the epoch.
    Before(SourceKey, u64),
}

/// Reads the name of a source as it is shown: `NAME`, or `NAME/DATABASE`.
///
/// # Errors
/// `NoSuchSource`: what is not a source's name cannot be one's.
pub fn parse_source(text: &str) -> Result<SourceKey, ServiceError> {
    let (name, child) = match text.split_once('/') {
        Some((name, child)) => (name, Some(Name::from(child))),
        None => (text, None),
    };
    let source: SourceName = name
        .parse()
        .map_err(|error| ServiceError::new(ErrorCode::NoSuchSource, format!("there is no source {text:?}: {error}")))?;
    Ok(SourceKey { source, child })
}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// `NoSuchBackup` for text that has none of the forms.
    pub fn parse(text: &str) -> Result<Self, ServiceError> {
        if let Some((source, which)) = text.rsplit_once('@') {
            let key = parse_source(source)?;
            return match which {
                "latest" => Ok(Self::Latest(key)),
                time => time.parse().map(|time| Self::Before(key, time)).map_err(|_| unknown_form(text)),
            };
        }
        let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if (4..=32).contains(&text.len()) && text.bytes().all(hex) {
            Ok(Self::Id(text.to_owned()))
        } else {
            Err(unknown_form(text))
        }
    }

    /// Finds the backup that is meant. An id that only a backup has that cannot be listed gives the reason for that.
    ///
    /// # Errors
    /// `NoSuchBackup`, `AmbiguousBackup`; `UnsupportedFormat`, `BackupDamaged` and others of a backup that cannot be
    /// listed.
    pub fn find_or_explain<'a>(
        &self,
        backups: impl IntoIterator<Item = &'a BackupSummary>,
        problems: impl FnOnce() -> Vec<Problem>,
    ) -> Result<&'a BackupSummary, ServiceError> {
        self.find(backups).map_err(|error| match self {
            Self::Id(prefix) if error.code() == ErrorCode::NoSuchBackup => problems()
                .into_iter()
                .find(|problem| problem.folder.id.to_string().starts_with(prefix.as_str()))
                .map_or(error, |problem| {
                    let row = TABLE.iter().find(|row| row.name == problem.error);
                    ServiceError::new(row.map_or(ErrorCode::BackupDamaged, |row| row.code), problem.message)
                }),
            _ => error,
        })
    }

    /// Finds the backup that is meant.
    ///
    /// # Errors
    /// `NoSuchBackup`, `AmbiguousBackup`.
    pub fn find<'a>(
        &self,
        backups: impl IntoIterator<Item = &'a BackupSummary>,
    ) -> Result<&'a BackupSummary, ServiceError> {
        let mut backups = backups.into_iter();
        match self {
            Self::Id(prefix) => {
                let mut matching = backups.filter(|backup| backup.id.to_string().starts_with(prefix.as_str()));
                let first =
                    matching.next().ok_or_else(|| missing(format!("no backup has an id that begins with {prefix}")))?;
                match matching.next() {
                    None => Ok(first),
                    Some(second) => Err(ServiceError::new(
                        ErrorCode::AmbiguousBackup,
                        format!(
                            "{prefix} is the beginning of more than one backup's id: {}, {} …",
                            first.id, second.id
                        ),
                    )),
                }
            }
            Self::Latest(key) => backups
                .filter(|backup| backup.source == *key)
                .max_by_key(|backup| backup.sequence)
                .ok_or_else(|| missing(format!("source {key} has no backup"))),
            Self::Before(key, time) => backups
                .by_ref()
                .filter(|backup| backup.source == *key && backup.snapshot_at < *time)
                .max_by_key(|backup| backup.sequence)
                .ok_or_else(|| missing(format!("source {key} has no backup from before that time"))),
        }
    }
}

fn missing(message: String) -> ServiceError {
    ServiceError::new(ErrorCode::NoSuchBackup, message)
}

fn unknown_form(text: &str) -> ServiceError {
    missing(format!(
        "{text:?} names no backup: expected at least four hex digits of an id, SOURCE@latest or SOURCE@<microseconds>"
    ))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::{BackupId, manifest::Kind, summary::Proof};

    pub(crate) fn summary(source: &str, sequence: u64, snapshot_at: u64, id: &str) -> BackupSummary {
        let id: BackupId = format!("{id:0<32}").parse().unwrap();
        BackupSummary {
            id,
            source: parse_source(source).unwrap(),
            run_id: None,
            whole_run: false,
            sequence,
            kind: Kind::Logical,
            started_at: snapshot_at,
            snapshot_at,
            finished_at: snapshot_at,
            raw_bytes: 0,
            stored_bytes: 0,
            new_bytes: 0,
            rows: 0,
            proof: Proof::Stored,
            verified_at: 0,
            damaged: false,
            incomplete: 0,
            description: String::new(),
            tags: Vec::new(),
        }
    }

    fn find(text: &str) -> Result<String, ErrorCode> {
        let backups = [
            summary("shop", 1, 100, "aaaa1"),
            summary("shop", 2, 50, "aaaa2"),
            summary("crm", 1, 70, "bbbb"),
            summary("all/a@b/c", 3, 10, "cccc"),
        ];
        Selector::parse(text)
            .and_then(|selector| selector.find(&backups).map(|found| found.id.short()))
            .map_err(|error| error.code())
    }

    #[test]
    fn finds_by_prefix_latest_and_time() {
        assert_eq!(find("aaaa1").unwrap(), "aaaa1000");
        assert_eq!(find("bbbb").unwrap(), "bbbb0000");
        assert_eq!(find("shop@latest").unwrap(), "aaaa2000", "the sequence decides, not the clock");
        assert_eq!(find("shop@60").unwrap(), "aaaa2000");
        assert_eq!(find("shop@101").unwrap(), "aaaa2000");
        assert_eq!(find("all/a@b/c@latest").unwrap(), "cccc0000");
    }

    #[test]
    fn refuses_what_names_none_or_several() {
        assert_eq!(find("aaaa"), Err(ErrorCode::AmbiguousBackup));
        for none in ["dddd", "shop@50", "crm@x", "aaa", "", "../x", "AAAA1", "shop"] {
            assert_eq!(find(none), Err(ErrorCode::NoSuchBackup), "{none:?}");
        }
        assert_eq!(find("Shop@latest"), Err(ErrorCode::NoSuchSource));
        assert_eq!(find("nothing@latest"), Err(ErrorCode::NoSuchBackup));
    }
}
