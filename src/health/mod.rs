//! Whether the backups are as they should be: decisions over plain facts, without any I/O.
//!
//! - [`facts`]: what is looked at; [`finding`]: what is found.
//! - [`age`]: how old the newest good backup of a source may get.
//! - [`watch`]: what the dead-man's switch finds, which runs beside the daemon.
//! - `source_checks`, `host_checks`: the checks; `text`: numbers in their sentences.

pub mod age;
pub mod facts;
pub mod finding;
mod host_checks;
mod source_checks;
#[cfg(test)]
mod tests;
mod text;
pub mod watch;

pub use age::{AgeLimit, Basis, age_limit};
pub use facts::Facts;
pub use finding::{Code, Finding, Report, Severity, SourceHealth};
pub use host_checks::full_in;

/// Looks at everything. The same facts give the same report.
#[must_use]
pub fn assess(facts: &Facts) -> Report {
    let mut findings = host_checks::check(facts);
    let mut sources = Vec::new();
    for source in &facts.sources {
        let (health, found) = source_checks::check(source, facts.now);
        sources.push(health);
        findings.extend(found);
    }
    // Some of what is about the repository or undo copies is about a source, too.
    for source in &mut sources {
        let about = |finding: &&Finding| finding.source.as_ref() == Some(&source.source);
        source.severity = finding::worst(findings.iter().filter(about));
    }
    findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| (&a.source, a.code).cmp(&(&b.source, b.code))));
    Report { at: facts.now, severity: finding::worst(&findings), sources, findings }
}
