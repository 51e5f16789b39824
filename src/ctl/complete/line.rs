//! A command line as bash has it while it is typed, and a completion in the form in which bash inserts it.
//!
//! bash replaces only what follows the last of its `COMP_WORDBREAKS`, `@` and `:` among them, or the quote that is open.

/// The words up to the cursor.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The words before the one at the cursor, without their quotes; the command is the first.
    pub(super) words: Vec<String>,
    /// The beginning of the word at the cursor, without its quotes.
    pub(super) current: String,
    /// How many bytes of `current` bash will not replace.
    kept: usize,
    /// The quote that is open at the cursor.
    quote: Option<char>,
}

impl Line {
    /// Takes a line apart. `None` where the cursor is at the target of a redirection, which is no word of the command.
    pub(super) fn parse(line: &str, breaks: &str) -> Option<Self> {
        let mut reader = Reader::default();
        let mut characters = line.chars();
        while let Some(c) = characters.next() {
            match (reader.quote, c) {
                (Some('"'), '\\') => match characters.next() {
                    Some(next) if "$`\"\\".contains(next) => reader.push(next),
                    Some(next) => ['\\', next].into_iter().for_each(|c| reader.push(c)),
                    None => {}
                },
                (Some(quote), c) if c == quote => reader.close(),
                (Some(_), c) => reader.push(c),
                (None, '\\') => reader.push(characters.next()?),
                (None, '\'' | '"') => reader.open(c),
                (None, c) if c.is_whitespace() => reader.end_word(),
                (None, '<' | '>') => reader.redirect(),
                (None, '|' | '&' | ';' | '(') if !reader.redirected => reader = Reader::default(),
                (None, c) => {
                    let before = reader.length();
                    reader.push(c);
                    if breaks.contains(c) {
                        // "@" begins what bash replaces, as before the name of a host; the others stand before it.
                        reader.kept = if c == '@' { before } else { reader.length() };
                    }
                }
            }
        }
        (!reader.redirected).then(|| Self {
            words: reader.words,
            current: reader.word.unwrap_or_default(),
            kept: reader.kept,
            quote: reader.quote,
        })
    }

    /// What bash shall insert to make the word at the cursor this one; `None` where the quote does not allow that.
    pub(super) fn reply(&self, word: &str) -> Option<String> {
        let rest = word.strip_prefix(self.current.get(..self.kept)?)?;
        let escape = |special: fn(char) -> bool| {
            let escaped = rest.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c]));
            Some(escaped.collect())
        };
        match self.quote {
            Some('\'') => (!rest.contains('\'')).then(|| rest.to_owned()),
            Some(_) => escape(|c| "$`\"\\".contains(c)),
            None => escape(|c| c.is_ascii() && !c.is_ascii_alphanumeric() && !"_@%+=:,./-".contains(c)),
        }
    }
}

#[derive(Default)]
struct Reader {
    words: Vec<String>,
    /// The word being read; none between words.
    word: Option<String>,
    kept: usize,
    /// `kept` before the quote was opened.
    kept_outside: usize,
    quote: Option<char>,
    redirected: bool,
}

impl Reader {
    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    /// Of the word so far, in bytes.
    fn length(&self) -> usize {
        self.word.as_ref().map_or(0, String::len)
    }

    fn open(&mut self, quote: char) {
        self.word.get_or_insert_default();
        (self.quote, self.kept_outside, self.kept) = (Some(quote), self.kept, self.length());
    }

    fn close(&mut self) {
        (self.quote, self.kept) = (None, self.kept_outside);
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        if !std::mem::take(&mut self.redirected) {
            self.words.push(word);
        }
        self.kept = 0;
    }

    fn redirect(&mut self) {
        // Directly before it stands the number of a descriptor.
        if self.word.as_ref().is_some_and(|word| word.bytes().all(|c| c.is_ascii_digit())) {
            self.word = None;
        }
        self.end_word();
        self.redirected = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BREAKS: &str = " \t\n\"'@><=;|&(:";

    fn parse(line: &str) -> Line {
        Line::parse(line, BREAKS).unwrap()
    }

    #[test]
    fn words_lose_their_quotes() {
        let line = parse(r#"backupctl --address "unix:path=/a b" sh\ ow 'x"y' "q\"z" --source=se"#);
        assert_eq!(line.words, ["backupctl", "--address", "unix:path=/a b", "sh ow", "x\"y", "q\"z"]);
        assert_eq!(line.current, "--source=se");
        assert_eq!((parse("backupctl ").current, parse("backupctl ").words.len()), (String::new(), 1));
        assert_eq!(parse("backupctl list ''").current, "");
    }

    #[test]
    fn only_what_bash_replaces_is_answered() {
        for (line, word, reply) in [
            ("backupctl show sh", "shop@latest", "shop@latest"),
            ("backupctl show shop@", "shop@latest", "@latest"),
            ("backupctl show shop@2026-11-01T14:3", "shop@2026-11-01T14:30:05", "30:05"),
            ("backupctl list --source=s", "--source=shop", "shop"),
            ("backupctl list all/a", "all/a b$", "all/a\\ b\\$"),
            ("backupctl list 'all/a", "all/a b$", "all/a b$"),
            ("backupctl list \"all/a", "all/a b$", "all/a b\\$"),
            ("backupctl list --source=\"all/a", "--source=all/a b", "all/a b"),
            ("backupctl list \"all\"/a@", "all/a@b", "@b"),
            ("backupctl list all/\"a@", "all/a@b", "a@b"),
            ("backupctl list ü", "übung", "übung"),
        ] {
            assert_eq!(parse(line).reply(word).as_deref(), Some(reply), "{line}");
        }
        assert_eq!(parse("backupctl list 'a").reply("a'b"), None);
        assert_eq!(parse("backupctl list shop@").reply("other"), None);
    }

    #[test]
    fn what_belongs_to_the_shell() {
        for line in
            ["backupctl export shop@latest > /tm", "backupctl list 2>", "backupctl list 2>&1 >>x", "backupctl list\\"]
        {
            assert_eq!(Line::parse(line, BREAKS), None, "{line}");
        }
        assert_eq!(parse("backupctl list 2>&1 sh").words, ["backupctl", "list"]);
        assert_eq!(parse("backupctl list | backupctl show x").words, ["backupctl", "show"]);
    }

    proptest::proptest! {
        #[test]
        fn no_line_is_too_odd(line in ".{0,40}", word in ".{0,20}") {
            if let Some(line) = Line::parse(&line, BREAKS) {
                let _ = line.reply(&word);
            }
        }
    }
}
