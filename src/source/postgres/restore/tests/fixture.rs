//! A backup in memory, made with PostgreSQL's own programs, and a reader that can be made to fail.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{
    config::SwapHooks,
    model::{Name, RunId, SourceKey, ids::Sha256Hash, manifest::*},
    source::{
        JobContext, SetReader, SetSink, SourceError,
        postgres::{
            dump::{DumpRequest, Dumped, SharedGlobals, dump},
            restore::{Milestone, RestoreChoices, RestorePlan, RestoreReport, RestoreRequest, Swap, carry_out, plan},
            test_server::TestServer,
        },
    },
    stream::{ByteSink, Cancel, Cut, Progress},
};

/// What the reader of a damaged backup gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a chunk does not match its hash")]
pub(super) struct Damage;

type OnOpen = Box<dyn Fn(&str) + Send + Sync>;

/// A backup.
pub(super) struct Backup {
    pub(super) manifest: Manifest,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// A file and the place in it at which reading fails.
    pub(super) damaged: Option<(&'static str, usize)>,
    /// Called with a file's name before it is opened.
    pub(super) on_open: Option<OnOpen>,
}

struct Input {
    content: Vec<u8>,
    at: usize,
    fails_at: Option<usize>,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.fails_at.unwrap_or(self.content.len()).min(self.content.len());
        if self.fails_at == Some(self.at) {
            return Err(io::Error::other(Damage));
        }
        let length = buffer.len().min(end - self.at).min(10_000);
        buffer[..length].copy_from_slice(&self.content[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

impl SetReader for Backup {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn open(&self, file: &str) -> io::Result<Box<dyn Read + Send>> {
        let content = self.files.get(file).ok_or(io::ErrorKind::NotFound)?.clone();
        let fails_at = self.damaged.filter(|(name, _)| *name == file).map(|(_, at)| at);
        if let Some(hook) = &self.on_open {
            hook(file);
        }
        Ok(Box::new(Input { content, at: 0, fails_at }))
    }

    fn open_ranges(&self, file: &str, ranges: &[Range]) -> io::Result<Box<dyn Read + Send>> {
        let content = &self.files[file];
        let parts: Vec<&[u8]> = ranges
            .iter()
            .map(|range| &content[range.offset as usize..(range.offset + range.length) as usize])
            .collect();
        let fails_at = self.damaged.filter(|(name, _)| *name == file).map(|(_, at)| at);
        Ok(Box::new(Input { content: parts.concat(), at: 0, fails_at }))
    }
}

/// Runs a client program on a database and gives its stdout.
pub(super) fn client(server: &TestServer, program: &str, database: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(server.bin().join(program))
        .args(arguments)
        .env("PGHOST", server.folder())
        .env("PGUSER", "postgres")
        .env("PGDATABASE", database)
        .env("LC_ALL", "C")
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{program} {arguments:?}");
    output.stdout
}

/// Keeps a set in memory.
#[derive(Default)]
struct MemorySink {
    files: Vec<File>,
    contents: BTreeMap<String, Vec<u8>>,
}

impl ByteSink for MemorySink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let name = &self.files.last().unwrap().name;
        self.contents.get_mut(name).unwrap().extend_from_slice(bytes);
        Ok(())
    }
    fn cut(&mut self, _: Cut) -> io::Result<()> {
        Ok(())
    }
}

impl SetSink for MemorySink {
    fn begin_file(&mut self, name: &str, role: FileRole) -> io::Result<()> {
        self.contents.insert(name.to_owned(), Vec::new());
        self.files.push(File {
            name: name.to_owned(),
            role,
            raw_length: 0,
            raw_sha256: Sha256Hash([0; 32]),
            stored_length: 0,
            first_chunk: 0,
            chunk_count: 0,
            tables: Vec::new(),
        });
        Ok(())
    }
    fn bytes(&mut self) -> &mut dyn ByteSink {
        self
    }
    fn end_file(&mut self, tables: Vec<Table>) -> io::Result<()> {
        let file = self.files.last_mut().unwrap();
        file.raw_length = self.contents[&file.name].len() as u64;
        file.tables = tables;
        Ok(())
    }
}

fn manifest(files: Vec<File>, dumped: Dumped) -> Manifest {
    let hash = Sha256Hash([0; 32]);
    Manifest {
        format: FORMAT,
        required_features: Vec::new(),
        optional_features: Vec::new(),
        kind: Kind::Logical,
        base: None,
        source: SourceKey::single("test".parse().unwrap()),
        run_id: RunId::new(),
        whole_run: false,
        sequence: 1,
        started_at: 0,
        snapshot_at: dumped.snapshot_at,
        finished_at: 0,
        description: String::new(),
        tags: Vec::new(),
        writer: Writer { program: "backupd".to_owned(), version: "0".to_owned(), host: "test".to_owned() },
        codec: Codec { name: CodecName::Gzip, level: 1 },
        chunker: ChunkerParameters::with_average(65536),
        files,
        packs: Vec::new(),
        chunk_table: ChunkTableReference { index_sha256: hash, segments: 0, entries: 0 },
        extents_sha256: hash,
        statistics: Statistics { rows: dumped.rows, database_bytes: dumped.database_bytes, ..Statistics::default() },
        incomplete: dumped.incomplete,
        sqlite: None,
        postgresql: Some(dumped.facts),
    }
}

/// A runtime, a scratch folder and a cancel flag.
pub(super) struct Job {
    pub(super) scratch: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    pub(super) cancel: Cancel,
    pub(super) progress: Arc<Progress>,
    pub(super) names: Mutex<Vec<Option<Name>>>,
    pub(super) swaps: Mutex<Vec<Swap>>,
}

impl Job {
    pub(super) fn new() -> Self {
        Self {
            scratch: tempfile::tempdir().unwrap(),
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap(),
            cancel: Cancel::new(),
            progress: Arc::default(),
            names: Mutex::default(),
            swaps: Mutex::default(),
        }
    }

    pub(super) fn context(&self) -> JobContext {
        JobContext {
            cancel: self.cancel.clone(),
            progress: Arc::clone(&self.progress),
            scratch: self.scratch.path().to_owned(),
            runtime: self.runtime.handle().clone(),
        }
    }

    /// Backs up a database as superuser.
    pub(super) fn back_up(&self, server: &TestServer, database: &str) -> Backup {
        let request = DumpRequest {
            connection: server.spec("postgres", database),
            selection: Selection::default(),
            lock_timeout: Duration::from_secs(5),
            client_bin_dir: Some(server.bin().to_owned()),
            globals: SharedGlobals::default(),
        };
        let mut sink = MemorySink::default();
        let scratch = tempfile::tempdir().unwrap();
        let context = JobContext { scratch: scratch.path().to_owned(), ..self.context() };
        let dumped = dump(&request, &mut sink, &context).unwrap();
        let manifest = manifest(sink.files, dumped);
        Backup { manifest, files: sink.contents, damaged: None, on_open: None }
    }

    fn with_request<T>(
        &self,
        server: &TestServer,
        user: &str,
        options: RestoreChoices,
        act: impl FnOnce(&RestoreRequest<'_>) -> T,
    ) -> T {
        let journal = |milestone: Milestone<'_>| {
            match milestone {
                Milestone::Building(name) => self.names.lock().unwrap().push(Some(name.clone())),
                Milestone::Over => self.names.lock().unwrap().push(None),
                Milestone::Swapping(_) => {}
                Milestone::Swapped(swap) => self.swaps.lock().unwrap().push(swap.clone()),
            }
            Ok(())
        };
        act(&RestoreRequest {
            connection: server.spec(user, "ignored"),
            options,
            client_bin_dir: Some(server.bin().to_owned()),
            run_id: RunId::new(),
            hooks: SwapHooks::default(),
            journal: &journal,
        })
    }

    pub(super) fn plan(
        &self,
        server: &TestServer,
        user: &str,
        backup: &Backup,
        options: RestoreChoices,
    ) -> RestorePlan {
        self.with_request(server, user, options, |request| plan(request, backup, &self.context()).unwrap())
    }

    pub(super) fn restore(
        &self,
        server: &TestServer,
        user: &str,
        backup: &Backup,
        options: RestoreChoices,
    ) -> Result<RestoreReport, SourceError> {
        self.with_request(server, user, options, |request| {
            let plan = plan(request, backup, &self.context())?;
            carry_out(&plan, request, backup, &self.context())
        })
    }
}

/// The options of a restore under another name.
pub(super) fn to(name: &str) -> RestoreChoices {
    RestoreChoices { to: Some(name.into()), jobs: 2, ..RestoreChoices::default() }
}

/// A database as pg_dump writes it, without what differs from run to run.
pub(super) fn dump_of(server: &TestServer, database: &str, arguments: &[&str]) -> String {
    let dump = client(server, "pg_dump", database, arguments);
    let dump = String::from_utf8_lossy(&dump);
    dump.lines()
        .filter(|line| !line.starts_with("\\restrict ") && !line.starts_with("\\unrestrict "))
        .collect::<Vec<_>>()
        .join("\n")
}

#[track_caller]
pub(super) fn assert_same(left: &str, right: &str) {
    for (number, (left, right)) in left.lines().zip(right.lines()).enumerate() {
        assert_eq!(left, right, "line {}", number + 1);
    }
    assert_eq!(left.len(), right.len());
}

/// Databases and roles that restores may have left.
pub(super) fn leftovers(server: &TestServer) -> String {
    server.sql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE '%\\_\\_restore\\_%'")
}
