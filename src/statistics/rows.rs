//! What is remembered for statistics, for years and in small space: a row for every job and every backup of the last
//! months, and what they add up to before that, by day and then by month.
//!
//! Invariants: thinning changes no sum, and thinning again changes nothing; what was added up is never taken in again,
//! whatever clocks say: numbers of jobs and of backups tell. There are hardly more than [`MOST_ROWS`] rows and
//! [`MOST_PERIODS`] periods, of which the oldest go first (rows into periods).

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Datelike as _, NaiveDate, TimeZone as _, Utc};
use serde::{Deserialize, Serialize};

use crate::model::{
    BackupId, RunId, SourceKey,
    job::{JobNumber, JobRecord, JobResult, JobType},
    summary::BackupSummary,
};

/// Microseconds of a day.
pub const DAY: u64 = 86_400_000_000;
/// Jobs and backups are remembered one by one for so long.
const SINGLE: u64 = 90 * DAY;
/// And day by day for so long; then month by month.
const DAILY: u64 = 400 * DAY;
/// The most rows of single jobs and backups.
pub const MOST_ROWS: usize = 20_000;
/// The most days and months, over all sources.
pub const MOST_PERIODS: usize = 20_000;

/// A job that ended, or an attempt that failed before it became one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRow {
    /// When it ended, microseconds since the epoch.
    pub at: u64,
    /// Its number; 0 for an attempt that became no job, and for a drill that is known from the record beside its backup.
    #[serde(rename = "n", default, skip_serializing_if = "is_zero")]
    pub number: JobNumber,
    /// What it did.
    #[serde(rename = "t")]
    pub job_type: JobType,
    /// The configured source that it was about; empty for the whole repository.
    #[serde(rename = "s")]
    pub source: String,
    /// How it ended.
    #[serde(rename = "r")]
    pub result: JobResult,
    /// How long it took, microseconds.
    #[serde(rename = "d")]
    pub duration: u64,
    /// Of a drill that was done: from the first byte to the usable database, microseconds.
    #[serde(rename = "rec", default, skip_serializing_if = "is_zero")]
    pub recovery: u64,
}

/// A backup that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRow {
    /// The instant whose state it holds.
    pub at: u64,
    /// Its id.
    pub id: BackupId,
    /// Its source.
    #[serde(flatten)]
    pub source: SourceKey,
    /// Its number within the source.
    #[serde(rename = "q")]
    pub sequence: u64,
    /// The run that took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Whether that run took every database of the source.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// How long it took, microseconds.
    #[serde(rename = "d")]
    pub duration: u64,
    /// Plaintext bytes.
    pub raw: u64,
    /// Stored bytes, shared ones included.
    pub stored: u64,
    /// Bytes that it added to the repository.
    pub new: u64,
    /// Rows of all tables.
    pub rows: u64,
}

/// What the jobs and backups of a source were in a day or a month of UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    /// Its first microsecond.
    pub from: u64,
    /// The first microsecond after it.
    pub to: u64,
    /// The configured source; empty for jobs about the whole repository.
    pub source: String,
    /// Jobs by type and result.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub jobs: BTreeMap<String, BTreeMap<String, u64>>,
    /// Backups.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub backups: u64,
    /// Microseconds that they took.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub duration: u64,
    /// Their plaintext bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub raw: u64,
    /// Their stored bytes, shared ones included.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stored: u64,
    /// Bytes that they added to the repository.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub new: u64,
    /// Their rows.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows: u64,
    /// Drills whose recovery is known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub recoveries: u64,
    /// What these took altogether, microseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub recovery: u64,
    /// The longest of them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub longest_recovery: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Since when all jobs are known, failed ones too; microseconds since the epoch.
    pub jobs_since: u64,
    /// The highest number of a job that is in the periods; 0 for none.
    pub thinned_job: JobNumber,
    /// The highest number of a backup of each source that is in the periods.
    pub thinned_backups: BTreeMap<SourceKey, u64>,
    /// Single jobs.
    pub jobs: Vec<JobRow>,
    /// Single backups.
    pub backups: Vec<BackupRow>,
    /// What was before.
    pub periods: Vec<Period>,
}

impl JobRow {
    /// What is remembered of a job that ended, if it matters.
    #[must_use]
    pub fn of(record: &JobRecord) -> Option<Self> {
        let matters = matches!(record.job_type, JobType::Create | JobType::Verify | JobType::Drill | JobType::Restore);
        let result = record.result.filter(|_| matters)?;
        let recovery = match (record.job_type, result) {
            (JobType::Drill, JobResult::Done) => record.statistics.get("recovery").and_then(serde_json::Value::as_u64),
            _ => None,
        };
        Some(Self {
            at: record.end_time,
            number: record.number,
            job_type: record.job_type,
            source: configured(&record.source).to_owned(),
            result,
            duration: record.end_time.saturating_sub(record.start_time),
            recovery: recovery.unwrap_or_default(),
        })
    }
}

impl BackupRow {
    /// What is remembered of a backup.
    #[must_use]
    pub fn of(backup: &BackupSummary) -> Self {
        Self {
            at: backup.snapshot_at,
            id: backup.id,
            source: backup.source.clone(),
            sequence: backup.sequence,
            run: backup.run_id,
            whole: backup.whole_run,
            duration: backup.finished_at.saturating_sub(backup.started_at),
            raw: backup.raw_bytes,
            stored: backup.stored_bytes,
            new: backup.new_bytes,
            rows: backup.rows,
        }
    }
}

/// The configured source of a source as shown.
#[must_use]
pub fn configured(shown: &str) -> &str {
    shown.split_once('/').map_or(shown, |(source, _)| source)
}

impl Period {
    pub(super) fn add_job(&mut self, row: &JobRow) {
        let by_result = self.jobs.entry(row.job_type.as_str().to_owned()).or_default();
        *by_result.entry(row.result.as_str().to_owned()).or_default() += 1;
        if row.recovery != 0 {
            self.recoveries += 1;
            self.recovery = self.recovery.saturating_add(row.recovery);
            self.longest_recovery = self.longest_recovery.max(row.recovery);
        }
    }

    pub(super) fn add_backup(&mut self, row: &BackupRow) {
        self.backups += 1;
        for (sum, number) in [
            (&mut self.duration, row.duration),
            (&mut self.raw, row.raw),
            (&mut self.stored, row.stored),
            (&mut self.new, row.new),
            (&mut self.rows, row.rows),
        ] {
            *sum = sum.saturating_add(number);
        }
    }

    /// Takes another period into this one, whose times stay.
    pub fn add(&mut self, other: &Self) {
        for (job_type, results) in &other.jobs {
            let by_result = self.jobs.entry(job_type.clone()).or_default();
            for (result, count) in results {
                *by_result.entry(result.clone()).or_default() += count;
            }
        }
        for (sum, number) in [
            (&mut self.backups, other.backups),
            (&mut self.duration, other.duration),
            (&mut self.raw, other.raw),
            (&mut self.stored, other.stored),
            (&mut self.new, other.new),
            (&mut self.rows, other.rows),
            (&mut self.recoveries, other.recoveries),
            (&mut self.recovery, other.recovery),
        ] {
            *sum = sum.saturating_add(number);
        }
        self.longest_recovery = self.longest_recovery.max(other.longest_recovery);
    }
}

/// Periods by their beginnings and sources.
#[derive(Default)]
struct Periods(BTreeMap<(u64, u64, String), Period>);

impl Periods {
    fn at(&mut self, (from, to): (u64, u64), source: &str) -> &mut Period {
        let new = || Period { from, to, source: source.to_owned(), ..Period::default() };
        self.0.entry((from, to, source.to_owned())).or_insert_with(new)
    }
}

impl Remembered {
    /// Whether thinning would do something now.
    #[must_use]
    pub fn is_thick(&self, now: u64) -> bool {
        let limit = day(now.saturating_sub(SINGLE)).0;
        let times = self.jobs.iter().map(|row| row.at).chain(self.backups.iter().map(|row| row.at));
        self.jobs.len() + self.backups.len() > MOST_ROWS
            || self.periods.len() > MOST_PERIODS
            || times.min().is_some_and(|oldest| oldest < limit)
    }

    /// Adds up what is old, and forgets what is very old if there is too much of it.
    pub fn thin(&mut self, now: u64) {
        let limit = day(now.saturating_sub(SINGLE)).0.max(self.earliest_kept(now));
        let daily = now.saturating_sub(DAILY);
        let times = |at: u64| if day(at).1 <= daily { month(at) } else { day(at) };
        let mut periods = Periods::default();
        for old in self.periods.drain(..) {
            let times = if old.to <= daily { month(old.from) } else { (old.from, old.to) };
            periods.at(times, &old.source).add(&old);
        }
        let (old, kept) = std::mem::take(&mut self.jobs).into_iter().partition::<Vec<_>, _>(|row| row.at < limit);
        self.jobs = kept;
        for row in &old {
            self.thinned_job = self.thinned_job.max(row.number);
            periods.at(times(row.at), &row.source).add_job(row);
        }
        let (old, kept) = std::mem::take(&mut self.backups).into_iter().partition::<Vec<_>, _>(|row| row.at < limit);
        self.backups = kept;
        for row in old {
            periods.at(times(row.at), row.source.source.as_str()).add_backup(&row);
            let highest = self.thinned_backups.entry(row.source).or_default();
            *highest = row.sequence.max(*highest);
        }
        self.periods = periods.0.into_values().collect();
        let surplus = self.periods.len().saturating_sub(MOST_PERIODS);
        self.periods.drain(..surplus);
    }

    /// The jobs among these that are to be remembered and are not yet.
    #[must_use]
    pub fn unknown_jobs(&self, ended: impl IntoIterator<Item = JobRecord>) -> Vec<JobRow> {
        let known: HashSet<JobNumber> = self.jobs.iter().map(|row| row.number).collect();
        let rows = ended.into_iter().filter_map(|record| JobRow::of(&record));
        rows.filter(|row| row.number > self.thinned_job && !known.contains(&row.number)).collect()
    }

    /// The backups among these that are not remembered yet.
    #[must_use]
    pub fn unknown_backups(&self, listed: &[BackupSummary]) -> Vec<BackupRow> {
        let known: HashSet<BackupId> = self.backups.iter().map(|row| row.id).collect();
        let thinned = |backup: &BackupSummary| self.thinned_backups.get(&backup.source).copied().unwrap_or_default();
        let unknown = listed.iter().filter(|backup| backup.sequence > thinned(backup) && !known.contains(&backup.id));
        unknown.map(BackupRow::of).collect()
    }

    /// Forgets up to which number the backups of sources were added up that have none any more.
    pub fn forget_gone(&mut self, listed: &[BackupSummary]) {
        let there: HashSet<&SourceKey> = listed.iter().map(|backup| &backup.source).collect();
        self.thinned_backups.retain(|source, _| there.contains(source));
    }

    /// The beginning of the day from which on single rows can be kept without there being too many.
    fn earliest_kept(&self, now: u64) -> u64 {
        let mut times: Vec<u64> =
            self.jobs.iter().map(|row| row.at).chain(self.backups.iter().map(|row| row.at)).collect();
        if times.len() <= MOST_ROWS {
            return 0;
        }
        // A bit more goes at once, so that this is not for every row anew.
        let surplus = times.len() - MOST_ROWS + MOST_ROWS / 8;
        let (_, at, _) = times.select_nth_unstable(surplus);
        day(*at).1.min(day(now).0.max(*at))
    }
}

/// The day of UTC in which a time is: its first microsecond, and the first after it.
fn day(at: u64) -> (u64, u64) {
    let from = at - at % DAY;
    (from, from.saturating_add(DAY))
}

/// The month of UTC in which a time is.
fn month(at: u64) -> (u64, u64) {
    let time = i64::try_from(at).ok().and_then(DateTime::from_timestamp_micros);
    let micros = |year: i32, month: u32| {
        let first = NaiveDate::from_ymd_opt(year, month, 1)?.and_hms_opt(0, 0, 0)?;
        u64::try_from(Utc.from_utc_datetime(&first).timestamp_micros()).ok()
    };
    let found = time.and_then(|time| {
        let (year, month) = (time.year(), time.month());
        let next = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        Some((micros(year, month)?, micros(next.0, next.1)?))
    });
    // No calendar has the times beyond.
    found.unwrap_or_else(|| day(at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_793_577_600_000_000;

    fn job(at: u64, result: JobResult) -> JobRow {
        JobRow { at, number: 1, job_type: JobType::Create, source: "shop".to_owned(), result, duration: 5, recovery: 3 }
    }

    fn backup(at: u64, raw: u64) -> BackupRow {
        BackupRow { at, raw, ..BackupRow::of(&BackupSummary::nothing()) }
    }

    #[test]
    fn what_was_added_up_is_not_taken_in_again_even_by_a_clock_that_was_wrong() {
        let backup = |sequence: u64, at: u64| BackupSummary {
            id: BackupId([u8::try_from(sequence).unwrap(); 16]),
            sequence,
            snapshot_at: at,
            ..BackupSummary::nothing()
        };
        let mut remembered = Remembered::default();
        let old = [backup(1, NOW - DAY), backup(2, NOW)];
        remembered.backups = remembered.unknown_backups(&old);
        assert_eq!(remembered.backups.len(), 2);
        remembered.thin(NOW + 3650 * DAY);
        remembered.forget_gone(&old);
        assert!(remembered.backups.is_empty() && remembered.unknown_backups(&old).is_empty());
        let mut without = remembered.clone();
        without.forget_gone(&[]);
        assert!(without.thinned_backups.is_empty(), "what is gone is no load for ever");
        // The clock is right again.
        let new = [backup(2, NOW), backup(3, NOW + DAY)];
        let unknown = remembered.unknown_backups(&new);
        assert_eq!(unknown.iter().map(|row| row.sequence).collect::<Vec<_>>(), [3]);
        remembered.backups.extend(unknown);
        assert!(!remembered.is_thick(NOW + DAY));
    }

    /// Jobs, backups, their bytes, recoveries: whatever shape they are remembered in.
    fn sums(remembered: &Remembered) -> (u64, u64, u64, u64) {
        let of = |period: &Period| period.jobs.values().flat_map(BTreeMap::values).sum::<u64>();
        (
            remembered.jobs.len() as u64 + remembered.periods.iter().map(of).sum::<u64>(),
            remembered.backups.len() as u64 + remembered.periods.iter().map(|p| p.backups).sum::<u64>(),
            remembered.backups.iter().map(|b| b.raw).sum::<u64>()
                + remembered.periods.iter().map(|p| p.raw).sum::<u64>(),
            remembered.jobs.iter().map(|j| j.recovery).sum::<u64>()
                + remembered.periods.iter().map(|p| p.recovery).sum::<u64>(),
        )
    }

    proptest! {
        #[test]
        fn thinning_loses_nothing_and_is_done_once(
            ages in prop::collection::vec((0_u64..1500, any::<bool>(), 0_u64..1000), 0..60),
            moments in prop::collection::vec(0_u64..900, 1..5),
        ) {
            let mut remembered = Remembered::default();
            for (age, failed, raw) in ages {
                let at = NOW - age * DAY + raw;
                remembered.jobs.push(job(at, if failed { JobResult::Failed } else { JobResult::Done }));
                remembered.backups.push(backup(at, raw));
            }
            let before = sums(&remembered);
            // A clock that jumps, too.
            for after in moments {
                let now = NOW + after * DAY;
                remembered.thin(now);
                prop_assert_eq!(sums(&remembered), before);
                prop_assert!(!remembered.is_thick(now));
                let once = remembered.clone();
                remembered.thin(now);
                prop_assert_eq!(&remembered, &once);
                prop_assert!(remembered.jobs.iter().all(|row| row.at + SINGLE + DAY > now));
            }
        }
    }

    #[test]
    fn years_of_many_sources_stay_small() {
        let mut remembered = Remembered::default();
        let mut days = 0;
        for day in 0..700_u64 {
            let now = NOW + day * DAY;
            for source in 0..20 {
                let source = format!("source{source}");
                remembered.jobs.push(JobRow { source: source.clone(), ..job(now, JobResult::Done) });
                let source = SourceKey::single(source.parse().unwrap());
                remembered.backups.push(BackupRow { source, ..backup(now, 1) });
            }
            if remembered.is_thick(now) {
                remembered.thin(now);
                days += 1;
            }
        }
        assert!(days > 500);
        assert_eq!(sums(&remembered).0, 14_000);
        let (rows, periods) = (remembered.jobs.len() + remembered.backups.len(), remembered.periods.len());
        assert!(rows <= 92 * 40 && periods <= 20 * (312 + 50), "{rows} rows, {periods} periods");
    }

    #[test]
    fn more_than_the_most_is_thinned_earlier() {
        let mut remembered = Remembered::default();
        for number in 0..MOST_ROWS as u64 + 1000 {
            remembered.backups.push(backup(NOW - DAY - number * 1_000_000, 1));
        }
        assert!(remembered.is_thick(NOW));
        remembered.thin(NOW);
        assert!(remembered.backups.len() <= MOST_ROWS && !remembered.is_thick(NOW));
        assert_eq!(sums(&remembered).1, MOST_ROWS as u64 + 1000);
    }

    #[test]
    fn months_end_where_the_next_begins() {
        let (from, to) = month(NOW);
        assert_eq!((month(from), month(to - 1)), ((from, to), (from, to)));
        assert_eq!(month(to).0, to);
        assert_eq!(month(u64::MAX), day(u64::MAX));
    }
}
