//! Sentences about several things, of which an error names the first few.

/// How many are named.
const NAMED: usize = 8;
/// The most characters of what is said of one of them: pg_dump's last lines can be long.
const LONGEST: usize = 500;

/// `a: why; b: why; and 3 more`.
pub(super) fn enumerate(list: impl IntoIterator<Item = (String, String)>) -> String {
    sentences(list.into_iter().map(|(what, why)| format!("{what}: {why}")))
}

/// `one; two; and 3 more`.
pub(super) fn sentences(list: impl IntoIterator<Item = String>) -> String {
    let mut list = list.into_iter();
    let mut named: Vec<String> = list.by_ref().take(NAMED).map(|sentence| shortened(&sentence)).collect();
    let more = list.count();
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    named.join("; ")
}

/// `a, b, c and 3 more`.
pub(super) fn names(list: impl IntoIterator<Item = String>) -> String {
    let mut list = list.into_iter();
    let named: Vec<String> = list.by_ref().take(NAMED).collect();
    match list.count() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_eight_are_named_and_none_at_length() {
        let list = |count: usize| (0..count).map(|n| (format!("db{n}"), "ü".repeat(n * 200)));
        assert_eq!(enumerate(list(1)), "db0: ");
        let text = enumerate(list(12));
        assert!(text.contains("db7: ") && !text.contains("db8: ") && text.ends_with("; and 4 more"), "{text}");
        assert!(text.chars().count() < 8 * 510);
        assert_eq!(names((0..3).map(|n| n.to_string())), "0, 1, 2");
        assert_eq!(names((0..10).map(|n| n.to_string())), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
    }
}
