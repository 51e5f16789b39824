//! What is asked of a restore, and the names it works under.

use std::{collections::BTreeSet, path::PathBuf};

use super::swap::Swap;
use crate::{
    config::{ConnectionSpec, SwapHooks},
    model::{Name, RunId, manifest::Manifest},
    source::SourceError,
};

/// The longest identifier that PostgreSQL keeps, in bytes (`NAMEDATALEN` - 1).
const NAME_BYTES: usize = 63;

/// A restore into a new database.
pub struct RestoreRequest<'a> {
    /// How to reach the server as the role that restores. Its database does not count: the maintenance database
    /// `postgres` is used, or `template1`.
    pub connection: ConnectionSpec,
    /// What the user chose.
    pub options: RestoreChoices,
    /// Where the client programs are; found by themselves when absent.
    pub client_bin_dir: Option<PathBuf>,
    /// The run of the job: part of the temporary name.
    pub run_id: RunId,
    /// What runs around the swap of a restore in place.
    pub hooks: SwapHooks,
    /// Told of each milestone, so that the caller can keep a journal for [`super::sweep`] and [`super::settle`]. An
    /// error stops the restore.
    pub journal: &'a (dyn Fn(Milestone<'_>) -> Result<(), SourceError> + Sync),
}

/// What a journal must know, before it happens where that makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Milestone<'a> {
    /// A database of this temporary name will be created.
    Building(&'a Name),
    /// It is complete, and will take the place of another.
    Swapping(&'a Swap),
    /// It has; the other is kept.
    Swapped(&'a Swap),
    /// The database of the temporary name is dropped, or has its final name.
    Over,
}

/// What the user chose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreChoices {
    /// The name of the new database; absent for the original name.
    pub to: Option<Name>,
    /// Create missing roles from `globals.sql`.
    pub create_roles: bool,
    /// Leave out ownership: everything belongs to the restoring role.
    pub no_owner: bool,
    /// Leave out GRANT and REVOKE.
    pub no_privileges: bool,
    /// Only these tables, `schema.table` as the backup's listing shows them.
    pub tables: Vec<String>,
    /// Connections that build indexes at once; 0 for one per processor of this host.
    pub jobs: u32,
    /// What is done about a database that has that name.
    pub existing: OnExisting,
}

/// What is done about a database that has the target's name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnExisting {
    /// It stands in the way.
    #[default]
    Refuse,
    /// It makes way if it holds nothing, such as `postgres` on a new server.
    ReplaceVacant,
    /// It is replaced, and kept under another name; of single tables, they are put beside the live ones.
    Replace {
        /// Also where somebody replicates from it, or it subscribes.
        break_replication: bool,
    },
}

impl RestoreRequest<'_> {
    /// The name of the new database.
    #[must_use]
    pub fn target(&self, manifest: &Manifest) -> Name {
        let original = || manifest.postgresql.as_ref().map(|facts| facts.database.name.clone());
        self.options.to.clone().or_else(original).unwrap_or_else(|| Name::from(""))
    }

    /// How many connections build indexes.
    #[must_use]
    pub fn jobs(&self) -> u32 {
        match self.options.jobs {
            0 => std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
            jobs => jobs,
        }
    }
}

impl std::fmt::Debug for RestoreRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RestoreRequest")
            .field("connection", &self.connection)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// The name under which the database is built: the target's, shortened at a character, and a mark of this run. It is
/// always UTF-8, because a session can only be opened by such a name.
#[must_use]
pub fn temporary_name(target: &Name, run: RunId) -> Name {
    marked_name(target, "__restore_", run)
}

/// The name that a database gets which a restore of this run replaces.
#[must_use]
pub fn before_name(target: &Name, run: RunId) -> Name {
    marked_name(target, "__before_", run)
}

/// The name of a table, or of something that belongs to one, that a restore of this run puts beside the live one. Names
/// that would be cut to the same are numbered.
#[must_use]
pub(super) fn restored_name(name: &Name, run: RunId, taken: &mut BTreeSet<Name>) -> Name {
    let mut new = marked_name(name, "__restored_", run);
    let mut number = 1;
    while !taken.insert(new.clone()) {
        number += 1;
        new = marked_name(name, &format!("__{number}_restored_"), run);
    }
    new
}

fn marked_name(target: &Name, mark: &str, run: RunId) -> Name {
    // The first digits of a UUIDv7 are the clock's and change slowly; the last are random.
    let run = run.0.simple().to_string();
    let mark = format!("{mark}{}", &run[run.len() - 8..]);
    let text = target.as_str().unwrap_or_default();
    let mut end = text.len().min(NAME_BYTES - mark.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Name::from(format!("{}{mark}", &text[..end]))
}

/// The name that a database gets which the restore under this temporary name replaces, until it is dropped.
#[must_use]
pub fn replaced_name(temporary: &Name) -> Name {
    Name::from(temporary.lossy().replace("__restore_", "__before_"))
}

/// Whether a name is one that [`temporary_name`] gives.
#[must_use]
pub fn is_temporary_name(name: &Name) -> bool {
    let digits = name.as_str().and_then(|text| text.rsplit_once("__restore_")).map(|(_, digits)| digits);
    digits.is_some_and(|digits| digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn temporary_names_fit_and_are_known_again(name: String) {
            let run = RunId::new();
            let temporary = temporary_name(&name.as_str().into(), run);
            prop_assert!(temporary.as_bytes().len() <= NAME_BYTES && is_temporary_name(&temporary));
            let before = before_name(&name.as_str().into(), run);
            prop_assert!(before.as_bytes().len() <= NAME_BYTES && !is_temporary_name(&before));
            let replaced = replaced_name(&temporary);
            prop_assert!(replaced != temporary && !is_temporary_name(&replaced) && replaced.as_bytes().len() <= NAME_BYTES);
            prop_assert!(!is_temporary_name(&name.as_str().into()));
        }
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let temporary = temporary_name(&"ü".repeat(31).as_str().into(), RunId::new());
        assert!(temporary.as_str().unwrap().starts_with(&"ü".repeat(22)));
        assert_eq!(temporary.as_bytes().len(), 62);
    }
}
