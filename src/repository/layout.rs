//! Names of the objects in a repository, and the one file that says what the repository is.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::model::{
    BackupId, Name, PackId, RunId, SourceKey,
    manifest::{CodecName, FORMAT, KNOWN_FEATURES, Writer},
    name::percent_unescape,
};

/// What the repository is; written once.
pub(crate) const REPOSITORY_FILE: &str = "REPOSITORY.json";
/// How to restore without this program, as text and as a program.
pub(crate) const HELP_FILES: [(&str, &str); 2] =
    [("README.txt", include_str!("README.txt")), ("restore.sh", include_str!("restore.sh"))];
/// Where packs are.
pub(crate) const PACKS: &str = "packs/";
/// Where backups are.
pub(crate) const BACKUPS: &str = "backups/";
/// Where sessions are.
pub(crate) const SESSIONS: &str = "sessions/";

/// The commit point of a backup.
pub(crate) const MANIFEST: &str = "manifest.json";
/// The list of the chunk table's segments.
pub(crate) const CHUNK_INDEX: &str = "chunks.idx";
/// The ranges of packs, for the shell.
pub(crate) const EXTENTS: &str = "extents.tsv";
/// The record that a backup is deleted; what stays of it is a tombstone.
pub(crate) const DELETED: &str = "deleted.json";

/// The content of `REPOSITORY.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryFile {
    /// Version of the format; a reader refuses a higher one.
    pub format: u32,
    /// Features without which a reader must refuse the repository.
    pub required_features: Vec<String>,
    /// Features that a reader may ignore.
    pub optional_features: Vec<String>,
    /// A random id: tells one repository from another that was mounted in its place.
    pub id: uuid::Uuid,
    /// How every chunk is stored.
    pub codec: CodecName,
    /// When it was created, microseconds since the epoch.
    pub created_at: u64,
    /// What created it.
    pub writer: Writer,
}

impl RepositoryFile {
    /// Reads the file; a newer format is told apart from damage.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, RepositoryFileError> {
        #[derive(Deserialize)]
        struct Head {
            format: u64,
            #[serde(default)]
            required_features: Vec<String>,
        }
        let malformed = |error: serde_json::Error| RepositoryFileError::Malformed(error.to_string());
        let head: Head = serde_json::from_slice(bytes).map_err(malformed)?;
        let unknown: Vec<_> =
            head.required_features.into_iter().filter(|f| !KNOWN_FEATURES.contains(&f.as_str())).collect();
        if head.format > u64::from(FORMAT) || !unknown.is_empty() {
            return Err(RepositoryFileError::TooNew(format!(
                "format {} with features {unknown:?} is newer than this program, which reads format {FORMAT}",
                head.format
            )));
        }
        serde_json::from_slice(bytes).map_err(malformed)
    }
}

pub(crate) enum RepositoryFileError {
    TooNew(String),
    Malformed(String),
}

/// The key of a pack.
pub(crate) fn pack_key(id: PackId, codec: CodecName) -> String {
    let hex = id.to_string();
    format!("{PACKS}{}/{hex}.{}", &hex[..2], codec.extension())
}

/// The key under which a damaged pack is set aside.
pub(crate) fn bad_pack_key(id: PackId, codec: CodecName) -> String {
    format!("{}.bad", pack_key(id, codec))
}

/// The pack that a key names; `None` for what is no pack, such as one that was set aside.
pub(crate) fn parse_pack_key(key: &str, codec: CodecName) -> Option<PackId> {
    let name = key.strip_prefix(PACKS)?.split_once('/')?.1;
    let id: PackId = name.strip_suffix(codec.extension())?.strip_suffix('.')?.parse().ok()?;
    (pack_key(id, codec) == key).then_some(id)
}

/// The pack that was set aside under a key.
pub(crate) fn parse_bad_pack_key(key: &str, codec: CodecName) -> Option<PackId> {
    parse_pack_key(key.strip_suffix(".bad")?, codec)
}

/// The key of a part of a session; part 0 has its head.
pub(crate) fn session_key(run: RunId, part: usize) -> String {
    if part == 0 { format!("{SESSIONS}{run}.jsonl") } else { format!("{SESSIONS}{run}.{part:06}.jsonl") }
}

/// The run that a session's key names, and the part.
pub(crate) fn parse_session_key(key: &str) -> Option<(RunId, usize)> {
    let name = key.strip_prefix(SESSIONS)?.strip_suffix(".jsonl")?;
    let (run, part) = name.split_once('.').unwrap_or((name, "0"));
    Some((RunId(run.parse().ok()?), part.parse().ok()?))
}

/// A backup's folder, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupFolder {
    /// The source.
    pub source: SourceKey,
    /// The snapshot's time as in the folder's name, `YYYYMMDDTHHMMSSZ`.
    pub utc: String,
    /// The backup's id.
    pub id: BackupId,
}

impl BackupFolder {
    pub(crate) fn new(source: &SourceKey, snapshot_at: u64, id: BackupId) -> Self {
        Self { source: source.clone(), utc: utc_stamp(snapshot_at), id }
    }

    /// The folder's path in the repository, without a slash at its end.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{BACKUPS}{}/{}-{}", self.source.folder(), self.utc, self.id)
    }

    /// The key of an object in the folder.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.path())
    }

    /// Takes a key below `backups/` apart: the folder, and the object's name in it.
    pub(crate) fn parse(key: &str) -> Option<(Self, &str)> {
        let mut parts = key.strip_prefix(BACKUPS)?.splitn(4, '/');
        let (source, child, folder, name) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let child = match child {
            "_" => None,
            escaped => Some(Name::from(percent_unescape(escaped)?)),
        };
        let source = SourceKey { source: source.parse().ok()?, child };
        let (utc, id) = folder.split_once('-')?;
        Some((Self { source, utc: utc.to_owned(), id: id.parse().ok()? }, name))
    }
}

/// `YYYYMMDDTHHMMSSZ` of a time in microseconds since the epoch.
pub(crate) fn utc_stamp(micros: u64) -> String {
    let time = i64::try_from(micros).ok().and_then(DateTime::<Utc>::from_timestamp_micros).unwrap_or_default();
    time.format("%Y%m%dT%H%M%SZ").to_string()
}

/// This program on this host.
pub(crate) fn this_writer() -> Writer {
    // Only for people; a system without /proc leaves it empty.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Writer { program: "backupd".into(), version: env!("CARGO_PKG_VERSION").into(), host: host.trim_end().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip() {
        let id = PackId([0xab; 32]);
        let key = pack_key(id, CodecName::Gzip);
        assert!(key.starts_with("packs/ab/abab") && key.ends_with(".gz"), "{key}");
        assert_eq!(parse_pack_key(&key, CodecName::Gzip), Some(id));
        for other in [bad_pack_key(id, CodecName::Gzip), pack_key(id, CodecName::Zstd), key.replace("/ab/", "/ac/")] {
            assert_eq!(parse_pack_key(&other, CodecName::Gzip), None, "{other}");
        }
        let run = RunId::new();
        for part in [0, 1, 1_000_000] {
            assert_eq!(parse_session_key(&session_key(run, part)), Some((run, part)));
        }
        let source = SourceKey { source: "shop".parse().unwrap(), child: Some("a/b _\n".into()) };
        let folder = BackupFolder::new(&source, 1_700_000_000_000_000, BackupId([7; 16]));
        assert_eq!(folder.utc, "20231114T221320Z");
        assert_eq!(BackupFolder::parse(&folder.key(MANIFEST)), Some((folder, MANIFEST)));
    }
}
