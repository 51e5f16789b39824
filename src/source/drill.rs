//! How a drill looks at a restored database: one check after the other, each noted however it ends.

use std::time::Instant;

use super::SourceError;
use crate::model::{
    ErrorCode,
    drill::{Check, CheckResult, DrillReport},
};

/// What a check that came to its end found.
pub(super) enum Finding {
    /// As it should be.
    Good(String),
    /// It cannot be looked at here.
    Skipped(String),
    /// Not as it should be.
    Bad(String),
}

/// Makes a check and notes it. What it meets on its way, such as a server that died, is its failure, too.
///
/// # Errors
/// The cancel; what the reader of the backup gave.
pub(super) fn check(
    report: &mut DrillReport,
    name: &str,
    look: impl FnOnce() -> Result<Finding, SourceError>,
) -> Result<(), SourceError> {
    let began = Instant::now();
    let (result, message) = match look() {
        Ok(Finding::Good(message)) => (CheckResult::Passed, message),
        Ok(Finding::Skipped(message)) => (CheckResult::Skipped, message),
        Ok(Finding::Bad(message)) => (CheckResult::Failed, message),
        Err(error @ SourceError::Failed { .. }) => (CheckResult::Failed, error.to_string()),
        Err(error) => return Err(error),
    };
    report.checks.push(Check { name: name.to_owned(), result, message, duration: micros(began) });
    Ok(())
}

/// The failure of the drill, if a check failed: all of what they found.
///
/// # Errors
/// `DrillFailed`.
pub(super) fn judge(report: &DrillReport) -> Result<(), SourceError> {
    let failed = report.checks.iter().filter(|check| check.result == CheckResult::Failed);
    let messages: Vec<&str> = failed.map(|check| check.message.as_str()).collect();
    if messages.is_empty() { Ok(()) } else { Err(SourceError::new(ErrorCode::DrillFailed, messages.join("; "))) }
}

/// Microseconds since then.
pub(super) fn micros(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failed_check_is_in_the_message_and_skipped_ones_are_not() {
        let mut report = DrillReport::default();
        let mut add = |name: &str, finding| check(&mut report, name, || finding).unwrap();
        add("schema", Ok(Finding::Good("equal".to_owned())));
        add("indexes", Ok(Finding::Skipped("no amcheck".to_owned())));
        add("rows", Ok(Finding::Bad("a row is missing".to_owned())));
        add("assertions", Err(SourceError::new(ErrorCode::DrillFailed, "no table t")));
        let error = judge(&report).unwrap_err();
        assert_eq!(error.code(), ErrorCode::DrillFailed);
        assert_eq!(error.to_string(), "a row is missing; no table t");
        report.checks.truncate(2);
        judge(&report).unwrap();
    }
}
