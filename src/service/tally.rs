//! How far a job over several databases came, and how it ends. Pure.

use serde_json::{Map, Value, json};

use super::{error::ServiceError, several};
use crate::{
    model::{ErrorCode, Name, SourceName},
    stream::CancelReason,
};

/// What became of the databases so far.
#[derive(Debug)]
pub(super) struct Tally {
    source: SourceName,
    databases: usize,
    done: usize,
    failed: Vec<(Name, ServiceError)>,
    stopped: Option<CancelReason>,
}

impl Tally {
    /// Of a job that is to do this many databases of a source.
    pub(super) fn new(source: SourceName, databases: usize) -> Self {
        Self { source, databases, done: 0, failed: Vec::new(), stopped: None }
    }

    /// One is done.
    pub(super) fn done(&mut self) {
        self.done += 1;
    }

    /// One failed.
    pub(super) fn failed(&mut self, database: &Name, error: ServiceError) {
        self.failed.push((database.clone(), error));
    }

    /// The job ends early.
    pub(super) fn stopped(&mut self, reason: CancelReason) {
        self.stopped = Some(reason);
    }

    /// The counts, and all failures with their reasons.
    pub(super) fn statistics(&self) -> Map<String, Value> {
        let tried = self.done + self.failed.len();
        let failures = self.failed.iter().map(|(database, error)| {
            json!({ "database": database, "error": error.code().name(), "message": error.to_string() })
        });
        let mut statistics = Map::new();
        statistics.insert("databases".into(), self.databases.into());
        statistics.insert("done".into(), self.done.into());
        statistics.insert("failed".into(), self.failed.len().into());
        let left = if self.stopped.is_some() { self.databases.saturating_sub(tried) } else { 0 };
        statistics.insert("not_tried".into(), left.into());
        statistics.insert("failures".into(), failures.collect());
        statistics
    }

    /// The error of the job: why it was stopped, or which databases failed; none where all was done. `did` is what was to
    /// happen to them: `"backed up"`.
    pub(super) fn failure(&self, did: &str) -> Option<ServiceError> {
        let Self { source, databases, done, failed, .. } = self;
        let reasons = || several::enumerate(failed.iter().map(|(name, error)| (name.display(), error.to_string())));
        if let Some(reason) = self.stopped {
            let before = format!("{done} of {databases} databases of {source} were {did} before");
            let failed = if failed.is_empty() { String::new() } else { format!("; others failed: {}", reasons()) };
            let error = ServiceError::from(reason);
            return Some(ServiceError::new(error.code(), format!("{error}; {before}{failed}")));
        }
        let (_, first) = failed.first()?;
        let same = *done == 0 && failed.iter().all(|(_, error)| error.code() == first.code());
        let code = if same { first.code() } else { ErrorCode::PartlyFailed };
        let message = format!("{} of {databases} databases of {source} failed: {}", failed.len(), reasons());
        Some(ServiceError::new(code, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(databases: usize, done: usize) -> Tally {
        let mut tally = Tally::new("all".parse().unwrap(), databases);
        (0..done).for_each(|_| tally.done());
        tally
    }

    fn error(code: ErrorCode) -> ServiceError {
        ServiceError::new(code, "it is broken")
    }

    #[test]
    fn all_is_well() {
        let tally = of(2, 2);
        assert_eq!(tally.failure("backed up"), None);
        let expected = json!({"databases": 2, "done": 2, "failed": 0, "not_tried": 0, "failures": []});
        assert_eq!(Value::Object(tally.statistics()), expected);
    }

    #[test]
    fn some_that_fail_are_named_with_their_reasons() {
        let mut tally = of(12, 1);
        for n in 0..10 {
            tally.failed(&format!("x\n{n}").as_str().into(), error(ErrorCode::LockTimeout));
        }
        let failure = tally.failure("backed up").unwrap();
        assert_eq!(failure.code(), ErrorCode::PartlyFailed);
        let message = failure.to_string();
        assert!(message.starts_with("10 of 12 databases of all failed: x\\n0: it is broken; x\\n1: "), "{message}");
        assert!(message.ends_with("; and 2 more"), "{message}");
        let statistics = tally.statistics();
        assert_eq!(statistics["failures"].as_array().unwrap().len(), 10, "the statistics have them all");
        let last = json!({"database": "x\n9", "error": "LockTimeout", "message": "it is broken"});
        assert_eq!(statistics["failures"][9], last);
    }

    #[test]
    fn all_that_fail_for_one_reason_have_its_code() {
        for (second, done, expected) in [
            (ErrorCode::DatabaseUnreachable, 0, ErrorCode::DatabaseUnreachable),
            (ErrorCode::DatabaseUnreachable, 1, ErrorCode::PartlyFailed),
            (ErrorCode::LockTimeout, 0, ErrorCode::PartlyFailed),
        ] {
            let mut tally = of(2 + done, done);
            tally.failed(&"a".into(), error(ErrorCode::DatabaseUnreachable));
            tally.failed(&"b".into(), error(second));
            assert_eq!(tally.failure("restored").unwrap().code(), expected);
        }
    }

    #[test]
    fn a_job_that_was_stopped_says_how_far_it_came() {
        for (reason, code) in
            [(CancelReason::Requested, ErrorCode::Canceled), (CancelReason::Shutdown, ErrorCode::ShuttingDown)]
        {
            let mut tally = of(5, 1);
            tally.failed(&"b".into(), error(ErrorCode::LockTimeout));
            tally.stopped(reason);
            let failure = tally.failure("restored").unwrap();
            assert_eq!(failure.code(), code);
            let message = failure.to_string();
            assert!(message.contains("1 of 5 databases of all were restored before; others failed: b: "), "{message}");
            assert_eq!(tally.statistics()["not_tried"], 3);
        }
    }
}
