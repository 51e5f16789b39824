//! Prometheus' text format: families of samples, each with its help and type once, labels escaped.

use std::fmt::Write as _;

/// A text in the making.
#[derive(Debug, Default)]
pub(super) struct Text {
    text: String,
}

/// What kind of figure a family has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only goes up, until the program starts again.
    Counter,
}

impl Text {
    /// Begins a family. One without samples is left out again by [`Text::family`]'s caller passing none.
    pub(super) fn family<'l>(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<(&'l str, String)>, f64)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        // To a string nothing of this can fail.
        let _ = writeln!(self.text, "# HELP {name} {}", help.replace('\\', "\\\\").replace('\n', "\\n"));
        let _ = writeln!(self.text, "# TYPE {name} {kind}");
        for (labels, value) in samples {
            let labels: Vec<String> =
                labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(self.text, "{name}{labels} {value}");
        }
    }

    pub(super) fn into_string(self) -> String {
        self.text
    }
}

/// The value of a label, as it stands between quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_help_are_escaped() {
        let mut text = Text::default();
        let labels = vec![("a", "x\"\\\n".to_owned()), ("b", "caf\u{e9}".to_owned())];
        text.family("one", Kind::Gauge, "a\\b\nc", [(labels, 1.5)]);
        text.family("none", Kind::Gauge, "nothing", []);
        text.family("two_total", Kind::Counter, "plain", [(vec![], 1e15)]);
        let expected = "# HELP one a\\\\b\\nc\n# TYPE one gauge\none{a=\"x\\\"\\\\\\n\",b=\"caf\u{e9}\"} 1.5\n\
                        # HELP two_total plain\n# TYPE two_total counter\ntwo_total 1000000000000000\n";
        assert_eq!(text.into_string(), expected);
    }
}
