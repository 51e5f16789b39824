//! What the restoring role must be allowed to do, and which other roles must exist.

use std::collections::BTreeSet;

use super::{
    restorer,
    roles::{Globals, MissingRole, is_predefined},
    script::ScriptRoles,
    server_checks::exists,
    survey::{Findings, Look},
};
use crate::{
    model::{Name, manifest::DatabaseSetting},
    source::{SourceError, postgres::connection::get},
};

/// What was found about roles.
pub(super) struct Roles {
    pub(super) missing: Vec<MissingRole>,
    pub(super) existing: BTreeSet<Name>,
    pub(super) create: BTreeSet<Name>,
}

impl Roles {
    fn will_exist(&self, role: &Name) -> bool {
        self.existing.contains(role) || self.create.contains(role)
    }
}

/// Which roles are needed, which are missing, and whether the restoring role may act for the owners.
pub(super) async fn roles(
    look: &Look<'_>,
    globals: &Globals,
    named: &ScriptRoles,
    findings: &mut Findings,
) -> Result<Roles, SourceError> {
    let rows =
        look.session.query(look.cancel, "cannot list the roles", "SELECT rolname::text FROM pg_roles", &[]).await?;
    let existing: BTreeSet<Name> = rows.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
    let missing = globals.missing(&needed(look, named), &existing);
    let options = &look.request.options;
    let mut roles = Roles { missing, existing, create: BTreeSet::new() };
    for role in &roles.missing {
        judge_missing(look, role, named, findings);
        if options.create_roles && role.in_backup {
            roles.create.insert(role.name.clone());
        }
    }
    if !look.me.superuser {
        if options.create_roles && !roles.create.is_empty() && !look.me.create_role {
            let me = look.me.name.display();
            findings.obstacle("createrole", format!("role {me:?} may not create roles: ALTER ROLE … CREATEROLE"));
        }
        if !options.no_owner {
            memberships(look, &roles, named, findings).await?;
            guests(look, &roles, named, findings).await?;
        }
        needs_superuser(look, named, findings);
    }
    Ok(roles)
}

/// The roles that must exist, by what is restored.
fn needed(look: &Look<'_>, named: &ScriptRoles) -> BTreeSet<Name> {
    let options = &look.request.options;
    let database = &look.facts.database;
    let mut needed = named.in_policies.clone();
    if !options.no_owner {
        needed.extend(named.owners.iter().chain([&database.owner]).cloned());
        needed.extend(database.settings.iter().filter_map(|setting| setting.role.clone()));
    }
    if !options.no_privileges {
        needed.extend(named.grantees.iter().cloned());
        let grantees = database.acl.iter().flatten().filter_map(|item| item.grantee.clone());
        needed.extend(grantees.filter(|grantee| *grantee != database.owner));
    }
    if !options.no_owner && !options.no_privileges && options.tables.is_empty() {
        needed.extend(look.facts.roles.iter().cloned());
    }
    needed
}

fn judge_missing(look: &Look<'_>, role: &MissingRole, named: &ScriptRoles, findings: &mut Findings) {
    let options = &look.request.options;
    let shown = role.name.display();
    if is_predefined(&role.name) {
        findings.obstacle(
            "missing-role",
            format!("role {shown:?} is built into a newer version of PostgreSQL than the server's"),
        );
    } else if !options.create_roles {
        let mut message = format!("role {shown:?} does not exist on {}", look.location());
        message.push_str(match (role.in_backup, named.in_policies.contains(&role.name)) {
            (true, true) => "; a policy names it: create it from the backup with --create-roles",
            (true, false) => {
                "; create it from the backup with --create-roles, or do without by --no-owner --no-privileges"
            }
            (false, true) => ", a policy names it, and the backup does not say how to create it: create it first",
            (false, false) => {
                ", and the backup does not say how to create it: create it, or use --no-owner --no-privileges"
            }
        });
        findings.obstacle("missing-role", message);
    } else if !role.in_backup {
        findings.obstacle(
            "missing-role",
            format!("role {shown:?} is missing, and the backup does not say how to create it"),
        );
    } else if !role.superuser_attributes.is_empty() && !look.me.superuser {
        let attributes = role.superuser_attributes.join(", ");
        findings
            .obstacle("superuser", format!("role {shown:?} is to have {attributes}, which only a superuser may give"));
    }
}

/// Only a member of a role that inherits its rights (and, from PostgreSQL 16 on, may SET ROLE to it) may give objects to
/// it and work on them afterwards.
async fn memberships(
    look: &Look<'_>,
    roles: &Roles,
    named: &ScriptRoles,
    findings: &mut Findings,
) -> Result<(), SourceError> {
    let owners: BTreeSet<&Name> = named.owners.iter().chain([&look.facts.database.owner]).collect();
    for owner in owners.into_iter().filter(|owner| roles.existing.contains(owner)) {
        if restorer::may_act_for(look.session, look.cancel, owner).await? == Some(false) {
            let (owner, me) = (owner.display(), look.me.name.display());
            let message = format!(
                "role {me:?} is no member of {owner:?} (or does not inherit its rights), to which restored objects belong: \
                 GRANT {owner:?} TO {me:?}, or restore with --no-owner"
            );
            findings.obstacle("membership", message);
        }
    }
    Ok(())
}

/// A role gets objects in a schema of another role before it gets the GRANT by which it may create there, and whoever is no
/// superuser can give them only to who may create already: who has the rights of the schema's owner.
async fn guests(
    look: &Look<'_>,
    roles: &Roles,
    named: &ScriptRoles,
    findings: &mut Findings,
) -> Result<(), SourceError> {
    // Before PostgreSQL 15 everybody may create in schema `public` until the backup's privileges take that away.
    let public = (look.session.server().major() >= 15).then_some(&look.facts.database.owner);
    for (schema, owner) in &named.placed {
        let host = named.schema_owners.get(schema).or(public.filter(|_| schema.as_bytes() == b"public"));
        let Some(host) = host.filter(|host| *host != owner) else { continue };
        // Of roles that are to be created it is not known yet.
        if !roles.existing.contains(host) || !roles.existing.contains(owner) {
            continue;
        }
        let sql = "SELECT 1 WHERE pg_has_role($1::text::name, $2::text::name, 'USAGE')";
        if !exists(look, "cannot read the memberships of an owner", sql, &[owner, host]).await? {
            let (schema, owner, host) = (schema.display(), owner.display(), host.display());
            let message = format!(
                "role {owner:?} is to own objects in schema {schema:?} of {host:?}, where it may create only by a GRANT that comes \
                 after them: a superuser can restore that, or restore with --no-owner"
            );
            findings.obstacle("superuser", message);
        }
    }
    Ok(())
}

fn needs_superuser(look: &Look<'_>, named: &ScriptRoles, findings: &mut Findings) {
    let options = &look.request.options;
    for thing in &look.facts.superuser_needed {
        if options.tables.is_empty() {
            findings.obstacle("superuser", format!("only a superuser can restore {thing}"));
        } else {
            findings.notice("superuser", format!("only a superuser can restore {thing}, if the tables need it"));
        }
    }
    if !options.no_privileges {
        for grantor in &named.grantors {
            let grantor = grantor.display();
            let message =
                format!("only a superuser can restore privileges that {grantor:?} granted without being the owner");
            findings.obstacle("superuser", message);
        }
    }
}

/// The database's settings that will be applied. Those that are not are named.
pub(super) async fn settings(
    look: &Look<'_>,
    roles: &Roles,
    findings: &mut Findings,
) -> Result<Vec<DatabaseSetting>, SourceError> {
    let mut applied = Vec::new();
    for setting in &look.facts.database.settings {
        let Some(problem) = setting_problem(look, roles, setting).await? else {
            applied.push(setting.clone());
            continue;
        };
        let whose = setting.role.as_ref().map(|role| format!(" of role {:?}", role.display())).unwrap_or_default();
        let message = format!("the database's setting {:?}{whose} {problem}", setting.name.display());
        if look.request.options.no_owner {
            findings.notice("setting", format!("{message}; it is left out"));
        } else {
            findings.obstacle("setting", format!("{message}; restore with --no-owner to leave it out"));
        }
    }
    Ok(applied)
}

async fn setting_problem(
    look: &Look<'_>,
    roles: &Roles,
    setting: &DatabaseSetting,
) -> Result<Option<&'static str>, SourceError> {
    if let Some(role) = &setting.role
        && !roles.will_exist(role)
    {
        return Ok(Some("names a role that does not exist"));
    }
    if look.me.superuser {
        return Ok(None);
    }
    if setting.role.as_ref().is_some_and(|role| *role != look.me.name) && !look.me.create_role {
        return Ok(Some("can be applied only with CREATEROLE"));
    }
    // A parameter that the server does not know may be an extension's: only a superuser may store it unseen.
    let granted = match look.session.server().major() {
        15.. => "OR has_parameter_privilege($1, 'SET')",
        _ => "",
    };
    let sql = format!(
        "SELECT 1 WHERE EXISTS (SELECT FROM pg_settings WHERE lower(name) = lower($1) AND context IN ('user', 'backend')) {granted}"
    );
    let allowed = exists(look, "cannot look up a setting", &sql, &[&setting.name]).await?;
    Ok((!allowed).then_some("can be applied by a superuser only"))
}
