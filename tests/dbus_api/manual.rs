//! `org.backupd1(5)`: the same page for `man`. It is made of the Markdown, as much of it as `document` and the parts that people
//! write use; what else is met panics.

use std::fmt::Write as _;

/// Where `make install` puts what a page links to.
const DOCUMENTATION: &str = "/usr/share/doc/backupd";

const HEAD: &str = r#".\" Made from src/bus/org.backupd1.xml and tests/dbus_api/*.md; do not edit. The test dbus_api compares.
.TH ORG.BACKUPD1 5 "" "backupd" "D\-Bus Interfaces"
.SH NAME
org.backupd1 \- the D\-Bus interface of backupd
.SH DESCRIPTION
"#;

const TAIL: &str = r".SH SEE ALSO
.BR backupd (8),
.BR backupctl (1),
.BR busctl (1),
.BR polkit (8)
";

/// The manual page with the text of the Markdown page.
pub(crate) fn of(document: &str) -> String {
    // The title is the name; the sentence after it says how the Markdown is made.
    let body = document.splitn(3, "\n\n").nth(2).expect("a title, a sentence and the rest");
    let mut page = Page { text: HEAD.to_owned(), table: None, list: false };
    let mut lines = body.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(code) = line.strip_prefix("```") {
            assert!(["", "sh"].contains(&code), "code is {code:?}");
            let code: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            page.code(&code);
        } else if line.starts_with('|') {
            page.row(line);
        } else if line.trim().is_empty() {
            page.end_of_block();
        } else {
            // A paragraph or an entry of a list goes on until something else begins.
            let mut words = line.trim().to_owned();
            if !line.starts_with('#') {
                while let Some(next) = lines.next_if(|next| goes_on(next)) {
                    write!(words, " {}", next.trim()).unwrap();
                }
            }
            page.block(&words);
        }
    }
    page.text + TAIL
}

fn goes_on(line: &str) -> bool {
    let entry = line.starts_with("- ") || line.split_once(". ").is_some_and(|(n, _)| n.parse::<u32>().is_ok());
    !(line.trim().is_empty() || entry || line.starts_with(['|', '#']) || line.starts_with("```"))
}

struct Page {
    text: String,
    /// The columns of the table whose rows come.
    table: Option<Vec<String>>,
    /// Whether what follows stands in a list.
    list: bool,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Text, which must not begin with what roff takes for a request.
    fn words(&mut self, markdown: &str) {
        let words = inline(markdown);
        let guard = if words.starts_with(['.', '\'']) { "\\&" } else { "" };
        self.line(&format!("{guard}{words}"));
    }

    /// A section begins a paragraph by itself.
    fn paragraph(&mut self) {
        let begun = self.text.lines().last().is_some_and(|line| line.starts_with(".SH") || line.starts_with(".SS"));
        if !begun {
            self.line(".PP");
        }
    }

    fn end_of_block(&mut self) {
        self.table = None;
        self.list = false;
    }

    fn block(&mut self, words: &str) {
        if let Some(heading) = words.strip_prefix("## ") {
            self.line(&format!(".SH {}", plain(heading).to_uppercase().replace("ORG.BACKUPD1", "org.backupd1")));
        } else if let Some(heading) = words.strip_prefix("### ") {
            self.line(&format!(".SS {}", plain(heading)));
        } else if let Some(heading) = words.strip_prefix("#### ") {
            self.paragraph();
            self.line(&format!("\\fB{}\\fR", plain(heading)));
        } else if let Some(entry) = words.strip_prefix("- ") {
            self.line(".IP \\(bu 2");
            self.words(entry);
            self.list = true;
        } else if let Some((number, entry)) = words.split_once(". ").filter(|(n, _)| n.parse::<u32>().is_ok()) {
            self.line(&format!(".IP {number}. 3"));
            self.words(entry);
            self.list = true;
        } else {
            assert!(!words.starts_with('#'), "{words}");
            if !self.list {
                self.paragraph();
            }
            self.words(words);
        }
    }

    /// The first column is the term; a type follows it; others have their heading, but for the meaning.
    fn row(&mut self, line: &str) {
        let line = line.trim_matches('|').replace("\\|", "\u{1}");
        let cells: Vec<String> = line.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect();
        let Some(columns) = &self.table else {
            self.table = Some(cells);
            return;
        };
        if cells.iter().all(|cell| cell.bytes().all(|c| c == b'-')) {
            return;
        }
        assert_eq!(columns.len(), cells.len(), "{line}");
        let mut term = format!("\\fB{}\\fR", plain(&cells[0].replace('`', "")));
        let mut sentences: Vec<String> = Vec::new();
        for (column, cell) in columns.iter().zip(&cells).skip(1) {
            match column.as_str() {
                "type" => write!(term, " (\\fI{}\\fR)", plain(&cell.replace('`', ""))).unwrap(),
                "" | "meaning" => sentences.insert(0, cell.clone()),
                "what" => sentences.insert(0, format!("{cell}.")),
                other => sentences.push(format!("({other}: {cell})")),
            }
        }
        self.line(".TP");
        self.line(&term);
        self.words(&sentences.join(" "));
    }

    fn code(&mut self, lines: &[&str]) {
        self.paragraph();
        self.line(".nf");
        self.line(".RS 4");
        for line in lines {
            let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
            self.line(&format!("{guard}{}", plain(line)));
        }
        self.line(".RE");
        self.line(".fi");
    }
}

/// Characters that roff would take for something else.
fn plain(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('~', "\\(ti").replace('^', "\\(ha")
}

/// A paragraph: code and links become bold and italic, the rest is text.
fn inline(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown;
    while let Some(at) = rest.find(['`', '[']) {
        text.push_str(&prose(&rest[..at]));
        let (kind, after) = (rest.as_bytes()[at], &rest[at + 1..]);
        rest = if kind == b'`' {
            let (code, after) = after.split_once('`').expect("the end of code");
            write!(text, "\\fB{}\\fR", plain(code)).unwrap();
            after
        } else {
            let (_, target) = after.split_once("](").expect("a link");
            let (target, after) = target.split_once(')').expect("the end of a link");
            assert!(!target.contains("://"), "{target}: say how a manual shows it");
            write!(text, "\\fI{DOCUMENTATION}/{}\\fR", plain(target)).unwrap();
            after
        };
    }
    text + &prose(rest)
}

/// Words for people: a hyphen stays one.
fn prose(text: &str) -> String {
    assert!(!text.contains("**"), "{text}: say how a manual shows it");
    text.replace('\\', "\\e")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_becomes_roff() {
        let page = of("# T\n\nMade.\n\nOne `a-b`\ntwo.\n\n## Some thing\n\n- x [y](z.md)\n  more\n- 'q\n\n\
            | option | type | changes | meaning |\n|---|---|---|---|\n| `n` | `s` | never | a \\| b |\n\n```sh\n.x -y\n```\n");
        let body = page.strip_prefix(HEAD).and_then(|page| page.strip_suffix(TAIL)).unwrap();
        assert_eq!(
            body,
            "One \\fBa\\-b\\fR two.\n.SH SOME THING\n.IP \\(bu 2\nx \\fI/usr/share/doc/backupd/z.md\\fR more\n.IP \\(bu 2\n\\&'q\n\
            .TP\n\\fBn\\fR (\\fIs\\fR)\na | b (changes: never)\n.PP\n.nf\n.RS 4\n\\&.x \\-y\n.RE\n.fi\n"
        );
    }
}
