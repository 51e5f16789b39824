//! Which backup is meant: an id, a unique prefix of one, `SOURCE@latest`, `SOURCE@<microseconds>`, `SOURCE@<run>`.
//!
//! "Latest" is the highest sequence, never the clock's opinion. A source with children is written `NAME/DATABASE`; the
//! split is at the first `/` and the last `@`. The name of a source that is a whole server alone means all backups of one
//! of its runs: [`Chosen::Whole`].

use super::{error::ServiceError, runs, several};
use crate::{
    model::{ErrorCode, Name, RunId, SourceKey, SourceName, error_code::TABLE, summary::BackupSummary},
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
    /// What a run took of a source.
    Run(SourceKey, RunId),
}

/// What a selector means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    /// One backup.
    One(Box<BackupSummary>),
    /// The backups of one run of a source that is a whole server; at least one.
    Whole(Vec<BackupSummary>),
}

impl Chosen {
    /// All that is meant.
    #[must_use]
    pub fn into_backups(self) -> Vec<BackupSummary> {
        match self {
            Self::One(backup) => vec![*backup],
            Self::Whole(backups) => backups,
        }
    }

    /// The one backup that is meant.
    ///
    /// # Errors
    /// `InvalidArgs` for a whole run, naming the databases of which one must be chosen.
    pub fn into_one(self) -> Result<BackupSummary, ServiceError> {
        let backups = match self {
            Self::One(backup) => return Ok(*backup),
            Self::Whole(backups) => backups,
        };
        let sources = several::names(backups.iter().map(|backup| backup.source.to_string()));
        let message = format!(
            "that is a whole run of {} backups, and this is about a single one; name a database with it, as NAME/DATABASE@latest: {sources}",
            backups.len()
        );
        Err(ServiceError::new(ErrorCode::InvalidArgs, message))
    }
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
                _ => match (which.parse(), which.parse()) {
                    (Ok(time), _) => Ok(Self::Before(key, time)),
                    (_, Ok(run)) => Ok(Self::Run(key, run)),
                    _ => Err(unknown_form(text)),
                },
            };
        }
        let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if (4..=32).contains(&text.len()) && text.bytes().all(hex) {
            Ok(Self::Id(text.to_owned()))
        } else {
            Err(unknown_form(text))
        }
    }

    /// Finds what is meant among `backups`. An id that only a backup has that cannot be listed gives the reason for that.
    ///
    /// # Errors
    /// `NoSuchBackup`, `AmbiguousBackup`; `UnsupportedFormat`, `BackupDamaged` and others of a backup that cannot be
    /// listed.
    pub fn find_or_explain(
        &self,
        backups: &[BackupSummary],
        problems: impl FnOnce() -> Vec<Problem>,
    ) -> Result<Chosen, ServiceError> {
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

    /// Finds what is meant.
    ///
    /// # Errors
    /// `NoSuchBackup`, `AmbiguousBackup`.
    pub fn find(&self, backups: &[BackupSummary]) -> Result<Chosen, ServiceError> {
        match self {
            Self::Id(prefix) => by_id(backups, prefix),
            Self::Latest(key) => {
                newest(backups, key, None).ok_or_else(|| missing(format!("source {key} has no backup")))
            }
            Self::Before(key, time) => newest(backups, key, Some(*time))
                .ok_or_else(|| missing(format!("source {key} has no backup from before that time"))),
            Self::Run(key, run) => of_run(backups, key, *run)
                .ok_or_else(|| missing(format!("source {key} has no backup of the run {run}"))),
        }
    }
}

fn by_id(backups: &[BackupSummary], prefix: &str) -> Result<Chosen, ServiceError> {
    let mut matching = backups.iter().filter(|backup| backup.id.to_string().starts_with(prefix));
    let first = matching.next().ok_or_else(|| missing(format!("no backup has an id that begins with {prefix}")))?;
    match matching.next() {
        None => Ok(Chosen::One(Box::new(first.clone()))),
        Some(second) => Err(ServiceError::new(
            ErrorCode::AmbiguousBackup,
            format!("{prefix} is the beginning of more than one backup's id: {}, {} …", first.id, second.id),
        )),
    }
}

/// The newest backup of a source, or of all databases of one that is a whole server; of one that was a single database
/// once and is a whole server now, or the other way round, the newer of both.
fn newest(backups: &[BackupSummary], key: &SourceKey, before: Option<u64>) -> Option<Chosen> {
    let one = backups
        .iter()
        .filter(|backup| backup.source == *key && before.is_none_or(|time| backup.snapshot_at < time))
        .max_by_key(|backup| backup.sequence);
    let whole = match key.child {
        None => runs::newest_whole(backups, &key.source, before),
        Some(_) => Vec::new(),
    };
    match (one, whole.first()) {
        (Some(one), Some(first)) if one.run_id > first.run_id => Some(Chosen::One(Box::new(one.clone()))),
        (_, Some(_)) => Some(Chosen::Whole(whole.into_iter().cloned().collect())),
        (one, None) => one.map(|one| Chosen::One(Box::new(one.clone()))),
    }
}

fn of_run(backups: &[BackupSummary], key: &SourceKey, run: RunId) -> Option<Chosen> {
    let of_key =
        |backup: &&BackupSummary| backup.source == *key || (key.child.is_none() && backup.source.source == key.source);
    let found: Vec<&BackupSummary> =
        backups.iter().filter(of_key).filter(|backup| backup.run_id == Some(run)).collect();
    match found.as_slice() {
        [] => None,
        [one] if key.child.is_some() || !one.whole_run => Some(Chosen::One(Box::new((*one).clone()))),
        _ => Some(Chosen::Whole(found.into_iter().cloned().collect())),
    }
}

fn missing(message: String) -> ServiceError {
    ServiceError::new(ErrorCode::NoSuchBackup, message)
}

fn unknown_form(text: &str) -> ServiceError {
    missing(format!(
        "{text:?} names no backup: expected at least four hex digits of an id, SOURCE@latest, SOURCE@<microseconds> or \
         SOURCE@<run>"
    ))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::service::runs::tests::{run, taken};

    pub(crate) fn summary(source: &str, sequence: u64, snapshot_at: u64, id: &str) -> BackupSummary {
        BackupSummary {
            id: format!("{id:0<32}").parse().unwrap(),
            source: parse_source(source).unwrap(),
            sequence,
            started_at: snapshot_at,
            snapshot_at,
            finished_at: snapshot_at,
            ..BackupSummary::nothing()
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
            .and_then(|selector| selector.find(&backups)?.into_one())
            .map(|found| found.id.short())
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
        assert_eq!(find("shop@01a1f972-b701-769b-a723-393f6179df4a"), Err(ErrorCode::NoSuchBackup));
        assert_eq!(find("Shop@latest"), Err(ErrorCode::NoSuchSource));
        assert_eq!(find("nothing@latest"), Err(ErrorCode::NoSuchBackup));
    }

    #[test]
    fn the_name_of_a_whole_server_means_a_run() {
        let mut alone = taken("all/b", 3, 30, 3);
        alone.whole_run = false;
        let backups = [
            taken("all/a", 1, 10, 1),
            taken("all/b", 1, 11, 1),
            taken("all/a", 2, 20, 2),
            taken("all/b", 2, 21, 2),
            alone,
        ];
        let chosen = |text: &str| {
            let chosen = Selector::parse(text).and_then(|selector| selector.find(&backups));
            chosen.map(|chosen| {
                let whole = matches!(chosen, Chosen::Whole(_));
                (whole, chosen.into_backups().iter().map(|b| (b.source.to_string(), b.sequence)).collect::<Vec<_>>())
            })
        };
        let (first, second) = (
            vec![("all/a".to_owned(), 1), ("all/b".to_owned(), 1)],
            vec![("all/a".to_owned(), 2), ("all/b".to_owned(), 2)],
        );
        assert_eq!(chosen("all@latest").unwrap(), (true, second.clone()));
        assert_eq!(chosen("all@20").unwrap(), (true, first.clone()));
        assert_eq!(chosen(&format!("all@{}", run(1))).unwrap(), (true, first));
        assert_eq!(chosen(&format!("all/b@{}", run(2))).unwrap(), (false, second[1..].to_vec()));
        assert_eq!(chosen(&format!("all@{}", run(3))).unwrap(), (false, vec![("all/b".to_owned(), 3)]));
        assert_eq!(chosen("all/b@latest").unwrap(), (false, vec![("all/b".to_owned(), 3)]));
        assert_eq!(chosen("all/c@latest").unwrap_err().code(), ErrorCode::NoSuchBackup);

        let whole = Selector::parse("all@latest").unwrap().find(&backups).unwrap();
        let error = whole.into_one().unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgs);
        assert!(error.to_string().contains("all/a, all/b"), "{error}");
    }

    #[test]
    fn a_source_that_became_a_whole_server_goes_on_from_where_it_was() {
        let mut single = summary("all", 9, 5, "dddd");
        single.run_id = Some(run(1));
        let mut backups = vec![single, taken("all/a", 1, 10, 2)];
        let latest = |backups: &[BackupSummary]| Selector::parse("all@latest").unwrap().find(backups).unwrap();
        assert!(matches!(latest(&backups), Chosen::Whole(_)));
        backups[0].run_id = Some(run(3));
        assert!(matches!(latest(&backups), Chosen::One(_)));
    }
}
