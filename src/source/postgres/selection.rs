//! Which tables are dumped: matched here for locking and checking, and said to pg_dump in patterns that mean the same.
//!
//! A table is chosen when its schema matches one of `include_schemas` (if there are any) and none of
//! `exclude_schemas`, and it matches one of `include_tables` (if there are any) and none of `exclude_tables`. In a glob
//! `*` stands for any characters and `?` for one; everything else, capitals included, for itself. A table's glob is
//! split at its first dot; without a dot it concerns every schema.
//!
//! As with pg_dump, a backup of included schemas or tables only has no large objects, and one of included tables only
//! has nothing that the tables merely use (types, functions, extensions).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use super::{catalog::Relation, quote::quote_ident};
use crate::{
    model::{ErrorCode, manifest::Selection},
    source::SourceError,
};

/// Where schemas and tables are both included, pg_dump is given the chosen tables by name; more than this do not fit.
const MOST_NAMES: usize = 2000;

/// Whether the selection takes part of the database only.
#[must_use]
pub fn is_partial(selection: &Selection) -> bool {
    *selection != Selection::default()
}

/// Whether large objects are dumped.
#[must_use]
pub fn has_large_objects(selection: &Selection) -> bool {
    selection.include_schemas.is_empty() && selection.include_tables.is_empty() && !selection.schema_only
}

/// Whether a relation is dumped.
#[must_use]
pub fn chooses(selection: &Selection, relation: &Relation) -> bool {
    let schema = |glob: &String| matches(glob.as_bytes(), relation.schema.as_bytes());
    let table = |glob: &String| {
        let (schema, name) = split(glob);
        matches(schema.as_bytes(), relation.schema.as_bytes()) && matches(name.as_bytes(), relation.name.as_bytes())
    };
    let included = |globs: &[String], matches: &dyn Fn(&String) -> bool| globs.is_empty() || globs.iter().any(matches);
    included(&selection.include_schemas, &schema)
        && included(&selection.include_tables, &table)
        && !selection.exclude_schemas.iter().any(schema)
        && !selection.exclude_tables.iter().any(table)
}

/// pg_dump's arguments for the selection. `chosen` are the relations that it chooses.
///
/// # Errors
/// `InvalidArgs` where nothing matches an include, or where the chosen tables cannot be told to pg_dump.
pub fn arguments(selection: &Selection, chosen: &[&Relation]) -> Result<Vec<OsString>, SourceError> {
    let includes = !selection.include_schemas.is_empty() || !selection.include_tables.is_empty();
    if includes && chosen.is_empty() {
        let message = "no table matches the included tables and schemas; check `tables` and `schemas`";
        return Err(SourceError::new(ErrorCode::InvalidArgs, message));
    }
    let mut arguments = Vec::new();
    let mut add = |option: &str, value: &[u8]| {
        let mut argument = OsString::from(option);
        argument.push(OsStr::from_bytes(value));
        arguments.push(argument);
    };
    let table = |glob: &str| {
        let (schema, name) = split(glob);
        [pattern(schema), pattern(name)].join(&b'.')
    };
    if !selection.include_tables.is_empty() && !selection.include_schemas.is_empty() {
        if chosen.len() > MOST_NAMES {
            let message = format!(
                "{} tables match the included tables and schemas together, more than {MOST_NAMES}; give either of them only",
                chosen.len()
            );
            return Err(SourceError::new(ErrorCode::InvalidArgs, message));
        }
        for relation in chosen {
            add("--table=", &super::quote::quote_qualified(&relation.schema, &relation.name));
        }
        return Ok(arguments);
    }
    for glob in &selection.include_schemas {
        add("--schema=", &pattern(glob));
    }
    for glob in &selection.include_tables {
        add("--table=", &table(glob));
    }
    for glob in &selection.exclude_schemas {
        if selection.include_tables.is_empty() {
            add("--exclude-schema=", &pattern(glob));
        } else {
            // Next to --table, --exclude-schema has no effect.
            add("--exclude-table=", &[pattern(glob), b"*".to_vec()].join(&b'.'));
        }
    }
    for glob in &selection.exclude_tables {
        add("--exclude-table=", &table(glob));
    }
    Ok(arguments)
}

/// Schema and table of a table's glob.
fn split(glob: &str) -> (&str, &str) {
    glob.split_once('.').unwrap_or(("*", glob))
}

/// The pattern that means to pg_dump what the glob means here: plain text in double quotes, wildcards outside.
fn pattern(glob: &str) -> Vec<u8> {
    let mut pattern = Vec::new();
    let mut rest = glob;
    while !rest.is_empty() {
        let plain = rest.find(['*', '?']).unwrap_or(rest.len());
        if plain > 0 {
            pattern.extend(quote_ident(&rest.as_bytes()[..plain]));
        }
        let end = rest.len().min(plain + 1);
        pattern.extend_from_slice(&rest.as_bytes()[plain..end]);
        rest = &rest[end..];
    }
    if pattern.is_empty() { b"\"\"".to_vec() } else { pattern }
}

/// Whether a glob matches a name. `?` stands for one character where the name is UTF-8, else for one byte.
#[must_use]
pub fn matches(glob: &[u8], name: &[u8]) -> bool {
    match (std::str::from_utf8(glob), std::str::from_utf8(name)) {
        (Ok(glob), Ok(name)) => {
            wildcard(&glob.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>(), '*', '?')
        }
        _ => wildcard(glob, name, b'*', b'?'),
    }
}

/// The greedy matcher that goes back to the last star only: linear in practice, quadratic at worst.
fn wildcard<T: PartialEq + Copy>(glob: &[T], name: &[T], star: T, one: T) -> bool {
    let (mut g, mut n) = (0, 0);
    let mut last: Option<(usize, usize)> = None;
    while n < name.len() {
        if g < glob.len() && glob[g] == star {
            last = Some((g, n));
            g += 1;
        } else if g < glob.len() && (glob[g] == one || glob[g] == name[n]) {
            (g, n) = (g + 1, n + 1);
        } else if let Some((at, from)) = last {
            last = Some((at, from + 1));
            (g, n) = (at + 1, from + 1);
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|&c| c == star)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_names() {
        for (glob, name, expected) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcb", false),
            ("a?c", "aéc", true),
            ("a?c", "ac", false),
            ("A", "a", false),
            ("*a*b*", "xxaxxbxx", true),
            ("a.b", "a.b", true),
            ("a.b", "axb", false),
            ("", "", true),
        ] {
            assert_eq!(matches(glob.as_bytes(), name.as_bytes()), expected, "{glob} {name}");
        }
    }

    #[test]
    fn patterns_quote_everything_but_wildcards() {
        assert_eq!(pattern("a\"b*c?"), b"\"a\"\"b\"*\"c\"?");
        assert_eq!(pattern("*"), b"*");
        let selection = Selection {
            include_tables: vec!["shop.Order*".to_owned()],
            exclude_schemas: vec!["x".to_owned()],
            ..Selection::default()
        };
        let relation = Relation::for_tests("shop", "Orders");
        let arguments = arguments(&selection, &[&relation]).unwrap();
        assert_eq!(arguments, ["--table=\"shop\".\"Order\"*", "--exclude-table=\"x\".*"]);
        assert!(chooses(&selection, &relation) && !chooses(&selection, &Relation::for_tests("shop", "orders")));
    }
}
