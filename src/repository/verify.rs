//! Finding damage.
use serde::{Deserialize, Serialize};
/// How deep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Manifests, and the packs' sizes.
    List,
    /// SHA-256 of every stored pack.
    Packs,
    /// Every chunk decoded and hashed, every file's hash compared.
    Data,
}
