//! Tables as systemctl prints them: a header in upper case, columns as wide as they must be, cut to the terminal.

use std::fmt::Write as _;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// How a column is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    /// Text, to the left.
    Left(&'static str),
    /// Numbers, to the right.
    Right(&'static str),
    /// Text that is cut first when the terminal is too narrow.
    Flexible(&'static str),
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Self::Left(name) | Self::Right(name) | Self::Flexible(name) => name,
        }
    }
}

/// Rows under named columns.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

/// What depends on where a table is printed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Style {
    /// Columns of the terminal; `None` where lines may have any length.
    pub(crate) width: Option<usize>,
    /// Print the header.
    pub(crate) header: bool,
    /// Underline it.
    pub(crate) underline: bool,
}

const GAP: usize = 1;
/// A column is not cut below this.
const NARROWEST: usize = 8;

impl Table {
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row. Control characters are made visible; an empty cell becomes `-`.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let shown = |cell: String| match cell {
            cell if cell.is_empty() => "-".to_owned(),
            cell if cell.chars().any(char::is_control) => visible(&cell),
            cell => cell,
        };
        self.rows.push(cells.into_iter().map(shown).collect());
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The table as text, each line ended.
    pub(crate) fn render(&self, style: Style) -> String {
        let widths = self.widths(style);
        let mut text = String::with_capacity(self.rows.len() * 120);
        if style.header {
            let names: Vec<String> = self.columns.iter().map(|column| column.name().to_owned()).collect();
            let mut line = String::new();
            self.line(&mut line, &names, &widths);
            if style.underline {
                // The underline runs the whole width of the table, over the gaps too.
                let total = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
                let _ = writeln!(text, "\x1b[4m{:total$}\x1b[0m", line.trim_end_matches('\n'));
            } else {
                text.push_str(&line);
            }
        }
        for row in &self.rows {
            self.line(&mut text, row, &widths);
        }
        text
    }

    fn line(&self, text: &mut String, cells: &[String], widths: &[usize]) {
        let last = self.columns.len().saturating_sub(1);
        for (i, ((cell, &width), column)) in cells.iter().zip(widths).zip(&self.columns).enumerate() {
            let cell = cut(cell, width);
            let padding = width.saturating_sub(cell.width());
            let (before, after) = match column {
                Column::Right(_) => (padding, 0),
                Column::Left(_) | Column::Flexible(_) => (0, padding),
            };
            text.extend(std::iter::repeat_n(' ', before));
            text.push_str(&cell);
            if i < last {
                text.extend(std::iter::repeat_n(' ', after + GAP));
            }
        }
        text.push('\n');
    }

    fn widths(&self, style: Style) -> Vec<usize> {
        let header = |column: &Column| if style.header { column.name().len() } else { 0 };
        let mut widths: Vec<usize> = self.columns.iter().map(header).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let Some(available) = style.width else { return widths };
        let flexible = |column: &Column| matches!(column, Column::Flexible(_));
        // Flexible columns give way first, the last before the first; then, on a very narrow terminal, text.
        for pass in 0..2 {
            for i in (0..widths.len()).rev() {
                let total = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
                let column = &self.columns[i];
                if flexible(column) || (pass == 1 && matches!(column, Column::Left(_))) {
                    let surplus = total.saturating_sub(available);
                    widths[i] = widths[i].saturating_sub(surplus).max(NARROWEST.min(widths[i]));
                }
            }
        }
        widths
    }
}

/// Makes control characters visible, so that no name can move the cursor or fake a line.
pub(crate) fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
        shown
    })
}

/// Cuts a text to a width, its end an ellipsis.
fn cut(text: &str, width: usize) -> std::borrow::Cow<'_, str> {
    if text.width() <= width {
        return text.into();
    }
    let mut shown = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        shown.push(c);
    }
    shown.push('…');
    shown.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[Column::Left("ID"), Column::Right("SIZE"), Column::Flexible("DESCRIPTION")]);
        table.row(["a1".to_owned(), "1.2G".to_owned(), "the first of a long row of backups".to_owned()]);
        table.row(["b22".to_owned(), "12B".to_owned(), String::new()]);
        table.row(["c".to_owned(), "0B".to_owned(), "two\nlines, zwölf 日本".to_owned()]);
        table
    }

    #[test]
    fn columns_line_up() {
        let style = Style { header: true, ..Style::default() };
        let expected = "ID  SIZE DESCRIPTION\n\
                        a1  1.2G the first of a long row of backups\n\
                        b22  12B -\n\
                        c     0B two\\nlines, zwölf 日本\n";
        assert_eq!(table().render(style), expected);
        assert_eq!(table().render(Style::default()).lines().count(), 3);
    }

    #[test]
    fn a_narrow_terminal_cuts_the_flexible_column() {
        let style = Style { width: Some(24), header: true, underline: false };
        let expected = "ID  SIZE DESCRIPTION\n\
                        a1  1.2G the first of a…\n\
                        b22  12B -\n\
                        c     0B two\\nlines, zw…\n";
        assert_eq!(table().render(style), expected);
    }

    #[test]
    fn the_header_is_underlined_over_its_whole_width() {
        let style = Style { width: Some(24), header: true, underline: true };
        assert!(table().render(style).starts_with("\x1b[4mID  SIZE DESCRIPTION    \x1b[0m\n"));
    }

    proptest! {
        #[test]
        fn lines_fit_the_terminal_and_stay_lines(cells in prop::collection::vec(".{0,60}", 3), width in 30_usize..120) {
            let mut table = Table::new(&[Column::Left("A"), Column::Flexible("B"), Column::Flexible("C")]);
            table.row(cells);
            let text = table.render(Style { width: Some(width), header: true, underline: false });
            prop_assert_eq!(text.lines().count(), 2);
            for line in text.lines() {
                prop_assert!(line.width() <= width, "{:?} is wider than {}", line, width);
            }
        }
    }
}
