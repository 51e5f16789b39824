//! Pages of a listing: pure functions over sorted summaries.
//!
//! Invariants: the order is by source, then newest sequence first; a cursor names a place in that order, not a
//! position, so a walk over pages sees each backup that was there all the time exactly once, whatever comes and goes.

use std::collections::HashSet;

use super::{
    error::ServiceError,
    operations::{ListFilter, Page},
    selector::{Selector, parse_source},
};
use crate::model::{BackupId, ErrorCode, Name, SourceKey, SourceName, name::percent_unescape, summary::BackupSummary};

/// How many backups a page holds when the caller does not say; also the most that one page may hold.
pub const PAGE_LIMIT: usize = 10_000;
/// Bytes after which a page ends, as [`size`] counts them: a message bus takes 32 MiB at once, and ten thousand backups
/// without much text have less.
pub const PAGE_BYTES: usize = 4 << 20;

/// Whether a backup is wanted.
#[derive(Debug)]
struct Wanted<'a> {
    filter: &'a ListFilter,
    source: Option<SourceKey>,
    /// The ids that the filter's selector means.
    chosen: Option<HashSet<BackupId>>,
}

impl<'a> Wanted<'a> {
    fn by(filter: &'a ListFilter, backups: &[BackupSummary]) -> Result<Self, ServiceError> {
        let source = if filter.source.is_empty() { None } else { Some(parse_source(&filter.source)?) };
        let chosen = match filter.backup.as_str() {
            "" => None,
            selector => {
                let chosen = Selector::parse(selector)?.find(backups)?.into_backups();
                Some(chosen.iter().map(|backup| backup.id).collect())
            }
        };
        Ok(Self { filter, source, chosen })
    }

    fn includes(&self, backup: &BackupSummary) -> bool {
        let filter = self.filter;
        let of_source = self.source.as_ref().is_none_or(|key| {
            backup.source.source == key.source && (key.child.is_none() || backup.source.child == key.child)
        });
        of_source
            && (!filter.damaged || backup.damaged)
            && (!filter.suspect || backup.suspect)
            && (filter.tag.is_empty() || backup.tags.contains(&filter.tag))
            && backup.snapshot_at >= filter.since
            && (filter.run.is_none() || backup.run_id == filter.run)
            && self.chosen.as_ref().is_none_or(|ids| ids.contains(&backup.id))
            && (filter.until == 0 || backup.snapshot_at < filter.until)
    }
}

/// The place of a backup in the order of listings.
fn place(backup: &BackupSummary) -> (&SourceKey, std::cmp::Reverse<u64>) {
    (&backup.source, std::cmp::Reverse(backup.sequence))
}

/// Puts backups into the order of listings.
pub fn sort(backups: &mut [BackupSummary]) {
    backups.sort_by(|a, b| place(a).cmp(&place(b)));
}

/// The newest backup of a source; of one that is a whole server, that of the database with the latest snapshot.
/// `backups` are in the order of [`sort`].
#[must_use]
pub fn newest<'a>(backups: &'a [BackupSummary], source: &SourceName) -> Option<&'a BackupSummary> {
    let mut start = backups.partition_point(|backup| backup.source.source < *source);
    std::iter::from_fn(|| {
        let first = backups.get(start).filter(|backup| backup.source.source == *source)?;
        start += backups[start..].partition_point(|backup| backup.source == first.source);
        Some(first)
    })
    .max_by_key(|backup| backup.snapshot_at)
}

/// The backups that a filter wants.
///
/// # Errors
/// `NoSuchSource` for a filter that names none that could be; `NoSuchBackup`, `AmbiguousBackup` for its selector.
pub fn matching(backups: &[BackupSummary], filter: &ListFilter) -> Result<Vec<BackupSummary>, ServiceError> {
    let wanted = Wanted::by(filter, backups)?;
    Ok(backups.iter().filter(|backup| wanted.includes(backup)).cloned().collect())
}

/// What a backup takes in a page, roughly: its numbers and its texts.
#[must_use]
pub fn size(backup: &BackupSummary) -> usize {
    let database = backup.source.child.as_ref().map_or(0, |name| name.as_bytes().len());
    let tags: usize = backup.tags.iter().map(|tag| tag.len() + 8).sum();
    200 + backup.source.source.as_str().len() + database + backup.description.len() + tags
}

/// One page of `backups`, which are in the order of [`sort`].
///
/// # Errors
/// As [`matching`]; `InvalidArgs` for a cursor that no page gave.
pub fn page(backups: &[BackupSummary], filter: &ListFilter, limit: usize, cursor: &str) -> Result<Page, ServiceError> {
    let wanted = Wanted::by(filter, backups)?;
    let start = match cursor {
        "" => 0,
        text => {
            let (key, sequence) = parse_cursor(text).ok_or_else(|| {
                ServiceError::new(ErrorCode::InvalidArgs, format!("{text:?} is not a cursor that ListBackups gave"))
            })?;
            backups.partition_point(|backup| place(backup) <= (&key, std::cmp::Reverse(sequence)))
        }
    };
    let limit = if limit == 0 { PAGE_LIMIT } else { limit.min(PAGE_LIMIT) };
    let mut matching = backups[start..].iter().filter(|backup| wanted.includes(backup)).peekable();
    let (mut page, mut bytes): (Vec<BackupSummary>, _) = (Vec::new(), 0);
    // A page has one backup at least, so that a walk comes to its end.
    while page.len() < limit
        && let Some(backup) = matching.next_if(|backup| page.is_empty() || bytes + size(backup) <= PAGE_BYTES)
    {
        bytes += size(backup);
        page.push(backup.clone());
    }
    let cursor = match (page.last(), matching.next()) {
        (Some(last), Some(_)) => format!("{}:{}", last.source.folder(), last.sequence),
        _ => String::new(),
    };
    Ok(Page { backups: page, cursor })
}

fn parse_cursor(text: &str) -> Option<(SourceKey, u64)> {
    let (folder, sequence) = text.rsplit_once(':')?;
    let (source, child) = folder.split_once('/')?;
    let child = if child == "_" { None } else { Some(Name::from(percent_unescape(child)?)) };
    Some((SourceKey { source: source.parse().ok()?, child }, sequence.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{model::RunId, service::selector::tests::summary};

    fn some_backups(count: u64) -> Vec<BackupSummary> {
        let mut backups: Vec<_> = (0..count)
            .map(|i| {
                let source = ["shop", "crm", "all/a:b/c", "all/ü"][usize::try_from(i % 4).unwrap()];
                let mut backup = summary(source, i, 1000 - i, &format!("{i:08x}"));
                backup.tags = if i % 3 == 0 { vec!["nightly".to_owned()] } else { Vec::new() };
                backup
            })
            .collect();
        sort(&mut backups);
        backups
    }

    #[test]
    fn filters_by_source_tag_and_time() {
        let backups = some_backups(40);
        let count = |filter: ListFilter| page(&backups, &filter, 0, "").unwrap().backups.len();
        assert_eq!(count(ListFilter::default()), 40);
        assert_eq!(count(ListFilter { source: "shop".into(), ..Default::default() }), 10);
        assert_eq!(count(ListFilter { source: "all".into(), ..Default::default() }), 20);
        assert_eq!(count(ListFilter { source: "all/ü".into(), ..Default::default() }), 10);
        assert_eq!(count(ListFilter { tag: "nightly".into(), ..Default::default() }), 14);
        assert_eq!(count(ListFilter { since: 990, ..Default::default() }), 11);
        assert_eq!(count(ListFilter { since: 990, until: 995, ..Default::default() }), 5);
        let newest_first = page(&backups, &ListFilter { source: "crm".into(), ..Default::default() }, 2, "").unwrap();
        assert_eq!(newest_first.backups.iter().map(|b| b.sequence).collect::<Vec<_>>(), [37, 33]);
    }

    #[test]
    fn filters_by_run() {
        let mut backups = some_backups(8);
        let run = RunId::new();
        for backup in backups.iter_mut().filter(|backup| backup.source.child.is_some()) {
            backup.run_id = Some(run);
        }
        let count = |run| matching(&backups, &ListFilter { run: Some(run), ..Default::default() }).unwrap().len();
        assert_eq!(count(run), 4);
        assert_eq!(count(RunId::new()), 0);
        let of_backup = |selector: &str| {
            let found = matching(&backups, &ListFilter { backup: selector.to_owned(), ..Default::default() })?;
            Ok::<_, ServiceError>(found.iter().map(|backup| backup.source.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(of_backup(&format!("all@{run}")).unwrap().len(), 4);
        assert_eq!(of_backup("all/ü@latest").unwrap(), ["all/ü"]);
        assert_eq!(of_backup("nothing@latest").unwrap_err().code(), ErrorCode::NoSuchBackup);
    }

    #[test]
    fn finds_the_newest_of_a_source() {
        let backups = some_backups(40);
        for source in ["shop", "crm", "all"] {
            let name: SourceName = source.parse().unwrap();
            let of_source: Vec<_> = backups.iter().filter(|b| b.source.source == name).collect();
            let is_last =
                |b: &&BackupSummary| !of_source.iter().any(|o| o.source == b.source && o.sequence > b.sequence);
            let expected = of_source.iter().copied().filter(is_last).max_by_key(|b| b.snapshot_at);
            assert!(expected.is_some() && newest(&backups, &name) == expected, "{source}");
        }
        for missing in ["a", "b", "zoo"] {
            assert_eq!(newest(&backups, &missing.parse().unwrap()), None);
        }
    }

    #[test]
    fn refuses_a_foreign_cursor() {
        for bad in ["x", "shop/_:x", "shop:1", "Shop/_:1", "all/ü:1"] {
            let error = page(&[], &ListFilter::default(), 1, bad).unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidArgs, "{bad:?}");
        }
    }

    #[test]
    fn a_walk_over_a_million_backups_goes_by_pages_of_bounded_size() {
        const COUNT: u64 = 1_000_000;
        let one = summary("shop", 0, 0, "00000000");
        let mut backups: Vec<_> = (0..COUNT).map(|i| BackupSummary { sequence: COUNT - i, ..one.clone() }).collect();
        // Texts as other versions of the program may have left them: a page ends early, and one backup is always there.
        backups[70].description = "x".repeat(PAGE_BYTES + 1);
        for backup in &mut backups[500_000..500_100] {
            backup.tags = vec!["t".repeat(100_000)];
        }
        let (mut cursor, mut next, mut pages) = (String::new(), COUNT, 0);
        while next == COUNT || !cursor.is_empty() {
            let part = page(&backups, &ListFilter::default(), 0, &cursor).unwrap();
            let bytes: usize = part.backups.iter().map(size).sum();
            assert!(bytes <= PAGE_BYTES || part.backups.len() == 1, "{bytes} bytes in a page");
            assert!(!part.backups.is_empty() && part.backups.len() <= PAGE_LIMIT);
            for backup in &part.backups {
                assert_eq!(backup.sequence, next);
                next -= 1;
            }
            cursor = part.cursor;
            pages += 1;
        }
        assert_eq!(next, 0, "backups are missing at the end");
        assert!((100..130).contains(&pages), "{pages}");
    }

    proptest! {
        #[test]
        fn a_walk_sees_each_backup_once_even_while_others_go(limit in 1usize..9, gone in proptest::collection::vec(0u64..60, 0..20)) {
            let mut backups = some_backups(60);
            let mut seen = Vec::new();
            let mut cursor = String::new();
            let mut gone = gone.into_iter();
            loop {
                let part = page(&backups, &ListFilter::default(), limit, &cursor).unwrap();
                seen.extend(part.backups.iter().map(|b| b.sequence));
                cursor = part.cursor;
                if cursor.is_empty() {
                    break;
                }
                if let Some(sequence) = gone.next() {
                    backups.retain(|b| b.sequence != sequence);
                }
            }
            let mut unique = seen.clone();
            unique.sort_unstable();
            unique.dedup();
            prop_assert_eq!(unique.len(), seen.len());
            for backup in &backups {
                prop_assert!(seen.contains(&backup.sequence));
            }
        }
    }
}
