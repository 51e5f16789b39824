//! A TOML file as the configuration reads it: sections whose keys are taken one by one, every problem with its line.
//!
//! Invariant: a key that nobody took is reported when its section is finished, so no key is ever silently ignored; and
//! reading goes on after a problem, so that one run shows all problems of a file.

use std::{cell::RefCell, collections::BTreeMap, ops::Range, path::Path};

use toml::de::{DeTable, DeValue};

use super::problem::ConfigProblem;

/// One file that is being read.
#[derive(Debug)]
pub(super) struct Document<'a> {
    file: &'a Path,
    text: &'a str,
    problems: RefCell<Vec<ConfigProblem>>,
}

impl<'a> Document<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text, problems: RefCell::default() }
    }

    /// The top of the file; `None` if it is not TOML, which is then reported.
    pub(super) fn root(&self) -> Option<Section<'_>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        if errors.is_empty() {
            return Some(Section::new(self, String::new(), 0, table.into_inner()));
        }
        // One slip can confuse the parser several times on its line; the first says it best.
        let mut last_line = 0;
        for error in errors {
            let line = self.line(&error.span().unwrap_or(0..0));
            if line != last_line {
                self.report(line, "", format!("this is not TOML: {}", error.message()));
            }
            last_line = line;
        }
        None
    }

    /// Everything that was found, in the order of the lines.
    pub(super) fn into_problems(self) -> Vec<ConfigProblem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        problems
    }

    fn report(&self, line: usize, key: &str, message: String) {
        let problem = ConfigProblem { file: self.file.to_owned(), line, key: key.to_owned(), message };
        self.problems.borrow_mut().push(problem);
    }

    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        1 + before.iter().filter(|&&b| b == b'\n').count()
    }
}

/// A table of the file, from which keys are taken.
#[derive(Debug)]
pub(super) struct Section<'a> {
    document: &'a Document<'a>,
    path: String,
    line: usize,
    table: DeTable<'a>,
    /// The keys that were asked for, and the lines of those that were there.
    known: BTreeMap<&'static str, Option<usize>>,
}

impl<'a> Section<'a> {
    fn new(document: &'a Document<'a>, path: String, line: usize, table: DeTable<'a>) -> Self {
        Self { document, path, line, table, known: BTreeMap::new() }
    }

    /// Takes a key that may be absent. A value that `convert` refuses is reported, and is `None` here.
    pub(super) fn take<T>(
        &mut self,
        key: &'static str,
        convert: impl FnOnce(DeValue<'a>) -> Result<T, String>,
    ) -> Option<T> {
        let entry = self.table.remove_entry(key);
        let line = entry.as_ref().map(|(name, _)| self.document.line(&name.span()));
        self.known.insert(key, line);
        let (_, value) = entry?;
        match convert(value.into_inner()) {
            Ok(value) => Some(value),
            Err(message) => {
                self.problem(key, message);
                None
            }
        }
    }

    /// Takes a table that may be absent; one that is absent is an empty one.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'a> {
        let line = self.table.get_key_value(key).map(|(name, _)| self.document.line(&name.span()));
        let table = self.take(key, |value| match value {
            DeValue::Table(table) => Ok(table),
            other => Err(wrong_type("a table", &other)),
        });
        Section::new(self.document, self.dotted(key), line.unwrap_or(self.line), table.unwrap_or_default())
    }

    /// Takes a table of tables whose names are free: each with its name, in the order of the names.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<(String, Section<'a>)> {
        let path = self.dotted(key);
        let table = self.take(key, |value| match value {
            DeValue::Table(table) => Ok(table),
            other => Err(wrong_type("a table", &other)),
        });
        let mut sections = Vec::new();
        for (name, value) in table.unwrap_or_default() {
            let line = self.document.line(&name.span());
            let path = format!("{path}.{}", name.get_ref());
            match value.into_inner() {
                DeValue::Table(table) => {
                    sections.push((name.into_inner().into_owned(), Section::new(self.document, path, line, table)));
                }
                other => self.document.report(line, &path, wrong_type("a table", &other)),
            }
        }
        sections.sort_by(|(a, _), (b, _)| a.cmp(b));
        sections
    }

    /// Reports a problem of the section as a whole.
    pub(super) fn whole_problem(&self, message: impl Into<String>) {
        self.document.report(self.line, &self.path, message.into());
    }

    /// Reports a key that people may try here, with better advice than that it is unknown.
    pub(super) fn refuse(&mut self, key: &str, advice: &str) {
        if let Some((name, _)) = self.table.remove_entry(key) {
            self.document.report(self.document.line(&name.span()), &self.dotted(key), advice.to_owned());
        }
    }

    /// Whether a key that was taken was there, with a good value or a bad one.
    pub(super) fn has(&self, key: &str) -> bool {
        self.known.get(key).is_some_and(Option::is_some)
    }

    /// Reports a problem at a key that was taken, or at the section if the key is absent.
    pub(super) fn problem(&self, key: &'static str, message: impl Into<String>) {
        let line = self.known.get(key).copied().flatten().unwrap_or(self.line);
        self.document.report(line, &self.dotted(key), message.into());
    }

    /// Reports every key that nobody took.
    pub(super) fn finish(self) {
        for name in self.table.keys() {
            let key = name.get_ref();
            let alike = self
                .known
                .keys()
                .map(|known| (strsim::damerau_levenshtein(known, key), known))
                .filter(|(distance, known)| *distance <= (known.len() / 3).max(1))
                .min();
            let advice = match alike {
                Some((_, known)) => format!("did you mean {known:?}?"),
                None if self.known.is_empty() => "no key is known here".to_owned(),
                None => format!("known here: {}", self.known.keys().copied().collect::<Vec<_>>().join(", ")),
            };
            let line = self.document.line(&name.span());
            self.document.report(line, &self.dotted(key), format!("unknown key; {advice}"));
        }
    }

    fn dotted(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// The sentence for a value of another type than the key has.
pub(super) fn wrong_type(wanted: &str, value: &DeValue<'_>) -> String {
    let given = match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a floating-point number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    format!("must be {wanted}, not {given}")
}
