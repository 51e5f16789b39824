//! Taking the set of one database: `globals.sql`, `database.sql`, `schema.dump`, `pre-data.sql`, `data-001.sql`,
//! `post-data.sql`, all under one snapshot.
//!
//! Invariants: a program's exit status 0 and its completion mark are both required; the locks and the snapshot are
//! held, and proved to be, until the last program has ended; table data is never spooled (`schema.dump` is, because
//! pg_restore needs a file).

mod globals;

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::{
    batched_pipe::BatchedPipe,
    catalog::{self, Relation},
    checks,
    child::{ClientChild, ClientCommand},
    client_programs::ClientPrograms,
    connection::{self, Server, Session},
    copy_scan::{CLUSTER_TRAILER, DUMP_TRAILER, Scanned, Scanner},
    database_sql,
    dump::globals::{Script, Spool},
    environment::LibpqEnvironment,
    facts, selection,
    snapshot::{Snapshot, SnapshotRequest},
};
use crate::{
    config::ConnectionSpec,
    fail_point,
    model::{
        ErrorCode, Name,
        job::Phase,
        manifest::{FileRole, Incomplete, PostgresFacts, Selection},
    },
    source::{JobContext, SetSink, SourceError},
    stream::{Cancel, CancelReason},
};

pub use globals::SharedGlobals;

/// How long all early checks together may take.
const PREFLIGHT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the snapshot is taken anew for sessions that wait to change a table.
const TRIES: u32 = 5;
/// How long pg_dump waits for a lock. All tables are locked here already, so it can only wait behind a session that
/// itself waits for this one to end: that session gives up, or all starts over after it.
const PG_DUMP_LOCK_WAIT: Duration = Duration::from_secs(3);
/// Bytes that are read from a pipe or a file at once.
const BUFFER: usize = 1 << 20;

/// What to dump.
#[derive(Debug, Clone)]
pub struct DumpRequest {
    /// Where from.
    pub connection: ConnectionSpec,
    /// What of it.
    pub selection: Selection,
    /// How long to wait for one table's lock.
    pub lock_timeout: Duration,
    /// Where pg_dump is; found by itself when absent.
    pub client_bin_dir: Option<PathBuf>,
    /// The script of the roles, which dumps of several databases of one server may share.
    pub globals: SharedGlobals,
}

/// What a dump gives besides the files.
#[derive(Debug, Clone, PartialEq)]
pub struct Dumped {
    /// For the manifest.
    pub facts: PostgresFacts,
    /// What could not be included.
    pub incomplete: Vec<Incomplete>,
    /// Rows of all tables.
    pub rows: u64,
    /// Size of the database, as the server reports it.
    pub database_bytes: u64,
    /// When the snapshot was taken, microseconds since the epoch.
    pub snapshot_at: u64,
}

/// What the early checks found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preflight {
    /// The server.
    pub server: Server,
    /// The client programs that will be used.
    pub programs: ClientPrograms,
    /// Size of the database, as the server reports it.
    pub database_bytes: u64,
}

/// The early checks: connection, version, client programs, privileges, locks, size. Within ten seconds.
///
/// # Errors
/// Whatever would stop the dump, as far as it can be known now: `DatabaseUnreachable`, `AuthenticationFailed`,
/// `NoSuchDatabase`, `ClientProgramMissing`, `DatabasePermission`, `CredentialsMissing`, `NotSupported`…
pub fn preflight(request: &DumpRequest, context: &JobContext) -> Result<Preflight, SourceError> {
    context.runtime.block_on(async {
        tokio::time::timeout(PREFLIGHT_TIMEOUT, check(request, &context.cancel)).await.unwrap_or_else(|_| {
            let message = format!(
                "the checks of {} did not end within {} s",
                connection::location(&request.connection),
                PREFLIGHT_TIMEOUT.as_secs()
            );
            Err(SourceError::new(ErrorCode::DatabaseUnreachable, message))
        })
    })
}

async fn check(request: &DumpRequest, cancel: &Cancel) -> Result<Preflight, SourceError> {
    let session = Session::connect(&request.connection, cancel).await?;
    let server = session.server().clone();
    checks::server_version(&server)?;
    let (folder, major) = (request.client_bin_dir.clone(), server.major());
    let programs = tokio::task::spawn_blocking(move || ClientPrograms::find(folder.as_deref(), major))
        .await
        .map_err(|error| SourceError::new(ErrorCode::Internal, format!("looking for client programs: {error}")))??;
    let mut relations = catalog::relations(&session, cancel).await?;
    relations.retain(|relation| selection::chooses(&request.selection, relation));
    let chosen: Vec<&Relation> = relations.iter().collect();
    checks::readable(&chosen, &request.connection.user, server.major())?;
    selection::arguments(&request.selection, &chosen)?;
    if selection::has_large_objects(&request.selection) {
        checks::large_objects_readable(&session, cancel, &request.connection.user).await?;
    }
    checks::lock_headroom(&session, cancel, chosen.iter().filter(|relation| relation.lockable()).count()).await?;
    let database_bytes = catalog::database_size(&session, cancel).await?;
    Ok(Preflight { server, programs, database_bytes })
}

/// Dumps the database. Blocks; the calling thread carries the bytes from pg_dump to the sink.
///
/// # Errors
/// As [`preflight`], and `LockTimeout`, `SnapshotUnstable`, `DumpFailed`, `DumpIncomplete`; the sink's errors as
/// [`SourceError::Sink`]; the cancel.
pub fn dump(request: &DumpRequest, sink: &mut dyn SetSink, context: &JobContext) -> Result<Dumped, SourceError> {
    context.progress.enter(Phase::Checking);
    let found = preflight(request, context)?;
    let environment = LibpqEnvironment::new(
        &request.connection,
        found.server.version_num,
        Some(&found.server.encoding),
        &context.scratch,
    )?;
    let user = &request.connection.user;
    let judge = |relations: &[&Relation]| checks::readable(relations, user, found.server.major());
    let wanted = SnapshotRequest {
        connection: &request.connection,
        selection: &request.selection,
        lock_timeout: request.lock_timeout,
    };
    let mut tries = 1;
    loop {
        context.progress.enter(Phase::Snapshot);
        let snapshot = Snapshot::take(&wanted, &judge, &context.cancel, &context.runtime)?;
        let guard = Guard::watch(&snapshot, context);
        let cancel = guard.cancel.clone();
        let run = Run { request, context, found: &found, snapshot: &snapshot, environment: &environment, cancel };
        match run.begin() {
            Ok(begun) => return run.all(begun, sink).map_err(|error| guard.explain(error)),
            Err(error) if error.code() == ErrorCode::LockTimeout && tries < TRIES => {
                tries += 1;
                tracing::info!("somebody waits to change a table, and pg_dump behind them: starting over after them");
            }
            Err(error) => return Err(guard.explain(error)),
        }
    }
}

/// Ends the dump when the job is to end, or when one of the two connections is lost.
struct Guard {
    cancel: Cancel,
    lost: Arc<OnceLock<&'static str>>,
    task: tokio::task::JoinHandle<()>,
}

impl Guard {
    fn watch(snapshot: &Snapshot, context: &JobContext) -> Self {
        let cancel = Cancel::new();
        let lost = Arc::new(OnceLock::new());
        let (locks, reader) = (snapshot.locks.closed_token(), snapshot.reader.closed_token());
        let (inner, outer, cell) = (cancel.clone(), context.cancel.clone(), Arc::clone(&lost));
        let task = context.runtime.spawn(async move {
            let what = tokio::select! {
                biased;
                reason = outer.cancelled() => return inner.cancel(reason),
                () = locks.cancelled() => "that holds the tables' locks",
                () = reader.cancelled() => "that holds the snapshot",
            };
            let _ = cell.set(what);
            inner.cancel(CancelReason::Requested);
        });
        Self { cancel, lost, task }
    }

    /// Tells a lost connection from a cancel, which it looks like within.
    fn explain(&self, error: SourceError) -> SourceError {
        match (self.lost.get(), error) {
            (Some(what), SourceError::Canceled(_)) => SourceError::new(
                ErrorCode::DatabaseUnreachable,
                format!("the connection {what} was lost in the middle of the dump; see the server's log"),
            ),
            (_, error) => error,
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The programs of a dump once they hold their own locks: from here on nobody's DDL can stand in the way.
struct Begun {
    /// `schema.dump`, spooled in the job's scratch folder.
    archive: PathBuf,
    /// The one that gives the rows; its first bytes have come.
    data: Option<Data>,
}

struct Data {
    child: ClientChild,
    pipe: BatchedPipe<std::process::ChildStdout>,
    first: Vec<u8>,
}

/// One dump under way.
struct Run<'a> {
    request: &'a DumpRequest,
    context: &'a JobContext,
    found: &'a Preflight,
    snapshot: &'a Snapshot,
    environment: &'a LibpqEnvironment,
    cancel: Cancel,
}

impl Run<'_> {
    /// Starts pg_dump for the rows and runs it for the schema. Nothing goes to the sink yet, so that all can start over.
    fn begin(&self) -> Result<Begun, SourceError> {
        self.context.progress.enter(Phase::Schema);
        let mut child = match self.request.selection.schema_only {
            true => None,
            false => {
                let command = self.pg_dump(&["--section=data"])?.piped_stdout();
                Some(command.spawn(&self.cancel, &self.context.runtime)?)
            }
        };
        let archive = self.context.scratch.join("schema.dump");
        let mut file = OsString::from("--file=");
        file.push(&archive);
        self.pg_dump(&["--section=pre-data", "--section=post-data", "--format=custom", "--compress=0"])?
            .arg(file)
            .spawn(&self.cancel, &self.context.runtime)?
            .wait()?;
        pass("schema-dumped")?;
        let pipe = child.as_mut().and_then(ClientChild::take_stdout);
        let (Some(child), Some(mut pipe)) = (child, pipe.map(BatchedPipe::new)) else {
            return Ok(Begun { archive, data: None });
        };
        // pg_dump writes its first bytes when it has all its locks.
        let mut first = vec![0; 4096];
        let length = read(&mut pipe, &mut first).map_err(|error| SourceError::io("read from pg_dump", &error))?;
        first.truncate(length);
        if length == 0 {
            drop(pipe);
            child.wait()?;
            return Err(SourceError::new(ErrorCode::DumpIncomplete, "pg_dump succeeded and wrote nothing"));
        }
        pass("data-begun")?;
        Ok(Begun { archive, data: Some(Data { child, pipe, first }) })
    }

    fn all(&self, begun: Begun, sink: &mut dyn SetSink) -> Result<Dumped, SourceError> {
        let runtime = &self.context.runtime;
        let (reader, selected) = (&self.snapshot.reader, &self.request.selection);
        let facts = runtime.block_on(facts::read(reader, &self.cancel, selected, &self.found.programs.version))?;
        let relations = &self.snapshot.relations;
        let mut incomplete = runtime.block_on(checks::silent_gaps(reader, &self.cancel, selected, relations))?;
        let tables: Vec<u32> = self.snapshot.tables().map(|table| table.oid).collect();
        if !selected.schema_only {
            // The locks are held, so this waits for nobody.
            let bytes = runtime.block_on(catalog::tables_size(&self.snapshot.locks, &self.cancel, &tables))?;
            self.context.progress.expect_bytes(bytes);
        }
        let database_bytes = runtime.block_on(catalog::database_size(reader, &self.cancel))?;

        incomplete.extend(self.globals(sink, &facts.roles)?);
        let script = database_sql::script(&facts.database, self.found.server.major());
        self.file(sink, "database.sql", FileRole::Database, &mut script.as_slice())?;
        let archive = &begun.archive;
        let mut schema =
            File::open(archive).map_err(|error| SourceError::io(format!("open {}", archive.display()), &error))?;
        self.file(sink, "schema.dump", FileRole::SchemaArchive, &mut schema)?;
        self.section(sink, archive, "pre-data", FileRole::PreData)?;
        let mut rows = 0;
        if let Some(data) = begun.data {
            self.context.progress.enter(Phase::Data);
            rows = self.program(sink, data, "data-001.sql", FileRole::Data, DUMP_TRAILER)?.rows;
        }
        self.context.progress.enter(Phase::PostData);
        self.section(sink, archive, "post-data", FileRole::PostData)?;
        runtime.block_on(self.snapshot.still_held(&self.cancel))?;
        Ok(Dumped { facts, incomplete, rows, database_bytes, snapshot_at: self.snapshot.taken_at })
    }

    /// Roles and tablespaces: the script that was made for another database, or one that is made now.
    fn globals(&self, sink: &mut dyn SetSink, roles: &[Name]) -> Result<Option<Incomplete>, SourceError> {
        let mut shared = self.request.globals.lock();
        let script = match shared.take().filter(|script| script.covers(roles)) {
            Some(script) => script,
            None => self.dump_globals()?,
        };
        let script = shared.insert(script);
        self.file(sink, "globals.sql", FileRole::Globals, script.bytes()?)?;
        Ok(script.incomplete.clone())
    }

    /// Runs pg_dumpall; without the passwords where those may not be read.
    fn dump_globals(&self) -> Result<Script, SourceError> {
        let sql = "SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')";
        let asked = self.snapshot.reader.query_one(&self.cancel, "cannot check the privileges on pg_authid", sql, &[]);
        let passwords: bool = connection::get(&self.context.runtime.block_on(asked)?, 0)?;
        let mut command = self
            .client(&self.found.programs.pg_dumpall())
            .arg("--globals-only")
            .arg("--no-password")
            .arg(self.lock_wait())
            // pg_dumpall connects to a database of its own choice otherwise.
            .arg("--database")
            .arg(conninfo(&self.request.connection));
        if !passwords {
            command = command.arg("--no-role-passwords");
        }
        let mut spool = Spool::new(&self.context.scratch)?;
        self.program(&mut spool, self.start(command)?, "globals.sql", FileRole::Globals, CLUSTER_TRAILER)?;
        let incomplete = (!passwords).then(|| Incomplete {
            what: "role-passwords".to_owned(),
            message: "the passwords of roles are not included: only a superuser can read them".to_owned(),
        });
        Script::read(spool, incomplete)
    }

    /// A section of `schema.dump` as SQL.
    fn section(
        &self,
        sink: &mut dyn SetSink,
        archive: &Path,
        section: &str,
        role: FileRole,
    ) -> Result<(), SourceError> {
        let command = self
            .client(&self.found.programs.pg_restore())
            .arg("--file=-")
            .arg(format!("--section={section}"))
            .arg(archive);
        self.program(sink, self.start(command)?, &format!("{section}.sql"), role, DUMP_TRAILER)?;
        Ok(())
    }

    fn pg_dump(&self, options: &[&str]) -> Result<ClientCommand, SourceError> {
        let chosen: Vec<&Relation> = self.snapshot.relations.iter().collect();
        Ok(self
            .client(&self.found.programs.pg_dump())
            .args(options)
            .arg("--no-password")
            .arg(self.lock_wait())
            .arg(format!("--snapshot={}", self.snapshot.id))
            .args(selection::arguments(&self.request.selection, &chosen)?))
    }

    fn lock_wait(&self) -> String {
        let milliseconds = self.request.lock_timeout.min(PG_DUMP_LOCK_WAIT).as_millis().max(1);
        format!("--lock-wait-timeout={milliseconds}")
    }

    fn client(&self, program: &Path) -> ClientCommand {
        ClientCommand::new(program, self.environment, ErrorCode::DumpFailed)
    }

    /// Starts a program whose output becomes a file of the set.
    fn start(&self, command: ClientCommand) -> Result<Data, SourceError> {
        let mut child = command.piped_stdout().spawn(&self.cancel, &self.context.runtime)?;
        match child.take_stdout() {
            Some(pipe) => Ok(Data { child, pipe: BatchedPipe::new(pipe), first: Vec::new() }),
            None => Err(SourceError::new(ErrorCode::Internal, "a program was started without a pipe")),
        }
    }

    /// Writes what a program prints as one file of the set, and requires its success and its completion mark.
    fn program(
        &self,
        sink: &mut dyn SetSink,
        data: Data,
        name: &str,
        role: FileRole,
        trailer: &'static [u8],
    ) -> Result<Scanned, SourceError> {
        sink.begin_file(name, role).map_err(SourceError::from_sink)?;
        let mut scanner = Scanner::new(trailer);
        let mut output = data.first.as_slice().chain(data.pipe);
        self.copy(&mut output, name, |bytes| scanner.push(bytes, sink.bytes()))?;
        drop(output);
        data.child.wait().map_err(|error| error.context(format!("writing {name}")))?;
        let scanned = scanner.finish(sink.bytes()).map_err(SourceError::from_sink)?;
        let mut scanned = scanned.map_err(|why| {
            let message = format!("{name} is not complete although the program reported success: {why}");
            SourceError::new(ErrorCode::DumpIncomplete, message)
        })?;
        sink.end_file(std::mem::take(&mut scanned.tables)).map_err(SourceError::from_sink)?;
        Ok(scanned)
    }

    /// Writes bytes as one file of the set, as they are.
    fn file(
        &self,
        sink: &mut dyn SetSink,
        name: &str,
        role: FileRole,
        input: &mut dyn Read,
    ) -> Result<(), SourceError> {
        sink.begin_file(name, role).map_err(SourceError::from_sink)?;
        self.copy(input, name, |bytes| sink.bytes().write(bytes))?;
        sink.end_file(Vec::new()).map_err(SourceError::from_sink)
    }

    fn copy(
        &self,
        input: &mut dyn Read,
        name: &str,
        mut write: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), SourceError> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = read(input, &mut buffer)
                .map_err(|error| SourceError::io(format!("read what becomes {name}"), &error))?;
            self.cancel.check()?;
            if length == 0 {
                return Ok(());
            }
            write(&buffer[..length]).map_err(SourceError::from_sink)?;
        }
    }
}

/// One read; 0 bytes at the end only.
fn read(input: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn pass(place: &'static str) -> Result<(), SourceError> {
    fail_point::hit(place).map_err(|error| SourceError::io(format!("go on after {place:?}"), &error))
}

/// The database as connection parameters: pg_dumpall takes its argument for such whenever it looks like it.
fn conninfo(spec: &ConnectionSpec) -> OsString {
    use std::os::unix::ffi::OsStringExt as _;
    let mut text = b"dbname='".to_vec();
    for &b in spec.database.as_bytes() {
        if matches!(b, b'\'' | b'\\') {
            text.push(b'\\');
        }
        text.push(b);
    }
    text.push(b'\'');
    OsString::from_vec(text)
}

#[cfg(test)]
mod tests;
