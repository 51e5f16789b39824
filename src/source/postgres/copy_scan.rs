//! Reads a plain SQL dump as it streams past: which byte ranges are whose rows, how many rows there are, where to cut
//! chunks, and whether the dump came to its end.
//!
//! It is a lexer of SQL as pg_dump writes it (with `standard_conforming_strings` on): comments, quoted identifiers,
//! literals, dollar quotes and psql's meta-commands are told apart, so no name and no value can be taken for a
//! statement. Only the rows of a `COPY … FROM stdin` block, which are the bulk, are searched instead of lexed: a row is
//! a line, and only the end mark is a line `\.` (PostgreSQL manual, COPY, "Text Format").
//!
//! Invariants: what was pushed is written to the sink unchanged and in order; the outcome does not depend on how the
//! dump was split into pushes; memory is bounded by the longest COPY statement and the number of COPY blocks.

use std::{collections::HashMap, io};

use memchr::{memchr, memchr_iter, memmem};

use crate::{
    model::{
        Name,
        manifest::{Range, Table},
    },
    stream::{ByteSink, Cut},
};

/// The comment line with which pg_dump and pg_restore end a script.
pub const DUMP_TRAILER: &[u8] = b"-- PostgreSQL database dump complete";
/// The comment line with which pg_dumpall ends one.
pub const CLUSTER_TRAILER: &[u8] = b"-- PostgreSQL database cluster dump complete";

/// Longest COPY statement that is read: 1600 columns with names of 63 bytes, each byte a doubled quote, is less.
const LONGEST_STATEMENT: usize = 1 << 20;
const COPY: &[u8] = b"COPY ";
const END_MARK: &[u8] = b"\\.\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between statements or within one, outside of all quotes.
    Text,
    /// After a backslash between statements; it is not written yet.
    MetaStart,
    /// In a line such as `\restrict KEY`; true for that one.
    Meta {
        restrict: bool,
    },
    LineComment,
    /// Depth, and the byte before.
    BlockComment {
        depth: u32,
        previous: u8,
    },
    Identifier,
    /// `escapes` for `E'…'`; `escaped` after a backslash in one.
    Literal {
        escapes: bool,
        escaped: bool,
    },
    /// After a quote that ends a literal, unless another follows.
    LiteralEnd {
        escapes: bool,
    },
    /// In `$tag` before its second dollar sign.
    DollarTag,
    /// In `$tag$ …`, with this many bytes of the end matched.
    Dollar {
        matched: usize,
    },
    /// After the `;` of a COPY statement: a line feed comes.
    CopyEnd,
    /// In the rows of a block.
    Rows,
}

/// A COPY block that is being read.
#[derive(Debug)]
struct Block {
    table: usize,
    /// Where its statement began.
    start: u64,
    /// Where its rows begin.
    rows_start: u64,
    rows: u64,
    /// Bytes of the end mark matched at the start of a line; `None` in the middle of a line.
    mark: Option<usize>,
}

/// What a whole dump held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// The tables, in order of their first block.
    pub tables: Vec<Table>,
    /// Bytes in all.
    pub bytes: u64,
    /// Rows in all.
    pub rows: u64,
}

/// Why what was scanned is no complete dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    /// The stream ended before the completion mark.
    #[error("it ended after {bytes} bytes without its completion mark")]
    NoTrailer {
        /// Bytes that came.
        bytes: u64,
    },
    /// A COPY statement was not one that pg_dump writes.
    #[error("a COPY statement at byte {offset} is not understood")]
    UnknownCopy {
        /// Where it is.
        offset: u64,
    },
}

/// The scanner.
#[derive(Debug)]
pub struct Scanner {
    trailer: &'static [u8],
    state: State,
    /// The byte before, within `Text`; 0 where there is none that matters.
    previous: [u8; 2],
    /// Bytes consumed before the push at hand.
    offset: u64,
    in_statement: bool,
    statement_start: u64,
    /// The statement so far, while it may be a COPY.
    statement: Vec<u8>,
    collecting: bool,
    comment: Vec<u8>,
    tag: Vec<u8>,
    block: Option<Block>,
    tables: Vec<Table>,
    index: HashMap<(Name, Name), usize>,
    complete: bool,
    unknown_copy: Option<u64>,
    end_finder: memmem::Finder<'static>,
}

impl Scanner {
    /// A scanner of a script that ends with this comment line.
    #[must_use]
    pub fn new(trailer: &'static [u8]) -> Self {
        Self {
            trailer,
            state: State::Text,
            previous: [0; 2],
            offset: 0,
            in_statement: false,
            statement_start: 0,
            statement: Vec::new(),
            collecting: false,
            comment: Vec::new(),
            tag: Vec::new(),
            block: None,
            tables: Vec::new(),
            index: HashMap::new(),
            complete: false,
            unknown_copy: None,
            end_finder: memmem::Finder::new(b"\n\\.\n"),
        }
    }

    /// Scans the next bytes and writes them on, with cut marks: hard after the `\restrict` line and before the
    /// `\unrestrict` line (their key differs in every dump), soft where a block's rows begin and end.
    ///
    /// # Errors
    /// The sink's.
    pub fn push(&mut self, bytes: &[u8], out: &mut dyn ByteSink) -> io::Result<()> {
        let mut at = 0;
        let mut written = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let byte = rest[0];
            match self.state {
                State::Rows => {
                    let (used, ended) = self.rows(rest);
                    at += used;
                    if ended {
                        self.end_block(self.offset + at as u64);
                        cut(out, bytes, &mut written, at, Cut::Soft)?;
                    }
                }
                State::Text if byte == b'\\' && !self.in_statement => {
                    flush(out, bytes, &mut written, at)?;
                    // Written once it is known whether a cut goes before it.
                    written = at + 1;
                    at += 1;
                    self.state = State::MetaStart;
                }
                State::MetaStart => {
                    if byte == b'u' {
                        out.cut(Cut::Hard)?;
                    }
                    out.write(b"\\")?;
                    self.state = State::Meta { restrict: byte == b'r' };
                }
                State::Meta { restrict } => {
                    at += memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
                    if bytes[at - 1] == b'\n' {
                        self.resume_text();
                        if restrict {
                            cut(out, bytes, &mut written, at, Cut::Hard)?;
                        }
                    }
                }
                State::CopyEnd => {
                    self.begin_rows(byte, self.offset + at as u64);
                    at += usize::from(byte == b'\n');
                    if self.state == State::Rows {
                        cut(out, bytes, &mut written, at, Cut::Soft)?;
                    }
                }
                _ => at += self.lex(rest, at),
            }
        }
        flush(out, bytes, &mut written, bytes.len())?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Ends the scan.
    ///
    /// # Errors
    /// The inner [`Incomplete`] when this was no whole dump; the outer one is the sink's.
    pub fn finish(mut self, out: &mut dyn ByteSink) -> io::Result<Result<Scanned, Incomplete>> {
        if self.state == State::MetaStart {
            out.write(b"\\")?;
        }
        if let Some(offset) = self.unknown_copy {
            return Ok(Err(Incomplete::UnknownCopy { offset }));
        }
        if self.state == State::LineComment {
            self.end_comment();
        }
        let at_rest = matches!(self.state, State::Text | State::LineComment | State::Meta { .. }) && !self.in_statement;
        if !self.complete || !at_rest {
            return Ok(Err(Incomplete::NoTrailer { bytes: self.offset }));
        }
        let rows = self.tables.iter().map(|table| table.rows).sum();
        Ok(Ok(Scanned { tables: self.tables, bytes: self.offset, rows }))
    }

    fn resume_text(&mut self) {
        self.state = State::Text;
        self.previous = [0; 2];
    }

    /// Lexes at least one byte of `rest` outside of rows and meta-commands, and gives how many.
    fn lex(&mut self, rest: &[u8], at: usize) -> usize {
        let byte = rest[0];
        match self.state {
            State::LineComment => {
                let end = memchr(b'\n', rest);
                let text = &rest[..end.unwrap_or(rest.len())];
                let room = (self.trailer.len() + 1).saturating_sub(self.comment.len());
                self.comment.extend_from_slice(&text[..text.len().min(room)]);
                if end.is_some() {
                    self.end_comment();
                    self.resume_text();
                }
                return end.map_or(rest.len(), |end| end + 1);
            }
            State::BlockComment { depth, previous } => match (previous, byte) {
                (b'*', b'/') if depth == 1 => self.resume_text(),
                (b'*', b'/') => self.state = State::BlockComment { depth: depth - 1, previous: 0 },
                (b'/', b'*') => self.state = State::BlockComment { depth: depth.saturating_add(1), previous: 0 },
                _ => self.state = State::BlockComment { depth, previous: byte },
            },
            State::Identifier => return self.quoted(rest, b'"', State::Text),
            State::Literal { escapes: false, .. } => {
                return self.quoted(rest, b'\'', State::LiteralEnd { escapes: false });
            }
            State::Literal { escapes: true, escaped } => {
                self.collect(&rest[..1]);
                self.state = match byte {
                    _ if escaped => State::Literal { escapes: true, escaped: false },
                    b'\\' => State::Literal { escapes: true, escaped: true },
                    b'\'' => State::LiteralEnd { escapes: true },
                    _ => State::Literal { escapes: true, escaped: false },
                };
            }
            State::LiteralEnd { escapes } => {
                if byte != b'\'' {
                    self.resume_text();
                    return 0;
                }
                self.collect(&rest[..1]);
                self.state = State::Literal { escapes, escaped: false };
            }
            State::DollarTag => return self.dollar_tag(byte),
            State::Dollar { matched } => self.dollar_body(byte, matched),
            _ => self.text(byte, self.offset + at as u64),
        }
        1
    }

    /// Goes to the end of what `quote` began, or of the buffer.
    fn quoted(&mut self, rest: &[u8], quote: u8, after: State) -> usize {
        let end = memchr(quote, rest);
        let used = end.map_or(rest.len(), |end| end + 1);
        self.collect(&rest[..used]);
        if end.is_some() {
            self.resume_text();
            self.state = after;
        }
        used
    }

    /// One byte outside of all quotes.
    fn text(&mut self, byte: u8, position: u64) {
        let [before, previous] = self.previous;
        match (previous, byte) {
            (b'-', b'-') | (b'/', b'*') => {
                // A comment between statements looked like the start of one.
                if self.in_statement && position == self.statement_start + 1 {
                    self.in_statement = false;
                }
                self.comment.clear();
                self.comment.extend_from_slice(b"--");
                self.state =
                    if byte == b'-' { State::LineComment } else { State::BlockComment { depth: 1, previous: 0 } };
                return;
            }
            _ => {}
        }
        if !self.in_statement {
            if byte.is_ascii_whitespace() {
                self.previous = [0; 2];
                return;
            }
            self.in_statement = true;
            self.statement_start = position;
            self.statement.clear();
            self.collecting = byte == COPY[0];
        }
        self.collect(&[byte]);
        self.previous = [previous, byte];
        match byte {
            b'"' => self.state = State::Identifier,
            b'\'' => {
                let escapes = matches!(previous, b'E' | b'e') && !is_identifier(before);
                self.state = State::Literal { escapes, escaped: false };
            }
            b'$' if !is_identifier(previous) => {
                self.tag.clear();
                self.tag.push(b'$');
                self.state = State::DollarTag;
            }
            b';' => self.end_statement(),
            _ => {}
        }
    }

    fn dollar_tag(&mut self, byte: u8) -> usize {
        let fits = is_identifier(byte) && byte != b'$' && !(self.tag.len() == 1 && byte.is_ascii_digit());
        if byte == b'$' {
            self.collect(&[byte]);
            self.tag.push(byte);
            self.state = State::Dollar { matched: 0 };
            1
        } else if fits && self.tag.len() < 128 {
            self.collect(&[byte]);
            self.tag.push(byte);
            1
        } else {
            self.state = State::Text;
            self.previous = [0, *self.tag.last().unwrap_or(&0)];
            0
        }
    }

    fn dollar_body(&mut self, byte: u8, matched: usize) {
        self.collect(&[byte]);
        // The tag has dollar signs only at its ends, so a mismatch can only start again with one.
        let matched = if byte == self.tag[matched] { matched + 1 } else { usize::from(byte == b'$') };
        if matched == self.tag.len() {
            self.resume_text();
        } else {
            self.state = State::Dollar { matched };
        }
    }

    /// Keeps bytes of a statement that may be a COPY.
    fn collect(&mut self, bytes: &[u8]) {
        if !self.collecting {
            return;
        }
        self.statement.extend_from_slice(bytes);
        let shown = self.statement.len().min(COPY.len());
        if self.statement[..shown] != COPY[..shown] {
            self.collecting = false;
        } else if self.statement.len() > LONGEST_STATEMENT {
            self.collecting = false;
            self.unknown_copy.get_or_insert(self.statement_start);
        }
    }

    fn end_statement(&mut self) {
        self.in_statement = false;
        self.complete = false;
        self.previous = [0; 2];
        if std::mem::take(&mut self.collecting) && self.statement.starts_with(COPY) {
            self.state = State::CopyEnd;
        }
    }

    fn end_comment(&mut self) {
        if !self.in_statement && self.comment == self.trailer {
            self.complete = true;
        }
    }

    /// Judges a COPY statement that ended before `position`, where `byte` is.
    fn begin_rows(&mut self, byte: u8, position: u64) {
        self.resume_text();
        let Some((schema, name)) = (byte == b'\n').then(|| copy_target(&self.statement)).flatten() else {
            self.unknown_copy.get_or_insert(self.statement_start);
            return;
        };
        let tables = &mut self.tables;
        let table = *self.index.entry((schema.clone(), name.clone())).or_insert_with(|| {
            tables.push(Table { schema, name, rows: 0, bytes: 0, ranges: Vec::new() });
            tables.len() - 1
        });
        self.block =
            Some(Block { table, start: self.statement_start, rows_start: position + 1, rows: 0, mark: Some(0) });
        self.state = State::Rows;
    }

    /// Passes over rows: how many bytes, and whether the end mark was the last of them.
    fn rows(&mut self, rest: &[u8]) -> (usize, bool) {
        let Some(block) = &mut self.block else { return (rest.len(), false) };
        let mut at = 0;
        // The end mark may have begun in the buffer before.
        while let Some(matched) = block.mark {
            let Some(&byte) = rest.get(at) else { return (at, false) };
            if byte != END_MARK[matched] {
                block.mark = None;
            } else if matched + 1 == END_MARK.len() {
                return (at + 1, true);
            } else {
                block.mark = Some(matched + 1);
                at += 1;
            }
        }
        let rest = &rest[at..];
        if let Some(end) = self.end_finder.find(rest) {
            block.rows += memchr_iter(b'\n', &rest[..=end]).count() as u64;
            return (at + end + 1 + END_MARK.len(), true);
        }
        block.rows += memchr_iter(b'\n', rest).count() as u64;
        block.mark = (0..END_MARK.len())
            .find(|&n| rest.len() > n && rest.ends_with(&END_MARK[..n]) && rest[rest.len() - n - 1] == b'\n');
        (at + rest.len(), false)
    }

    fn end_block(&mut self, end: u64) {
        self.resume_text();
        if let Some(block) = self.block.take() {
            let table = &mut self.tables[block.table];
            table.rows += block.rows;
            table.bytes += end - END_MARK.len() as u64 - block.rows_start;
            table.ranges.push(Range { offset: block.start, length: end - block.start });
        }
    }
}

fn flush(out: &mut dyn ByteSink, bytes: &[u8], written: &mut usize, to: usize) -> io::Result<()> {
    if *written < to {
        out.write(&bytes[*written..to])?;
        *written = to;
    }
    Ok(())
}

fn cut(out: &mut dyn ByteSink, bytes: &[u8], written: &mut usize, at: usize, kind: Cut) -> io::Result<()> {
    flush(out, bytes, written, at)?;
    out.cut(kind)
}

fn is_identifier(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

/// The table of `COPY schema.name [(columns)] FROM stdin;`, its names as they are without quotes.
fn copy_target(statement: &[u8]) -> Option<(Name, Name)> {
    let (schema, rest) = identifier(statement.strip_prefix(COPY)?)?;
    let (name, rest) = identifier(rest.strip_prefix(b".")?)?;
    let ends = rest.starts_with(b" ") && rest.ends_with(b" FROM stdin;");
    ends.then_some((schema, name))
}

/// The identifier that `text` begins with, and what comes after.
fn identifier(text: &[u8]) -> Option<(Name, &[u8])> {
    if text.first() != Some(&b'"') {
        let end = text.iter().position(|&b| !is_identifier(b)).unwrap_or(text.len());
        return (end > 0).then(|| (Name::from(text[..end].to_vec()), &text[end..]));
    }
    let mut name = Vec::new();
    let mut rest = &text[1..];
    loop {
        let end = memchr(b'"', rest)?;
        name.extend_from_slice(&rest[..end]);
        rest = &rest[end + 1..];
        if rest.first() != Some(&b'"') {
            return Some((Name::from(name), rest));
        }
        name.push(b'"');
        rest = &rest[1..];
    }
}

#[cfg(test)]
mod tests;
