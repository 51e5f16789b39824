//! Compares the schema of the restored database with the one that was dumped: dump against dump.
//!
//! The lines are compared as a set: the order of statements depends on the numbers of objects, which differ. What pg_dump
//! writes about itself, and tablespaces, which a drill has none of, do not count.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read},
};

use crate::{
    model::{ErrorCode, manifest::FileRole},
    source::{
        JobContext, SetReader, SourceError,
        drill::Finding,
        postgres::{child::ClientCommand, client_programs::ClientPrograms, environment::LibpqEnvironment},
    },
};

/// How many differing lines are named, of each side.
const NAMED: usize = 4;
/// Bytes of a line that are compared and named; longer ones count by their beginning and length.
const LINE: usize = 1 << 16;
/// Characters of a line in a message.
const SHOWN: usize = 160;

/// How often each line occurs more in the first dump than in the second.
#[derive(Debug, Default)]
struct Lines(BTreeMap<Vec<u8>, i64>);

impl Lines {
    /// Counts the lines of a dump.
    fn count(&mut self, dump: impl Read, by: i64, context: &JobContext) -> io::Result<()> {
        let mut dump = BufReader::new(dump);
        let mut line = Vec::new();
        loop {
            context.cancel.check_io()?;
            line.clear();
            if dump.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let text = line.trim_ascii_end();
            let counts = !text.is_empty() && !IGNORED.iter().any(|beginning| text.starts_with(beginning));
            if counts {
                let key = match text.get(..LINE) {
                    Some(head) => [head, format!("… ({} bytes)", text.len()).as_bytes()].concat(),
                    None => text.to_vec(),
                };
                *self.0.entry(key).or_default() += by;
            }
        }
    }

    /// The lines that only the first dump has, and those that only the second has.
    fn differences(&self) -> (Vec<String>, Vec<String>) {
        let shown = |more: fn(i64) -> bool| {
            let lines = self.0.iter().filter(|(_, number)| more(**number));
            lines.map(|(line, _)| String::from_utf8_lossy(line).chars().take(SHOWN).collect()).collect()
        };
        (shown(|number| number > 0), shown(|number| number < 0))
    }
}

/// What says nothing about the schema.
const IGNORED: [&[u8]; 4] = [b"--", b"\\restrict ", b"\\unrestrict ", b"SET default_tablespace"];

pub(super) fn compare(
    programs: &ClientPrograms,
    environment: &LibpqEnvironment,
    reader: &dyn SetReader,
    context: &JobContext,
) -> Result<Finding, SourceError> {
    let manifest = reader.manifest();
    let Some(facts) = &manifest.postgresql else { return Ok(Finding::Skipped("no facts".to_owned())) };
    if facts.pg_dump_version != programs.version {
        return Ok(Finding::Skipped(format!(
            "the schema was not compared: it was dumped by {}, and {} words things differently",
            facts.pg_dump_version, programs.version
        )));
    }
    if facts
        .selection
        .as_ref()
        .is_some_and(|chosen| !chosen.include_tables.is_empty() || !chosen.include_schemas.is_empty())
    {
        return Ok(Finding::Skipped("the schema was not compared: the backup holds a part of the database".to_owned()));
    }
    let mut lines = Lines::default();
    for role in [FileRole::PreData, FileRole::PostData] {
        for file in manifest.files.iter().filter(|file| file.role == role) {
            let dump = reader.open(&file.name).map_err(SourceError::from_sink)?;
            lines.count(dump, 1, context).map_err(SourceError::from_sink)?;
        }
    }
    let expected = lines.0.values().sum::<i64>();
    // One section at a time, as the backup has them: each begins with the same settings.
    for section in ["--section=pre-data", "--section=post-data"] {
        let mut child = ClientCommand::new(&programs.pg_dump(), environment, ErrorCode::DrillFailed)
            .args([section, "--no-password"])
            .piped_stdout()
            .spawn(&context.cancel, &context.runtime)?;
        if let Some(dump) = child.take_stdout() {
            lines.count(dump, -1, context).map_err(SourceError::from_sink)?;
        }
        child.wait()?;
    }
    Ok(judge(&lines, expected))
}

fn judge(lines: &Lines, expected: i64) -> Finding {
    let (missing, more) = lines.differences();
    if missing.is_empty() && more.is_empty() {
        return Finding::Good(format!("the dump of the restored schema is that of the backup, {expected} lines"));
    }
    let list = |what: &str, lines: &[String]| match lines.len() {
        0 => None,
        number => {
            let named: Vec<String> = lines.iter().take(NAMED).map(|line| format!("{line:?}")).collect();
            let rest = if number > NAMED { format!(" and {} more", number - NAMED) } else { String::new() };
            Some(format!("{what} {}{rest}", named.join(", ")))
        }
    };
    let parts: Vec<String> =
        [list("it lacks", &missing), list("it has besides", &more)].into_iter().flatten().collect();
    Finding::Bad(format!("the restored schema differs from the backup's: {}", parts.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Cancel;

    fn found(backup: &str, restored: &str) -> Finding {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let context = JobContext {
            cancel: Cancel::new(),
            progress: std::sync::Arc::default(),
            scratch: "/nonexistent".into(),
            runtime: runtime.handle().clone(),
        };
        let mut lines = Lines::default();
        lines.count(backup.as_bytes(), 1, &context).unwrap();
        lines.count(restored.as_bytes(), -1, &context).unwrap();
        judge(&lines, 0)
    }

    #[test]
    fn order_and_comments_do_not_count_and_everything_else_does() {
        let backup =
            "-- Dumped by 15\n\\restrict a\nCREATE TABLE a ();\n\nSET default_tablespace = x;\nCREATE TABLE b ();\n";
        assert!(matches!(found(backup, "CREATE TABLE b ();\n-- x\nCREATE TABLE a ();\n"), Finding::Good(_)));
        let Finding::Bad(message) = found(backup, "CREATE TABLE b ();\nCREATE TABLE b ();\n") else { panic!("equal") };
        assert!(message.contains("lacks \"CREATE TABLE a ();\"; it has besides \"CREATE TABLE b ();\""), "{message}");
        let long = "x".repeat(2 * LINE);
        assert!(matches!(found(&long, &format!("{long}y")), Finding::Bad(_)));
    }
}
