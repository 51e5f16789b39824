//! How much a client may say, and how much one answer may hold.
//!
//! Invariant: no message of the daemon's comes near the 32 MiB at which a message bus with its default settings
//! (dbus-daemon's `max_message_size`) closes the connection of who sent it: a daemon that lost the bus would end.

use super::error::ApiError;
use crate::{model::ErrorCode, service::ServiceError};

/// Bytes of a backup's description.
pub const DESCRIPTION: usize = 16 << 10;
/// Tags of a backup.
pub const TAGS: usize = 64;
/// Bytes of one tag.
pub const TAG: usize = 256;
/// Patterns in a list of tables or schemas.
pub const PATTERNS: usize = 1000;
/// Bytes of one pattern.
pub const PATTERN: usize = 1 << 10;
/// Bytes of any other text: the name of a source, a backup, a cursor, a path.
pub const TEXT: usize = 4 << 10;

/// Bytes of one free text in an answer; the rest of a longer one is left out.
const FREE_TEXT: usize = 64 << 10;
/// Bytes of an answer that is one JSON text.
const JSON: usize = 24 << 20;
/// Bytes of a list in an answer that has no cursor.
const LIST: usize = 16 << 20;
/// Bytes of all lines of a property that is a list of texts.
const LINES: usize = 256 << 10;

/// Refuses a text that is too long to be meant, without repeating it.
///
/// # Errors
/// `InvalidArgs`, stating the limit.
pub(super) fn check(what: &str, text: &str, most: usize) -> Result<(), ServiceError> {
    if text.len() <= most {
        return Ok(());
    }
    let message = format!("{what} has {} bytes; it may have at most {most}", text.len());
    Err(ServiceError::new(ErrorCode::InvalidArgs, message))
}

/// Refuses a list that is too long, or of which one text is.
///
/// # Errors
/// As [`check`].
pub(super) fn check_list(what: &str, list: &[String], most: usize, most_bytes: usize) -> Result<(), ServiceError> {
    if list.len() > most {
        let message = format!("{what} has {} entries; it may have at most {most}", list.len());
        return Err(ServiceError::new(ErrorCode::InvalidArgs, message));
    }
    list.iter().try_for_each(|text| check(&format!("an entry of {what}"), text, most_bytes))
}

/// Refuses an argument that is too long to name anything.
///
/// # Errors
/// As [`check`].
pub(super) fn check_argument(name: &str, text: &str) -> Result<(), ApiError> {
    Ok(check(&format!("the argument {name:?}"), text, TEXT)?)
}

/// Free text for the wire: a D-Bus string has no NUL, and one would cost the whole message; the end of a text that is
/// too long is left out.
#[must_use]
pub fn text(text: &str) -> String {
    cut(text, FREE_TEXT).replace('\0', "\u{2400}")
}

/// A short free text for a row of a list.
pub(super) fn short_text(text: &str) -> String {
    cut(text, TEXT).replace('\0', "\u{2400}")
}

/// Free texts, each as [`text`] gives it, as far as they fit.
pub(super) fn texts<'a>(lines: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let mut left = LINES;
    let mut fits = |line: &String| {
        let fits = line.len() <= left;
        left = left.saturating_sub(line.len());
        fits
    };
    lines.into_iter().map(|line| text(line)).take_while(|line| fits(line)).collect()
}

fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A JSON text as an answer.
///
/// # Errors
/// `LimitsExceeded` for one that is too long to be sent.
pub(super) fn json(what: &str, text: String) -> Result<String, ApiError> {
    if text.len() <= JSON {
        return Ok(text);
    }
    let message = format!(
        "the description of {what} has {} bytes, and an answer over D-Bus may have at most {JSON}; read it without the \
         daemon (backupctl --no-daemon)",
        text.len()
    );
    Err(ApiError::new(ErrorCode::LimitsExceeded, message))
}

/// Something as JSON for an answer.
///
/// # Errors
/// As [`json`]; `Internal` for what has no JSON.
pub(super) fn serialized(what: &str, value: &impl serde::Serialize) -> Result<String, ApiError> {
    let text = serde_json::to_string(value).map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
    json(what, text)
}

/// The rows at the end of a list that fit into one answer. Their sizes are estimates and may be a little off.
pub(super) fn last_that_fit<T>(rows: Vec<T>, size: impl Fn(&T) -> usize) -> Vec<T> {
    let mut left = LIST;
    let fit = rows.iter().rev().take_while(|row| {
        let size = size(row);
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    });
    let skipped = rows.len() - fit.count();
    rows.into_iter().skip(skipped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = "\u{20ac}\0".repeat(40_000);
        let sent = text(&long);
        assert!(sent.len() <= FREE_TEXT + FREE_TEXT / 2 && sent.len() > FREE_TEXT - 8, "{}", sent.len());
        assert_eq!(text("a\0b"), "a\u{2400}b");
        assert!(short_text(&long).len() < 3 * TEXT);
    }

    #[test]
    fn lists_end_where_no_more_fits() {
        let lines = vec!["x".repeat(100_000); 10];
        assert_eq!(texts(&lines).len(), 4);
        assert_eq!(texts(&["a".to_owned(), "b".to_owned()]), ["a", "b"]);
        let rows: Vec<usize> = (0..10).collect();
        assert_eq!(last_that_fit(rows.clone(), |_| LIST / 4), [6, 7, 8, 9]);
        assert_eq!(last_that_fit(rows.clone(), |_| 1), rows);
        assert!(json("x", " ".repeat(JSON + 1)).is_err());
    }

    #[test]
    fn a_refusal_states_the_limit_and_not_the_text() {
        let long = "x".repeat(1 << 20);
        let error = check("the option \"description\"", &long, DESCRIPTION).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgs);
        assert_eq!(error.to_string(), "the option \"description\" has 1048576 bytes; it may have at most 16384");
        assert!(check_list("the option \"tags\"", &vec![String::new(); TAGS + 1], TAGS, TAG).is_err());
        assert!(check_list("the option \"tags\"", &["x".repeat(TAG + 1)], TAGS, TAG).is_err());
        assert!(check_list("the option \"tags\"", &vec!["x".repeat(TAG); TAGS], TAGS, TAG).is_ok());
    }
}
