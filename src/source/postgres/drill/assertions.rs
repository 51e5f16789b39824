//! The user's own assertions: SQL whose result rows begin with a true value.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};

use crate::{
    model::ErrorCode,
    source::{
        JobContext, SourceError,
        drill::Finding,
        postgres::{child::ClientCommand, client_programs::ClientPrograms, environment::LibpqEnvironment},
    },
};

/// What separates the columns in what psql prints.
const SEPARATOR: char = '\u{1f}';
/// How psql prints a missing value.
const NULL: &str = "NULL";
/// Bytes of output that are looked at; assertions answer in a few.
const OUTPUT: u64 = 1 << 20;
/// Failed rows that are named.
const NAMED: usize = 5;
/// Characters of a row that are named.
const SHOWN: usize = 300;

/// Runs the text with psql in the restored database. An error in it is a failed assertion; so is a row whose first column
/// is false or missing.
pub(super) fn run(
    sql: &str,
    programs: &ClientPrograms,
    environment: &LibpqEnvironment,
    context: &JobContext,
) -> Result<Finding, SourceError> {
    let failed = |error: &std::io::Error| SourceError::io("write the assertions for psql", error);
    let mut file = tempfile::Builder::new()
        .prefix("drill-")
        .suffix(".sql")
        .tempfile_in(&context.scratch)
        .map_err(|e| failed(&e))?;
    file.write_all(sql.as_bytes()).and_then(|()| file.flush()).map_err(|e| failed(&e))?;
    let mut child = ClientCommand::new(&programs.psql(), environment, ErrorCode::DrillFailed)
        // The settings of the database itself, its search path above all, rather than those that a dump pins.
        .env("PGOPTIONS", "")
        .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--no-align", "--tuples-only", "--no-password"])
        .arg(format!("--field-separator={SEPARATOR}"))
        .arg(format!("--pset=null={NULL}"))
        .arg("--file")
        .arg(file.path())
        .piped_stdout()
        .spawn(&context.cancel, &context.runtime)?;
    let mut judged = Judged::default();
    if let Some(output) = child.take_stdout() {
        let mut lines = BufReader::new(output.take(OUTPUT));
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).map_err(|error| SourceError::io("read from psql", &error))? > 0 {
            judged.row(&String::from_utf8_lossy(&line));
            line.clear();
        }
        // Nobody answers a million times; the rest is read so that psql comes to its end.
        std::io::copy(lines.into_inner().get_mut(), &mut std::io::sink())
            .map_err(|error| SourceError::io("read from psql", &error))?;
    }
    match child.wait() {
        Err(SourceError::Failed { message, .. }) => Ok(Finding::Bad(format!("the assertions failed: {message}"))),
        Err(error) => Err(error),
        Ok(()) => Ok(judged.finding()),
    }
}

/// What the rows say so far.
#[derive(Debug, Default)]
struct Judged {
    rows: u64,
    failed: Vec<String>,
}

impl Judged {
    fn row(&mut self, line: &str) {
        let line = line.trim_end_matches('\n');
        if line.is_empty() {
            return;
        }
        self.rows += 1;
        let first = line.split(SEPARATOR).next().unwrap_or_default();
        if first == "f" || first == NULL {
            let shown: String = line.replace(SEPARATOR, " | ").chars().take(SHOWN).collect();
            self.failed.push(format!("row {} of the answers is {shown:?}", self.rows));
        }
    }

    fn finding(mut self) -> Finding {
        match (self.rows, self.failed.len()) {
            (0, _) => Finding::Bad("the assertions gave no row: nothing was asserted".to_owned()),
            (rows, 0) => Finding::Good(format!("{rows} assertions hold")),
            (_, number) => {
                self.failed.truncate(NAMED);
                let more = if number > NAMED { format!("; and {} more", number - NAMED) } else { String::new() };
                Finding::Bad(format!("an assertion does not hold: {}{more}", self.failed.join("; ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(output: &str) -> Finding {
        let mut judged = Judged::default();
        output.lines().for_each(|line| judged.row(line));
        judged.finding()
    }

    #[test]
    fn false_and_missing_answers_fail_and_so_does_silence() {
        assert!(matches!(found("t\nt\u{1f}orders\n17\n"), Finding::Good(message) if message == "3 assertions hold"));
        assert!(
            matches!(found("t\n\nf\u{1f}orders\n"), Finding::Bad(message) if message.contains("row 2 of the answers is \"f | orders\""))
        );
        assert!(matches!(found("NULL\n"), Finding::Bad(_)));
        assert!(matches!(found(""), Finding::Bad(message) if message.contains("nothing was asserted")));
    }
}
