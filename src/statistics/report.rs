//! What is remembered, and the backups that there are, added up: totals, averages, rates, ratios and trends.
//!
//! Times are microseconds since the epoch, durations microseconds, sizes bytes; a ratio or a rate is absent where there is nothing to divide
//! by. Days are 24 hours before `now`, not days of a calendar.
//!
//! Invariants: a pure function of rows, backups and `now`; the order of rows and backups changes nothing; a child of a whole server counts
//! for its source, and alone where it is asked for alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::rows::{BackupRow, DAY, JobRow, Period, Remembered};
use crate::model::{
    RunId, SourceKey, SourceName,
    job::{JobResult, JobType},
    summary::BackupSummary,
};

#[cfg(test)]
mod tests;

/// The newest runs that a trend shows.
const TREND: usize = 60;
/// Growth is measured over so many days.
const GROWTH_DAYS: u64 = 30;

/// The numbers of all sources, or of those that were asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// When this was.
    pub now: u64,
    /// Since when all jobs are known. Of what was before only backups are, and those jobs that succeeded are not counted.
    pub jobs_since: u64,
    /// All of them together.
    pub total: Figures,
    /// Each configured source, or the one database of a server that was asked for, in order of their names.
    pub sources: Vec<SourceFigures>,
}

/// The numbers of one source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceFigures {
    /// The source, as shown.
    pub source: String,
    /// Its numbers.
    #[serde(flatten)]
    pub figures: Figures,
    /// Its newest runs, the oldest first.
    pub trend: Vec<Point>,
    /// The months of UTC in which something is remembered of it, the oldest first; none for one database of a server.
    pub months: Vec<Month>,
}

/// Numbers about backups and jobs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Backups that there are now.
    pub backups: u64,
    /// How many of them are known to be damaged.
    pub damaged: u64,
    /// How many hold suspiciously less than an earlier one.
    pub suspect: u64,
    /// The snapshot of the oldest; absent without any.
    pub oldest_at: Option<u64>,
    /// The snapshot of the newest; absent without any.
    pub newest_at: Option<u64>,
    /// Backups that were taken, the deleted ones too, as far as is remembered.
    pub taken: u64,
    /// How many of them in the last 24 hours.
    pub taken_24h: u64,
    /// How many of them in the last 7 days.
    pub taken_7d: u64,
    /// Plaintext bytes of the backups that there are.
    pub raw_bytes: u64,
    /// Stored bytes of these, shared ones counted for each.
    pub stored_bytes: u64,
    /// Bytes that these added to the repository when they were taken.
    pub new_bytes: u64,
    /// Rows of these.
    pub rows: u64,
    /// Averages over the backups that there are.
    pub average: Average,
    /// `raw_bytes` divided by `stored_bytes`: what compression saves.
    pub compression_ratio: Option<f64>,
    /// `stored_bytes` divided by `new_bytes`: what deduplication saves.
    pub deduplication_ratio: Option<f64>,
    /// `raw_bytes` divided by `new_bytes`: what both save.
    pub total_ratio: Option<f64>,
    /// Jobs that took backups.
    pub creates: Outcomes,
    /// The same, in the last 30 days.
    pub creates_30d: Outcomes,
    /// Jobs that verified backups.
    pub verifies: Outcomes,
    /// Jobs that drilled backups.
    pub drills: Outcomes,
    /// Jobs that restored backups.
    pub restores: Outcomes,
    /// How long restores took in drills.
    pub recovery: Recovery,
    /// By how much the plaintext of a run grows, bytes per day: the slope over the last 30 days. Absent with fewer than
    /// two runs, or less than a day between them.
    pub raw_bytes_growth_per_day: Option<f64>,
    /// What backups added to the repository on an average day of the last 30, bytes.
    pub new_bytes_per_day: Option<f64>,
}

/// Averages over backups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Average {
    /// Microseconds.
    pub duration: u64,
    /// Plaintext bytes.
    pub raw_bytes: u64,
    /// Stored bytes, shared ones included.
    pub stored_bytes: u64,
    /// Bytes that a backup added.
    pub new_bytes: u64,
    /// Rows.
    pub rows: u64,
}

/// How jobs ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcomes {
    /// As asked.
    pub done: u64,
    /// They failed, or an attempt failed before it became a job.
    pub failed: u64,
    /// Somebody cancelled them.
    pub canceled: u64,
    /// The daemon stopped or died.
    pub interrupted: u64,
    /// `done` divided by `done + failed + interrupted`, 0 to 1.
    pub success_rate: Option<f64>,
}

/// How long restores took in drills, microseconds; from the first byte of a backup to the usable database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// Drills whose recovery is known.
    pub drills: u64,
    /// The last one's; absent where no backup that there is was drilled.
    pub last: Option<u64>,
    /// On average.
    pub average: Option<u64>,
    /// The longest.
    pub longest: Option<u64>,
}

/// One run: a backup, or the backups of all databases of a server together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// The latest snapshot of it.
    pub at: u64,
    /// Its backups.
    pub backups: u64,
    /// Microseconds, of all of them.
    pub duration: u64,
    /// Plaintext bytes.
    pub raw_bytes: u64,
    /// Stored bytes, shared ones included.
    pub stored_bytes: u64,
    /// Bytes that it added.
    pub new_bytes: u64,
    /// Rows.
    pub rows: u64,
}

/// What is remembered of a month of UTC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Month {
    /// The month, `2026-11`.
    pub month: String,
    /// Jobs that took backups.
    pub creates: Outcomes,
    /// Backups.
    pub backups: u64,
    /// Averages over them.
    pub average: Average,
    /// What they added to the repository together, bytes.
    pub new_bytes: u64,
}

/// Which history is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All sources.
    All,
    /// One configured source, with all that belongs to it.
    Source(SourceName),
    /// One database of a server. What jobs about all of them came to is not counted for it.
    Database(SourceKey),
}

impl Scope {
    fn has_backup(&self, key: &SourceKey) -> bool {
        match self {
            Self::All => true,
            Self::Source(source) => key.source == *source,
            Self::Database(wanted) => key == wanted,
        }
    }

    fn has_source(&self, source: &str) -> bool {
        match self {
            Self::All => true,
            Self::Source(wanted) => wanted.as_str() == source,
            Self::Database(_) => false,
        }
    }
}

/// Adds up what is remembered and what there is. `configured` are the sources that are shown even if nothing is known of them.
#[must_use]
pub fn report(
    scope: &Scope,
    configured: &[SourceName],
    remembered: &Remembered,
    listed: &[BackupSummary],
    now: u64,
) -> Report {
    let all = Part::of(scope, remembered, listed);
    let scopes: Vec<(String, Scope)> = match scope {
        Scope::Database(key) => vec![(key.to_string(), scope.clone())],
        _ => {
            let mut names: BTreeSet<String> = configured.iter().map(ToString::to_string).collect();
            names.extend(all.listed.iter().map(|backup| backup.source.source.to_string()));
            names.extend(all.backups.iter().map(|row| row.source.source.to_string()));
            names.extend(all.jobs.iter().map(|row| row.source.clone()));
            names.extend(all.periods.iter().map(|period| period.source.clone()));
            let wanted = names.into_iter().filter(|name| scope.has_source(name));
            // A job about the whole repository is of no source.
            wanted.filter_map(|name| Some((name.clone(), Scope::Source(name.parse().ok()?)))).collect()
        }
    };
    let sources = scopes.into_iter().map(|(source, scope)| {
        let part = Part::of(&scope, remembered, listed);
        // What a month's jobs came to is not known of one database.
        let months = if matches!(scope, Scope::Database(_)) { Vec::new() } else { part.months() };
        SourceFigures { source, figures: part.figures(now), trend: part.trend(), months }
    });
    Report { now, jobs_since: remembered.jobs_since, total: all.figures(now), sources: sources.collect() }
}

/// What is remembered, and there, of some sources.
struct Part<'a> {
    listed: Vec<&'a BackupSummary>,
    jobs: Vec<&'a JobRow>,
    backups: Vec<&'a BackupRow>,
    periods: Vec<&'a Period>,
}

impl<'a> Part<'a> {
    fn of(scope: &Scope, remembered: &'a Remembered, listed: &'a [BackupSummary]) -> Self {
        Self {
            listed: listed.iter().filter(|backup| scope.has_backup(&backup.source)).collect(),
            jobs: remembered.jobs.iter().filter(|row| scope.has_source(&row.source)).collect(),
            backups: remembered.backups.iter().filter(|row| scope.has_backup(&row.source)).collect(),
            periods: remembered.periods.iter().filter(|period| scope.has_source(&period.source)).collect(),
        }
    }

    fn figures(&self, now: u64) -> Figures {
        let sum =
            |number: fn(&BackupSummary) -> u64| self.listed.iter().map(|b| number(b)).fold(0, u64::saturating_add);
        let count = |is: fn(&BackupSummary) -> bool| self.listed.iter().filter(|b| is(b)).count() as u64;
        let since = |days: u64| {
            let first = now.saturating_sub(days * DAY);
            self.backups.iter().filter(|row| row.at >= first && row.at <= now).count() as u64
        };
        let (raw_bytes, stored_bytes, new_bytes) =
            (sum(|b| b.raw_bytes), sum(|b| b.stored_bytes), sum(|b| b.new_bytes));
        let backups = self.listed.len() as u64;
        let took = sum(|b| b.finished_at.saturating_sub(b.started_at));
        let month_ago = now.saturating_sub(GROWTH_DAYS * DAY);
        Figures {
            backups,
            damaged: count(|b| b.damaged),
            suspect: count(|b| b.suspect),
            oldest_at: self.listed.iter().map(|b| b.snapshot_at).min(),
            newest_at: self.listed.iter().map(|b| b.snapshot_at).max(),
            taken: self.backups.len() as u64 + self.periods.iter().map(|p| p.backups).sum::<u64>(),
            taken_24h: since(1),
            taken_7d: since(7),
            raw_bytes,
            stored_bytes,
            new_bytes,
            rows: sum(|b| b.rows),
            average: Average::of(backups, took, raw_bytes, stored_bytes, new_bytes, sum(|b| b.rows)),
            compression_ratio: ratio(raw_bytes, stored_bytes),
            deduplication_ratio: ratio(stored_bytes, new_bytes),
            total_ratio: ratio(raw_bytes, new_bytes),
            creates: self.outcomes(JobType::Create, 0),
            creates_30d: self.outcomes(JobType::Create, month_ago),
            verifies: self.outcomes(JobType::Verify, 0),
            drills: self.outcomes(JobType::Drill, 0),
            restores: self.outcomes(JobType::Restore, 0),
            recovery: self.recovery(),
            raw_bytes_growth_per_day: self.growth(now),
            new_bytes_per_day: self.new_per_day(now),
        }
    }

    /// How jobs of a type ended, since a time; 0 for all that is remembered.
    fn outcomes(&self, job_type: JobType, since: u64) -> Outcomes {
        let mut outcomes = Outcomes::default();
        let rows = self.jobs.iter().filter(|row| row.job_type == job_type && row.at >= since);
        rows.for_each(|row| outcomes.add(row.result, 1));
        for period in self.periods.iter().filter(|_| since == 0) {
            outcomes.add_of(period, job_type);
        }
        outcomes.rated()
    }

    fn recovery(&self) -> Recovery {
        let rows = || self.jobs.iter().map(|row| row.recovery).filter(|recovery| *recovery != 0);
        let drills = rows().count() as u64 + self.periods.iter().map(|p| p.recoveries).sum::<u64>();
        let took = rows().chain(self.periods.iter().map(|p| p.recovery)).fold(0, u64::saturating_add);
        let longest = rows().chain(self.periods.iter().map(|p| p.longest_recovery)).max();
        // What drills of backups that there are took is in the repository, whatever is remembered.
        let drilled = self.listed.iter().filter(|backup| backup.recovery != 0);
        let last = drilled.clone().max_by_key(|backup| (backup.drilled_at, backup.id)).map(|backup| backup.recovery);
        if drills == 0 {
            let (count, took, longest) = drilled
                .fold((0, 0_u64, 0), |(n, sum, most), b| (n + 1, sum.saturating_add(b.recovery), b.recovery.max(most)));
            return Recovery { drills: count, last, average: took.checked_div(count), longest: last.map(|_| longest) };
        }
        Recovery { drills, last, average: took.checked_div(drills), longest }
    }

    /// The runs, the oldest first. Of a whole server only those over all databases are comparable with each other.
    fn points(&self) -> Vec<Point> {
        let several = self.backups.iter().any(|row| row.source != self.backups[0].source);
        let whole_runs = several && self.backups.iter().any(|row| row.whole);
        let mut runs: BTreeMap<(Option<RunId>, usize), Point> = BTreeMap::new();
        for (index, row) in self.backups.iter().enumerate().filter(|(_, row)| row.whole || !whole_runs) {
            let run = row.run.filter(|_| whole_runs);
            let alone = if run.is_some() { 0 } else { index + 1 };
            runs.entry((run, alone)).or_insert(Point::NONE).add(row);
        }
        let mut points: Vec<Point> = runs.into_values().collect();
        points.sort_by_key(|point| (point.at, point.raw_bytes, point.new_bytes, point.duration));
        points
    }

    fn trend(&self) -> Vec<Point> {
        let mut points = self.points();
        points.drain(..points.len().saturating_sub(TREND));
        points
    }

    fn growth(&self, now: u64) -> Option<f64> {
        // Of several sources together: what each grows by.
        let sources: BTreeSet<&SourceName> = self.backups.iter().map(|row| &row.source.source).collect();
        let of_source = |source: &SourceName| {
            let backups = self.backups.iter().copied().filter(|row| row.source.source == *source).collect();
            let part = Part { listed: Vec::new(), jobs: Vec::new(), backups, periods: Vec::new() };
            let first = now.saturating_sub(GROWTH_DAYS * DAY);
            let recent = part.points().into_iter().filter(|point| point.at >= first && point.at <= now);
            slope_per_day(&recent.map(|point| (point.at, point.raw_bytes)).collect::<Vec<_>>())
        };
        let slopes: Vec<f64> = sources.into_iter().filter_map(of_source).collect();
        if slopes.is_empty() { None } else { Some(slopes.iter().sum()) }
    }

    fn new_per_day(&self, now: u64) -> Option<f64> {
        let first = now.saturating_sub(GROWTH_DAYS * DAY);
        let recent = || self.backups.iter().filter(|row| row.at >= first && row.at <= now);
        // A young history is not thirty days long, and one of a few hours says little about a day.
        let days = (now - recent().map(|row| row.at).min()?).max(DAY);
        let new = recent().map(|row| row.new).fold(0, u64::saturating_add);
        Some(float(new) * float(DAY) / float(days))
    }

    fn months(&self) -> Vec<Month> {
        let mut months = BTreeMap::<String, Period>::new();
        for period in &self.periods {
            months.entry(month_of(period.from)).or_default().add(period);
        }
        for row in &self.jobs {
            months.entry(month_of(row.at)).or_default().add_job(row);
        }
        for row in &self.backups {
            months.entry(month_of(row.at)).or_default().add_backup(row);
        }
        let month = |(month, sum): (String, Period)| {
            let mut creates = Outcomes::default();
            creates.add_of(&sum, JobType::Create);
            let average = Average::of(sum.backups, sum.duration, sum.raw, sum.stored, sum.new, sum.rows);
            Month { month, creates: creates.rated(), backups: sum.backups, average, new_bytes: sum.new }
        };
        months.into_iter().map(month).collect()
    }
}

impl Outcomes {
    fn add(&mut self, result: JobResult, count: u64) {
        match result {
            JobResult::Done => self.done += count,
            JobResult::Failed => self.failed += count,
            JobResult::Canceled => self.canceled += count,
            JobResult::Interrupted => self.interrupted += count,
        }
    }

    fn add_of(&mut self, period: &Period, job_type: JobType) {
        let Some(results) = period.jobs.get(job_type.as_str()) else { return };
        for result in JobResult::ALL {
            self.add(*result, results.get(result.as_str()).copied().unwrap_or_default());
        }
    }

    fn rated(self) -> Self {
        Self { success_rate: ratio(self.done, self.done + self.failed + self.interrupted), ..self }
    }
}

impl Average {
    fn of(count: u64, duration: u64, raw: u64, stored: u64, new: u64, rows: u64) -> Self {
        let per = |sum: u64| sum.checked_div(count).unwrap_or_default();
        Self {
            duration: per(duration),
            raw_bytes: per(raw),
            stored_bytes: per(stored),
            new_bytes: per(new),
            rows: per(rows),
        }
    }
}

impl Point {
    const NONE: Self = Self { at: 0, backups: 0, duration: 0, raw_bytes: 0, stored_bytes: 0, new_bytes: 0, rows: 0 };

    fn add(&mut self, row: &BackupRow) {
        self.at = self.at.max(row.at);
        self.backups += 1;
        for (sum, number) in [
            (&mut self.duration, row.duration),
            (&mut self.raw_bytes, row.raw),
            (&mut self.stored_bytes, row.stored),
            (&mut self.new_bytes, row.new),
            (&mut self.rows, row.rows),
        ] {
            *sum = sum.saturating_add(number);
        }
    }
}

/// The month of UTC of a time, `2026-11`.
fn month_of(at: u64) -> String {
    let time = i64::try_from(at).ok().and_then(chrono::DateTime::from_timestamp_micros);
    time.map_or_else(String::new, |time| time.format("%Y-%m").to_string())
}

#[allow(clippy::cast_precision_loss, reason = "a ratio needs no more than 53 bits")]
fn float(number: u64) -> f64 {
    number as f64
}

fn ratio(of: u64, to: u64) -> Option<f64> {
    (to != 0).then(|| float(of) / float(to))
}

/// The slope of the line that fits best (least squares), per day. `None` where the points are less than a day apart.
#[must_use]
pub fn slope_per_day(points: &[(u64, u64)]) -> Option<f64> {
    let first = points.iter().map(|(at, _)| *at).min()?;
    let last = points.iter().map(|(at, _)| *at).max()?;
    if last - first < DAY {
        return None;
    }
    let days = |at: u64| float(at - first) / float(DAY);
    let count = float(points.len() as u64);
    let mean = |values: &dyn Fn(&(u64, u64)) -> f64| points.iter().map(values).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(&|point| days(point.0)), mean(&|point| float(point.1)));
    let (mut over, mut under) = (0.0, 0.0);
    for (at, value) in points {
        let x = days(*at) - mean_x;
        over += x * (float(*value) - mean_y);
        under += x * x;
    }
    Some(over / under)
}
