//! The scanner against a writer that quotes as pg_dump does.

use proptest::prelude::*;

use super::*;
use crate::source::postgres::quote::{quote_ident, quote_literal};

#[derive(Default, Debug, PartialEq, Eq, Clone)]
struct Recorder {
    bytes: Vec<u8>,
    hard: Vec<usize>,
    soft: Vec<usize>,
}

impl ByteSink for Recorder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
    fn cut(&mut self, cut: Cut) -> io::Result<()> {
        let cuts = if cut == Cut::Hard { &mut self.hard } else { &mut self.soft };
        cuts.push(self.bytes.len());
        Ok(())
    }
}

fn scan(dump: &[u8], splits: &[usize]) -> (Recorder, Result<Scanned, Incomplete>) {
    let mut scanner = Scanner::new(DUMP_TRAILER);
    let mut out = Recorder::default();
    let mut splits: Vec<usize> = splits.iter().map(|s| s % (dump.len() + 1)).collect();
    splits.push(dump.len());
    splits.sort_unstable();
    let mut from = 0;
    for to in splits {
        scanner.push(&dump[from..to], &mut out).unwrap();
        from = to;
    }
    let scanned = scanner.finish(&mut out).unwrap();
    (out, scanned)
}

fn one_by_one(dump: &[u8]) -> Vec<usize> {
    (0..dump.len()).collect()
}

/// As COPY TO writes a value (`CopyAttributeOutText`).
fn escape(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for &b in value {
        match b {
            b'\\' => out.extend(b"\\\\"),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0x08 => out.extend(b"\\b"),
            _ => out.push(b),
        }
    }
    out
}

/// As `fmtId` quotes.
fn fmt_id(name: &[u8]) -> Vec<u8> {
    let plain =
        name.iter().enumerate().all(|(i, &b)| b == b'_' || b.is_ascii_lowercase() || (i > 0 && b.is_ascii_digit()));
    if plain && !name.is_empty() { name.to_vec() } else { quote_ident(name) }
}

fn sanitize(name: &[u8]) -> Vec<u8> {
    name.iter().map(|&b| if matches!(b, b'\n' | b'\r') { b' ' } else { b }).collect()
}

#[derive(Debug, Clone)]
enum Entry {
    Rows { schema: Vec<u8>, name: Vec<u8>, columns: Vec<Vec<u8>>, rows: Vec<Vec<Option<Vec<u8>>>> },
    Sequence { name: Vec<u8>, value: i64 },
    LargeObject { bytes: Vec<u8> },
}

/// Writes a dump, and what a scanner must say of it.
fn model(entries: &[Entry], restrict: bool) -> (Vec<u8>, Scanned, Vec<usize>, Vec<usize>) {
    let mut d = b"--\n-- PostgreSQL database dump\n--\n\n".to_vec();
    let (mut hard, mut soft) = (Vec::new(), Vec::new());
    let mut tables: Vec<Table> = Vec::new();
    if restrict {
        d.extend(b"\\restrict aZ09'\"$x\n");
        hard.push(d.len());
    }
    d.extend(b"\n-- Dumped from database version 15.18\nSET statement_timeout = 0;\nSELECT pg_catalog.set_config('search_path', '', false);\n\n");
    for entry in entries {
        match entry {
            Entry::Rows { schema, name, columns, rows } => {
                d.extend(
                    [
                        b"--\n-- Data for Name: ",
                        &*sanitize(name),
                        b"; Type: TABLE DATA; Schema: ",
                        &sanitize(schema),
                        b"; Owner: x\n--\n\n",
                    ]
                    .concat(),
                );
                let start = d.len();
                let list = columns.iter().map(|c| fmt_id(c)).collect::<Vec<_>>().join(&b", "[..]);
                let list = if columns.is_empty() { Vec::new() } else { [b"(", &*list, b")"].concat() };
                d.extend([b"COPY ", &*fmt_id(schema), b".", &fmt_id(name), b" ", &list, b" FROM stdin;\n"].concat());
                soft.push(d.len());
                let rows_start = d.len();
                for row in rows {
                    let row = row.iter().take(columns.len()).map(|v| v.as_deref().map_or(b"\\N".to_vec(), escape));
                    d.extend(row.collect::<Vec<_>>().join(&b'\t'));
                    d.push(b'\n');
                }
                let bytes = (d.len() - rows_start) as u64;
                d.extend(b"\\.\n");
                soft.push(d.len());
                let range = Range { offset: start as u64, length: (d.len() - start) as u64 };
                let (schema, name) = (Name::from(schema.clone()), Name::from(name.clone()));
                let position = tables.iter().position(|t| t.schema == schema && t.name == name).unwrap_or_else(|| {
                    tables.push(Table { schema, name, rows: 0, bytes: 0, ranges: vec![] });
                    tables.len() - 1
                });
                tables[position].rows += rows.len() as u64;
                tables[position].bytes += bytes;
                tables[position].ranges.push(range);
            }
            Entry::Sequence { name, value } => {
                let literal = quote_literal(&fmt_id(name));
                d.extend([b"SELECT pg_catalog.setval(", &*literal, format!(", {value}, true);\n").as_bytes()].concat());
            }
            Entry::LargeObject { bytes } => {
                let hex = crate::model::ids::to_hex(bytes);
                d.extend(format!("BEGIN;\nSELECT pg_catalog.lo_open('1', 131072);\nSELECT pg_catalog.lowrite(0, '\\x{hex}');\nSELECT pg_catalog.lo_close(0);\nCOMMIT;\n").bytes());
            }
        }
        d.extend(b"\n\n");
    }
    d.extend(b"--\n-- PostgreSQL database dump complete\n--\n\n");
    if restrict {
        hard.push(d.len());
        d.extend(b"\\unrestrict aZ09'\"$x\n\n");
    }
    let rows = tables.iter().map(|t| t.rows).sum();
    let scanned = Scanned { tables, bytes: d.len() as u64, rows };
    (d, scanned, hard, soft)
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&'static [u8]> = vec![
        b"\"",
        b"'",
        b"\\",
        b"\n",
        b"\r",
        b"\\.",
        b"\n\\.\n",
        b"$",
        b"$$",
        b"$a$",
        b"--",
        b"/*",
        b"*/",
        b";",
        b"COPY ",
        b"E'",
        b"COPY public.t FROM stdin;\n",
        b"-- PostgreSQL database dump complete",
        b"\\unrestrict x\n",
        b"a",
        b"T",
        b" ",
        b"\t",
        b"(",
        b")",
        b".",
        b"\xff",
        "é".as_bytes(),
        b"FROM stdin;",
        b"_x1",
    ];
    prop::collection::vec(prop::sample::select(pieces), 1..6).prop_map(|pieces| pieces.concat())
}

fn entry() -> impl Strategy<Value = Entry> {
    let value = prop::option::of(prop_oneof![hostile(), prop::collection::vec(1u8.., 0..12)]);
    let rows = (
        hostile(),
        hostile(),
        prop::collection::vec(hostile(), 0..3),
        prop::collection::vec(prop::collection::vec(value, 3), 0..5),
    )
        .prop_map(|(schema, name, columns, rows)| Entry::Rows { schema, name, columns, rows });
    prop_oneof![
        4 => rows,
        1 => (hostile(), any::<i64>()).prop_map(|(name, value)| Entry::Sequence { name, value }),
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Entry::LargeObject { bytes }),
    ]
}

proptest! {
    #[test]
    fn hostile_dumps_are_read_exactly(entries in prop::collection::vec(entry(), 0..6), restrict: bool, splits in prop::collection::vec(any::<usize>(), 0..12)) {
        let (dump, expected, hard, soft) = model(&entries, restrict);
        for splits in [vec![], splits, one_by_one(&dump)] {
            let (out, scanned) = scan(&dump, &splits);
            prop_assert_eq!(&out.bytes, &dump);
            prop_assert_eq!(scanned.unwrap(), expected.clone());
            prop_assert_eq!(&out.hard, &hard);
            prop_assert_eq!(&out.soft, &soft);
        }
    }

    #[test]
    fn a_dump_cut_short_is_incomplete(entries in prop::collection::vec(entry(), 0..4), restrict: bool, at in any::<prop::sample::Index>()) {
        let (dump, ..) = model(&entries, restrict);
        let mark = memmem::rfind(&dump, DUMP_TRAILER).unwrap() + DUMP_TRAILER.len();
        let (out, scanned) = scan(&dump[..at.index(mark)], &[]);
        prop_assert_eq!(out.bytes.len(), at.index(mark));
        prop_assert!(scanned.is_err());
    }

    #[test]
    fn any_bytes_pass_and_splits_do_not_matter(pieces in prop::collection::vec(prop_oneof![hostile(), prop::collection::vec(any::<u8>(), 0..8)], 0..12), splits in prop::collection::vec(any::<usize>(), 0..8)) {
        let bytes = pieces.concat();
        let whole = scan(&bytes, &[]);
        prop_assert_eq!(&whole.0.bytes, &bytes);
        prop_assert_eq!(&scan(&bytes, &splits), &whole);
        prop_assert_eq!(&scan(&bytes, &one_by_one(&bytes)), &whole);
    }
}

#[test]
fn other_sql_is_lexed_over() {
    let text = br#"CREATE FUNCTION f() AS $_$ COPY public.t FROM stdin; $$ $_ $_$;
/* COPY a.b FROM stdin; /* nested */ ; */ SELECT E'it\'s'' \\', 'plain\', $1, a$b$c, "COPY ""x;";
-- PostgreSQL database dump complete
"#;
    let (_, scanned) = scan(text, &[]);
    assert_eq!(scanned.unwrap().tables, vec![]);
}

#[test]
fn a_copy_that_is_not_understood_is_not_passed_over() {
    let (_, scanned) = scan(b"COPY t FROM stdin;\n\\.\n-- PostgreSQL database dump complete\n", &[]);
    assert_eq!(scanned, Err(Incomplete::UnknownCopy { offset: 0 }));
}

#[test]
fn what_follows_the_trailer_must_not_be_a_statement() {
    let (_, scanned) = scan(b"-- PostgreSQL database dump complete\nSELECT 1;\n", &[]);
    assert!(scanned.is_err());
}
