//! Splits a plain script of `pg_dumpall --globals-only` into its statements, and a statement into words.
//!
//! Invariants: no byte outside white space, comments and psql's backslash lines is lost or changed; a semicolon ends a
//! statement only outside quotes, dollar quotes, comments and parentheses; the parts are judged as PostgreSQL's lexer
//! does it with `standard_conforming_strings = on`, which these scripts set (PostgreSQL manual, "Lexical Structure").

/// The statements of a script, in order, each without its comments before it and without its final semicolon.
///
/// Lines that begin with a backslash between statements (`\restrict`, `\unrestrict`, `\connect`) are left out: they
/// speak to psql. A last statement without a semicolon is given as well.
#[must_use]
pub fn split(script: &[u8]) -> Vec<&[u8]> {
    let mut statements = Vec::new();
    let mut at = 0;
    while let Some(start) = skip_between(script, at) {
        let end = statement_end(script, start);
        let statement = script[start..end].trim_ascii_end();
        if !statement.is_empty() {
            statements.push(statement);
        }
        at = end + 1;
    }
    statements
}

/// Passes over white space, comments and psql's lines; the start of the next statement, if there is one.
fn skip_between(script: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match script.get(at)? {
            b'\\' => at = line_end(script, at),
            byte if is_space(*byte) => at += 1,
            _ => match comment_end(script, at) {
                Some(end) => at = end,
                None => return Some(at),
            },
        }
    }
}

fn statement_end(script: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < script.len() {
        match script[at] {
            b';' if depth == 0 => return at,
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at = piece_end(script, at);
    }
    script.len()
}

/// The end of the lexical piece that begins here: a quoted text, a comment, a word, or one byte.
fn piece_end(script: &[u8], at: usize) -> usize {
    match script[at] {
        b'\'' => quoted_end(script, at, b'\'', false),
        b'"' => quoted_end(script, at, b'"', false),
        b'$' => dollar_end(script, at),
        byte if is_word_start(byte) => {
            let end = word_end(script, at);
            // E'…' alone knows the backslash. A word such as NAME'…' does not occur.
            match (script.get(end), end - at, byte) {
                (Some(b'\''), 1, b'e' | b'E') => quoted_end(script, end, b'\'', true),
                _ => end,
            }
        }
        _ => comment_end(script, at).unwrap_or(at + 1),
    }
}

/// The place behind a text in quotes; a doubled quote stands for itself.
fn quoted_end(script: &[u8], start: usize, quote: u8, backslash: bool) -> usize {
    let mut at = start + 1;
    while at < script.len() {
        match script[at] {
            b'\\' if backslash => at += 2,
            byte if byte == quote && script.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    script.len()
}

/// The place behind `$tag$…$tag$`, or behind the `$` where none begins.
fn dollar_end(script: &[u8], start: usize) -> usize {
    let tag_end = match script.get(start + 1) {
        Some(b'$') => start + 1,
        Some(byte) if is_word_start(*byte) => {
            let mut end = start + 1;
            while script.get(end).is_some_and(|byte| is_word_start(*byte) || byte.is_ascii_digit()) {
                end += 1;
            }
            end
        }
        _ => return start + 1,
    };
    if script.get(tag_end) != Some(&b'$') {
        return start + 1;
    }
    let tag = &script[start..=tag_end];
    memchr::memmem::find(&script[tag_end + 1..], tag).map_or(script.len(), |found| tag_end + 1 + found + tag.len())
}

/// The place behind the comment that begins here, if one does. `/* … */` nests.
fn comment_end(script: &[u8], start: usize) -> Option<usize> {
    let rest = &script[start..];
    if rest.starts_with(b"--") {
        return Some(line_end(script, start));
    }
    if !rest.starts_with(b"/*") {
        return None;
    }
    let (mut at, mut depth) = (start + 2, 1_usize);
    while depth > 0 && at < script.len() {
        if script[at..].starts_with(b"/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if script[at..].starts_with(b"*/") {
            (at, depth) = (at + 2, depth - 1);
        } else {
            at += 1;
        }
    }
    Some(at)
}

fn line_end(script: &[u8], start: usize) -> usize {
    memchr::memchr(b'\n', &script[start..]).map_or(script.len(), |length| start + length + 1)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn word_end(script: &[u8], start: usize) -> usize {
    let part = |byte: &u8| is_word_start(*byte) || byte.is_ascii_digit() || *byte == b'$';
    start + script[start..].iter().take_while(|byte| part(byte)).count()
}

/// One word of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// A keyword, or an identifier without quotes, in lower case.
    Plain(Vec<u8>),
    /// An identifier in double quotes, without them.
    Quoted(Vec<u8>),
    /// A text, number, or sign, as written.
    Other(Vec<u8>),
}

impl Word {
    /// Whether it is this keyword.
    #[must_use]
    pub fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Plain(word) if word == keyword.as_bytes())
    }

    /// The name that it stands for, if it can be an identifier.
    #[must_use]
    pub fn identifier(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(name) | Self::Quoted(name) => Some(name),
            Self::Other(_) => None,
        }
    }
}

/// The words of a statement, comments left out.
#[must_use]
pub fn words(statement: &[u8]) -> Vec<Word> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(&byte) = statement.get(at) {
        if is_space(byte) {
            at += 1;
            continue;
        }
        if let Some(end) = comment_end(statement, at) {
            at = end;
            continue;
        }
        let end = piece_end(statement, at).min(statement.len());
        let piece = &statement[at..end];
        words.push(match byte {
            b'"' => Word::Quoted(unquote(piece)),
            _ if is_word_start(byte) && !piece.ends_with(b"'") => Word::Plain(piece.to_ascii_lowercase()),
            _ => Word::Other(piece.to_vec()),
        });
        at = end;
    }
    words
}

/// The content of a text in quotes, doubled quotes made single. The backslash has no meaning here.
#[must_use]
pub fn unquote(quoted: &[u8]) -> Vec<u8> {
    let Some((&quote, rest)) = quoted.split_first() else { return Vec::new() };
    let inner = rest.strip_suffix(&[quote]).unwrap_or(rest);
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().peekable();
    while let Some(&byte) = bytes.next() {
        if byte == quote && bytes.peek() == Some(&&quote) {
            bytes.next();
        }
        text.push(byte);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(script: &str) -> Vec<String> {
        split(script.as_bytes()).into_iter().map(|s| String::from_utf8(s.to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_script_of_pg_dumpall_is_split() {
        let script = "--\n-- PostgreSQL database cluster dump\n--\n\n\\restrict a;b'c\n\nSET client_encoding = 'UTF8';\n\
                      CREATE ROLE \"a;\"\"b\";\nCOMMENT ON ROLE app IS E'it''s; \\\\ \\' ok;\ntwo lines';\n\n\n\\unrestrict a\n\n\
                      -- a ; comment\n/* nested /* ; */ ; */ GRANT a TO b";
        assert_eq!(
            texts(script),
            [
                "SET client_encoding = 'UTF8'",
                "CREATE ROLE \"a;\"\"b\"",
                "COMMENT ON ROLE app IS E'it''s; \\\\ \\' ok;\ntwo lines'",
                "GRANT a TO b",
            ]
        );
    }

    #[test]
    fn dollar_quotes_and_parentheses_hold_semicolons() {
        assert_eq!(texts("DO $x$ a; $y$; $x$; f(1;2); a$b; $1;"), ["DO $x$ a; $y$; $x$", "f(1;2)", "a$b", "$1"]);
    }

    #[test]
    fn a_backslash_is_nothing_special_in_standard_strings() {
        assert_eq!(
            texts("SELECT 'a\\'; SELECT E'a\\';b'; SELECT type'c\\';"),
            ["SELECT 'a\\'", "SELECT E'a\\';b'", "SELECT type'c\\'"]
        );
    }

    #[test]
    fn what_is_never_closed_ends_with_the_script() {
        for script in ["'abc", "\"abc", "$$abc", "E'abc\\", "/*", "(", "E'\\"] {
            let _ = (split(script.as_bytes()), words(script.as_bytes()));
        }
    }

    #[test]
    fn words_are_told_apart() {
        let found = words(b"ALTER ROLE \"A \"\"b\" WITH Password 'x y' /* c */ E'\\'';");
        let expected = [
            Word::Plain(b"alter".to_vec()),
            Word::Plain(b"role".to_vec()),
            Word::Quoted(b"A \"b".to_vec()),
            Word::Plain(b"with".to_vec()),
            Word::Plain(b"password".to_vec()),
            Word::Other(b"'x y'".to_vec()),
            Word::Other(b"E'\\''".to_vec()),
            Word::Other(b";".to_vec()),
        ];
        assert_eq!(found, expected);
    }

    /// A statement made of pieces that must not be torn apart.
    fn statement() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-z_]{1,8}",
            "[^']{0,12}".prop_map(|text| format!("'{text}'")),
            "[^\"]{1,12}".prop_map(|text| format!("\"{text}\"")),
            any::<String>().prop_map(|text| format!("\"{}\"", text.replace('"', "\"\""))),
            any::<String>().prop_map(|text| format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))),
            any::<String>().prop_map(|text| format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))),
            "[^$]{0,12}".prop_map(|text| format!("$q${text}$q$")),
            "[^*/]{0,12}".prop_map(|text| format!("/*{text}*/")),
            "[^\n]{0,12}".prop_map(|text| format!("--{text}\n")),
            "[^()'\"$\\\\*/e-]{0,8}".prop_map(|text| format!("({text})")),
        ];
        proptest::collection::vec(piece, 1..6).prop_map(|pieces| format!("x {} y", pieces.join(" ")))
    }

    proptest! {
        #[test]
        fn statements_come_back_whole(statements in proptest::collection::vec(statement(), 0..6)) {
            let script = statements.iter().map(|s| format!("\n-- it's\n{s};\n\\restrict 'k\n")).collect::<String>();
            prop_assert_eq!(texts(&script), statements);
        }

        #[test]
        fn no_input_breaks_it(script: Vec<u8>) {
            for statement in split(&script) {
                let _ = words(statement);
            }
        }

        #[test]
        fn quoted_names_come_back(name in "[^\0]{1,20}") {
            let quoted = format!("\"{}\"", name.replace('"', "\"\""));
            prop_assert_eq!(words(quoted.as_bytes()), [Word::Quoted(name.into_bytes())]);
        }
    }
}
