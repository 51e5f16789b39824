//! A copy of a live database in rollback-journal mode, made in steps (<https://sqlite.org/backup.html>) so that its
//! writers get their turn between them.
//!
//! A writer that commits between two steps makes SQLite begin again. Each time the steps grow, up to what
//! `write_pause` allows; a database that is smaller than one such step is copied at once. The number of beginnings is
//! bounded: a backup that never ends is worse than an error that says what would help.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};

use super::{access::Place, problem::explain};
use crate::{
    clock::now_micros,
    config::SqliteConfig,
    model::ErrorCode,
    source::{SourceError, space::free_bytes},
    stream::Cancel,
};

/// How often the copy may begin again because somebody wrote.
const RESTARTS: u32 = 20;
/// Pages of the first step, whose time tells how many a step may have.
const FIRST_STEP: i32 = 256;
/// How long a step may be at first, as a part of `write_pause`.
const FIRST_PART: u32 = 4;
/// How long the database is left to its writers between two steps.
const GAP: Duration = Duration::from_millis(5);

/// Refuses to begin a copy for which the scratch folder has no room.
///
/// # Errors
/// `NoSpace`.
pub(super) fn check_space(place: &Place, scratch: &Path) -> Result<(), SourceError> {
    // Where it cannot be told, the copy itself will.
    let Some(free) = free_bytes(scratch).filter(|free| *free < place.bytes) else { return Ok(()) };
    Err(SourceError::new(
        ErrorCode::NoSpace,
        format!(
            "a database in rollback-journal mode is copied before it is stored, and {} with its {} bytes does not fit into \
             the {free} bytes that are free at {}; free some space, or set the database to WAL mode",
            place.path().display(),
            place.bytes,
            scratch.display()
        ),
    ))
}

/// Copies the database to a new file; gives the time of the state that it has, microseconds since the epoch.
///
/// # Errors
/// `DatabaseBusy` when its writers leave no time, `NoSpace`, what SQLite meets, the cancel's reason.
pub(super) fn copy(
    from: &Connection,
    request: &SqliteConfig,
    place: &Place,
    to: &Path,
    cancel: &Cancel,
) -> Result<u64, SourceError> {
    check_space(place, to.parent().unwrap_or(to))?;
    let failed = |error: rusqlite::Error| explain(&error, "copy", place, cancel);
    let mut target = Connection::open(to).map_err(failed)?;
    // The copy is thrown away after any failure, so that nothing needs to be rolled back or synced.
    target.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").map_err(failed)?;
    let mut steps = Steps::new(request.write_pause);
    {
        let backup = Backup::new(from, &mut target).map_err(failed)?;
        let mut blocked_since = None;
        loop {
            cancel.check()?;
            let began = Instant::now();
            match backup.step(steps.pages).map_err(failed)? {
                StepResult::Done => break,
                StepResult::More => {
                    blocked_since = None;
                    let progress = backup.progress();
                    steps.passed(began.elapsed(), i64::from(progress.pagecount) - i64::from(progress.remaining));
                    if steps.restarts > RESTARTS {
                        return Err(never_at_rest(place, request.write_pause));
                    }
                }
                _ => {
                    let since = *blocked_since.get_or_insert(began);
                    if since.elapsed() >= request.lock_timeout {
                        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
                        return Err(failed(rusqlite::Error::SqliteFailure(busy, None)));
                    }
                }
            }
            std::thread::sleep(GAP);
        }
    }
    let snapshot_at = now_micros();
    target.close().map_err(|(_, error)| failed(error))?;
    Ok(snapshot_at)
}

fn never_at_rest(place: &Place, pause: Duration) -> SourceError {
    SourceError::new(
        ErrorCode::DatabaseBusy,
        format!(
            "{} was written to again and again before a copy of it was complete, {RESTARTS} times; set it to WAL mode \
             (PRAGMA journal_mode = WAL), in which writers are no hindrance, or raise write_pause, which is {} ms",
            place.path().display(),
            pause.as_millis()
        ),
    )
}

/// How many pages the next step has.
#[derive(Debug, PartialEq, Eq)]
struct Steps {
    pages: i32,
    /// How long a step may take now, and at most.
    target: Duration,
    longest: Duration,
    /// Pages that the copy had after the last step.
    copied: i64,
    restarts: u32,
}

impl Steps {
    fn new(longest: Duration) -> Self {
        Self { pages: FIRST_STEP, target: longest / FIRST_PART, longest, copied: 0, restarts: 0 }
    }

    /// A step took so long, and the copy has so many pages now.
    fn passed(&mut self, took: Duration, copied: i64) {
        if copied <= self.copied {
            self.restarts += 1;
            self.target = (self.target * 2).min(self.longest);
        }
        self.copied = copied;
        let factor = self.target.as_secs_f64() / took.as_secs_f64().max(1e-6);
        #[allow(clippy::cast_possible_truncation, reason = "clamped to what fits")]
        let pages = (f64::from(self.pages) * factor.clamp(0.25, 4.0)).clamp(16.0, 1e9) as i32;
        self.pages = pages;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_grow_to_the_time_that_they_may_take_and_with_every_restart() {
        let pause = Duration::from_millis(400);
        let mut steps = Steps::new(pause);
        // 10 000 pages a second.
        let pass = |steps: &mut Steps, copied| {
            let took = Duration::from_secs_f64(f64::from(steps.pages) / 10_000.0);
            steps.passed(took, copied);
        };
        for copied in 1..=6 {
            pass(&mut steps, copied * 1000);
        }
        assert_eq!((steps.pages, steps.restarts), (1000, 0), "a quarter of the pause");
        for _ in 0..9 {
            pass(&mut steps, 500);
        }
        assert_eq!((steps.pages, steps.restarts), (4000, 9), "never more than the pause");
    }
}
