//! Looks at backup and server, and comes to the plan and to the decisions that carry it out. Both come from one look,
//! so that what is shown is what is done.

use std::{collections::BTreeSet, io::Write as _};

use super::{
    archive::{self, Archive},
    existing::Existing,
    plan::{PlannedBackup, Remark, RestorePlan},
    request::{OnExisting, RestoreRequest, before_name},
    role_checks,
    roles::Globals,
    script::ScriptRoles,
    server_checks, statements,
    toc::{TableSelection, Toc},
};
use crate::{
    config::ConnectionSpec,
    model::{
        ErrorCode, Name,
        manifest::{DatabaseProperties, DatabaseSetting, FileRole, Manifest, PostgresFacts, Table},
    },
    source::{
        JobContext, SetReader, SourceError,
        postgres::{
            client_programs::ClientPrograms,
            connection::{Session, get},
        },
    },
    stream::Cancel,
};

/// The plan, and what carrying it out needs to know beyond it.
pub(super) struct Survey {
    pub(super) plan: RestorePlan,
    pub(super) decisions: Decisions,
}

/// What was decided.
pub(super) struct Decisions {
    /// The connection to the maintenance database.
    pub(super) maintenance: ConnectionSpec,
    /// The restoring role.
    pub(super) me: Me,
    pub(super) server_version_num: u32,
    /// Absent where the plan has an obstacle about them.
    pub(super) programs: Option<ClientPrograms>,
    pub(super) archive: Archive,
    pub(super) globals: Globals,
    /// Roles that exist on the server.
    pub(super) existing_roles: BTreeSet<Name>,
    /// Roles to create.
    pub(super) create_roles: BTreeSet<Name>,
    /// Whether an empty database has the target's name, and makes way.
    pub(super) replaces_vacant: bool,
    /// Whether single tables go beside the live ones.
    pub(super) beside: bool,
    /// The database that is replaced, and the name under which it is kept.
    pub(super) replaces: Option<(Existing, Name)>,
    /// What the database is given: the original's properties, as far as they are wanted and can be.
    pub(super) properties: DatabaseProperties,
    /// Whether the database's default tablespace is the original's.
    pub(super) with_tablespace: bool,
    /// Whether everything goes into the default tablespace because one is missing.
    pub(super) no_tablespaces: bool,
    /// For single tables: what is restored.
    pub(super) selection: Option<TableSelection>,
}

/// The restoring role.
#[derive(Debug, Clone)]
pub(super) struct Me {
    pub(super) name: Name,
    pub(super) superuser: bool,
    pub(super) create_db: bool,
    pub(super) create_role: bool,
}

/// What the checks work with.
pub(super) struct Look<'a> {
    pub(super) session: &'a Session,
    pub(super) cancel: &'a Cancel,
    pub(super) request: &'a RestoreRequest<'a>,
    pub(super) manifest: &'a Manifest,
    pub(super) facts: &'a PostgresFacts,
    pub(super) me: &'a Me,
}

/// What the checks find.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) obstacles: Vec<Remark>,
    pub(super) notices: Vec<Remark>,
}

impl Findings {
    /// Something that the restore would fail at.
    pub(super) fn obstacle(&mut self, what: &str, message: impl Into<String>) {
        self.obstacles.push(Remark { what: what.to_owned(), message: message.into() });
    }

    /// Something to know.
    pub(super) fn notice(&mut self, what: &str, message: impl Into<String>) {
        self.notices.push(Remark { what: what.to_owned(), message: message.into() });
    }
}

/// The facts about the database that the backup was taken of.
pub(super) fn facts(manifest: &Manifest) -> Result<&PostgresFacts, SourceError> {
    manifest.postgresql.as_ref().ok_or_else(|| {
        let message = format!("a backup of kind {} is not one of a PostgreSQL database", manifest.kind.as_str());
        SourceError::new(ErrorCode::NotSupported, message)
    })
}

/// The maintenance databases, the usual one first.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];

/// Opens a session with the maintenance database: `postgres`, or `template1` where there is none.
pub(super) async fn maintenance(
    connection: &ConnectionSpec,
    cancel: &Cancel,
) -> Result<(Session, ConnectionSpec), SourceError> {
    maintenance_beside(connection, None, cancel).await
}

/// As [`maintenance`], the other way round where the usual one is to be replaced itself: a database cannot be renamed
/// over a session with it.
pub(super) async fn maintenance_beside(
    connection: &ConnectionSpec,
    replaced: Option<&Name>,
    cancel: &Cancel,
) -> Result<(Session, ConnectionSpec), SourceError> {
    let with = |database: &str| ConnectionSpec { database: database.into(), ..connection.clone() };
    let mut databases = MAINTENANCE;
    if replaced.is_some_and(|name| name.as_str() == Some(databases[0])) {
        databases.reverse();
    }
    let spec = with(databases[0]);
    match Session::connect(&spec, cancel).await {
        Err(error) if matches!(error.code(), ErrorCode::NoSuchDatabase | ErrorCode::DatabasePermission) => {
            let spec = with(databases[1]);
            Ok((Session::connect(&spec, cancel).await?, spec))
        }
        session => Ok((session?, spec)),
    }
}

/// Looks at everything. Touches nothing.
pub(super) fn survey(
    request: &RestoreRequest<'_>,
    reader: &dyn SetReader,
    context: &JobContext,
) -> Result<Survey, SourceError> {
    let manifest = reader.manifest();
    let facts = facts(manifest)?;
    let mut findings = Findings::default();
    let archive = Archive::spool(reader, context)?;
    let globals = Globals::parse(&archive::read_role(reader, FileRole::Globals, context)?);
    let target = request.target(manifest);
    let replaced = (request.options.existing != OnExisting::Refuse).then_some(&target);
    let connecting = maintenance_beside(&request.connection, replaced, &context.cancel);
    let (session, spec) = context.runtime.block_on(connecting)?;
    let me = context.runtime.block_on(me(&session, &context.cancel))?;
    let programs = server_checks::client_programs(request, facts, session.server(), &mut findings);
    let selection = match &programs {
        Some(programs) => select(request, manifest, facts, &archive, programs, context, &mut findings)?,
        None => None,
    };
    let script = match (&selection, &programs) {
        (Some(selection), Some(programs)) => {
            let mut list = archive::scratch_file(context, "list-")?;
            list.write_all(&selection.list).map_err(|error| SourceError::io("write a list for pg_restore", &error))?;
            archive.script(programs, list.path(), context)?
        }
        _ => [
            archive::read_role(reader, FileRole::PreData, context)?,
            archive::read_role(reader, FileRole::PostData, context)?,
        ]
        .join(b"\n".as_slice()),
    };
    let mut named = ScriptRoles::default();
    named.read(&script);
    let holds_nothing = holds_nothing(manifest, &script);
    drop(script);

    let planned = planned_backup(manifest, facts, selection.as_ref());
    let look = Look { session: &session, cancel: &context.cancel, request, manifest, facts, me: &me };
    let checks = async {
        let place = server_checks::target(&look, &mut findings).await?;
        let tablespace = server_checks::tablespaces(&look, &mut findings).await?;
        server_checks::locale(&look, &mut findings).await?;
        server_checks::extensions(&look, &mut findings).await?;
        let space = server_checks::space(&look, planned.bytes, &mut findings).await?;
        let roles = role_checks::roles(&look, &globals, &named, &mut findings).await?;
        let settings = role_checks::settings(&look, &roles, &mut findings).await?;
        Ok::<_, SourceError>((place, tablespace, space, roles, settings))
    };
    let (place, tablespace, space, roles, settings) = context.runtime.block_on(checks)?;
    let mut properties = properties(request, facts, &me, settings);
    let beside = matches!(place, Place::Beside);
    let (replaces_vacant, replaces) = match place {
        Place::Free | Place::Beside => (false, None),
        Place::Vacant => (true, None),
        Place::Taken(existing, kept) => {
            properties = existing.properties.clone();
            (false, Some((*existing, kept)))
        }
    };
    let kept = replaces.as_ref().map(|(_, kept)| kept);
    let mut steps = steps(request, manifest, &roles.create, selection.as_ref(), kept);
    if beside {
        steps.pop();
        let mark = before_name(&Name::from(""), request.run_id).lossy().replace("before", "restored");
        steps.push(format!(
            "name the tables and their indexes …{mark}, and copy them into {:?} in one transaction",
            target.display()
        ));
    }
    if replaces_vacant {
        steps.push(format!("drop the empty database that was called {:?}, if it is empty still", target.display()));
    }
    let server = session.server();
    let plan = RestorePlan {
        server: format!("{}:{} as user {:?}", spec.host, spec.port, spec.user),
        server_version: server.version.clone(),
        server_version_num: server.version_num,
        target,
        replaces_vacant,
        beside,
        replaces: replaces.as_ref().map(|(existing, _)| existing.replaced.clone()),
        holds_nothing,
        backup: planned,
        steps,
        missing_roles: roles.missing,
        obstacles: findings.obstacles,
        notices: findings.notices,
        space_needed: space.needed,
        space_free: space.free,
    };
    let decisions = Decisions {
        maintenance: spec,
        me: me.clone(),
        server_version_num: server.version_num,
        programs,
        archive,
        globals,
        existing_roles: roles.existing,
        replaces_vacant,
        beside,
        replaces,
        create_roles: roles.create,
        no_tablespaces: tablespace.any_missing,
        with_tablespace: tablespace.default_usable,
        properties,
        selection,
    };
    Ok(Survey { plan, decisions })
}

/// Who has the target's name.
pub(super) enum Place {
    /// Nobody, or what stands in the way is among the findings.
    Free,
    /// A database that single tables are added to.
    Beside,
    /// A database that holds nothing, and makes way.
    Vacant,
    /// A database that is replaced, and the name under which it is kept.
    Taken(Box<Existing>, Name),
}

/// Whether nothing is restored but what every new database has: the script only sets what it needs itself.
fn holds_nothing(manifest: &Manifest, script: &[u8]) -> bool {
    let only_sets = |statement: &[u8]| {
        let words = statements::words(statement);
        let is = |index: usize, keyword: &str| words.get(index).is_some_and(|word| word.is(keyword));
        is(0, "set") || (is(0, "select") && is(1, "pg_catalog") && is(3, "set_config"))
    };
    manifest.tables().next().is_none() && statements::split(script).into_iter().all(only_sets)
}

/// The original's properties without what is not wanted. Without owners, the restoring role stands in the owner's place.
fn properties(
    request: &RestoreRequest<'_>,
    facts: &PostgresFacts,
    me: &Me,
    settings: Vec<DatabaseSetting>,
) -> DatabaseProperties {
    let mut properties = DatabaseProperties { settings, ..facts.database.clone() };
    if request.options.no_privileges {
        properties.acl = None;
    }
    if request.options.no_owner {
        let owners =
            properties.acl.iter_mut().flatten().filter(|item| item.grantee.as_ref() == Some(&facts.database.owner));
        owners.for_each(|item| item.grantee = Some(me.name.clone()));
        properties.owner = me.name.clone();
    }
    properties
}

pub(super) async fn me(session: &Session, cancel: &Cancel) -> Result<Me, SourceError> {
    let sql = "SELECT rolname::text, rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user";
    let row = session.query_one(cancel, "cannot read the rights of the restoring role", sql, &[]).await?;
    Ok(Me { name: get(&row, 0)?, superuser: get(&row, 1)?, create_db: get(&row, 2)?, create_role: get(&row, 3)? })
}

/// What single tables need, where only such are wanted.
fn select(
    request: &RestoreRequest<'_>,
    manifest: &Manifest,
    facts: &PostgresFacts,
    archive: &Archive,
    programs: &ClientPrograms,
    context: &JobContext,
    findings: &mut Findings,
) -> Result<Option<TableSelection>, SourceError> {
    if request.options.tables.is_empty() {
        return Ok(None);
    }
    let toc = Toc::parse(&archive.listing(programs, context)?);
    let owners: Vec<Name> = facts.roles.iter().chain([&facts.database.owner]).cloned().collect();
    let known: BTreeSet<(Name, Name)> =
        manifest.tables().map(|table| (table.schema.clone(), table.name.clone())).collect();
    let mut wanted = Vec::new();
    for text in &request.options.tables {
        let mut alike: BTreeSet<_> =
            known.iter().filter(|(schema, name)| is_called(schema, name, text)).cloned().collect();
        // A partitioned table has no rows of its own: those of its partitions may stand under their names.
        alike.extend(splits(text).filter(|table| toc.has_table(table, &owners)));
        let message = match alike.len() {
            0 => format!("the backup holds no table {text:?} (give schema.table)"),
            1 => {
                wanted.extend(alike);
                continue;
            }
            _ => format!("{text:?} is the name of more than one table of the backup"),
        };
        findings.obstacle("no-such-table", message);
    }
    let known: Vec<_> = known.into_iter().collect();
    let selection = match toc.select(&wanted, &known, &owners) {
        Ok(selection) => selection,
        Err(error) => {
            findings.obstacle("no-such-table", error.to_string());
            TableSelection::default()
        }
    };
    for left_out in &selection.left_out {
        let message = format!("{left_out} is left out: it needs something that is not among the wanted tables");
        findings.notice("left-out", message);
    }
    Ok(Some(selection))
}

/// All ways to read a text as schema and table: either may hold dots.
fn splits(text: &str) -> impl Iterator<Item = (Name, Name)> {
    text.match_indices('.').map(|(at, _)| (Name::from(&text[..at]), Name::from(&text[at + 1..])))
}

fn is_called(schema: &Name, name: &Name, text: &str) -> bool {
    let bytes = [schema.as_bytes(), b".", name.as_bytes()].concat();
    bytes == text.as_bytes() || format!("{schema}.{name}") == text
}

/// Whether the rows of this table are restored.
pub(super) fn is_selected(selection: Option<&TableSelection>, table: &Table) -> bool {
    selection.is_none_or(|selection| selection.tables.iter().any(|(s, n)| *s == table.schema && *n == table.name))
}

fn planned_backup(manifest: &Manifest, facts: &PostgresFacts, selection: Option<&TableSelection>) -> PlannedBackup {
    let tables = || manifest.tables().filter(|table| is_selected(selection, table));
    PlannedBackup {
        source: manifest.source.clone(),
        sequence: manifest.sequence,
        snapshot_at: manifest.snapshot_at,
        database: facts.database.name.clone(),
        server_version: facts.server_version.clone(),
        rows: tables().map(|table| table.rows).sum(),
        bytes: tables().map(|table| table.bytes).sum(),
    }
}

fn steps(
    request: &RestoreRequest<'_>,
    manifest: &Manifest,
    create: &BTreeSet<Name>,
    selection: Option<&TableSelection>,
    kept: Option<&Name>,
) -> Vec<String> {
    let target = request.target(manifest);
    let mut steps = Vec::new();
    if !create.is_empty() {
        let names: Vec<_> = create.iter().map(|role| format!("{:?}", role.display())).collect();
        steps.push(format!("create the roles {} from the backup", names.join(", ")));
    }
    steps.push("create an empty database under a temporary name".to_owned());
    match selection {
        None => steps.push("restore the schema, the rows, then indexes and constraints".to_owned()),
        Some(selection) => {
            let names: Vec<_> = selection.tables.iter().map(|(schema, name)| format!("{schema}.{name}")).collect();
            steps.push(format!("restore the tables {} with what they need", names.join(", ")));
        }
    }
    steps.push("compare the number of rows of every table with the backup's".to_owned());
    steps.push("collect statistics for the planner (ANALYZE)".to_owned());
    match kept {
        None => {
            steps.push(format!(
                "give the database its settings and privileges, and rename it to {:?}",
                target.display()
            ));
        }
        Some(kept) => {
            let target = target.display();
            steps.push(format!("let nobody into {target:?} any more, and end the sessions with it"));
            steps.push(format!(
                "in one transaction rename {target:?} to {:?}, and the new database, with the owner, settings and privileges \
                 of the old one, to {target:?}",
                kept.display()
            ));
        }
    }
    steps
}
