//! Feeds rows to psql, from the backup's verified stream.
//!
//! Invariant: psql sees the end of its input only when every byte was verified and given to it. On any failure of the
//! reader it is killed while its input is still open: at an end of input it would commit the rows of a table cut short.

use std::{
    io::{self, Read, Write},
    process::ChildStdin,
};

use super::{statements, survey::is_selected, toc::TableSelection};
use crate::{
    model::{
        ErrorCode, Name,
        manifest::{File, FileRole, Range},
    },
    source::{
        JobContext, SetReader, SourceError,
        postgres::{child::ClientCommand, client_programs::ClientPrograms, environment::LibpqEnvironment},
    },
};

/// Bytes moved at a time.
const BUFFER: usize = 1 << 18;
/// How much is read of a dump's beginning to find its `\restrict`.
const HEAD: usize = 1 << 12;

/// What loading needs.
pub(super) struct Loader<'a> {
    pub(super) programs: &'a ClientPrograms,
    pub(super) environment: &'a LibpqEnvironment,
    pub(super) reader: &'a dyn SetReader,
    pub(super) context: &'a JobContext,
}

impl Loader<'_> {
    /// Loads every row.
    pub(super) fn load_all(&self) -> Result<(), SourceError> {
        let knows_restrict = self.knows_restrict()?;
        for file in self.data_files() {
            let mut input = self.reader.open(&file.name).map_err(SourceError::from_sink)?;
            if knows_restrict {
                self.feed(&mut [input.as_mut()])?;
            } else {
                self.feed(&mut [&mut Unrestricted::new(input)])?;
            }
        }
        Ok(())
    }

    /// Loads the rows of the selected tables, and sets the sequences that were restored with them.
    pub(super) fn load_selected(
        &self,
        selection: &TableSelection,
        sequences: &[(Name, Name)],
    ) -> Result<(), SourceError> {
        for file in self.data_files() {
            let ranges: Vec<Range> = file
                .tables
                .iter()
                .filter(|table| is_selected(Some(selection), table))
                .flat_map(|t| t.ranges.clone())
                .collect();
            let settings = self.settings(file)?;
            let values = self.sequence_values(file, sequences)?;
            let mut rows = self.reader.open_ranges(&file.name, &ranges).map_err(SourceError::from_sink)?;
            self.feed(&mut [&mut settings.as_slice(), rows.as_mut(), &mut values.as_slice()])?;
        }
        Ok(())
    }

    fn data_files(&self) -> impl Iterator<Item = &File> {
        self.reader.manifest().files.iter().filter(|file| file.role == FileRole::Data)
    }

    /// The settings at the beginning of a dump: encoding, search path and the like.
    fn settings(&self, file: &File) -> Result<Vec<u8>, SourceError> {
        let first = file.tables.iter().flat_map(|table| &table.ranges).map(|range| range.offset).min();
        let head = Range { offset: 0, length: first.unwrap_or(file.raw_length) };
        let mut text = Vec::new();
        let mut input = self.reader.open_ranges(&file.name, &[head]).map_err(SourceError::from_sink)?;
        input.read_to_end(&mut text).map_err(SourceError::from_sink)?;
        let is_setting = |statement: &&[u8]| {
            statement.starts_with(b"SET ") || statement.starts_with(b"SELECT pg_catalog.set_config('search_path'")
        };
        Ok(statements::split(&text).into_iter().filter(is_setting).flat_map(|s| [s, b";\n"].concat()).collect())
    }

    /// The statements that set these sequences. They stand between and behind the tables' rows.
    fn sequence_values(&self, file: &File, sequences: &[(Name, Name)]) -> Result<Vec<u8>, SourceError> {
        let mut found = Vec::new();
        if sequences.is_empty() {
            return Ok(found);
        }
        let gaps = gaps(file);
        let input = self.reader.open_ranges(&file.name, &gaps).map_err(SourceError::from_sink)?;
        let mut lines = Lines::new(input);
        while let Some(line) = lines.next().map_err(SourceError::from_sink)? {
            self.context.cancel.check()?;
            // Large objects follow the sequences, and may be most of the dump.
            if line.starts_with(b"SELECT pg_catalog.lo_open(") {
                break;
            }
            if let Some(sequence) = set_sequence(line)
                && sequences.contains(&sequence)
            {
                found.extend_from_slice(line);
                found.push(b'\n');
            }
        }
        Ok(found)
    }

    /// Whether psql knows `\restrict`, which came with minor releases of all versions at once. Where it does, it is kept:
    /// it keeps a dump from running commands on this host.
    fn knows_restrict(&self) -> Result<bool, SourceError> {
        let environment = LibpqEnvironment::base(&self.context.scratch);
        let command = ClientCommand::new(&self.programs.psql(), &environment, ErrorCode::ClientProgramMissing);
        let mut child =
            command.arg("--help=commands").piped_stdout().spawn(&self.context.cancel, &self.context.runtime)?;
        let mut help = Vec::new();
        if let Some(mut pipe) = child.take_stdout() {
            pipe.read_to_end(&mut help).map_err(|error| SourceError::io("read from psql", &error))?;
        }
        child.wait()?;
        Ok(memchr::memmem::find(&help, b"\\restrict").is_some())
    }

    /// Runs psql over these inputs, one after the other.
    pub(super) fn feed(&self, inputs: &mut [&mut dyn Read]) -> Result<(), SourceError> {
        let command = ClientCommand::new(&self.programs.psql(), self.environment, ErrorCode::RestoreFailed);
        let mut child = command
            .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"])
            .piped_stdin()
            .spawn(&self.context.cancel, &self.context.runtime)?;
        let Some(mut pipe) = child.take_stdin() else {
            return Err(SourceError::new(ErrorCode::Internal, "psql was started without an input"));
        };
        match self.pump(inputs, &mut pipe) {
            Ok(()) => {
                drop(pipe);
                child.wait()
            }
            Err(Pump::Write(error)) => {
                // psql ended before its input did, and says why; the pipe stays open until it is known to be gone.
                let result = child.wait();
                drop(pipe);
                result.and(Err(SourceError::io("write to psql", &error)))
            }
            Err(Pump::Read(error)) => {
                drop(child);
                drop(pipe);
                Err(error)
            }
        }
    }

    fn pump(&self, inputs: &mut [&mut dyn Read], pipe: &mut ChildStdin) -> Result<(), Pump> {
        let mut buffer = vec![0; BUFFER];
        for input in inputs {
            loop {
                self.context.cancel.check().map_err(|reason| Pump::Read(reason.into()))?;
                let length = match input.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(length) => length,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(Pump::Read(SourceError::from_sink(error))),
                };
                pipe.write_all(&buffer[..length]).map_err(Pump::Write)?;
                self.context.progress.add_bytes(length as u64);
            }
        }
        Ok(())
    }
}

/// Which side of the pump failed.
enum Pump {
    Read(SourceError),
    Write(io::Error),
}

/// The parts of a data file outside its tables' rows.
fn gaps(file: &File) -> Vec<Range> {
    let mut ranges: Vec<Range> = file.tables.iter().flat_map(|table| table.ranges.clone()).collect();
    ranges.sort_by_key(|range| range.offset);
    let mut gaps = Vec::new();
    let mut at = 0;
    for range in ranges {
        if range.offset > at {
            gaps.push(Range { offset: at, length: range.offset - at });
        }
        at = at.max(range.offset + range.length);
    }
    if file.raw_length > at {
        gaps.push(Range { offset: at, length: file.raw_length - at });
    }
    gaps
}

/// The sequence of `SELECT pg_catalog.setval('schema.name', value, called);`.
fn set_sequence(line: &[u8]) -> Option<(Name, Name)> {
    let rest = line.strip_prefix(b"SELECT pg_catalog.setval(")?;
    let words = statements::words(rest);
    let statements::Word::Other(literal) = words.first()? else { return None };
    let words = statements::words(&statements::unquote(literal.strip_prefix(b"E").unwrap_or(literal)));
    let [schema, dot, name] = &words[..] else { return None };
    let is_dot = *dot == statements::Word::Other(b".".to_vec());
    let name_of = |word: &statements::Word| word.identifier().map(|name| Name::from(name.to_vec()));
    is_dot.then(|| Some((name_of(schema)?, name_of(name)?)))?
}

/// Lines of a stream, without their ends.
struct Lines {
    input: io::BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
}

impl Lines {
    fn new(input: Box<dyn Read + Send>) -> Self {
        Self { input: io::BufReader::with_capacity(1 << 16, input), line: Vec::new() }
    }

    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let length = io::BufRead::read_until(&mut self.input, b'\n', &mut self.line)?;
        Ok((length > 0).then(|| self.line.strip_suffix(b"\n").unwrap_or(&self.line)))
    }
}

/// A dump without its first `\restrict` and its last `\unrestrict`, for a psql that does not know them. Both stand
/// outside of rows: the first before any statement, the last as the only such line in the dump's end.
struct Unrestricted {
    input: Box<dyn Read + Send>,
    /// What was read and not yet given; the last [`HEAD`] bytes are held back until the end is seen.
    held: Vec<u8>,
    started: bool,
    ended: bool,
}

impl Unrestricted {
    fn new(input: Box<dyn Read + Send>) -> Self {
        Self { input, held: Vec::new(), started: false, ended: false }
    }

    /// Reads until enough is held to judge it, or to the end.
    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        while !self.ended && self.held.len() < wanted {
            match self.input.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(length) => self.held.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Read for Unrestricted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let was_ended = self.ended;
        self.fill(HEAD + BUFFER)?;
        if !self.started {
            self.started = true;
            let head = self.held.len().min(HEAD);
            let found = memchr::memmem::find(&self.held[..head], b"\n\\restrict ");
            remove_line(&mut self.held, found);
        }
        if self.ended && !was_ended {
            let tail = self.held.len().saturating_sub(HEAD);
            let found = memchr::memmem::rfind(&self.held[tail..], b"\n\\unrestrict ").map(|at| tail + at);
            remove_line(&mut self.held, found);
        }
        let ready = if self.ended { self.held.len() } else { self.held.len() - HEAD };
        let length = ready.min(buffer.len());
        buffer[..length].copy_from_slice(&self.held[..length]);
        self.held.drain(..length);
        Ok(length)
    }
}

/// Removes the line that begins behind the line feed at this place.
fn remove_line(text: &mut Vec<u8>, line_feed: Option<usize>) {
    if let Some(start) = line_feed {
        let end = memchr::memchr(b'\n', &text[start + 1..]).map_or(text.len(), |length| start + 1 + length);
        text.drain(start..end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_loses_only_its_restrict_lines() {
        for rows in [0, 100, 200_000] {
            let body = format!("COPY t FROM stdin;\n{}\\\\restrict x\n\\.\n", "1\trow\n".repeat(rows));
            let dump = format!(
                "--\n-- dump\n--\n\n\\restrict K\n\nSET x = 1;\n{body}--\n-- complete\n--\n\n\\unrestrict K\n\n"
            );
            let expected = format!("--\n-- dump\n--\n\n\nSET x = 1;\n{body}--\n-- complete\n--\n\n\n");
            let mut found = String::new();
            Unrestricted::new(Box::new(io::Cursor::new(dump.into_bytes()))).read_to_string(&mut found).unwrap();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn sequences_are_told_from_their_statements() {
        let found = |line: &str| set_sequence(line.as_bytes());
        assert_eq!(found("SELECT pg_catalog.setval('s.t_id_seq', 1, true);"), Some(("s".into(), "t_id_seq".into())));
        assert_eq!(
            found("SELECT pg_catalog.setval('\"S.''x\".\"a\"\"b\"', 1, true);"),
            Some(("S.'x".into(), "a\"b".into()))
        );
        assert_eq!(found("SELECT pg_catalog.lo_open('77', 131072);"), None);
    }
}
