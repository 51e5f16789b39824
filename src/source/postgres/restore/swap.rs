//! Two databases change places under one name: the restored one gets it, the old one is kept under another.
//!
//! Invariants: the name belongs to a complete database at every instant but within one transaction; which database has
//! it is told by object identifiers, never guessed from what was attempted; while sessions of the old database are
//! ended it lets nobody in, and [`settle`] lets them in again where the transaction did not happen; what a crash leaves
//! is told apart by [`settle`], however often that is called.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    database::{disconnect_others, drop_database, execute_whole},
    report::hit,
    request::before_name,
    survey::maintenance_beside,
};
use crate::{
    config::ConnectionSpec,
    model::{ErrorCode, Name, RunId},
    source::{
        JobContext, Settled, SourceError,
        postgres::{
            connection::{Session, get},
            facts::system_identifier,
            quote::quote_ident,
        },
    },
    stream::Cancel,
};

/// How often the renames are tried while sessions linger. Each try waits five seconds on the server.
const TRIES: u32 = 4;
/// How long the whole of dropping a kept database may take.
const DROP_TIMEOUT: Duration = Duration::from_secs(120);

/// Two databases and the name that passes from one to the other. It says what shall be as well as what was done, so it
/// is written down before anything happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// The name that clients use.
    pub name: Name,
    /// The cluster's `system_identifier`; empty where the role may not read it.
    pub system_identifier: String,
    /// The object identifier of the database that gets the name.
    pub incoming: u32,
    /// What that one is called before.
    pub incoming_name: Name,
    /// The object identifier of the database that has the name before.
    pub outgoing: u32,
    /// What that one is called after.
    pub kept: Name,
}

impl Swap {
    /// The way back, as a swap of another run.
    #[must_use]
    pub fn reversed(&self, run: RunId) -> Self {
        Self {
            name: self.name.clone(),
            system_identifier: self.system_identifier.clone(),
            incoming: self.outgoing,
            incoming_name: self.kept.clone(),
            outgoing: self.incoming,
            kept: before_name(&self.name, run),
        }
    }

    fn failed(&self, code: ErrorCode, why: impl std::fmt::Display) -> SourceError {
        SourceError::new(code, format!("cannot replace database {:?}: {why}", self.name.display()))
    }
}

/// The object identifier of the database of this name, if there is one.
pub(super) async fn oid_of(session: &Session, cancel: &Cancel, name: &Name) -> Result<Option<u32>, SourceError> {
    let sql = "SELECT oid FROM pg_catalog.pg_database WHERE datname::text = $1";
    let rows = session.query(cancel, "cannot look for a database", sql, &[name]).await?;
    rows.first().map(|row| get(row, 0)).transpose()
}

/// The name of the database with this object identifier, if there is one.
async fn name_of(session: &Session, cancel: &Cancel, oid: u32) -> Result<Option<Name>, SourceError> {
    let sql = "SELECT datname::text FROM pg_catalog.pg_database WHERE oid = $1";
    let rows = session.query(cancel, "cannot look for a database", sql, &[&oid]).await?;
    rows.first().map(|row| get(row, 0)).transpose()
}

/// Swaps. `properties` are statements that give the incoming database what belongs to the name; they see the name.
///
/// # Errors
/// The server's. Whether the swap happened is then told by [`settle`] alone.
pub(super) async fn exchange(
    session: &Session,
    connection: &ConnectionSpec,
    swap: &Swap,
    properties: &[Vec<u8>],
    break_replication: bool,
) -> Result<(), SourceError> {
    // Stopping halfway would leave a name that lets nobody in.
    let never = Cancel::new();
    let replication = Replication::of(session, &never, swap.outgoing).await?;
    match replication.objection() {
        Some(why) if !break_replication => return Err(swap.failed(ErrorCode::RestoreRefused, why)),
        // Their workers would try to get into the kept database for ever.
        _ => on_subscriptions(connection, &swap.name, &replication.subscriptions, &[DISABLE], &never).await?,
    }
    // A rename waits for their end, while nobody is let in.
    let sql = "SELECT count(*) FROM pg_catalog.pg_prepared_xacts WHERE database::text = $1";
    let attempted = "cannot list the prepared transactions";
    let prepared: i64 = get(&session.query_one(&never, attempted, sql, &[&swap.name]).await?, 0)?;
    if prepared > 0 {
        let why = format!("it has {prepared} prepared transactions; commit them or roll them back");
        return Err(swap.failed(ErrorCode::RestoreRefused, why));
    }
    let name = quote_ident(swap.name.as_bytes());
    let allow =
        |allowed: &str| [b"ALTER DATABASE ".as_slice(), &name, b" ALLOW_CONNECTIONS ", allowed.as_bytes()].concat();
    execute_whole(session, "cannot close the old database to new sessions", &allow("false")).await?;
    hit("swap-closed")?;
    let mut tries = TRIES;
    loop {
        disconnect_others(session, &never, &swap.name).await?;
        disconnect_others(session, &never, &swap.incoming_name).await?;
        hit("swap-disconnected")?;
        let Err(error) = rename(session, &never, swap, properties, &allow("true")).await else { return Ok(()) };
        execute_whole(session, "cannot end a transaction", b"ROLLBACK").await?;
        tries -= 1;
        if tries == 0 || !error.to_string().contains("is being accessed by other users") {
            return Err(error);
        }
    }
}

/// Both renames, what belongs to the name, and the opening of the new database, in one transaction.
async fn rename(
    session: &Session,
    never: &Cancel,
    swap: &Swap,
    properties: &[Vec<u8>],
    allow: &[u8],
) -> Result<(), SourceError> {
    let attempted = "cannot swap the databases";
    session.execute(never, attempted, b"BEGIN; SET LOCAL synchronous_commit = on").await?;
    let places = [(swap.outgoing, &swap.name), (swap.incoming, &swap.incoming_name)];
    for (oid, name) in places {
        if oid_of(session, never, name).await? != Some(oid) {
            let why = format!("{:?} is another database than it was when this began", name.display());
            return Err(swap.failed(ErrorCode::RestoreRefused, why));
        }
    }
    let rename = |from: &Name, to: &Name| {
        let (from, to) = (quote_ident(from.as_bytes()), quote_ident(to.as_bytes()));
        [b"ALTER DATABASE ".as_slice(), &from, b" RENAME TO ", &to].concat()
    };
    let mut statements = vec![rename(&swap.name, &swap.kept), rename(&swap.incoming_name, &swap.name)];
    statements.extend(properties.iter().cloned());
    statements.push(allow.to_vec());
    execute_whole(session, attempted, &statements.join(b"; ".as_slice())).await?;
    hit("swap-renamed")?;
    execute_whole(session, attempted, b"COMMIT").await
}

/// What replicates from or into a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Replication {
    /// Logical slots of the database that are in use.
    pub(super) slots: Vec<Name>,
    /// Its subscriptions that are enabled.
    pub(super) subscriptions: Vec<Name>,
}

impl Replication {
    pub(super) async fn of(session: &Session, cancel: &Cancel, oid: u32) -> Result<Self, SourceError> {
        let names = async |attempted: &str, sql: &str| {
            let rows = session.query(cancel, attempted, sql, &[&oid]).await?;
            rows.iter().map(|row| get::<Name>(row, 0)).collect::<Result<Vec<_>, _>>()
        };
        let slots = "SELECT s.slot_name::text FROM pg_catalog.pg_replication_slots s JOIN pg_catalog.pg_database d \
                     ON d.datname = s.database WHERE d.oid = $1 AND s.active ORDER BY 1";
        let subscriptions =
            "SELECT subname::text FROM pg_catalog.pg_subscription WHERE subdbid = $1 AND subenabled ORDER BY 1";
        Ok(Self {
            slots: names("cannot list the replication slots", slots).await?,
            subscriptions: names("cannot list the subscriptions", subscriptions).await?,
        })
    }

    /// Why a swap would break it; `None` where nothing replicates.
    pub(super) fn objection(&self) -> Option<String> {
        let list = |names: &[Name]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let mut parts = Vec::new();
        if !self.slots.is_empty() {
            parts.push(format!("somebody replicates from it by the slots {}", list(&self.slots)));
        }
        if !self.subscriptions.is_empty() {
            parts.push(format!("its subscriptions {} are enabled", list(&self.subscriptions)));
        }
        let why = parts.join(" and ");
        (!parts.is_empty()).then(|| format!("{why}; --break-replication replaces it nevertheless"))
    }
}

/// Says where a swap stands that was begun, and lets sessions in again where it did not happen.
///
/// # Errors
/// When the server does not answer; `RestoreRefused` when its databases are neither as before nor as after, which only
/// somebody else can have done: then nothing is touched.
pub fn settle(connection: &ConnectionSpec, swap: &Swap, context: &JobContext) -> Result<Settled, SourceError> {
    context.runtime.block_on(async {
        let never = Cancel::new();
        let (session, _) = maintenance_beside(connection, Some(&swap.name), &never).await?;
        settle_in(&session, &never, swap).await
    })
}

async fn settle_in(session: &Session, never: &Cancel, swap: &Swap) -> Result<Settled, SourceError> {
    same_cluster(session, never, swap).await?;
    let incoming = name_of(session, never, swap.incoming).await?;
    let outgoing = name_of(session, never, swap.outgoing).await?;
    if incoming.as_ref() == Some(&swap.name) && outgoing.as_ref() != Some(&swap.name) {
        return Ok(Settled::Swapped);
    }
    if outgoing.as_ref() != Some(&swap.name) {
        let why = format!(
            "it is neither the database with the identifier {} nor that with {}, so somebody else renamed or dropped them",
            swap.outgoing, swap.incoming
        );
        return Err(swap.failed(ErrorCode::RestoreRefused, why));
    }
    let name = quote_ident(swap.name.as_bytes());
    let open = [b"ALTER DATABASE ".as_slice(), &name, b" ALLOW_CONNECTIONS true"].concat();
    execute_whole(session, "cannot let sessions into the database again", &open).await?;
    Ok(Settled::NotSwapped)
}

/// The same identifiers mean other databases in another cluster.
async fn same_cluster(session: &Session, cancel: &Cancel, swap: &Swap) -> Result<(), SourceError> {
    let here = system_identifier(session, cancel).await?;
    if here.is_empty() || swap.system_identifier.is_empty() || here == swap.system_identifier {
        return Ok(());
    }
    Err(swap.failed(ErrorCode::RestoreRefused, "the server is another one than that of the restore"))
}

/// Swaps back what [`super::carry_out`] swapped: `swap` is its way back.
///
/// # Errors
/// `RestoreRefused`, where the kept database is not there any more, or the server's. [`settle`] tells what happened.
pub fn undo(
    connection: &ConnectionSpec,
    swap: &Swap,
    break_replication: bool,
    context: &JobContext,
) -> Result<(), SourceError> {
    context.runtime.block_on(async {
        let (session, _) = maintenance_beside(connection, Some(&swap.name), &context.cancel).await?;
        same_cluster(&session, &context.cancel, swap).await?;
        if name_of(&session, &context.cancel, swap.incoming).await?.as_ref() != Some(&swap.incoming_name) {
            let why = format!("the database {:?} that was kept is not there any more", swap.incoming_name.display());
            return Err(swap.failed(ErrorCode::RestoreRefused, why));
        }
        exchange(&session, connection, swap, &[], break_replication).await
    })
}

/// The size of the database that a swap kept, bytes; `None` where it is gone.
///
/// # Errors
/// When the server does not answer or does not say.
pub fn kept_size(connection: &ConnectionSpec, swap: &Swap, context: &JobContext) -> Result<Option<u64>, SourceError> {
    context.runtime.block_on(async {
        let (session, _) = maintenance_beside(connection, Some(&swap.name), &context.cancel).await?;
        let sql = "SELECT pg_database_size(oid) FROM pg_catalog.pg_database WHERE oid = $1 AND datname::text = $2";
        let attempted = "cannot read the size of the kept database";
        let rows = session.query(&context.cancel, attempted, sql, &[&swap.outgoing, &swap.kept]).await?;
        let size: Option<i64> = rows.first().map(|row| get(row, 0)).transpose()?;
        Ok(size.map(|size| u64::try_from(size).unwrap_or_default()))
    })
}

/// Drops the database that a swap kept. Its subscriptions are disabled and let go of their slots first: dropping them
/// with the database is refused. One that is gone, or has another name by now, counts as dropped.
///
/// # Errors
/// The server's; the database then stays.
pub fn drop_kept(connection: &ConnectionSpec, swap: &Swap, context: &JobContext) -> Result<(), SourceError> {
    let work = async {
        let cancel = &context.cancel;
        let (session, _) = maintenance_beside(connection, Some(&swap.name), cancel).await?;
        same_cluster(&session, cancel, swap).await?;
        if name_of(&session, cancel, swap.outgoing).await?.as_ref() != Some(&swap.kept) {
            return Ok(());
        }
        let sql = "SELECT subname::text FROM pg_catalog.pg_subscription WHERE subdbid = $1";
        let rows = session.query(cancel, "cannot list the subscriptions", sql, &[&swap.outgoing]).await?;
        let subscriptions: Vec<Name> = rows.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
        if !subscriptions.is_empty() {
            let kept = quote_ident(swap.kept.as_bytes());
            let open = [b"ALTER DATABASE ".as_slice(), &kept, b" ALLOW_CONNECTIONS true"].concat();
            session.execute(cancel, "cannot open the kept database", &open).await?;
            on_subscriptions(connection, &swap.kept, &subscriptions, &[DISABLE, LET_GO, DROP], cancel).await?;
        }
        drop_database(&session, cancel, &swap.kept).await
    };
    context.runtime.block_on(async {
        tokio::time::timeout(DROP_TIMEOUT, work).await.unwrap_or_else(|_| {
            let message =
                format!("database {:?} was not dropped within {} s", swap.kept.display(), DROP_TIMEOUT.as_secs());
            Err(SourceError::new(ErrorCode::TimedOut, message))
        })
    })
}

/// A statement about a subscription: what stands before its name, and after it.
type AboutSubscription = (&'static str, &'static str);

const DISABLE: AboutSubscription = ("ALTER SUBSCRIPTION ", " DISABLE");
/// The slots stay at the publishers: whether anybody needs them is not known here.
const LET_GO: AboutSubscription = ("ALTER SUBSCRIPTION ", " SET (slot_name = NONE)");
const DROP: AboutSubscription = ("DROP SUBSCRIPTION ", "");

/// Runs statements for each of some subscriptions, within their database.
async fn on_subscriptions(
    connection: &ConnectionSpec,
    database: &Name,
    subscriptions: &[Name],
    statements: &[AboutSubscription],
    cancel: &Cancel,
) -> Result<(), SourceError> {
    if subscriptions.is_empty() {
        return Ok(());
    }
    let spec = ConnectionSpec { database: database.clone(), ..connection.clone() };
    let session = Session::connect(&spec, cancel).await?;
    for subscription in subscriptions {
        let name = quote_ident(subscription.as_bytes());
        for (before, after) in statements {
            let sql = [before.as_bytes(), &name, after.as_bytes()].concat();
            let attempted = format!("cannot end subscription {subscription} of database {:?}", database.display());
            session.execute(cancel, &attempted, &sql).await?;
        }
    }
    Ok(())
}
