//! Names: of sources (a narrow alphabet, they become file and unit names) and of databases, tables, roles (any bytes).

use std::{borrow::Cow, fmt, str::FromStr};

use base64::Engine as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The name of a configured source: `[a-z0-9][a-z0-9_.-]{0,63}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct SourceName(String);

/// A text that is not a source's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a source name: it must match [a-z0-9][a-z0-9_.-]{{0,63}}")]
pub struct InvalidSourceName(pub String);

impl SourceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SourceName {
    type Err = InvalidSourceName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let first = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let rest = |c: u8| first(c) || matches!(c, b'_' | b'.' | b'-');
        let bytes = text.as_bytes();
        let valid = (1..=64).contains(&bytes.len()) && first(bytes[0]) && bytes[1..].iter().all(|&c| rest(c));
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidSourceName(text.chars().take(80).collect())) }
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SourceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A name from a database: any bytes but NUL. In JSON a string where it is UTF-8, else `{"base64": "…"}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Vec<u8>);

impl Name {
    /// The raw bytes, in the encoding of the database.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For people: UTF-8 with replacement characters, control characters escaped.
    #[must_use]
    pub fn display(&self) -> String {
        String::from_utf8_lossy(&self.0)
            .chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
            .collect()
    }

    /// The name as UTF-8 text, if it is.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The name as UTF-8 text, bytes that are none replaced. Only for messages.
    #[must_use]
    pub fn lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<Vec<u8>> for Name {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.lossy())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display())
    }
}

#[derive(Serialize, Deserialize)]
struct Base64Name {
    base64: String,
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_str() {
            Some(text) => serializer.serialize_str(text),
            None => {
                Base64Name { base64: base64::engine::general_purpose::STANDARD.encode(&self.0) }.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Tagged(Base64Name),
        }
        match Form::deserialize(deserializer)? {
            Form::Text(text) => Ok(text.into()),
            Form::Tagged(tagged) => {
                base64::engine::general_purpose::STANDARD.decode(tagged.base64).map(Name).map_err(de::Error::custom)
            }
        }
    }
}

/// What backups are listed and kept by: a source, or one database of a source that covers a whole server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceKey {
    /// The configured source.
    pub source: SourceName,
    /// The database, for `database = "all"`; absent for a source that is one database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<Name>,
}

impl SourceKey {
    /// The key of a source that is one database or file.
    #[must_use]
    pub fn single(source: SourceName) -> Self {
        Self { source, child: None }
    }

    /// The folder below `backups/`: `NAME/_`, or `NAME/<percent-escaped database>`.
    #[must_use]
    pub fn folder(&self) -> String {
        match &self.child {
            None => format!("{}/_", self.source),
            Some(child) => format!("{}/{}", self.source, percent_escape(child.as_bytes())),
        }
    }
}

impl fmt::Display for SourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.child {
            None => write!(f, "{}", self.source),
            Some(child) => write!(f, "{}/{}", self.source, child),
        }
    }
}

/// Escapes a name for one path component: ASCII letters, digits and `-` stay, everything else becomes `%XX`.
/// `_` and `.` are escaped too, so that no name becomes `_` (a single database), `.` or `..`.
#[must_use]
pub fn percent_escape(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, &b| {
        if b.is_ascii_alphanumeric() || b == b'-' {
            text.push(b as char);
        } else {
            let _ = write!(text, "%{b:02X}");
        }
        text
    })
}

/// The inverse of [`percent_escape`]; `None` where the text cannot have come from it.
#[must_use]
pub fn percent_unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    (percent_escape(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn source_names_are_narrow() {
        for good in ["a", "0", "shop", "shop-1.eu_west", &"a".repeat(64)] {
            assert!(good.parse::<SourceName>().is_ok(), "{good:?}");
        }
        for bad in ["", "-a", ".a", "A", "a b", "a/b", "..", "ü", "a\n", &"a".repeat(65)] {
            assert!(bad.parse::<SourceName>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn names_survive_json(bytes: Vec<u8>) {
            let name = Name::from(bytes);
            let json = serde_json::to_string(&name).unwrap();
            prop_assert_eq!(serde_json::from_str::<Name>(&json).unwrap(), name);
        }

        #[test]
        fn escaped_names_are_one_safe_component(bytes: Vec<u8>) {
            let escaped = percent_escape(&bytes);
            prop_assert!(!escaped.contains('/') && !escaped.contains('.') && escaped != "_");
            prop_assert_eq!(percent_unescape(&escaped).unwrap(), bytes);
        }
    }
}
