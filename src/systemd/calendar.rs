//! What calendar events mean, as `systemd-analyze calendar` tells: only systemd knows its own language, time zones and
//! changes of clocks included.

use std::{
    io::Read as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::clock::now_micros;

/// So many runs of an event are looked at: a week of one that happens each minute, years of one that happens daily.
const ITERATIONS: usize = 10_080;
/// What that many lines can have in bytes, and some.
const MOST_OUTPUT: u64 = 4 << 20;
/// How long the program may take for one event.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked at while it ends.
const STEP: Duration = Duration::from_millis(5);

/// The longest time between two runs of a schedule that consists of these events. `None` where systemd's program is not
/// there, cannot read one of them, or where there are not two runs to come.
#[must_use]
pub fn longest_gap(events: &[String]) -> Option<Duration> {
    let mut runs: Vec<Vec<i64>> = Vec::new();
    for event in events {
        runs.push(runs_of(event)?);
    }
    gap_of(&runs, ITERATIONS).and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs)
}

/// The longest gap of the runs of several events, seconds. An event with fewer than `iterations` runs has no more; beyond
/// the last known run of one that has more, nothing can be said.
fn gap_of(runs: &[Vec<i64>], iterations: usize) -> Option<i64> {
    let last = |runs: &Vec<i64>| runs.last().copied();
    let horizon = runs.iter().filter(|runs| runs.len() >= iterations).filter_map(last).min().unwrap_or(i64::MAX);
    let mut all: Vec<i64> = runs.iter().flatten().copied().filter(|run| *run <= horizon).collect();
    all.sort_unstable();
    all.windows(2).map(|pair| pair[1] - pair[0]).max()
}

/// When an event happens from now on, seconds since the epoch.
fn runs_of(event: &str) -> Option<Vec<i64>> {
    let text = ask(event)?;
    let runs = runs_in(&text);
    (!runs.is_empty()).then_some(runs)
}

fn ask(event: &str) -> Option<String> {
    let mut command = Command::new("systemd-analyze");
    command.args(["calendar", &format!("--iterations={ITERATIONS}"), "--", event]);
    // Names of days and colours as they are read below.
    command.envs([("LC_ALL", "C"), ("SYSTEMD_COLORS", "0")]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().inspect_err(|error| tracing::debug!(%error, "no systemd-analyze")).ok()?;
    let output = child.stdout.take()?;
    // Its end closes the pipe, so the thread ends with it.
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        output.take(MOST_OUTPUT).read_to_string(&mut text).map(|_| text)
    });
    let deadline = Instant::now() + TIMEOUT;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(STEP),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
        }
    };
    let text = reader.join().ok()?.ok()?;
    status.filter(std::process::ExitStatus::success).map(|_| text)
}

/// The times in what the program prints. In a zone other than UTC a line with the time in UTC follows each.
fn runs_in(text: &str) -> Vec<i64> {
    let mut runs = Vec::new();
    for line in text.lines() {
        let Some((label, value)) = line.trim().split_once(": ") else { continue };
        let known = label == "Next elapse" || label.starts_with("Iter") || label == "(in UTC)";
        if let Some(time) = known.then(|| utc(value.trim())).flatten() {
            runs.push(time);
        }
    }
    runs
}

/// `Thu 2026-11-26 02:30:00 UTC`; nothing for another zone.
fn utc(text: &str) -> Option<i64> {
    let text = text.strip_suffix(" UTC")?;
    let (_, time) = text.split_once(' ')?;
    let time = chrono::NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S%.f").ok()?;
    Some(time.and_utc().timestamp())
}

/// [`longest_gap`] for one who asks again and again: what was answered holds for a day, for clocks change with the season.
#[derive(Debug, Default)]
pub struct Gaps {
    known: std::collections::BTreeMap<Vec<String>, (u64, Option<Duration>)>,
}

impl Gaps {
    const FRESH_MICROS: u64 = 24 * 3_600_000_000;
    /// An answer that could not be had is tried again sooner.
    const RETRY_MICROS: u64 = 600_000_000;
    /// Schedules that are remembered; more means that configurations came and went.
    const MOST: usize = 1_000;

    /// As [`longest_gap`].
    pub fn longest(&mut self, events: &[String]) -> Option<Duration> {
        let now = now_micros();
        if let Some((asked, gap)) = self.known.get(events) {
            let fresh = if gap.is_some() { Self::FRESH_MICROS } else { Self::RETRY_MICROS };
            if now.abs_diff(*asked) < fresh {
                return *gap;
            }
        }
        let gap = longest_gap(events);
        if self.known.len() >= Self::MOST {
            self.known.clear();
        }
        self.known.insert(events.to_vec(), (now, gap));
        gap
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gap(events: &[&str]) -> Option<u64> {
        let events: Vec<String> = events.iter().map(|event| (*event).to_owned()).collect();
        longest_gap(&events).map(|gap| gap.as_secs())
    }

    #[test]
    fn schedules_of_all_kinds_have_their_gap() {
        const HOUR: u64 = 3600;
        // An hour more where clocks change, in the zone of this host.
        let about = |events: &[&str], hours: u64| {
            let gap = gap(events).unwrap();
            assert!((hours * HOUR..=(hours + 1) * HOUR).contains(&gap), "{events:?}: {gap}");
        };
        about(&["daily"], 24);
        about(&["weekly"], 7 * 24);
        about(&["Mon..Fri 02:30"], 3 * 24);
        about(&["*-*-01 00:00:00"], 31 * 24);
        about(&["*-*-* 02:00:00", "*-*-* 14:00:00"], 12);
        // Nights and a weekend: from Friday 17:45 to Monday 9:00.
        assert!((63 * HOUR + 900..=64 * HOUR + 900).contains(&gap(&["Mon..Fri 9..17:0/15"]).unwrap()));
        assert_eq!(gap(&["*:0/15"]), Some(900));
        // A frequent one with a rare one beside it.
        assert_eq!(gap(&["*:*", "yearly"]), Some(60));
        assert_eq!(gap(&["2020-01-01"]), None, "it is over");
        assert_eq!(gap(&["no calendar event"]), None);
        assert_eq!(gap(&[]), None);
    }

    #[test]
    fn times_of_another_zone_are_read_in_utc() {
        let text = "  Original form: daily\n\
                    Normalized form: *-*-* 00:00:00\n\
                    \x20   Next elapse: Sun 2026-10-25 00:00:00 CEST\n\
                    \x20      (in UTC): Sat 2026-10-24 22:00:00 UTC\n\
                    \x20      From now: 14h left\n\
                    \x20      Iter. #2: Mon 2026-10-26 00:00:00 CET\n\
                    \x20      (in UTC): Sun 2026-10-25 23:00:00 UTC\n\
                    \x20      From now: 1 day 14h left\n\
                    \x20Iteration #3: Tue 2026-10-27 00:00:00 CET\n\
                    \x20      (in UTC): Mon 2026-10-26 23:00:00.500000 UTC\n";
        let runs = runs_in(text);
        assert_eq!(runs.len(), 3);
        assert_eq!(gap_of(&[runs], ITERATIONS), Some(25 * 3600));
    }

    #[test]
    fn what_was_answered_is_not_asked_again() {
        let mut gaps = Gaps::default();
        let events = ["hourly".to_owned()];
        assert_eq!(gaps.longest(&events), Some(Duration::from_secs(3600)));
        gaps.known.get_mut(&events[..]).unwrap().1 = Some(Duration::from_secs(1));
        assert_eq!(gaps.longest(&events), Some(Duration::from_secs(1)));
        gaps.known.get_mut(&events[..]).unwrap().0 = 0;
        assert_eq!(gaps.longest(&events), Some(Duration::from_secs(3600)));
    }

    proptest! {
        /// One more event never makes a gap longer, as far as both are known.
        #[test]
        fn an_event_more_is_no_gap_more(mut a in prop::collection::vec(0_i64..100, 2..20), extra in 0_i64..100) {
            a.sort_unstable();
            let inside = extra.clamp(a[0], a[a.len() - 1]);
            let alone = gap_of(std::slice::from_ref(&a), usize::MAX);
            prop_assert!(gap_of(&[a, vec![inside]], usize::MAX) <= alone);
        }
    }
}
