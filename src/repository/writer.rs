//! Taking a backup: the files of a set go in, a committed backup comes out, or nothing.
//!
//! The order of a commit, each step durable before the next: packs (each named in the session as soon as it is
//! there), `chunks.idx`, `extents.tsv`, `manifest.json`, which makes the backup exist. Then the session is dropped. A
//! writer that is dropped before its commit removes what it stored; a crash leaves a session and packs that no manifest
//! names, which the next backup of the source uses.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use super::{
    OwnedRepository, RepositoryError,
    base::{self, Base},
    extents::is_valid_file_name,
    layout::BackupFolder,
    lookup::Lookup,
    pack::PackWriter,
    run::Run,
    session::{SessionHead, SessionWriter},
    spool::EntrySpool,
};
use crate::{
    model::{
        BackupId, ChunkId, ErrorCode, RunId, SourceKey,
        manifest::{
            ChunkerParameters, Codec, File, FileRole, Incomplete, Kind, Manifest, PostgresFacts, SqliteFacts, Table,
        },
    },
    source::SetSink,
    stream::{
        ByteSink, Cancel, Cut, Location, Progress,
        encode::{ChunkWriter, EncodeOptions, Known, MemberSink, Totals},
    },
};

/// How to take a backup.
#[derive(Debug, Clone)]
pub struct BeginBackup {
    /// What is backed up.
    pub source: SourceKey,
    /// The run of the job. Several backups may have it, of different sources and one after the other.
    pub run_id: RunId,
    /// Whether the run takes every database of a server.
    pub whole_run: bool,
    /// When the job began, microseconds since the epoch.
    pub started_at: u64,
    /// Compression level, on the scale of the repository's codec.
    pub level: i32,
    /// How to cut if this is the source's first backup; later ones cut as their base was.
    pub chunker: ChunkerParameters,
    /// Threads that compress; at least one is used.
    pub threads: usize,
    /// Whether every new member is decompressed and compared before it is stored.
    pub verify_members: bool,
    /// Most plaintext bytes that the backup may have.
    pub max_size: Option<u64>,
    /// A private folder for temporary files; what is made there is unlinked at once.
    pub scratch: PathBuf,
    /// Ends the backup early.
    pub cancel: Cancel,
    /// Counts plaintext bytes.
    pub progress: Arc<Progress>,
}

/// What the manifest says beyond what the writer knows.
#[derive(Debug, Clone)]
pub struct ManifestFacts {
    /// What kind of backup it is.
    pub kind: Kind,
    /// The instant whose state it holds, microseconds since the epoch.
    pub snapshot_at: u64,
    /// Free text of the user.
    pub description: String,
    /// Words of the user.
    pub tags: Vec<String>,
    /// What could not be included.
    pub incomplete: Vec<Incomplete>,
    /// Facts about the database.
    pub postgresql: Option<PostgresFacts>,
    /// Facts about the SQLite database.
    pub sqlite: Option<SqliteFacts>,
    /// Size of the database as the server reports it, bytes.
    pub database_bytes: u64,
}

impl ManifestFacts {
    /// Facts without more than must be known; the rest is empty.
    #[must_use]
    pub fn new(kind: Kind, snapshot_at: u64, database_bytes: u64) -> Self {
        Self {
            kind,
            snapshot_at,
            description: String::new(),
            tags: Vec::new(),
            incomplete: Vec::new(),
            postgresql: None,
            sqlite: None,
            database_bytes,
        }
    }
}

/// A backup that exists.
#[derive(Debug, Clone)]
pub struct Committed {
    /// Its id.
    pub id: BackupId,
    /// Its folder.
    pub folder: BackupFolder,
    /// Its manifest.
    pub manifest: Manifest,
}

pub(crate) type Pipeline = ChunkWriter<StoredChunks, PackWriter, EntrySpool>;

/// Takes the files of one backup. Dropping it before [`BackupWriter::commit`] gives the backup up.
pub struct BackupWriter {
    pub(super) options: BeginBackup,
    pub(super) codec: Codec,
    pub(super) chunker: ChunkerParameters,
    // Before `run`: the threads must have ended when the run is given up.
    pub(super) pipeline: Option<Pipeline>,
    pub(super) files: Vec<File>,
    pub(super) totals: Totals,
    pub(super) raw_bytes: u64,
    current: Option<(String, FileRole)>,
    pub(super) run: Run,
}

impl OwnedRepository {
    /// Begins a backup. Only one of a source may be taken at a time.
    ///
    /// # Errors
    /// `RepositoryUnavailable`, `RepositoryDamaged`, `ConfigInvalid` for a level that the codec does not have,
    /// `Canceled`, and what storage and scratch meet.
    pub fn begin_backup(&self, options: BeginBackup) -> Result<BackupWriter, RepositoryError> {
        self.check_present()?;
        let BeginBackup { source, run_id, started_at, level, .. } = &options;
        let crashed: Vec<_> =
            self.sessions()?.into_iter().filter(|(s, runs)| s.head.source == *source && !runs).collect();
        let crashed: Vec<_> = crashed.into_iter().map(|(session, _)| session).collect();
        let (base, run, packs) = {
            // Nothing is deleted between choosing the base and naming it in the session.
            let _gate = self.enter();
            let base = base::find(self, source)?;
            let adopted = base::adopted_packs(&crashed, base.as_ref());
            let head = SessionHead::new(*run_id, source, *started_at, base.as_ref().map(|base| base.folder.id));
            let mut run = Run::new(self.clone(), *run_id);
            run.session = Some(Arc::new(Mutex::new(SessionWriter::begin(self.shared_storage(), &head, &adopted)?)));
            let packs = base::pack_list(base.as_ref(), &adopted);
            (base, run, packs)
        };
        let lookup = base::build_lookup(self, base.as_ref(), &packs, &options.scratch, &options.cancel)?;
        let codec = Codec { name: self.codec(), level: *level };
        let chunker = base.as_ref().map_or(options.chunker, |base: &Base| base.manifest.chunker);
        let encode =
            EncodeOptions { verify: options.verify_members, ..EncodeOptions::new(codec, chunker, options.threads) };
        let spool = EntrySpool::new(&options.scratch)?;
        let pipeline = ChunkWriter::start(
            encode,
            StoredChunks(lookup),
            PackWriter::new(&run, packs)?,
            spool,
            options.cancel.clone(),
            options.progress.clone(),
        )
        .map_err(|error| RepositoryError::Stream(error.into()))?;
        Ok(BackupWriter {
            options,
            codec,
            chunker,
            pipeline: Some(pipeline),
            files: Vec::new(),
            totals: Totals::default(),
            raw_bytes: 0,
            current: None,
            run,
        })
    }
}

/// The lookup, as the pipeline asks it.
pub(crate) struct StoredChunks(pub(crate) Lookup);

impl Known for StoredChunks {
    fn lookup(&mut self, id: &ChunkId, raw_length: u32) -> io::Result<Option<Location>> {
        let entry = self.0.find(id).filter(|entry| entry.raw_length == raw_length);
        Ok(entry.map(|entry| entry.location))
    }
}

impl MemberSink for PackWriter {
    fn store(&mut self, _id: &ChunkId, _raw_length: u32, member: &[u8]) -> io::Result<Location> {
        Ok(self.append(member)?)
    }
}

impl BackupWriter {
    fn pipeline(&mut self) -> io::Result<&mut Pipeline> {
        let misuse = || RepositoryError::Misuse("the backup was given up".to_owned()).into();
        self.pipeline.as_mut().ok_or_else(misuse)
    }

    /// Gives the backup up, and removes what it stored as far as the storage allows. What cannot be removed now is
    /// removed when space is freed.
    pub fn abort(self) {
        drop(self);
    }
}

impl SetSink for BackupWriter {
    fn begin_file(&mut self, name: &str, role: FileRole) -> io::Result<()> {
        if !is_valid_file_name(name) || self.files.iter().any(|file| file.name == name) {
            return Err(RepositoryError::Misuse(format!("{name:?} cannot be a file of this backup")).into());
        }
        self.pipeline()?.begin_file()?;
        self.current = Some((name.to_owned(), role));
        Ok(())
    }

    fn bytes(&mut self) -> &mut dyn ByteSink {
        self
    }

    fn end_file(&mut self, tables: Vec<Table>) -> io::Result<()> {
        let result = self.pipeline()?.end_file()?;
        let misuse = || io::Error::from(RepositoryError::Misuse("no file was begun".to_owned()));
        let (name, role) = self.current.take().ok_or_else(misuse)?;
        self.files.push(File {
            name,
            role,
            raw_length: result.raw_length,
            raw_sha256: result.raw_sha256,
            stored_length: result.totals.stored_bytes,
            first_chunk: self.totals.chunks,
            chunk_count: result.totals.chunks,
            tables,
        });
        self.totals.chunks += result.totals.chunks;
        self.totals.stored_bytes += result.totals.stored_bytes;
        self.totals.reused_chunks += result.totals.reused_chunks;
        self.totals.reused_bytes += result.totals.reused_bytes;
        Ok(())
    }
}

impl ByteSink for BackupWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.raw_bytes += bytes.len() as u64;
        if let Some(limit) = self.options.max_size.filter(|limit| self.raw_bytes > *limit) {
            return Err(RepositoryError::SizeLimit { limit }.into());
        }
        self.pipeline()?.write(bytes)
    }

    fn cut(&mut self, cut: Cut) -> io::Result<()> {
        self.pipeline()?.cut(cut)
    }
}

impl std::fmt::Debug for BackupWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackupWriter").field("source", &self.options.source).finish_non_exhaustive()
    }
}

/// The stable code of an error that came out of a [`SetSink`] or [`crate::source::SetReader`].
#[must_use]
pub fn code_of(error: &io::Error) -> Option<ErrorCode> {
    let inner = error.get_ref()?;
    inner
        .downcast_ref::<RepositoryError>()
        .map(RepositoryError::code)
        .or_else(|| inner.downcast_ref::<crate::stream::StreamError>().map(crate::stream::StreamError::code))
}
