//! One snapshot of a database that no TRUNCATE and no rewriting ALTER can reach into.
//!
//! TRUNCATE and ALTER TABLE are not covered by snapshots (PostgreSQL manual, "Caveats" of concurrency control): one
//! that commits between the snapshot and pg_dump's lock empties a table silently. So connection A (READ COMMITTED)
//! lists the tables, locks them ACCESS SHARE and lists again until nothing new is there; only then connection B takes
//! the snapshot and exports it. What the snapshot shows must be what A saw; else all starts over.
//!
//! Invariant: while a [`Snapshot`] lives, every table that it shows is locked by A and the snapshot is held by B.

use std::{collections::HashSet, time::Duration};

use tokio_postgres::types::Oid;

use super::{
    catalog::{self, Relation},
    connection::{Session, get},
    quote::quote_qualified,
    selection,
};
use crate::{
    clock::now_micros,
    config::ConnectionSpec,
    fail_point,
    model::{ErrorCode, manifest::Selection},
    source::SourceError,
    stream::Cancel,
};

/// How often it is tried before the database is called too lively.
const TRIES: u32 = 10;
/// Tables in one LOCK statement.
const BATCH: usize = 500;

/// An exported snapshot, and the locks that make it good.
#[derive(Debug)]
pub struct Snapshot {
    /// Connection A, which holds the locks.
    pub locks: Session,
    /// Connection B, which holds the snapshot; in a transaction, ready for queries that see it.
    pub reader: Session,
    /// The name that `pg_dump --snapshot` takes.
    pub id: String,
    /// When it was taken, microseconds since the epoch, by this host's clock.
    pub taken_at: u64,
    /// All relations that the snapshot shows and the selection chooses.
    pub relations: Vec<Relation>,
}

/// What taking a snapshot needs to know.
#[derive(Debug)]
pub struct SnapshotRequest<'a> {
    /// Where.
    pub connection: &'a ConnectionSpec,
    /// What.
    pub selection: &'a Selection,
    /// How long to wait for one table.
    pub lock_timeout: Duration,
}

impl Snapshot {
    /// Locks the chosen tables and takes the snapshot. `judge` is given the relations before they are locked, and
    /// refuses those that cannot be dumped.
    ///
    /// # Errors
    /// `LockTimeout` naming a table, `SnapshotUnstable`, what `judge` gives, what the connections give, or the cancel.
    pub fn take(
        request: &SnapshotRequest<'_>,
        judge: &dyn Fn(&[&Relation]) -> Result<(), SourceError>,
        cancel: &Cancel,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Self, SourceError> {
        let locks = runtime.block_on(Session::connect(request.connection, cancel))?;
        let timeout = request.lock_timeout.as_millis().min(i32::MAX as u128);
        let set = format!("SET lock_timeout = {timeout}");
        runtime.block_on(locks.execute(cancel, "cannot set lock_timeout", set.as_bytes()))?;
        let reader = runtime.block_on(Session::connect(request.connection, cancel))?;
        for _ in 0..TRIES {
            let attempt = Attempt { request, locks: &locks, reader: &reader, cancel, runtime };
            if let Some((id, taken_at, relations)) = attempt.run(judge)? {
                return Ok(Self { locks, reader, id, taken_at, relations });
            }
            tracing::info!("tables changed while the snapshot was taken: starting over");
            for session in [&locks, &reader] {
                runtime.block_on(session.execute(cancel, "cannot roll back", b"ROLLBACK"))?;
            }
        }
        Err(SourceError::new(
            ErrorCode::SnapshotUnstable,
            format!("tables came and went in each of {TRIES} attempts to lock them all; back up when less DDL runs"),
        ))
    }

    /// The tables whose rows are dumped.
    pub fn tables(&self) -> impl Iterator<Item = &Relation> {
        self.relations.iter().filter(|relation| relation.kind == b'r')
    }

    /// Makes sure that both connections lived to this moment.
    ///
    /// # Errors
    /// `DatabaseUnreachable` when one is lost.
    pub async fn still_held(&self, cancel: &Cancel) -> Result<(), SourceError> {
        self.locks.execute(cancel, "the connection that holds the tables' locks was lost", b"SELECT 1").await?;
        self.reader.execute(cancel, "the connection that holds the snapshot was lost", b"SELECT 1").await
    }
}

struct Attempt<'a> {
    request: &'a SnapshotRequest<'a>,
    locks: &'a Session,
    reader: &'a Session,
    cancel: &'a Cancel,
    runtime: &'a tokio::runtime::Handle,
}

impl Attempt<'_> {
    /// One try; `None` when tables changed.
    fn run(
        &self,
        judge: &dyn Fn(&[&Relation]) -> Result<(), SourceError>,
    ) -> Result<Option<(String, u64, Vec<Relation>)>, SourceError> {
        self.execute(self.locks, b"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY")?;
        let mut listed = self.list(self.locks)?;
        pass("listed")?;
        let mut locked: HashSet<Oid> = HashSet::new();
        for _ in 0..TRIES {
            judge(&listed.iter().collect::<Vec<_>>())?;
            let new: Vec<&Relation> =
                listed.iter().filter(|relation| relation.lockable() && !locked.contains(&relation.oid)).collect();
            if !self.lock(&new)? {
                return Ok(None);
            }
            locked.extend(new.iter().map(|relation| relation.oid));
            pass("locked")?;
            let again = self.list(self.locks)?;
            pass("relisted")?;
            if same(&listed, &again) {
                return self.export(&again);
            }
            // A name that was locked may have been given to another table meanwhile.
            if listed
                .iter()
                .any(|old| locked.contains(&old.oid) && !again.iter().any(|new| new.identity() == old.identity()))
            {
                return Ok(None);
            }
            listed = again;
        }
        Ok(None)
    }

    fn export(&self, locked: &[Relation]) -> Result<Option<(String, u64, Vec<Relation>)>, SourceError> {
        self.execute(self.reader, b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        let export = self.reader.query_one(self.cancel, "cannot export a snapshot", "SELECT pg_export_snapshot()", &[]);
        let row = self.runtime.block_on(export)?;
        let taken_at = now_micros();
        let id: String = get(&row, 0)?;
        // The snapshot's name goes to a command line; it is hexadecimal digits and dashes.
        if !id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
            return Err(SourceError::new(ErrorCode::Internal, format!("the snapshot's name {id:?} is not understood")));
        }
        let shown = self.list(self.reader)?;
        if !same(locked, &shown) {
            return Ok(None);
        }
        pass("snapshot-exported")?;
        Ok(Some((id, taken_at, shown)))
    }

    /// The chosen relations, as the session sees them now.
    fn list(&self, session: &Session) -> Result<Vec<Relation>, SourceError> {
        let mut relations = self.runtime.block_on(catalog::relations(session, self.cancel))?;
        relations.retain(|relation| selection::chooses(self.request.selection, relation));
        Ok(relations)
    }

    fn execute(&self, session: &Session, sql: &[u8]) -> Result<(), SourceError> {
        self.runtime.block_on(session.execute(self.cancel, "cannot begin a transaction", sql))
    }

    /// Locks tables; false when one of them is gone.
    fn lock(&self, tables: &[&Relation]) -> Result<bool, SourceError> {
        for batch in tables.chunks(BATCH) {
            let names: Vec<Vec<u8>> = batch
                .iter()
                .map(|table| [b"ONLY ".as_slice(), &quote_qualified(&table.schema, &table.name)].concat())
                .collect();
            let statement = [b"LOCK TABLE ".as_slice(), &names.join(&b", "[..]), b" IN ACCESS SHARE MODE"].concat();
            let locking = self.locks.try_execute(self.cancel, &statement);
            match self.runtime.block_on(locking)? {
                Ok(()) => {}
                // undefined_table, invalid_schema_name, wrong_object_type: dropped or replaced since it was listed.
                Err(error) if error.code().is_some_and(|state| matches!(state.code(), "42P01" | "3F000" | "42809")) => {
                    return Ok(false);
                }
                Err(error) => {
                    let attempted = format!("cannot lock {}", self.suspect(batch));
                    return Err(super::connection::sql_error(&attempted, &error));
                }
            }
        }
        Ok(true)
    }

    /// Names the table of a batch that somebody else has locked, and who, as far as it can still be seen.
    fn suspect(&self, batch: &[&Relation]) -> String {
        let oids: Vec<Oid> = batch.iter().map(|table| table.oid).collect();
        let sql = "SELECT l.relation, l.pid, a.usename::text FROM pg_catalog.pg_locks l
                   LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
                   WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.relation = ANY ($1)
                     AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
                   ORDER BY l.granted DESC LIMIT 1";
        let found = self.runtime.block_on(self.reader.query(self.cancel, "cannot read pg_locks", sql, &[&oids]));
        let blocker = found.ok().and_then(|rows| {
            let row = rows.into_iter().next()?;
            let oid: Oid = get(&row, 0).ok()?;
            let table = batch.iter().find(|table| table.oid == oid)?;
            let pid: i32 = get(&row, 1).ok()?;
            let user = get::<Option<crate::model::Name>>(&row, 2).ok()?;
            let user = user.map_or_else(String::new, |user| format!(" of user {user}"));
            Some(format!("table {} (locked by process {pid}{user})", table.display()))
        });
        blocker.unwrap_or_else(|| match batch {
            [table] => format!("table {}", table.display()),
            [first, ..] => format!("one of {} tables, the first of them {}", batch.len(), first.display()),
            [] => "no table".to_owned(),
        })
    }
}

fn pass(place: &'static str) -> Result<(), SourceError> {
    fail_point::hit(place).map_err(|error| SourceError::io(format!("go on after {place:?}"), &error))
}

fn same(a: &[Relation], b: &[Relation]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.identity() == b.identity())
}
