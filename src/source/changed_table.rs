//! What a plan says of tables whose rows a restore in place would take away.

use serde::{Deserialize, Serialize};

use crate::model::Name;

/// How many of them are named.
const NAMED: usize = 50;

/// A table of which now is not what the backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedTable {
    /// Its schema.
    pub schema: Name,
    /// Its name.
    pub name: Name,
    /// Rows now; absent for a table that is not there.
    pub rows_now: Option<u64>,
    /// Rows in the backup; absent for a table that it does not hold.
    pub rows_in_backup: Option<u64>,
    /// Whether `rows_now` was counted; otherwise it is an estimate.
    pub counted: bool,
}

impl ChangedTable {
    /// Rows that would be gone.
    fn lost(&self) -> u64 {
        self.rows_now.unwrap_or_default().saturating_sub(self.rows_in_backup.unwrap_or_default())
    }

    /// Sorts, leaves those that a plan names, and says how many there were.
    pub(crate) fn most_lost_first(tables: &mut Vec<Self>) -> u64 {
        tables.sort_by_key(|table| std::cmp::Reverse(table.lost()));
        let number = tables.len() as u64;
        tables.truncate(NAMED);
        number
    }
}
