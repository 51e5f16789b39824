//! Chooses, from the table of contents of `schema.dump`, what single tables need in a new database.
//!
//! `pg_restore -l -v` prints each entry with the entries that it depends on. From the wanted tables the selection grows
//! to everything that they need (schemas, types, functions, extensions, inherited tables) and to everything that hangs
//! on them alone (defaults, owned sequences, indexes, constraints, triggers, policies, privileges, comments). Whatever
//! would need another table, such as a foreign key to it, is left out and named.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Name;

/// Kinds of entries that belong to a table and come with it.
const ATTACHED: &[&str] = &[
    "CHECK CONSTRAINT",
    "CONSTRAINT",
    "DEFAULT",
    "FK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "POLICY",
    "ROW SECURITY",
    "RULE",
    "SEQUENCE",
    "SEQUENCE OWNED BY",
    "STATISTICS",
    "TABLE ATTACH",
    "TRIGGER",
];
/// Kinds that come with whatever they are about.
const REMARKS: &[&str] = &["ACL", "COMMENT", "SECURITY LABEL"];
/// Kinds that hold or show rows of their own: no entry pulls in one that was not asked for.
const RELATIONS: &[&str] = &["TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE"];
/// Kinds whose names begin with that of another kind; they are tried first.
const LONGER: &[&str] =
    &["TABLE DATA", "VIEW DATA", "MATERIALIZED VIEW DATA", "SEQUENCE SET", "DEFAULT ACL", "PUBLICATION TABLE"];

/// One entry of the table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    id: u32,
    kind: Option<&'static str>,
    /// What follows the kind: schema, name and owner, in between one space each.
    label: Vec<u8>,
    line: Vec<u8>,
    needs: Vec<u32>,
}

/// The table of contents of an archive.
#[derive(Debug, Clone, Default)]
pub struct Toc {
    entries: Vec<Entry>,
}

/// What to restore for single tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableSelection {
    /// The file for `pg_restore -L`.
    pub list: Vec<u8>,
    /// Which of the tables with data come along: the wanted ones and their partitions.
    pub tables: Vec<(Name, Name)>,
    /// Entries that hang on a wanted table and were left out because they need something else, for people.
    pub left_out: Vec<String>,
}

/// A wanted table is not, or not unmistakably, in the archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TocError {
    /// It is not there.
    #[error("table {0} is not in the backup's schema")]
    Missing(String),
    /// Names with spaces can look alike in the listing of pg_restore.
    #[error("table {0} cannot be told from others in pg_restore's listing, which separates names by spaces")]
    Ambiguous(String),
}

impl Toc {
    /// Reads what `pg_restore -l -v` printed. Lines that are no entries are passed over.
    #[must_use]
    pub fn parse(listing: &[u8]) -> Self {
        let mut entries: Vec<Entry> = Vec::new();
        for line in listing.split(|&byte| byte == b'\n') {
            if let Some(needs) = line.strip_prefix(b";\tdepends on:") {
                if let Some(entry) = entries.last_mut() {
                    entry.needs.extend(numbers(needs));
                }
            } else if let Some(entry) = entry(line) {
                entries.push(entry);
            }
        }
        Self { entries }
    }

    /// Chooses what `wanted` (schema and name) need. `known` are the tables whose rows the backup holds, `owners` the
    /// roles that may own a table.
    ///
    /// # Errors
    /// [`TocError`].
    pub fn select(
        &self,
        wanted: &[(Name, Name)],
        known: &[(Name, Name)],
        owners: &[Name],
    ) -> Result<TableSelection, TocError> {
        let mut own = BTreeSet::new();
        for table in wanted {
            own.insert(self.find_table(table, owners)?);
        }
        self.add_partitions(&mut own);
        let mut chosen = BTreeSet::new();
        for id in &own {
            chosen.extend(self.closure(*id));
        }
        let left_out = self.add_attached(&own, &mut chosen);
        for entry in self.entries.iter().filter(|entry| entry.is_one_of(REMARKS)) {
            if !entry.needs.is_empty() && entry.needs.iter().all(|id| chosen.contains(id)) {
                chosen.insert(entry.id);
            }
        }
        let lines = self.entries.iter().filter(|entry| chosen.contains(&entry.id));
        let list = lines.flat_map(|entry| [entry.line.as_slice(), b"\n"]).collect::<Vec<_>>().concat();
        let tables =
            known.iter().filter(|table| self.find_table(table, owners).is_ok_and(|id| own.contains(&id))).cloned();
        Ok(TableSelection { list, tables: tables.collect(), left_out })
    }

    /// Whether the archive has this table, unmistakably.
    #[must_use]
    pub fn has_table(&self, table: &(Name, Name), owners: &[Name]) -> bool {
        self.find_table(table, owners).is_ok()
    }

    fn find_table(&self, (schema, name): &(Name, Name), owners: &[Name]) -> Result<u32, TocError> {
        let prefix = [printed(schema).as_slice(), b" ", &printed(name), b" "].concat();
        let tables = self.entries.iter().filter(|entry| entry.kind == Some("TABLE"));
        let alike: Vec<(u32, &[u8])> =
            tables.filter_map(|entry| Some((entry.id, entry.label.strip_prefix(prefix.as_slice())?))).collect();
        let label = format!("{schema}.{name}");
        if let [(id, _)] = alike[..] {
            return Ok(id);
        }
        let owned: Vec<u32> = alike
            .iter()
            .filter(|(_, owner)| owners.iter().any(|name| printed(name) == *owner))
            .map(|(id, _)| *id)
            .collect();
        match owned[..] {
            [id] => Ok(id),
            [] if alike.is_empty() => Err(TocError::Missing(label)),
            _ => Err(TocError::Ambiguous(label)),
        }
    }

    /// Adds the partitions of partitioned tables, and theirs.
    fn add_partitions(&self, own: &mut BTreeSet<u32>) {
        let is_table = |id: &u32| self.entries.iter().any(|entry| entry.id == *id && entry.kind == Some("TABLE"));
        loop {
            let before = own.len();
            for entry in self.entries.iter().filter(|entry| entry.kind == Some("TABLE ATTACH")) {
                // The label names the partition, so the one that the label does not name is its parent.
                let tables: Vec<u32> = entry.needs.iter().copied().filter(is_table).collect();
                let child = tables.iter().find(|id| self.label_of(**id) == Some(entry.label.as_slice()));
                if let Some(child) = child
                    && tables.iter().any(|id| id != child && own.contains(id))
                {
                    own.insert(*child);
                }
            }
            if own.len() == before {
                return;
            }
        }
    }

    fn label_of(&self, id: u32) -> Option<&[u8]> {
        self.entries.iter().find(|entry| entry.id == id).map(|entry| entry.label.as_slice())
    }

    /// An entry and all that it needs, as far as the archive holds it.
    fn closure(&self, id: u32) -> BTreeSet<u32> {
        let by_id: BTreeMap<u32, &Entry> = self.entries.iter().map(|entry| (entry.id, entry)).collect();
        let (mut found, mut open) = (BTreeSet::new(), vec![id]);
        while let Some(id) = open.pop() {
            if let Some(entry) = by_id.get(&id)
                && found.insert(id)
            {
                open.extend(&entry.needs);
            }
        }
        found
    }

    /// Adds what hangs on the own tables, each with what it needs, and names what had to be left out.
    fn add_attached(&self, own: &BTreeSet<u32>, chosen: &mut BTreeSet<u32>) -> Vec<String> {
        let mut hangs = own.clone();
        let relations: BTreeSet<u32> =
            self.entries.iter().filter(|entry| entry.is_one_of(RELATIONS)).map(|entry| entry.id).collect();
        let mut left_out = BTreeMap::new();
        loop {
            let before = hangs.len();
            for entry in self.entries.iter().filter(|entry| entry.is_one_of(ATTACHED)) {
                if hangs.contains(&entry.id) || !entry.needs.iter().any(|id| hangs.contains(id)) {
                    continue;
                }
                let needed = self.closure(entry.id);
                if needed.iter().all(|id| !relations.contains(id) || chosen.contains(id)) {
                    chosen.extend(needed);
                    hangs.insert(entry.id);
                    left_out.remove(&entry.id);
                } else {
                    let kind = entry.kind.unwrap_or_default();
                    left_out.insert(entry.id, format!("{kind} {}", String::from_utf8_lossy(&entry.label)));
                }
            }
            if hangs.len() == before {
                return left_out.into_values().collect();
            }
        }
    }
}

impl Entry {
    fn is_one_of(&self, kinds: &[&str]) -> bool {
        self.kind.is_some_and(|kind| kinds.contains(&kind))
    }
}

/// `ID; TABLEOID OID KIND SCHEMA NAME OWNER`.
fn entry(line: &[u8]) -> Option<Entry> {
    let semicolon = memchr::memchr(b';', line)?;
    let id = number(&line[..semicolon])?;
    let rest = line[semicolon + 1..].strip_prefix(b" ")?;
    let mut parts = rest.splitn(3, |&byte| byte == b' ');
    let (_, _, description) = (number(parts.next()?)?, number(parts.next()?)?, parts.next()?);
    let starts = |kind: &&&str| description.strip_prefix(kind.as_bytes()).is_some_and(|rest| rest.starts_with(b" "));
    let longest = [LONGER, ATTACHED, REMARKS, RELATIONS]
        .into_iter()
        .flatten()
        .filter(starts)
        .max_by_key(|kind| kind.len())
        .copied();
    let label = longest.map_or(description, |kind| &description[kind.len() + 1..]).to_vec();
    Some(Entry { id, kind: longest, label, line: line.to_vec(), needs: Vec::new() })
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn numbers(text: &[u8]) -> impl Iterator<Item = u32> {
    text.split(|&byte| byte == b' ').filter_map(number)
}

/// A name as pg_restore lists it: on one line.
fn printed(name: &Name) -> Vec<u8> {
    name.as_bytes().iter().map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What pg_restore 15 lists for a small schema.
    const LISTING: &str = "\
;     dbname: shop
6; 2615 16393 SCHEMA - s app
848; 1247 16389 TYPE public mood postgres
224; 1255 16394 FUNCTION public f() postgres
225; 1255 16430 FUNCTION public trg() postgres
218; 1259 16414 TABLE s p postgres
;\tdepends on: 6
219; 1259 16417 TABLE s p0 postgres
;\tdepends on: 6 218
220; 1259 16420 TABLE s p1 postgres
;\tdepends on: 6 218
216; 1259 16396 TABLE s t we ird
;\tdepends on: 848 224 848 6
3403; 0 0 COMMENT s TABLE t we ird
;\tdepends on: 216
3404; 0 0 ACL s TABLE t we ird
;\tdepends on: 216
215; 1259 16395 SEQUENCE s t_id_seq we ird
;\tdepends on: 216 6
3405; 0 0 SEQUENCE OWNED BY s t_id_seq we ird
;\tdepends on: 215
217; 1259 16404 TABLE s u postgres
;\tdepends on: 6
221; 1259 16426 VIEW s v postgres
;\tdepends on: 216 6 848
3228; 0 0 TABLE ATTACH s p0 postgres
;\tdepends on: 219 218
3229; 0 0 TABLE ATTACH s p1 postgres
;\tdepends on: 220 218
3230; 2604 16399 DEFAULT s t id we ird
;\tdepends on: 215 216 216
3235; 2606 16403 CONSTRAINT s t t_pkey we ird
;\tdepends on: 216
3237; 2606 16408 CONSTRAINT s u u_pkey postgres
;\tdepends on: 217
3238; 1259 16423 INDEX s p_x_idx postgres
;\tdepends on: 218
3239; 1259 16424 INDEX s p0_x_idx postgres
;\tdepends on: 219 219 3238
3241; 0 0 INDEX ATTACH s p0_x_idx postgres
;\tdepends on: 3239 3238 219 218
3244; 2620 16431 TRIGGER s t tr we ird
;\tdepends on: 216 225
3243; 2606 16409 FK CONSTRAINT s u u_t_fkey postgres
;\tdepends on: 216 3235 217
";

    fn name(schema: &str, table: &str) -> (Name, Name) {
        (schema.into(), table.into())
    }

    fn known() -> Vec<(Name, Name)> {
        ["p", "p0", "p1", "t", "u"].map(|table| name("s", table)).to_vec()
    }

    fn select(tables: &[&str]) -> TableSelection {
        let wanted: Vec<_> = tables.iter().map(|table| name("s", table)).collect();
        Toc::parse(LISTING.as_bytes()).select(&wanted, &known(), &["postgres".into(), "we ird".into()]).unwrap()
    }

    fn ids(selection: &TableSelection) -> Vec<u32> {
        selection.list.split(|&b| b == b'\n').filter_map(|line| number(line.split(|&b| b == b';').next()?)).collect()
    }

    #[test]
    fn a_table_comes_with_what_it_needs_and_what_hangs_on_it() {
        let selection = select(&["t"]);
        assert_eq!(ids(&selection), [6, 848, 224, 225, 216, 3403, 3404, 215, 3405, 3230, 3235, 3244]);
        assert_eq!(selection.tables, [name("s", "t")]);
        assert_eq!(selection.left_out, ["FK CONSTRAINT s u u_t_fkey postgres"]);
    }

    #[test]
    fn a_foreign_key_comes_when_both_tables_do() {
        let selection = select(&["u"]);
        assert_eq!(ids(&selection), [6, 217, 3237]);
        assert_eq!(selection.left_out.len(), 1);
        let both = select(&["t", "u"]);
        assert!(ids(&both).contains(&3243) && both.left_out.is_empty());
    }

    #[test]
    fn a_partitioned_table_comes_with_its_partitions() {
        let selection = select(&["p"]);
        assert_eq!(ids(&selection), [6, 218, 219, 220, 3228, 3229, 3238, 3239, 3241]);
        assert_eq!(selection.tables, [name("s", "p"), name("s", "p0"), name("s", "p1")]);
    }

    #[test]
    fn a_partition_alone_leaves_its_siblings() {
        let selection = select(&["p0"]);
        assert_eq!(ids(&selection), [6, 218, 219, 3228, 3238, 3239, 3241]);
        assert_eq!(selection.tables, [name("s", "p0")]);
    }

    #[test]
    fn names_that_look_alike_are_told_apart_by_their_owners() {
        let listing = "1; 1259 1 TABLE s a b c\n2; 1259 2 TABLE s a b\n";
        let toc = Toc::parse(listing.as_bytes());
        let find = |table: &str, owners: &[&str]| {
            toc.find_table(&name("s", table), &owners.iter().map(|o| (*o).into()).collect::<Vec<_>>())
        };
        assert_eq!(find("a b", &["c", "b"]), Ok(1));
        assert_eq!(find("a", &["c", "b"]), Ok(2));
        assert_eq!(find("a", &["b c", "b"]), Err(TocError::Ambiguous("s.a".to_owned())));
        assert_eq!(find("x", &["b"]), Err(TocError::Missing("s.x".to_owned())));
    }
}
