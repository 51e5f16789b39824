//! Databases for tests, and a set in memory.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rusqlite::Connection;

use super::{DumpRequest, Dumped, IMAGE, dump};
use crate::{
    config::SqliteCheck,
    model::{RunId, SourceKey, ids::Sha256Hash, manifest::*},
    source::{JobContext, SetReader, SetSink, SourceError},
    stream::{ByteSink, Cancel, Cut, Progress},
};

/// A folder with a database in it, and what a job has.
pub(super) struct Fixture {
    pub(super) folder: tempfile::TempDir,
    pub(super) context: JobContext,
    _runtime: tokio::runtime::Runtime,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let scratch = folder.path().join("scratch");
        std::fs::create_dir(&scratch).unwrap();
        let context = JobContext {
            cancel: Cancel::new(),
            progress: Arc::new(Progress::default()),
            scratch,
            runtime: runtime.handle().clone(),
        };
        Self { folder, context, _runtime: runtime }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("app.db")
    }

    /// A connection of the application's.
    pub(super) fn application(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    pub(super) fn request(&self) -> DumpRequest {
        DumpRequest {
            path: self.path(),
            check: SqliteCheck::Quick,
            lock_timeout: Duration::from_millis(300),
            read_timeout: Duration::from_secs(60),
            write_pause: Duration::from_millis(200),
        }
    }

    pub(super) fn dump(&self) -> Result<(Dumped, MemorySet), SourceError> {
        self.dump_with(&self.request(), MemorySet::default())
    }

    pub(super) fn dump_with(
        &self,
        request: &DumpRequest,
        mut sink: MemorySet,
    ) -> Result<(Dumped, MemorySet), SourceError> {
        let dumped = dump(request, &mut sink, &self.context)?;
        sink.manifest = Some(manifest(&dumped, &sink));
        Ok((dumped, sink))
    }
}

/// Called with the number of bytes written so far.
type Hook = Box<dyn FnMut(usize) + Send + Sync>;

/// The image in memory, to be written and read.
#[derive(Default)]
pub(super) struct MemorySet {
    pub(super) image: Vec<u8>,
    pub(super) tables: Vec<Table>,
    pub(super) on_write: Option<Hook>,
    /// At which byte reading fails.
    pub(super) fails_at: Option<usize>,
    pub(super) manifest: Option<Manifest>,
}

impl std::fmt::Debug for MemorySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.image.len())
    }
}

impl MemorySet {
    pub(super) fn rows(&self, table: &str) -> Option<u64> {
        self.tables.iter().find(|t| t.name == table.into()).map(|t| t.rows)
    }

    /// Writes the image to a file and opens that.
    pub(super) fn open(&self, path: &Path) -> Connection {
        std::fs::write(path, &self.image).unwrap();
        Connection::open(path).unwrap()
    }
}

impl ByteSink for MemorySet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.image.extend_from_slice(bytes);
        if let Some(hook) = &mut self.on_write {
            hook(self.image.len());
        }
        Ok(())
    }

    fn cut(&mut self, _: Cut) -> io::Result<()> {
        Ok(())
    }
}

impl SetSink for MemorySet {
    fn begin_file(&mut self, name: &str, role: FileRole) -> io::Result<()> {
        assert_eq!((name, role), (IMAGE, FileRole::SqliteImage));
        Ok(())
    }

    fn bytes(&mut self) -> &mut dyn ByteSink {
        self
    }

    fn end_file(&mut self, tables: Vec<Table>) -> io::Result<()> {
        self.tables = tables;
        Ok(())
    }
}

struct Input(io::Cursor<Vec<u8>>, Option<usize>);

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.1.unwrap_or(usize::MAX);
        let left = end.saturating_sub(usize::try_from(self.0.position()).unwrap());
        if left == 0 {
            return Err(io::Error::other("a chunk does not match its hash"));
        }
        let length = buffer.len().min(left);
        self.0.read(&mut buffer[..length])
    }
}

impl SetReader for MemorySet {
    fn manifest(&self) -> &Manifest {
        self.manifest.as_ref().unwrap()
    }

    fn open(&self, file: &str) -> io::Result<Box<dyn Read + Send>> {
        assert_eq!(file, IMAGE);
        Ok(Box::new(Input(io::Cursor::new(self.image.clone()), self.fails_at)))
    }

    fn open_ranges(&self, _: &str, _: &[Range]) -> io::Result<Box<dyn Read + Send>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn manifest(dumped: &Dumped, set: &MemorySet) -> Manifest {
    let hash = Sha256Hash([0; 32]);
    Manifest {
        format: FORMAT,
        required_features: Vec::new(),
        optional_features: Vec::new(),
        kind: Kind::Sqlite,
        base: None,
        source: SourceKey::single("app".parse().unwrap()),
        run_id: RunId::new(),
        whole_run: false,
        sequence: 1,
        started_at: 0,
        snapshot_at: dumped.snapshot_at,
        finished_at: 0,
        description: String::new(),
        tags: Vec::new(),
        writer: Writer { program: String::new(), version: String::new(), host: String::new() },
        codec: Codec { name: CodecName::Gzip, level: 1 },
        chunker: ChunkerParameters::fixed(4096),
        files: vec![File {
            name: IMAGE.to_owned(),
            role: FileRole::SqliteImage,
            raw_length: set.image.len() as u64,
            raw_sha256: hash,
            stored_length: 0,
            first_chunk: 0,
            chunk_count: 0,
            tables: set.tables.clone(),
        }],
        packs: Vec::new(),
        chunk_table: ChunkTableReference { index_sha256: hash, segments: 0, entries: 0 },
        extents_sha256: hash,
        statistics: Statistics::default(),
        incomplete: dumped.incomplete.clone(),
        postgresql: None,
        sqlite: Some(dumped.facts.clone()),
    }
}
