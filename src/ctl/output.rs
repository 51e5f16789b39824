//! Standard output: text or JSON, written in one piece; and where it goes.

use std::{
    cell::RefCell,
    io::{self, BufWriter, IsTerminal as _, StdoutLock, Write as _},
};

use serde::Serialize;

use super::{
    arguments::{Common, Json},
    error::CtlError,
    human,
    table::{Style, Table},
};

/// How a command prints.
pub(crate) struct Output {
    json: Json,
    legend: bool,
    quiet: bool,
    terminal: bool,
    writer: RefCell<BufWriter<StdoutLock<'static>>>,
}

impl Output {
    pub(crate) fn new(common: &Common) -> Self {
        let stdout = io::stdout();
        Self {
            json: common.json,
            legend: !common.no_legend,
            quiet: common.quiet,
            terminal: stdout.is_terminal(),
            writer: RefCell::new(BufWriter::with_capacity(256 << 10, stdout.lock())),
        }
    }

    /// Whether JSON is wanted.
    pub(crate) fn is_json(&self) -> bool {
        self.json != Json::Off
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether standard output is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Prints text as it is.
    pub(crate) fn text(&self, text: &str) -> Result<(), CtlError> {
        self.writer.borrow_mut().write_all(text.as_bytes()).map_err(|error| CtlError::output(&error))
    }

    /// Prints a line.
    pub(crate) fn line(&self, line: impl std::fmt::Display) -> Result<(), CtlError> {
        writeln!(self.writer.borrow_mut(), "{line}").map_err(|error| CtlError::output(&error))
    }

    /// Prints a value as JSON.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), CtlError> {
        let mut writer = self.writer.borrow_mut();
        let written = match self.json {
            Json::Pretty => serde_json::to_writer_pretty(&mut *writer, value),
            Json::Short | Json::Off => serde_json::to_writer(&mut *writer, value),
        };
        written
            .map_err(io::Error::from)
            .and_then(|()| writer.write_all(b"\n"))
            .map_err(|error| CtlError::output(&error))
    }

    /// Prints a table and how many rows it has.
    pub(crate) fn table(&self, table: &Table, noun: &str) -> Result<(), CtlError> {
        let count = format!("{} listed.", human::plural(table.len(), noun));
        if table.len() > 0 {
            self.text(&table.render(self.style()))?;
            return self.legend(&count);
        }
        if self.legend { self.line(count) } else { Ok(()) }
    }

    /// Prints the line below a table.
    pub(crate) fn legend(&self, text: &str) -> Result<(), CtlError> {
        if self.legend { self.line(format_args!("\n{text}")) } else { Ok(()) }
    }

    pub(crate) fn style(&self) -> Style {
        let columns = || std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let terminal = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Style {
            width: if self.terminal { columns().or_else(terminal) } else { None },
            header: self.legend,
            underline: self.terminal && !plain,
        }
    }

    /// Hands everything over to the reader.
    pub(crate) fn finish(&self) -> Result<(), CtlError> {
        self.writer.borrow_mut().flush().map_err(|error| CtlError::output(&error))
    }
}

/// Says something on standard error. Nobody is left to be told if that is closed.
pub(crate) fn say(message: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{message}");
}
