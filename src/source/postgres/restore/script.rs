//! What the SQL of pre-data and post-data asks of roles: who is to own something, who is granted something, who is named
//! by a policy. `pg_restore`'s listing cannot tell this, as it separates names by spaces.

use std::collections::{BTreeMap, BTreeSet};

use super::statements::{self, Word};
use crate::model::Name;

/// Roles that a script names, by why.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ScriptRoles {
    /// `ALTER … OWNER TO` and `ALTER DEFAULT PRIVILEGES FOR ROLE`: the restoring role must be a member.
    pub owners: BTreeSet<Name>,
    /// `ALTER SCHEMA … OWNER TO`: whose each schema is.
    pub schema_owners: BTreeMap<Name, Name>,
    /// The same for what lies in schemas: schema, and owner of something in it.
    pub placed: BTreeSet<(Name, Name)>,
    /// `GRANT … TO` and `REVOKE … FROM`.
    pub grantees: BTreeSet<Name>,
    /// `SET SESSION AUTHORIZATION`, for grants that an owner did not make: only a superuser may.
    pub grantors: BTreeSet<Name>,
    /// `CREATE POLICY … TO`: must exist whatever `--no-owner` and `--no-privileges` say.
    pub in_policies: BTreeSet<Name>,
}

impl ScriptRoles {
    /// Adds what a script of `pg_restore -f` names.
    pub fn read(&mut self, script: &[u8]) {
        for statement in statements::split(script) {
            // Function bodies and table definitions are long and never of interest.
            const STARTS: &[&[u8]] =
                &[b"ALTER ", b"CREATE POLICY ", b"GRANT ", b"REVOKE ", b"SET SESSION AUTHORIZATION "];
            if STARTS.iter().any(|start| statement.starts_with(start)) {
                self.read_statement(&statements::words(statement));
            }
        }
    }

    fn read_statement(&mut self, words: &[Word]) {
        let name = |word: &Word| word.identifier().map(|name| Name::from(name.to_vec()));
        if let [.., owner, to, role] = words
            && owner.is("owner")
            && to.is("to")
        {
            if let Some(role) = name(role) {
                self.read_owner(words, role);
            }
        } else if let [alter, default, privileges, for_, role, who, ..] = words
            && alter.is("alter")
            && default.is("default")
            && privileges.is("privileges")
            && for_.is("for")
            && role.is("role")
        {
            self.owners.extend(name(who));
            self.grantees.extend(grantee(words));
        } else if words.first().is_some_and(|word| word.is("create")) {
            self.in_policies.extend(policy_roles(words));
        } else if words.first().is_some_and(|word| word.is("grant") || word.is("revoke")) {
            self.grantees.extend(grantee(words));
        } else if let [set, _, _, role] = words
            && set.is("set")
        {
            // pg_dump writes the role as an identifier or as a string.
            self.grantors.extend(match role {
                Word::Other(text) if text.starts_with(b"'") => Some(statements::unquote(text).into()),
                other => name(other),
            });
        }
    }
}

impl ScriptRoles {
    /// `ALTER SCHEMA name OWNER TO role`, or `ALTER kind schema.name … OWNER TO role`.
    fn read_owner(&mut self, words: &[Word], role: Name) {
        let name = |word: &Word| word.identifier().map(|name| Name::from(name.to_vec()));
        let dot = words.iter().position(|word| matches!(word, Word::Other(sign) if sign == b"."));
        let schema = dot.and_then(|dot| words.get(dot.checked_sub(1)?)).and_then(name);
        if let Some(schema) = schema {
            self.placed.insert((schema, role.clone()));
        } else if words.get(1).is_some_and(|word| word.is("schema"))
            && let Some(schema) = words.get(2).and_then(name)
        {
            self.schema_owners.insert(schema, role.clone());
        }
        self.owners.insert(role);
    }
}

/// The role of `GRANT … TO role` or `REVOKE … FROM role`; none for PUBLIC. pg_dump writes one role for each statement,
/// and quotes names that are TO or FROM.
fn grantee(words: &[Word]) -> Option<Name> {
    let at = words.iter().rposition(|word| word.is("to") || word.is("from"))?;
    let role = words.get(at + 1).filter(|word| !word.is("public"))?;
    role.identifier().map(|name| Name::from(name.to_vec()))
}

/// The roles of `CREATE POLICY name ON table [FOR …] TO role, role USING (…)`. `PUBLIC` is not written by pg_dump.
fn policy_roles(words: &[Word]) -> impl Iterator<Item = Name> {
    let to = words.iter().position(|word| word.is("to")).map_or(words.len(), |at| at + 1);
    words[to..]
        .iter()
        .take_while(|word| !word.is("using") && !word.is("with"))
        .filter_map(|word| word.identifier().map(|name| Name::from(name.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_and_roles_of_policies_are_found() {
        let mut roles = ScriptRoles::default();
        roles.read(
            br#"
ALTER SCHEMA s OWNER TO app;
ALTER SERVER far OWNER TO app;
CREATE FUNCTION s.f(a integer) RETURNS void LANGUAGE sql AS $$ ALTER TABLE x OWNER TO nobody; $$;
ALTER FUNCTION s.f(a integer) OWNER TO "we ird";
CREATE TABLE s.t (x text DEFAULT 'ALTER TABLE x OWNER TO nobody;');
ALTER TABLE s.t OWNER TO app;
ALTER DEFAULT PRIVILEGES FOR ROLE "D" IN SCHEMA s GRANT SELECT ON TABLES  TO reader;
CREATE POLICY "to" ON s.t FOR SELECT TO p1, "p;2" USING ((x = 'to'::text));
CREATE POLICY p ON s.t USING (true);
REVOKE ALL ON TABLE s."to" FROM old;
GRANT SELECT(x) ON TABLE s.t TO "M" WITH GRANT OPTION;
SET SESSION AUTHORIZATION "M";
GRANT SELECT ON TABLE s.t TO PUBLIC;
RESET SESSION AUTHORIZATION;
"#,
        );
        let names = |set: BTreeSet<Name>| set.iter().map(Name::display).collect::<Vec<_>>();
        let placed: Vec<_> = roles.placed.iter().map(|(schema, owner)| (schema.display(), owner.display())).collect();
        assert_eq!(
            placed,
            [("s", "app"), ("s", "we ird")].map(|(schema, owner)| (schema.to_owned(), owner.to_owned()))
        );
        assert_eq!(roles.schema_owners, BTreeMap::from([("s".into(), "app".into())]));
        assert_eq!(names(roles.owners), ["D", "app", "we ird"]);
        assert_eq!(names(roles.in_policies), ["p1", "p;2"]);
        assert_eq!(names(roles.grantees), ["M", "old", "reader"]);
        assert_eq!(names(roles.grantors), ["M"]);
    }
}
