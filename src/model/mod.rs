//! Plain data and its validation: ids, names, the error table, the manifest, jobs, notices, the ids of messages. No I/O happens here.

pub mod drill;
pub mod error_code;
pub mod ids;
pub mod job;
pub mod manifest;
pub mod message_id;
pub mod name;
pub mod notice;
pub mod summary;
mod words;

pub use error_code::ErrorCode;
pub use ids::{BackupId, ChunkId, PackId, RunId};
pub use name::{Name, SourceKey, SourceName};
