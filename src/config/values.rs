//! Conversions from a TOML value to what a key means. Each refuses with a sentence that says what would be right.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use toml::de::DeValue;

use super::{reader::wrong_type, units};

/// A text without NUL, which no file name, database or program can take.
pub(super) fn text(value: DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) if text.contains('\0') => Err("must not contain the character NUL".to_owned()),
        DeValue::String(text) => Ok(text.into_owned()),
        other => Err(wrong_type("a string", &other)),
    }
}

/// A text that is not empty.
pub(super) fn word(value: DeValue<'_>) -> Result<String, String> {
    match text(value)? {
        text if text.is_empty() => Err("must not be empty".to_owned()),
        text => Ok(text),
    }
}

/// `true` or `false`.
pub(super) fn boolean(value: DeValue<'_>) -> Result<bool, String> {
    match value {
        DeValue::Boolean(on) => Ok(on),
        other => Err(wrong_type("true or false", &other)),
    }
}

/// An integer within a range.
pub(super) fn integer<T>(range: RangeInclusive<T>) -> impl Fn(DeValue<'_>) -> Result<T, String>
where
    T: TryFrom<i128> + PartialOrd + std::fmt::Display,
{
    move |value| {
        let DeValue::Integer(number) = value else { return Err(wrong_type("an integer", &value)) };
        i128::from_str_radix(number.as_str(), number.radix())
            .ok()
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("must be from {} to {}, not {number}", range.start(), range.end()))
    }
}

/// A size: a text such as `10GiB`, or an integer of bytes.
pub(super) fn size(value: DeValue<'_>) -> Result<u64, String> {
    match value {
        DeValue::String(text) => units::parse_size(&text),
        DeValue::Integer(_) => integer(0..=u64::MAX >> 1)(value),
        other => Err(wrong_type("a size such as \"10GiB\"", &other)),
    }
}

/// A duration: a text such as `30s`. A bare number would leave open what it counts.
pub(super) fn duration(value: DeValue<'_>) -> Result<Duration, String> {
    match value {
        DeValue::String(text) => units::parse_duration(&text),
        DeValue::Integer(number) => Err(format!("must have a unit; write \"{number}s\" for {number} seconds")),
        other => Err(wrong_type("a duration such as \"30s\"", &other)),
    }
}

/// A path from the root: the daemon has no working directory that a person could know.
pub(super) fn absolute_path(value: DeValue<'_>) -> Result<PathBuf, String> {
    let path = PathBuf::from(word(value)?);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!("must be an absolute path, which {:?} is not", path.display()))
    }
}

/// A list of texts, none of them empty.
pub(super) fn words(value: DeValue<'_>) -> Result<Vec<String>, String> {
    let DeValue::Array(array) = value else { return Err(wrong_type("an array of strings", &value)) };
    let each = |(i, value): (usize, toml::Spanned<DeValue<'_>>)| {
        word(value.into_inner()).map_err(|problem| format!("element {}: {problem}", i + 1))
    };
    array.into_iter().enumerate().map(each).collect()
}

/// One of some words.
pub(super) fn one_of<T: Copy>(choices: &[(&str, T)]) -> impl Fn(DeValue<'_>) -> Result<T, String> {
    move |value| {
        let given = text(value)?;
        let found = choices.iter().find(|(word, _)| *word == given);
        found.map(|(_, choice)| *choice).ok_or_else(|| {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
            format!("must be {}, not {given:?}", words.join(" or "))
        })
    }
}
