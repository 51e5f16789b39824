//! The database that a restore in place replaces: whether it can be, and what is lost with it.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{
    request::before_name,
    survey::{Findings, Look},
    swap::{Replication, Swap},
};
use crate::{
    config::ConnectionSpec,
    model::{
        Name,
        manifest::{DatabaseProperties, Manifest},
    },
    source::{
        ChangedTable, SourceError,
        postgres::{
            connection::{APPLICATION_NAME, Session, get},
            database_sql,
            facts::system_identifier,
            quote::quote_qualified,
        },
    },
    stream::Cancel,
};

/// How long rows are counted for a plan; beyond it the server's own estimates have to do.
const COUNTING: Duration = Duration::from_secs(3);

/// What a plan says of the database that is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// Its object identifier: another database of that name is not the one that was planned about.
    pub oid: u32,
    /// The cluster; empty where the role may not read that.
    pub system_identifier: String,
    /// Its size, bytes.
    pub bytes: u64,
    /// Sessions that would be ended.
    pub sessions: u64,
    /// Logical slots in use, whose readers would lose their database.
    pub slots: Vec<Name>,
    /// Enabled subscriptions, which would be disabled.
    pub subscriptions: Vec<Name>,
    /// Tables whose number of rows now differs from the backup's, those with most rows to lose first.
    pub changed_tables: Vec<ChangedTable>,
    /// How many such tables there are, the named ones included.
    pub changed_table_count: u64,
}

/// What was found of an existing database, and what the new one is given of it.
pub(super) struct Existing {
    pub(super) replaced: Replaced,
    /// What belongs to the name and not to the contents: owner, privileges, settings, comment, limit.
    pub(super) properties: DatabaseProperties,
}

impl Existing {
    /// The swap that replaces it, before the new database has an identifier.
    pub(super) fn swap(&self, target: &Name, temporary: &Name, incoming: u32, kept: Name) -> Swap {
        Swap {
            name: target.clone(),
            system_identifier: self.replaced.system_identifier.clone(),
            incoming,
            incoming_name: temporary.clone(),
            outgoing: self.replaced.oid,
            kept,
        }
    }
}

const DATABASE: &str = "
SELECT d.oid, d.datistemplate, d.datallowconn, pg_has_role(d.datdba, 'USAGE'), pg_get_userbyid(d.datdba)::text,
       pg_database_size(d.oid),
       (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid AND a.application_name <> $2),
       (SELECT count(*) FROM pg_catalog.pg_stat_activity a
        WHERE a.datid = d.oid AND a.usesysid IS NOT NULL AND NOT coalesce((
              (pg_has_role(current_user, a.usesysid, 'USAGE') OR pg_has_role(current_user, 'pg_signal_backend', 'USAGE'))
              AND ((SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
                   OR NOT (SELECT rolsuper FROM pg_catalog.pg_roles r WHERE r.oid = a.usesysid))), false)),
       (SELECT count(*) FROM pg_catalog.pg_prepared_xacts p WHERE p.database = d.datname)
FROM pg_catalog.pg_database d WHERE d.datname::text = $1";

/// Looks at the database; obstacles and notices go into `findings`. `None` where it cannot even be looked into.
pub(super) async fn look(
    look: &Look<'_>,
    target: &Name,
    break_replication: bool,
    findings: &mut Findings,
) -> Result<Option<Existing>, SourceError> {
    let Look { session, cancel, .. } = look;
    let attempted = "cannot look at the database that is to be replaced";
    let rows = session.query(cancel, attempted, DATABASE, &[target, &APPLICATION_NAME]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let shown = target.display();
    if get::<bool>(row, 1)? {
        findings.obstacle("template", format!("database {shown:?} is a template, which is not replaced"));
    }
    if !get::<bool>(row, 2)? {
        findings.obstacle(
            "closed",
            format!("database {shown:?} allows no connections; restore under another name with --to"),
        );
        return Ok(None);
    }
    let owner: Name = get(row, 4)?;
    if !get::<bool>(row, 3)? {
        let role = look.me.name.display();
        findings.obstacle(
            "owner",
            format!(
                "role {role:?} may not rename database {shown:?}, which belongs to {owner}: GRANT {owner} TO {role}"
            ),
        );
    }
    let stubborn: i64 = get(row, 7)?;
    if stubborn > 0 {
        let role = look.me.name.display();
        findings.obstacle(
            "sessions",
            format!(
                "role {role:?} may not end {stubborn} of the sessions with {shown:?}: GRANT pg_signal_backend TO {role}; \
                 those of superusers only a superuser ends"
            ),
        );
    }
    let prepared: i64 = get(row, 8)?;
    if prepared > 0 {
        findings.obstacle(
            "prepared-transactions",
            format!("database {shown:?} has {prepared} prepared transactions; commit them or roll them back (pg_prepared_xacts)"),
        );
    }
    let oid: u32 = get(row, 0)?;
    let replication = Replication::of(session, cancel, oid).await?;
    match replication.objection() {
        Some(why) if !break_replication => findings.obstacle("replication", format!("database {shown:?} cannot be replaced: {why}")),
        Some(_) => findings.notice(
            "replication",
            "replication is broken off: readers of its slots lose their database, and its subscriptions are disabled, also \
             after an undo",
        ),
        None => {}
    }
    let spec = ConnectionSpec { database: target.clone(), ..look.request.connection.clone() };
    let inside = Session::connect(&spec, cancel).await?;
    let live = database_sql::read(&inside, cancel).await?;
    say_what_differs(&live, &look.facts.database, findings);
    let mut changed = changed_tables(&inside, cancel, look.manifest).await?;
    let changed_table_count = ChangedTable::most_lost_first(&mut changed);
    let count = |index: usize| get::<i64>(row, index).map(|count| u64::try_from(count).unwrap_or_default());
    let replaced = Replaced {
        oid,
        system_identifier: system_identifier(session, cancel).await?,
        bytes: count(5)?,
        sessions: count(6)?,
        slots: replication.slots,
        subscriptions: replication.subscriptions,
        changed_tables: changed,
        changed_table_count,
    };
    Ok(Some(Existing { replaced, properties: carried_over(live, &look.facts.database) }))
}

/// The name that the replaced database gets. One that is taken can only be a relic, which stands in the way.
pub(super) async fn kept_name(look: &Look<'_>, target: &Name, findings: &mut Findings) -> Result<Name, SourceError> {
    let kept = before_name(target, look.request.run_id);
    if super::swap::oid_of(look.session, look.cancel, &kept).await?.is_some() {
        findings.obstacle("kept-name", format!("a database {:?} exists already; drop or rename it", kept.display()));
    }
    Ok(kept)
}

/// What belongs to the database of that name on this server is the live one's; what shapes the contents, the backup's.
fn carried_over(live: DatabaseProperties, backup: &DatabaseProperties) -> DatabaseProperties {
    DatabaseProperties {
        name: live.name,
        owner: live.owner,
        connection_limit: live.connection_limit,
        is_template: live.is_template,
        tablespace: live.tablespace,
        comment: live.comment,
        acl: live.acl,
        settings: live.settings,
        ..backup.clone()
    }
}

fn say_what_differs(live: &DatabaseProperties, backup: &DatabaseProperties, findings: &mut Findings) {
    let shape = |p: &DatabaseProperties| (p.encoding.clone(), p.collate.clone(), p.ctype.clone(), p.locale.clone());
    if shape(live) != shape(backup) {
        findings.notice(
            "locale",
            format!(
                "the database now has encoding {} and locale {:?}; the backup's are {} and {:?}, which the new one gets",
                live.encoding, live.collate, backup.encoding, backup.collate
            ),
        );
    }
    let differing = [
        ("owner", live.owner != backup.owner),
        ("privileges", live.acl != backup.acl),
        ("settings", live.settings != backup.settings),
        ("comment", live.comment != backup.comment),
        ("connection limit", live.connection_limit != backup.connection_limit),
        ("tablespace", live.tablespace != backup.tablespace),
    ];
    let names: Vec<&str> = differing.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
    if !names.is_empty() {
        let message = format!(
            "of the database itself the present {} stay, which the backup has otherwise (`show` prints them)",
            names.join(", ")
        );
        findings.notice("properties", message);
    }
}

const TABLES: &str = "
SELECT n.nspname::text, c.relname::text, greatest(coalesce(s.n_live_tup, 0), c.reltuples::int8, 0)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_stat_all_tables s ON s.relid = c.oid
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.relpages, 1, 2";

/// Compares the rows of each table now with the backup's. Small tables are counted first.
async fn changed_tables(
    session: &Session,
    cancel: &Cancel,
    manifest: &Manifest,
) -> Result<Vec<ChangedTable>, SourceError> {
    let began = Instant::now();
    let rows = session.query(cancel, "cannot list the tables", TABLES, &[]).await?;
    let limit = format!("SET statement_timeout = {}", COUNTING.as_millis());
    session.execute(cancel, "cannot bound the counting", limit.as_bytes()).await?;
    let mut expected: std::collections::BTreeMap<(Name, Name), u64> =
        manifest.tables().map(|table| ((table.schema.clone(), table.name.clone()), table.rows)).collect();
    let mut changed = Vec::new();
    for row in &rows {
        let (schema, name): (Name, Name) = (get(row, 0)?, get(row, 1)?);
        let estimate = u64::try_from(get::<i64>(row, 2)?).unwrap_or_default();
        let counted = match began.elapsed() < COUNTING {
            true => count(session, cancel, &schema, &name).await?,
            false => None,
        };
        let rows_in_backup = expected.remove(&(schema.clone(), name.clone()));
        let rows_now = counted.unwrap_or(estimate);
        if rows_in_backup != Some(rows_now) && (counted.is_some() || rows_in_backup.is_none_or(|rows| rows < estimate))
        {
            let counted = counted.is_some();
            changed.push(ChangedTable { schema, name, rows_now: Some(rows_now), rows_in_backup, counted });
        }
    }
    let gone = expected.into_iter().map(|((schema, name), rows)| ChangedTable {
        schema,
        name,
        rows_now: None,
        rows_in_backup: Some(rows),
        counted: true,
    });
    changed.extend(gone);
    Ok(changed)
}

/// The rows of a table; `None` where that cannot be told in time, or not by this role.
async fn count(session: &Session, cancel: &Cancel, schema: &Name, name: &Name) -> Result<Option<u64>, SourceError> {
    let Ok(table) = String::from_utf8(quote_qualified(schema, name)) else { return Ok(None) };
    let sql = format!("SELECT count(*) FROM ONLY {table}");
    match session.query_one(cancel, "cannot count rows", &sql, &[]).await {
        Ok(row) => Ok(Some(u64::try_from(get::<i64>(&row, 0)?).unwrap_or_default())),
        Err(error) => {
            cancel.check()?;
            tracing::debug!(%error, "rows of {schema}.{name} are estimated");
            Ok(None)
        }
    }
}
