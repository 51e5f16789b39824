//! SQL text from names and values of any bytes.

use crate::model::Name;

/// An identifier in double quotes, always, so that no keyword list is needed.
#[must_use]
pub fn quote_ident(name: &[u8]) -> Vec<u8> {
    enclose(name, b'"')
}

/// `schema.name`, both quoted.
#[must_use]
pub fn quote_qualified(schema: &Name, name: &Name) -> Vec<u8> {
    [quote_ident(schema.as_bytes()), quote_ident(name.as_bytes())].join(&b'.')
}

/// A string literal. With a backslash it becomes `E'…'`, which means the same whatever `standard_conforming_strings`
/// is.
#[must_use]
pub fn quote_literal(value: &[u8]) -> Vec<u8> {
    if !value.contains(&b'\\') {
        return enclose(value, b'\'');
    }
    let doubled: Vec<u8> = value.iter().flat_map(|&b| std::iter::repeat_n(b, if b == b'\\' { 2 } else { 1 })).collect();
    [b"E".as_slice(), &enclose(&doubled, b'\'')].concat()
}

fn enclose(text: &[u8], quote: u8) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    quoted.push(quote);
    for &b in text {
        if b == quote {
            quoted.push(quote);
        }
        quoted.push(b);
    }
    quoted.push(quote);
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(quote_ident(b"a\"b\nc"), b"\"a\"\"b\nc\"");
        assert_eq!(quote_literal(b"a'b"), b"'a''b'");
        assert_eq!(quote_literal(b"a\\'b"), b"E'a\\\\''b'");
        assert_eq!(quote_qualified(&"s.x".into(), &"t\"".into()), b"\"s.x\".\"t\"\"\"");
    }
}
