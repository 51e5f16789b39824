//! Which roles a restore needs, which of them are missing, and the statements of `globals.sql` that make exactly those.
//!
//! Invariants: a role that exists is never altered; nothing printable holds a statement, because statements hold
//! password verifiers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::statements::{self, Word};
use crate::{model::Name, source::postgres::quote::quote_ident};

/// Attributes that a role has from `CREATE ROLE` alone. To name them, also negated, takes rights of its own (superuser,
/// or from PostgreSQL 16 on the attribute itself), so they are left out for a role that was just made.
const DEFAULT_ATTRIBUTES: &[&str] =
    &["nosuperuser", "nocreaterole", "nocreatedb", "noreplication", "nobypassrls", "nologin", "inherit"];
/// Attributes that only a superuser may give (up to PostgreSQL 15; later, who has them).
const SUPERUSER_ATTRIBUTES: &[&str] = &["superuser", "replication", "bypassrls"];

/// What `globals.sql` says of roles.
#[derive(Default)]
pub struct Globals {
    /// By role: what follows `CREATE ROLE` for it, in order.
    details: BTreeMap<Name, Vec<Detail>>,
    memberships: Vec<Membership>,
}

/// One statement about one role.
struct Detail {
    words: Vec<Word>,
    kind: DetailKind,
}

#[derive(PartialEq, Eq)]
enum DetailKind {
    Create,
    Attributes,
    Other,
}

/// `GRANT group TO member`.
struct Membership {
    group: Name,
    member: Name,
    words: Vec<Word>,
}

/// A role that is missing, for the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingRole {
    /// Its name.
    pub name: Name,
    /// Whether `globals.sql` says how to create it.
    pub in_backup: bool,
    /// Attributes whose granting needs a superuser.
    pub superuser_attributes: Vec<String>,
}

impl std::fmt::Debug for Globals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Globals").field("roles", &self.details.keys()).finish_non_exhaustive()
    }
}

impl Globals {
    /// Reads a script of `pg_dumpall --globals-only`. Statements that do not concern roles are passed over.
    #[must_use]
    pub fn parse(script: &[u8]) -> Self {
        let mut globals = Self::default();
        for statement in statements::split(script) {
            globals.add(statements::words(statement));
        }
        globals
    }

    fn add(&mut self, words: Vec<Word>) {
        let is = |index: usize, keyword: &str| words.get(index).is_some_and(|word| word.is(keyword));
        let name = |index: usize| words.get(index).and_then(Word::identifier).map(|name| Name::from(name.to_vec()));
        let (role, kind) = if is(0, "create") && is(1, "role") {
            (name(2), DetailKind::Create)
        } else if is(0, "alter") && is(1, "role") && is(3, "with") {
            (name(2), DetailKind::Attributes)
        } else if is(0, "alter") && is(1, "role") && is(3, "set") || is(0, "comment") && is(1, "on") && is(2, "role") {
            (name(if is(0, "alter") { 2 } else { 3 }), DetailKind::Other)
        } else if is(0, "grant") && is(2, "to") {
            if let (Some(group), Some(member)) = (name(1), name(3)) {
                self.memberships.push(Membership { group, member, words: without_grantor(words) });
            }
            return;
        } else {
            return;
        };
        if let Some(role) = role {
            self.details.entry(role).or_default().push(Detail { words, kind });
        }
    }

    /// The roles that it says how to create.
    pub fn roles(&self) -> impl Iterator<Item = &Name> {
        let created = |details: &Vec<Detail>| details.iter().any(|detail| detail.kind == DetailKind::Create);
        self.details.iter().filter(move |(_, details)| created(details)).map(|(role, _)| role)
    }

    /// The roles of `needed` that do not exist, and those that the missing ones are members of and that do not exist.
    #[must_use]
    pub fn missing(&self, needed: &BTreeSet<Name>, existing: &BTreeSet<Name>) -> Vec<MissingRole> {
        let mut missing: BTreeSet<&Name> = needed.difference(existing).collect();
        loop {
            let before = missing.len();
            for membership in &self.memberships {
                // A predefined role that is missing belongs to another version; it cannot be created.
                let wanted = missing.contains(&membership.member) && !is_predefined(&membership.group);
                if wanted && !existing.contains(&membership.group) {
                    missing.insert(&membership.group);
                }
            }
            if missing.len() == before {
                break;
            }
        }
        missing.into_iter().map(|name| self.missing_role(name)).collect()
    }

    fn missing_role(&self, name: &Name) -> MissingRole {
        let details = self.details.get(name).map(Vec::as_slice).unwrap_or_default();
        let has = |attribute: &&&str| {
            details.iter().any(|detail| {
                detail.kind == DetailKind::Attributes && attributes(&detail.words).iter().any(|word| word.is(attribute))
            })
        };
        MissingRole {
            name: name.clone(),
            in_backup: details.iter().any(|detail| detail.kind == DetailKind::Create) && !is_predefined(name),
            superuser_attributes: SUPERUSER_ATTRIBUTES.iter().filter(has).map(|word| word.to_uppercase()).collect(),
        }
    }

    /// The statements that make this role what it was, `CREATE ROLE` first. They hold its password verifier.
    #[must_use]
    pub fn statements_for(&self, role: &Name) -> Vec<Vec<u8>> {
        let details = self.details.get(role).map(Vec::as_slice).unwrap_or_default();
        let (create, rest): (Vec<&Detail>, Vec<&Detail>) =
            details.iter().partition(|detail| detail.kind == DetailKind::Create);
        create
            .into_iter()
            .chain(rest)
            .filter_map(|detail| match detail.kind {
                DetailKind::Attributes => without_defaults(&detail.words),
                _ => Some(render(&detail.words)),
            })
            .collect()
    }

    /// The memberships in which a role of `created` takes part and whose two roles are in `present`.
    #[must_use]
    pub fn memberships_of(&self, created: &BTreeSet<Name>, present: &BTreeSet<Name>) -> Vec<Vec<u8>> {
        let concerned = |m: &&Membership| {
            (created.contains(&m.group) || created.contains(&m.member))
                && present.contains(&m.group)
                && present.contains(&m.member)
        };
        self.memberships.iter().filter(concerned).map(|membership| render(&membership.words)).collect()
    }
}

/// Whether a role is one that the server itself brings: such names are reserved.
#[must_use]
pub fn is_predefined(role: &Name) -> bool {
    role.as_bytes().starts_with(b"pg_")
}

/// The words of `ALTER ROLE name WITH …` that are attributes: what follows them, such as a password, is none.
fn attributes(words: &[Word]) -> &[Word] {
    let attributes = words.get(4..).unwrap_or_default();
    let end = attributes.iter().position(|word| matches!(word, Word::Other(_))).unwrap_or(attributes.len());
    &attributes[..end]
}

/// `ALTER ROLE name WITH …` without what the role is anyway; `None` when nothing is left.
fn without_defaults(words: &[Word]) -> Option<Vec<u8>> {
    let is_default = |word: &Word| DEFAULT_ATTRIBUTES.iter().any(|attribute| word.is(attribute));
    let (head, rest) = words.split_at_checked(4)?;
    let rest: Vec<&Word> = rest.iter().filter(|word| !is_default(word)).collect();
    (!rest.is_empty()).then(|| render(head.iter().chain(rest)))
}

/// The grantor of another server means nothing here, and to name one takes rights of its own.
fn without_grantor(mut words: Vec<Word>) -> Vec<Word> {
    if let Some(at) = words.windows(2).position(|pair| pair[0].is("granted") && pair[1].is("by")) {
        words.truncate(at);
    }
    words
}

fn render<'a>(words: impl IntoIterator<Item = &'a Word>) -> Vec<u8> {
    let mut text = Vec::new();
    for word in words {
        if !text.is_empty() {
            text.push(b' ');
        }
        match word {
            Word::Plain(word) | Word::Other(word) => text.extend_from_slice(word),
            Word::Quoted(name) => text.extend_from_slice(&quote_ident(name)),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = r#"
\restrict x
SET client_encoding = 'UTF8';
CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB NOLOGIN NOREPLICATION NOBYPASSRLS;
COMMENT ON ROLE app IS E'it''s; \\ ok';
CREATE ROLE m;
ALTER ROLE m WITH NOSUPERUSER NOINHERIT NOCREATEROLE NOCREATEDB LOGIN NOREPLICATION BYPASSRLS CONNECTION LIMIT 3 PASSWORD 'superuser replication' VALID UNTIL 'infinity';
CREATE ROLE "we ""ird;";
ALTER ROLE "we ""ird;" WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB LOGIN NOREPLICATION NOBYPASSRLS;
CREATE ROLE other;
ALTER ROLE app SET search_path TO '$user', 'x y';
ALTER ROLE app IN DATABASE x SET work_mem TO '4MB';
GRANT app TO m WITH ADMIN OPTION GRANTED BY postgres;
GRANT "we ""ird;" TO app GRANTED BY postgres;
GRANT pg_maintain TO app GRANTED BY postgres;
GRANT app TO other;
GRANT CREATE ON TABLESPACE fast TO app;
"#;

    fn names(list: &[&str]) -> BTreeSet<Name> {
        list.iter().map(|name| Name::from(*name)).collect()
    }

    fn text(statements: Vec<Vec<u8>>) -> Vec<String> {
        statements.into_iter().map(|statement| String::from_utf8(statement).unwrap()).collect()
    }

    #[test]
    fn missing_roles_bring_the_roles_they_are_members_of() {
        let globals = Globals::parse(SCRIPT.as_bytes());
        let missing = globals.missing(&names(&["app", "postgres", "gone"]), &names(&["postgres"]));
        let found: Vec<_> = missing.iter().map(|role| (role.name.display(), role.in_backup)).collect();
        assert_eq!(found, [("app".into(), true), ("gone".into(), false), ("we \"ird;".into(), true)]);
        let missing = globals.missing(&names(&["m"]), &names(&["app"]));
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].superuser_attributes, ["BYPASSRLS"]);
    }

    #[test]
    fn the_statements_of_a_role_leave_out_what_needs_needless_rights() {
        let globals = Globals::parse(SCRIPT.as_bytes());
        assert_eq!(
            text(globals.statements_for(&"app".into())),
            [
                "create role app",
                "comment on role app is E'it''s; \\\\ ok'",
                "alter role app set search_path to '$user' , 'x y'"
            ]
        );
        assert_eq!(
            text(globals.statements_for(&"m".into())),
            [
                "create role m",
                "alter role m with noinherit login bypassrls connection limit 3 password 'superuser replication' valid until 'infinity'",
            ]
        );
        assert_eq!(
            text(globals.statements_for(&"we \"ird;".into())),
            ["create role \"we \"\"ird;\"", "alter role \"we \"\"ird;\" with login"]
        );
    }

    #[test]
    fn memberships_need_both_roles() {
        let globals = Globals::parse(SCRIPT.as_bytes());
        let found = globals.memberships_of(&names(&["app"]), &names(&["app", "m", "we \"ird;"]));
        assert_eq!(text(found), ["grant app to m with admin option", "grant \"we \"\"ird;\" to app"]);
        assert!(globals.memberships_of(&names(&["gone"]), &names(&["app", "m"])).is_empty());
    }

    #[test]
    fn nothing_printable_holds_a_verifier() {
        let globals = Globals::parse(SCRIPT.as_bytes());
        assert!(!format!("{globals:?}").contains("replication"));
    }
}
