//! The commit of a backup: from the entries in scratch to `manifest.json`.

use sha2::{Digest as _, Sha256};

use super::{
    OwnedRepository, RepositoryError, base,
    extents::{ExtentsUpload, ExtentsWriter},
    layout::{BackupFolder, CHUNK_INDEX, EXTENTS, MANIFEST, this_writer},
    lookup::Lookup,
    open::manifest_id,
    pack::PackWriter,
    spool::SpooledEntries,
    storage::{PutMode, Storage, StorageErrorKind},
    table::SegmentCutter,
    writer::{BackupWriter, Committed, ManifestFacts},
};
use crate::{
    clock::now_micros,
    fail_point,
    model::{
        ChunkId,
        ids::Sha256Hash,
        manifest::{ChunkTableReference, Codec, FORMAT, File, Manifest, Pack, Statistics},
    },
    stream::{
        Entry, StreamError,
        codec::{Decoder, Encoder},
    },
};

impl BackupWriter {
    /// Makes the backup exist.
    ///
    /// # Errors
    /// The backup is given up, unless the call that stored the manifest failed although it had stored it.
    pub fn commit(mut self, facts: ManifestFacts) -> Result<Committed, RepositoryError> {
        let misuse = || RepositoryError::Misuse("the backup was given up".to_owned());
        let pipeline = self.pipeline.take().ok_or_else(misuse)?;
        let (known, mut packs, spool) = pipeline.finish().map_err(RepositoryError::from_io)?;
        let mut entries = spool.finish()?;
        let table = TableWriter::new(self.codec, self.options.verify_members, &known.0, &mut packs)?;
        let (index, used) = table.write(&mut entries, &self.files)?;
        packs.close()?;
        let packs = used_packs(packs.packs(), &used);
        let owned = self.run.owned.clone();
        let extents = extents(owned.storage(), &mut entries, &self.files, &packs, self.codec)?;
        self.options.cancel.check()?;
        check_packs(&owned, &packs)?;
        let committed = {
            // Two commits never see the same highest sequence.
            let _commits = owned.commits();
            let manifest = self.manifest(facts, packs, &index, &extents)?;
            self.store(manifest, &index, extents)?
        };
        self.drop_crashed_sessions();
        Ok(committed)
    }

    fn manifest(
        &self,
        facts: ManifestFacts,
        packs: Vec<Option<Pack>>,
        index: &[u8],
        extents: &ExtentsUpload,
    ) -> Result<Manifest, RepositoryError> {
        let owned = &self.run.owned;
        let options = &self.options;
        let finished_at = now_micros();
        let new_packs: u64 = self.run.written().iter().map(|pack| pack.size).sum();
        let rows = self.files.iter().flat_map(|file| &file.tables).map(|table| table.rows).sum();
        let statistics = Statistics {
            duration: finished_at.saturating_sub(options.started_at),
            raw_bytes: self.raw_bytes,
            stored_bytes: self.totals.stored_bytes,
            new_bytes: new_packs + index.len() as u64 + extents.length(),
            chunks: self.totals.chunks,
            reused_chunks: self.totals.reused_chunks,
            reused_bytes: self.totals.reused_bytes,
            rows,
            database_bytes: facts.database_bytes,
        };
        Ok(Manifest {
            format: FORMAT,
            required_features: Vec::new(),
            optional_features: Vec::new(),
            kind: facts.kind,
            base: None,
            source: options.source.clone(),
            run_id: options.run_id,
            whole_run: options.whole_run,
            sequence: base::next_sequence(owned, &options.source)?,
            started_at: options.started_at,
            snapshot_at: facts.snapshot_at,
            finished_at,
            description: facts.description,
            tags: facts.tags,
            writer: this_writer(),
            codec: self.codec,
            chunker: self.chunker,
            files: self.files.clone(),
            packs,
            chunk_table: ChunkTableReference {
                index_sha256: Sha256Hash(Sha256::digest(index).into()),
                segments: (index.len() / Entry::LENGTH) as u64,
                entries: self.totals.chunks,
            },
            extents_sha256: extents.sha256(),
            statistics,
            incomplete: facts.incomplete,
            postgresql: facts.postgresql,
            sqlite: facts.sqlite,
        })
    }

    fn store(
        &mut self,
        manifest: Manifest,
        index: &[u8],
        extents: ExtentsUpload,
    ) -> Result<Committed, RepositoryError> {
        let bytes = serde_json::to_vec(&manifest)
            .map_err(|error| RepositoryError::Misuse(format!("cannot write the manifest: {error}")))?;
        let folder = BackupFolder::new(&manifest.source, manifest.snapshot_at, manifest_id(&bytes));
        let owned = self.run.owned.clone();
        let storage = owned.storage();
        let hit = |name| fail_point::hit(name).map_err(RepositoryError::Stream);
        self.run.folder = Some(folder.clone());
        storage.put(&folder.key(CHUNK_INDEX), index, PutMode::Overwrite)?;
        hit("chunk-index-written")?;
        extents.publish(&folder.key(EXTENTS))?;
        hit("extents-written")?;
        // The last moment at which a cancel means that nothing is left.
        self.options.cancel.check()?;
        match storage.put(&folder.key(MANIFEST), &bytes, PutMode::IfAbsent) {
            // Stored by a call that said it had failed, and was repeated below us: the name says that it is the same.
            Err(error) if error.kind == StorageErrorKind::AlreadyExists => {}
            other => other?,
        }
        self.run.commit()?;
        Ok(Committed { id: folder.id, folder, manifest })
    }

    /// This backup is complete: what earlier runs of the source left serves no retry any more. That a session stays is
    /// no failure; it expires.
    fn drop_crashed_sessions(&self) {
        let owned = &self.run.owned;
        let Ok(sessions) = owned.sessions() else { return };
        for (session, running) in sessions {
            if !running && session.head.source == self.options.source {
                let _ = session.remove(owned.storage());
            }
        }
    }
}

/// Stores the segments of the chunk table.
struct TableWriter<'a> {
    encoder: Encoder,
    decoder: Option<Decoder>,
    known: &'a Lookup,
    packs: &'a mut PackWriter,
    index: Vec<u8>,
    used: Vec<bool>,
    member: Vec<u8>,
    plain: Vec<u8>,
}

impl<'a> TableWriter<'a> {
    fn new(codec: Codec, verify: bool, known: &'a Lookup, packs: &'a mut PackWriter) -> Result<Self, RepositoryError> {
        let error = |error: StreamError| RepositoryError::Stream(error.into());
        let decoder = if verify { Some(Decoder::independent(codec).map_err(error)?) } else { None };
        Ok(Self {
            encoder: Encoder::new(codec).map_err(error)?,
            decoder,
            known,
            packs,
            index: Vec::new(),
            used: Vec::new(),
            member: Vec::new(),
            plain: Vec::new(),
        })
    }

    /// Gives `chunks.idx`, and which packs are used.
    fn write(mut self, entries: &mut SpooledEntries, files: &[File]) -> Result<(Vec<u8>, Vec<bool>), RepositoryError> {
        let mut reader = entries.read()?;
        let mut cutter = SegmentCutter::default();
        for file in files {
            for _ in 0..file.chunk_count {
                let entry = reader.next()?;
                self.mark(&entry);
                if let Some(segment) = cutter.push(&entry) {
                    self.segment(&segment)?;
                }
            }
            if let Some(segment) = cutter.end_file() {
                self.segment(&segment)?;
            }
        }
        Ok((self.index, self.used))
    }

    fn mark(&mut self, entry: &Entry) {
        let pack = entry.location.pack as usize;
        if self.used.len() <= pack {
            self.used.resize(pack + 1, false);
        }
        self.used[pack] = true;
    }

    fn segment(&mut self, segment: &[u8]) -> Result<(), RepositoryError> {
        let id = ChunkId(*blake3::hash(segment).as_bytes());
        // A segment is at most 52 KiB.
        let raw_length = u32::try_from(segment.len()).unwrap_or(u32::MAX);
        let known = self.known.find(&id).filter(|entry| entry.raw_length == raw_length);
        let entry = match known {
            Some(entry) => entry,
            None => {
                self.encode(&id, segment)?;
                Entry { id, raw_length, location: self.packs.append(&self.member)? }
            }
        };
        self.mark(&entry);
        self.index.extend_from_slice(&entry.to_bytes());
        Ok(())
    }

    /// Makes the member, and sees that it decodes to the segment.
    fn encode(&mut self, id: &ChunkId, segment: &[u8]) -> Result<(), RepositoryError> {
        let failed = |error: StreamError| RepositoryError::Stream(error.into());
        self.member.clear();
        self.encoder.encode(id, segment, &mut self.member).map_err(failed)?;
        let Some(decoder) = &mut self.decoder else { return Ok(()) };
        let raw_length = u32::try_from(segment.len()).unwrap_or(u32::MAX);
        let decoded = decoder.decode(&self.member, raw_length, &mut self.plain);
        if decoded.is_err() || self.plain != segment {
            return Err(failed(StreamError::Mismatch { id: *id, reason: "a segment of the chunk table" }));
        }
        Ok(())
    }
}

/// The list of packs as the manifest has it: what nothing refers to is free.
fn used_packs(packs: &[Option<Pack>], used: &[bool]) -> Vec<Option<Pack>> {
    let is_used = |position: usize| used.get(position).copied().unwrap_or(false);
    let mut packs: Vec<_> =
        packs.iter().enumerate().map(|(position, pack)| pack.filter(|_| is_used(position))).collect();
    while packs.last().is_some_and(Option::is_none) {
        packs.pop();
    }
    packs
}

/// Writes `extents.tsv`; it is visible only when it is published.
fn extents(
    storage: &dyn Storage,
    entries: &mut SpooledEntries,
    files: &[File],
    packs: &[Option<Pack>],
    codec: Codec,
) -> Result<ExtentsUpload, RepositoryError> {
    let failed = RepositoryError::from_io;
    let mut reader = entries.read()?;
    let mut writer = ExtentsWriter::new(ExtentsUpload::begin(storage)?);
    for file in files {
        writer.file(file, codec.name).map_err(failed)?;
        for _ in 0..file.chunk_count {
            let entry = reader.next()?;
            let pack = packs.get(entry.location.pack as usize).copied().flatten();
            let pack = pack.ok_or_else(|| RepositoryError::Misuse("a chunk was put into no pack".to_owned()))?;
            writer.chunk(&entry, pack.id).map_err(failed)?;
        }
    }
    writer.finish().map_err(failed)
}

/// The packs that the manifest is about to name are there, whole: one that vanished since the backup began must not be
/// relied on.
fn check_packs(owned: &OwnedRepository, packs: &[Option<Pack>]) -> Result<(), RepositoryError> {
    for (pack, state) in packs.iter().zip(base::pack_states(owned, packs)?) {
        if let (Some(pack), Some(false)) = (pack, state.map(|state| state.present)) {
            return Err(RepositoryError::damaged(
                format!("pack {}", pack.id),
                "it vanished or changed while the backup was taken; take it again",
            ));
        }
    }
    Ok(())
}
