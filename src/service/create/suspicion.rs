//! Whether a backup that was made holds suspiciously less than the one before it. It is kept all the same: what is gone
//! may be meant to be, and a backup of what is left is better than none; but somebody should look before older ones go.

use std::collections::BTreeMap;

use crate::model::{
    Name,
    manifest::{Manifest, Table},
};

/// A table with at least this share of all rows is looked at by itself, percent.
const LARGE_TABLE: u64 = 10;
/// Below so many nothing is suspicious: small numbers change by large shares.
const FEW_ROWS: u64 = 100;
const FEW_BYTES: u64 = 64 << 10;
/// One table of a few is a large share by itself, and is looked at as such.
const FEW_TABLES: u64 = 5;

/// What a backup holds, as far as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holdings {
    sequence: u64,
    bytes: u64,
    /// Rows by table.
    tables: BTreeMap<(Name, Name), u64>,
}

impl From<&Manifest> for Holdings {
    fn from(manifest: &Manifest) -> Self {
        let rows = |Table { schema, name, rows, .. }: &Table| ((schema.clone(), name.clone()), *rows);
        Self {
            sequence: manifest.sequence,
            bytes: manifest.statistics.raw_bytes,
            tables: manifest.tables().map(rows).collect(),
        }
    }
}

impl Holdings {
    fn rows(&self) -> u64 {
        self.tables.values().sum()
    }

    /// Tables that hold a good part of all rows.
    fn large_tables(&self) -> impl Iterator<Item = (&(Name, Name), u64)> {
        let all = self.rows().max(1);
        let is_large = move |rows: u64| rows >= FEW_ROWS && rows.saturating_mul(100) / all >= LARGE_TABLE;
        self.tables.iter().filter(move |(_, rows)| is_large(**rows)).map(|(name, rows)| (name, *rows))
    }
}

/// What is suspicious about `now`, a sentence each, where `before` is an earlier backup of the same selection. `limit` is
/// the share, in percent, that may be lost from one backup to the next.
pub(super) fn suspicions(before: &Holdings, now: &Holdings, limit: u64) -> Vec<String> {
    let mut findings = Vec::new();
    let figures = [
        ("rows of all tables", before.rows(), now.rows(), FEW_ROWS),
        ("bytes", before.bytes, now.bytes, FEW_BYTES),
        ("tables", before.tables.len() as u64, now.tables.len() as u64, FEW_TABLES),
    ];
    for (what, was, is, few) in figures {
        let share = lost(was, is);
        if was >= few && share > limit {
            findings.push(format!("{what}: {is} now, {was} in backup #{} ({share} % less)", before.sequence));
        }
    }
    let shrunk: Vec<String> = before
        .large_tables()
        .filter_map(|(name, was)| match now.tables.get(name) {
            None if limit < 100 => Some(format!("{}.{} had {was} rows and is gone", name.0, name.1)),
            Some(is) if lost(was, *is) > limit => Some(format!("{}.{} had {was} rows and has {is}", name.0, name.1)),
            _ => None,
        })
        .collect();
    findings.extend(shrunk);
    findings
}

/// The share that is gone, percent, rounded down.
fn lost(was: u64, is: u64) -> u64 {
    u64::try_from(u128::from(was.saturating_sub(is)) * 100 / u128::from(was.max(1))).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A backup with these tables; its bytes are a hundred for each row.
    fn backup(tables: &[(&str, u64)]) -> Holdings {
        let tables: BTreeMap<_, _> =
            tables.iter().map(|(name, rows)| (("public".into(), (*name).into()), *rows)).collect();
        Holdings { sequence: 7, bytes: tables.values().sum::<u64>() * 100, tables }
    }

    #[test]
    fn what_is_lost_is_named_with_its_numbers() {
        let before = backup(&[("orders", 10_000), ("users", 2000), ("small", 5)]);
        let found = |now: &[(&str, u64)]| suspicions(&before, &backup(now), 50);
        assert_eq!(found(&[("orders", 9000), ("users", 1500)]), Vec::<String>::new(), "a small table may go");
        assert_eq!(found(&[("orders", 10_000), ("users", 3), ("small", 5)]), ["public.users had 2000 rows and has 3"]);
        assert_eq!(found(&[("orders", 12_000), ("small", 5)]), ["public.users had 2000 rows and is gone"]);
        assert_eq!(
            found(&[("small", 5)]),
            [
                "rows of all tables: 5 now, 12005 in backup #7 (99 % less)",
                "bytes: 500 now, 1200500 in backup #7 (99 % less)",
                "public.orders had 10000 rows and is gone",
                "public.users had 2000 rows and is gone",
            ]
        );
        assert_eq!(suspicions(&before, &backup(&[]), 100), Vec::<String>::new(), "100 switches it off");
        let many: Vec<String> = (0..30).map(|i| format!("t{i}")).collect();
        let many: Vec<_> = many.iter().map(|name| (name.as_str(), 1)).collect();
        assert_eq!(
            suspicions(&backup(&many), &backup(&many[..14]), 50),
            ["tables: 14 now, 30 in backup #7 (53 % less)"]
        );
    }

    proptest! {
        #[test]
        fn what_grows_or_stays_is_never_suspicious(rows in proptest::collection::vec((0u64..1 << 40, 0u64..1 << 20), 0..20), limit in 0u64..100) {
            let names: Vec<String> = (0..rows.len()).map(|i| format!("t{i}")).collect();
            let old: Vec<_> = names.iter().zip(&rows).map(|(name, (rows, _))| (name.as_str(), *rows)).collect();
            let new: Vec<_> = names.iter().zip(&rows).map(|(name, (rows, more))| (name.as_str(), rows + more)).collect();
            prop_assert_eq!(suspicions(&backup(&old), &backup(&new), limit), Vec::<String>::new());
        }
    }
}
