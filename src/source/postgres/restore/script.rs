//! What the SQL of pre-data and post-data asks of roles: who is to own something, and who is named by a policy or by
//! default privileges. `pg_restore`'s listing cannot tell this, as it separates names by spaces.

use std::collections::BTreeSet;

use super::statements::{self, Word};
use crate::model::Name;

/// Roles that a script names, by why.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ScriptRoles {
    /// `ALTER … OWNER TO` and `ALTER DEFAULT PRIVILEGES FOR ROLE`: the restoring role must be a member.
    pub owners: BTreeSet<Name>,
    /// `CREATE POLICY … TO`: must exist whatever `--no-owner` and `--no-privileges` say.
    pub in_policies: BTreeSet<Name>,
}

impl ScriptRoles {
    /// Adds what a script of `pg_restore -f` names.
    pub fn read(&mut self, script: &[u8]) {
        for statement in statements::split(script) {
            // Function bodies and table definitions are long and never of interest.
            if statement.starts_with(b"ALTER ") || statement.starts_with(b"CREATE POLICY ") {
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
            self.owners.extend(name(role));
        } else if let [alter, default, privileges, for_, role, who, ..] = words
            && alter.is("alter")
            && default.is("default")
            && privileges.is("privileges")
            && for_.is("for")
            && role.is("role")
        {
            self.owners.extend(name(who));
        } else if words.first().is_some_and(|word| word.is("create")) {
            self.in_policies.extend(policy_roles(words));
        }
    }
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
CREATE FUNCTION s.f(a integer) RETURNS void LANGUAGE sql AS $$ ALTER TABLE x OWNER TO nobody; $$;
ALTER FUNCTION s.f(a integer) OWNER TO "we ird";
CREATE TABLE s.t (x text DEFAULT 'ALTER TABLE x OWNER TO nobody;');
ALTER TABLE s.t OWNER TO app;
ALTER DEFAULT PRIVILEGES FOR ROLE "D" IN SCHEMA s GRANT SELECT ON TABLES  TO reader;
CREATE POLICY "to" ON s.t FOR SELECT TO p1, "p;2" USING ((x = 'to'::text));
CREATE POLICY p ON s.t USING (true);
"#,
        );
        let names = |set: BTreeSet<Name>| set.iter().map(Name::display).collect::<Vec<_>>();
        assert_eq!(names(roles.owners), ["D", "app", "we ird"]);
        assert_eq!(names(roles.in_policies), ["p1", "p;2"]);
    }
}
