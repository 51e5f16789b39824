//! What became of a run over several databases. Pure.

use serde_json::{Map, Value};

use crate::{
    model::{BackupId, Name, SourceName, manifest::Statistics},
    service::{ServiceError, jobs::JobOutcome, tally::Tally},
    stream::CancelReason,
};

/// What became of the databases so far.
#[derive(Debug)]
pub(super) struct RunOutcome {
    tally: Tally,
    /// Ids by database. A name that is no UTF-8 cannot be connected to, so it is not among these.
    backups: Map<String, Value>,
    fresh: Vec<Name>,
    vanished: Vec<Name>,
    total: Statistics,
}

impl RunOutcome {
    /// Of a run that is to take this many databases.
    pub(super) fn new(source: SourceName, databases: usize, fresh: Vec<Name>, vanished: Vec<Name>) -> Self {
        let tally = Tally::new(source, databases);
        Self { tally, backups: Map::new(), fresh, vanished, total: Statistics::default() }
    }

    /// A backup is there.
    pub(super) fn done(&mut self, database: &Name, id: BackupId, statistics: &Statistics) {
        self.tally.done();
        self.backups.insert(database.lossy().into_owned(), id.to_string().into());
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
        self.tally.failed(database, error);
    }

    /// The database went away while it waited for its turn, or was read.
    pub(super) fn vanished(&mut self, database: &Name) {
        self.vanished.push(database.clone());
    }

    /// The run ends early.
    pub(super) fn stopped(&mut self, reason: CancelReason) {
        self.tally.stopped(reason);
    }

    /// The end of the job: its statistics, and its error unless all was done.
    pub(super) fn conclude(self, duration: u64) -> JobOutcome {
        let names = |names: &[Name]| serde_json::to_value(names).unwrap_or_default();
        let mut outcome = JobOutcome::new(None, Statistics { duration, ..self.total });
        outcome.failure = self.tally.failure("backed up");
        let statistics = &mut outcome.statistics;
        statistics.extend(self.tally.statistics());
        statistics.insert("new".into(), names(&self.fresh));
        statistics.insert("vanished".into(), names(&self.vanished));
        statistics.insert("backups".into(), self.backups.into());
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorCode;

    #[test]
    fn figures_add_up_and_every_database_is_somewhere() {
        let mut outcome = RunOutcome::new("all".parse().unwrap(), 4, vec!["n".into()], vec!["v".into()]);
        for (name, byte) in [("a", 1), ("b\n", 2)] {
            let statistics = Statistics { raw_bytes: 10, rows: 2, duration: 1000, ..Statistics::default() };
            outcome.done(&name.into(), BackupId([byte; 16]), &statistics);
        }
        outcome.failed(&"c".into(), ServiceError::new(ErrorCode::LockTimeout, "it is locked"));
        outcome.vanished(&"d".into());
        let JobOutcome { backup, statistics, failure } = outcome.conclude(77);
        assert_eq!((backup, failure.unwrap().code()), (None, ErrorCode::PartlyFailed));
        for (name, value) in
            [("databases", 4), ("done", 2), ("failed", 1), ("rows", 4), ("raw_bytes", 20), ("duration", 77)]
        {
            assert_eq!(statistics[name], value, "{name}");
        }
        assert_eq!(statistics["backups"], serde_json::json!({"a": "01".repeat(16), "b\n": "02".repeat(16)}));
        assert_eq!(statistics["new"], serde_json::json!(["n"]));
        assert_eq!(statistics["vanished"], serde_json::json!(["v", "d"]));
    }
}
