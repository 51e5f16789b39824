//! `health`: whether the backups are as they should be, as monitoring plugins say it: a line with the state and figures,
//! then what was found; the exit code is 0, 1, 2 or 3, the last also where nobody answers.

use super::super::{
    arguments::{Common, HealthArguments},
    client::Client,
    error::CtlError,
    human,
    output::Output,
    table::{Column, Table, visible},
};
use crate::{
    clock::now_micros,
    health::{Finding, Report, Severity},
    model::ErrorCode,
};

pub(super) async fn run(common: &Common, output: &Output, arguments: &HealthArguments) -> Result<(), CtlError> {
    let source = arguments.source.as_deref().unwrap_or_default();
    let (text, report) = match ask(common, source).await {
        Ok(answer) => answer,
        Err(error) => {
            if output.is_json() {
                output.json(&serde_json::json!({ "severity": "unknown", "error": error.to_string() }))?;
            } else {
                output.line(format_args!("BACKUPD UNKNOWN - {}", plain(&error.to_string())))?;
            }
            output.finish()?;
            return Err(CtlError::health(Severity::Unknown.exit_code()));
        }
    };
    if output.is_json() {
        let report: serde_json::Value = serde_json::from_str(&text).map_err(unreadable)?;
        output.json(&report)?;
    } else {
        output.line(headline(&report, now_micros()))?;
        if !report.findings.is_empty() && !output.is_quiet() {
            output.text(&table(&report.findings).render(output.style()))?;
        }
    }
    output.finish()?;
    match report.severity {
        Severity::Ok => Ok(()),
        severity => Err(CtlError::health(severity.exit_code())),
    }
}

async fn ask(common: &Common, source: &str) -> Result<(String, Report), CtlError> {
    let client = Client::connect(common).await?;
    let text = client.manager().get_health(source, 0).await?;
    let report = serde_json::from_str(&text).map_err(unreadable)?;
    Ok((text, report))
}

fn unreadable(error: serde_json::Error) -> CtlError {
    CtlError::new(ErrorCode::Failed, format!("the daemon's report cannot be read: {error}"))
}

/// The first line: `BACKUPD WARNING - shop has …; 1 more|figures`.
fn headline(report: &Report, now: u64) -> String {
    let problems: Vec<&Finding> = report.findings.iter().filter(|finding| finding.severity > Severity::Ok).collect();
    let said = match problems.as_slice() {
        [] => format!("{} as they should be", human::plural(report.sources.len(), "source")),
        [one] => plain(&one.message),
        [worst, rest @ ..] => format!("{}; and {} more", plain(&worst.message), rest.len()),
    };
    let figures = figures(report, now);
    let separator = if figures.is_empty() { "" } else { "|" };
    format!("BACKUPD {} - {said}{separator}{figures}", report.severity.as_str().to_ascii_uppercase())
}

/// What monitoring draws: the age of the newest good backup in seconds, with its limit, and how many there are.
fn figures(report: &Report, now: u64) -> String {
    let backed_up = report.sources.iter().filter(|source| source.last_good_at != 0);
    let figures = backed_up.map(|source| {
        let age = now.saturating_sub(source.last_good_at) / 1_000_000;
        let limit = if source.age_limit == 0 { String::new() } else { (source.age_limit / 1_000_000).to_string() };
        format!("'{0} age'={age}s;;{limit};0 '{0} backups'={1};;;0", source.source, source.good_backups)
    });
    figures.collect::<Vec<_>>().join(" ")
}

/// On one line, and without the character that begins the figures.
fn plain(text: &str) -> String {
    visible(&text.replace('\n', "; ").replace('|', "/"))
}

fn table(findings: &[Finding]) -> Table {
    let mut table = Table::new(&[
        Column::Left("STATE"),
        Column::Left("SOURCE"),
        Column::Left("CODE"),
        Column::Flexible("PROBLEM"),
        Column::Flexible("ADVICE"),
    ]);
    for finding in findings {
        table.row([
            finding.severity.as_str().to_ascii_uppercase(),
            finding.source.clone().unwrap_or_default(),
            finding.code.name().to_owned(),
            finding.message.clone(),
            finding.advice.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{Code, SourceHealth};

    #[test]
    fn the_first_line_is_what_monitoring_plugins_print() {
        let source = SourceHealth {
            source: "shop".to_owned(),
            last_good_at: 1_000_000,
            age_limit: 93_600_000_000,
            good_backups: 2,
            ..SourceHealth::default()
        };
        let mut report = Report { sources: vec![source, SourceHealth::default()], ..Report::default() };
        let figures = "|'shop age'=7s;;93600;0 'shop backups'=2;;;0";
        assert_eq!(headline(&report, 8_000_000), format!("BACKUPD OK - 2 sources as they should be{figures}"));
        let finding = Finding {
            code: Code::BackupFailed,
            severity: Severity::Critical,
            source: Some("shop".to_owned()),
            message: "a|b\nc".to_owned(),
            advice: "d".to_owned(),
        };
        report.severity = Severity::Critical;
        report.findings = vec![finding.clone(), Finding { severity: Severity::Ok, ..finding.clone() }];
        assert_eq!(headline(&report, 8_000_000), format!("BACKUPD CRITICAL - a/b; c{figures}"));
        report.findings = vec![finding.clone(), finding];
        report.sources.clear();
        assert_eq!(headline(&report, 0), "BACKUPD CRITICAL - a/b; c; and 1 more");
    }
}
