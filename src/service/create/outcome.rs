//! What became of a run over several databases: counted, and judged at its end. Pure.

use serde_json::{Map, Value, json};

use crate::{
    model::{BackupId, ErrorCode, Name, SourceName, manifest::Statistics},
    service::{ServiceError, jobs::JobOutcome, several},
    stream::CancelReason,
};

/// What became of the databases so far.
#[derive(Debug)]
pub(super) struct RunOutcome {
    source: SourceName,
    databases: usize,
    done: Vec<(Name, BackupId)>,
    failed: Vec<(Name, ServiceError)>,
    fresh: Vec<Name>,
    vanished: Vec<Name>,
    total: Statistics,
    stopped: Option<CancelReason>,
}

impl RunOutcome {
    /// Of a run that is to take this many databases.
    pub(super) fn new(source: SourceName, databases: usize, fresh: Vec<Name>, vanished: Vec<Name>) -> Self {
        let (done, failed, total) = (Vec::new(), Vec::new(), Statistics::default());
        Self { source, databases, done, failed, fresh, vanished, total, stopped: None }
    }

    /// A backup is there.
    pub(super) fn done(&mut self, database: &Name, id: BackupId, statistics: &Statistics) {
        self.done.push((database.clone(), id));
        let total = &mut self.total;
        total.raw_bytes += statistics.raw_bytes;
        total.stored_bytes += statistics.stored_bytes;
        total.new_bytes += statistics.new_bytes;
        total.chunks += statistics.chunks;
        total.reused_chunks += statistics.reused_chunks;
        total.reused_bytes += statistics.reused_bytes;
        total.rows += statistics.rows;
        total.database_bytes += statistics.database_bytes;
    }

    /// There is none of this database, for this reason.
    pub(super) fn failed(&mut self, database: &Name, error: ServiceError) {
        self.failed.push((database.clone(), error));
    }

    /// The database went away while it waited for its turn, or was read.
    pub(super) fn vanished(&mut self, database: &Name) {
        self.vanished.push(database.clone());
    }

    /// The run ends early.
    pub(super) fn stopped(&mut self, reason: CancelReason) {
        self.stopped = Some(reason);
    }

    /// The end of the job: its statistics, and its error unless all was done.
    pub(super) fn conclude(self, duration: u64) -> JobOutcome {
        let failure = self.failure();
        let mut outcome = JobOutcome::new(None, Statistics { duration, ..self.total });
        let tried = self.done.len() + self.failed.len();
        let failures = self.failed.iter().map(|(database, error)| {
            json!({ "database": database, "error": error.code().name(), "message": error.to_string() })
        });
        // One that is no UTF-8 cannot be connected to, so it is not among these.
        let backups: Map<String, Value> =
            self.done.iter().map(|(name, id)| (name.lossy().into_owned(), id.to_string().into())).collect();
        let facts = json!({
            "databases": self.databases,
            "done": self.done.len(),
            "failed": self.failed.len(),
            "not_tried": if self.stopped.is_some() { self.databases.saturating_sub(tried) } else { 0 },
            "backups": backups,
            "failures": failures.collect::<Vec<_>>(),
            "new": self.fresh,
            "vanished": self.vanished,
        });
        if let Value::Object(facts) = facts {
            outcome.statistics.extend(facts);
        }
        outcome.failure = failure;
        outcome
    }

    fn failure(&self) -> Option<ServiceError> {
        let Self { source, databases, done, failed, .. } = self;
        let reasons = || several::enumerate(failed.iter().map(|(name, error)| (name.display(), error.to_string())));
        if let Some(reason) = self.stopped {
            let before = format!("{} of {databases} databases of {source} were backed up before", done.len());
            let failed = if failed.is_empty() { String::new() } else { format!("; others failed: {}", reasons()) };
            let error = ServiceError::from(reason);
            return Some(ServiceError::new(error.code(), format!("{error}; {before}{failed}")));
        }
        let (_, first) = failed.first()?;
        let same = done.is_empty() && failed.iter().all(|(_, error)| error.code() == first.code());
        let code = if same { first.code() } else { ErrorCode::PartlyFailed };
        Some(ServiceError::new(
            code,
            format!("{} of {databases} databases of {source} failed: {}", failed.len(), reasons()),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(databases: usize) -> RunOutcome {
        RunOutcome::new("all".parse().unwrap(), databases, vec!["n".into()], vec!["v".into()])
    }

    fn done(outcome: &mut RunOutcome, name: &str) {
        let statistics = Statistics { raw_bytes: 10, rows: 2, duration: 1000, ..Statistics::default() };
        outcome.done(&name.into(), BackupId([1; 16]), &statistics);
    }

    fn error(code: ErrorCode) -> ServiceError {
        ServiceError::new(code, "it is broken")
    }

    #[test]
    fn all_is_well() {
        let mut outcome = of(2);
        done(&mut outcome, "a");
        done(&mut outcome, "b");
        let JobOutcome { backup, statistics, failure } = outcome.conclude(77);
        assert_eq!((backup, failure), (None, None));
        for (name, value) in
            [("databases", 2), ("done", 2), ("failed", 0), ("not_tried", 0), ("rows", 4), ("duration", 77)]
        {
            assert_eq!(statistics[name], value, "{name}");
        }
        assert_eq!(statistics["backups"]["a"], "01".repeat(16));
        assert_eq!((&statistics["new"], &statistics["vanished"]), (&json!(["n"]), &json!(["v"])));
    }

    #[test]
    fn some_that_fail_are_named_with_their_reasons() {
        let mut outcome = of(12);
        done(&mut outcome, "a");
        for n in 0..10 {
            outcome.failed(&format!("x\n{n}").as_str().into(), error(ErrorCode::LockTimeout));
        }
        outcome.vanished(&"gone".into());
        let JobOutcome { statistics, failure, .. } = outcome.conclude(1);
        let failure = failure.unwrap();
        assert_eq!(failure.code(), ErrorCode::PartlyFailed);
        let message = failure.to_string();
        assert!(message.starts_with("10 of 12 databases of all failed: x\\n0: it is broken; x\\n1: "), "{message}");
        assert!(message.ends_with("; and 2 more"), "{message}");
        assert_eq!(statistics["failures"].as_array().unwrap().len(), 10, "the statistics have them all");
        assert_eq!(
            statistics["failures"][9],
            json!({"database": "x\n9", "error": "LockTimeout", "message": "it is broken"})
        );
        assert_eq!(statistics["vanished"], json!(["v", "gone"]));
    }

    #[test]
    fn all_that_fail_for_one_reason_have_its_code() {
        let mut outcome = of(2);
        outcome.failed(&"a".into(), error(ErrorCode::DatabaseUnreachable));
        outcome.failed(&"b".into(), error(ErrorCode::DatabaseUnreachable));
        assert_eq!(outcome.conclude(1).failure.unwrap().code(), ErrorCode::DatabaseUnreachable);
        let mut outcome = of(2);
        outcome.failed(&"a".into(), error(ErrorCode::DatabaseUnreachable));
        outcome.failed(&"b".into(), error(ErrorCode::LockTimeout));
        assert_eq!(outcome.conclude(1).failure.unwrap().code(), ErrorCode::PartlyFailed);
    }

    #[test]
    fn a_run_that_was_stopped_says_how_far_it_came() {
        for (reason, code) in
            [(CancelReason::Requested, ErrorCode::Canceled), (CancelReason::Shutdown, ErrorCode::ShuttingDown)]
        {
            let mut outcome = of(5);
            done(&mut outcome, "a");
            outcome.failed(&"b".into(), error(ErrorCode::LockTimeout));
            outcome.stopped(reason);
            let JobOutcome { statistics, failure, .. } = outcome.conclude(1);
            let failure = failure.unwrap();
            assert_eq!(failure.code(), code);
            assert!(failure.to_string().contains("1 of 5 databases of all were backed up before; others failed: b: "));
            assert_eq!(statistics["not_tried"], 3);
        }
    }
}
