//! The dead-man's switch: what it finds wrong, by what systemd says of the daemon and by the backups in the repository.
//! It needs no daemon, so it cannot be silenced by what silenced that.
//!
//! Invariants: nothing is wrong while no source is configured; a backup that is suspect, damaged or of the future
//! keeps nobody quiet; what is wrong is told at once, then again once an interval, and once more when it is over.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::age::{AgeLimit, Basis};
use crate::model::{SourceKey, SourceName, summary::BackupSummary};

/// Clocks of one host differ by less; a snapshot that is further ahead was made by a clock that was wrong.
const AHEAD: u64 = 5 * 60 * 1_000_000;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable word: `daemon-stopped`, `backup-too-old`…
    pub code: &'static str,
    /// The source that it is about; absent for the daemon, the repository and the configuration.
    pub source: Option<String>,
    /// What is wrong and what to do, a sentence or two.
    pub message: String,
}

impl Finding {
    /// A finding that is about no source.
    #[must_use]
    pub fn general(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, source: None, message: message.into() }
    }

    fn of_source(code: &'static str, source: &str, message: String) -> Self {
        Self { code, source: Some(source.to_owned()), message }
    }

    /// What tells it from others, from one look to the next.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{} {}", self.code, self.source.as_deref().unwrap_or_default())
    }
}

/// What systemd says of the daemon's unit, in its own words (org.freedesktop.systemd1(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DaemonState {
    /// `LoadState`: `loaded`, `masked`, `not-found`, `bad-setting`…
    pub load: String,
    /// `ActiveState`: `active`, `failed`, `activating`…
    pub active: String,
    /// `UnitFileState`: `enabled`, `disabled`…
    pub file: String,
    /// `Result` of the service: `success`, `exit-code`, `watchdog`…
    pub result: String,
}

impl DaemonState {
    /// Whether it is on its way from one state to another, so that it is worth to look again.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self.active.as_str(), "activating" | "deactivating" | "reloading" | "refreshing")
    }
}

/// What is wrong with the daemon. `silence` is why it did not answer, where it was asked and did not. The first cause is told,
/// not what follows from it.
#[must_use]
pub fn daemon_finding(unit: &str, state: &DaemonState, silence: Option<&str>) -> Option<Finding> {
    let finding = |code, what: String| Some(Finding::general(code, what));
    match (state.load.as_str(), state.active.as_str()) {
        ("masked", _) => finding(
            "daemon-masked",
            format!("{unit} is masked, so no backup is taken: `systemctl unmask --now {unit}`"),
        ),
        ("not-found", _) => finding("daemon-missing", format!("{unit} is not installed, so no backup is taken")),
        (load, "inactive") if load != "loaded" => finding(
            "daemon-missing",
            format!("systemd cannot load {unit} ({load}): `systemctl status {unit}` says why"),
        ),
        (_, "failed") => finding(
            "daemon-failed",
            format!(
                "{unit} has failed ({}): `journalctl -u {unit}` says why, `systemctl start {unit}` tries again",
                state.result
            ),
        ),
        (_, "active") => match silence {
            Some(why) => finding(
                "daemon-silent",
                format!(
                    "{unit} runs and does not answer ({why}): `systemctl restart {unit}`, and `journalctl -u {unit}` says more"
                ),
            ),
            None if state.file == "disabled" => finding(
                "daemon-disabled",
                format!(
                    "{unit} runs, but is disabled: after the next boot no backup would be taken: `systemctl enable {unit}`"
                ),
            ),
            None => None,
        },
        (_, "inactive") => finding("daemon-stopped", format!("{unit} is stopped: `systemctl start {unit}`")),
        (_, active) => finding(
            "daemon-not-up",
            format!("{unit} does not come up, it has been {active} for minutes: `journalctl -u {unit}` says why"),
        ),
    }
}

/// A source, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Its name.
    pub name: String,
    /// How old its newest good backup may get; `None` for one of which nobody said.
    pub limit: Option<AgeLimit>,
    /// The snapshot of that backup, microseconds since the epoch; `None` for none.
    pub newest_good: Option<u64>,
    /// Since when it is configured as it is: a new source has no backup yet.
    pub configured_at: u64,
}

/// What is wrong with the backups of a source.
#[must_use]
pub fn source_finding(watched: &Watched, now: u64) -> Option<Finding> {
    let limit = watched.limit?;
    let since = watched.newest_good.unwrap_or(watched.configured_at);
    let age = Duration::from_micros(now.saturating_sub(since));
    if age < limit.limit {
        return None;
    }
    let name = &watched.name;
    let allowed = match limit.basis {
        Basis::Rpo => format!("its `rpo` is {}", words(limit.limit)),
        Basis::Schedule(gap) => {
            format!("its schedule has one every {}, and {} were waited", words(gap), words(limit.limit))
        }
    };
    let help = format!("`backupctl create {name}` takes one, `backupctl log {name}` says what happened");
    Some(match watched.newest_good {
        Some(_) => Finding::of_source(
            "backup-too-old",
            name,
            format!("the newest good backup of {name} is {} old, and {allowed}; {help}", words(age)),
        ),
        None => Finding::of_source(
            "no-backup",
            name,
            format!("there is no good backup of {name}, {} after it was configured, and {allowed}; {help}", words(age)),
        ),
    })
}

/// What is wrong with a source whose file cannot be read as one: it is disabled, which nobody may have meant.
#[must_use]
pub fn broken_finding(name: &str, problems: &str) -> Finding {
    let message = format!("source {name} is disabled by errors in its file, so no backup of it is taken: {problems}");
    Finding::of_source("source-broken", name, message)
}

/// The snapshot of the newest good backup of a source, microseconds since the epoch. Of a whole server, of the database
/// whose newest good one is the oldest: among those that the newest run over all of them took, for others may have been dropped.
/// `None` where there is none, or where one of these databases has none.
#[must_use]
pub fn newest_good(backups: &[BackupSummary], source: &SourceName, now: u64) -> Option<u64> {
    let known = || backups.iter().filter(|b| b.source.source == *source && b.snapshot_at <= now.saturating_add(AHEAD));
    let newest_of = |key: &SourceKey| {
        let good = known().filter(|b| b.source == *key && b.is_good());
        good.map(|b| b.snapshot_at).max()
    };
    let Some(run) = known().filter(|b| b.whole_run).max_by_key(|b| b.snapshot_at).map(|b| b.run_id) else {
        return known().filter(|b| b.is_good()).map(|b| b.snapshot_at).max();
    };
    let of_run = known().filter(|b| b.whole_run && b.run_id == run);
    of_run.map(|b| newest_of(&b.source)).min().flatten()
}

/// How long the newest backup of a source took, which a limit allows for.
#[must_use]
pub fn usual_duration(backups: &[BackupSummary], source: &SourceName) -> Duration {
    let of_source = backups.iter().filter(|b| b.source.source == *source);
    // One of a single database says little about all of them.
    let newest = of_source.clone().max_by_key(|b| (b.whole_run, b.snapshot_at));
    let run = newest.and_then(|b| b.run_id.filter(|_| b.whole_run));
    let took = match (newest, run) {
        (Some(newest), None) => newest.finished_at.saturating_sub(newest.started_at),
        (Some(_), Some(run)) => {
            let of_run = || of_source.clone().filter(|b| b.run_id == Some(run));
            let began = of_run().map(|b| b.started_at).min().unwrap_or_default();
            of_run().map(|b| b.finished_at).max().unwrap_or_default().saturating_sub(began)
        }
        (None, _) => 0,
    };
    Duration::from_micros(took)
}

/// What was told, and when, from one look to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// When each finding was told last, microseconds since the epoch, by its key.
    pub at: BTreeMap<String, u64>,
}

impl Told {
    /// Takes in what was found now. Gives for each finding whether it is to be told (again), and the keys of what is over.
    pub fn update(&mut self, findings: &[Finding], now: u64, repeat: Duration) -> (Vec<bool>, Vec<String>) {
        let mut fresh = BTreeMap::new();
        let mut due = Vec::new();
        for finding in findings {
            let told = self.at.get(&finding.key()).copied();
            // One of the future was told by a clock that was wrong.
            let still = told.filter(|at| *at <= now && Duration::from_micros(now - at) < repeat);
            due.push(still.is_none());
            fresh.insert(finding.key(), still.unwrap_or(now));
        }
        let over = self.at.keys().filter(|key| !fresh.contains_key(*key)).cloned().collect();
        self.at = fresh;
        (due, over)
    }
}

/// A time in its two largest units: `1d 2h`, `45min`.
fn words(time: Duration) -> String {
    let minutes = time.as_secs() / 60;
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    let part = |number: u64, unit: &str| if number == 0 { String::new() } else { format!("{number}{unit}") };
    let parts = match days {
        0 => [part(hours, "h"), part(minutes, "min")],
        _ => [part(days, "d"), part(hours, "h")],
    };
    let text = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    if text.is_empty() { format!("{}s", time.as_secs()) } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{BackupId, RunId};

    const NOW: u64 = 1_793_577_600_000_000;
    const HOUR: Duration = Duration::from_secs(3600);

    fn state(load: &str, active: &str, file: &str) -> DaemonState {
        DaemonState { load: load.into(), active: active.into(), file: file.into(), result: "exit-code".into() }
    }

    fn code(state: &DaemonState, silence: Option<&str>) -> Option<&'static str> {
        daemon_finding("backupd.service", state, silence).map(|finding| finding.code)
    }

    #[test]
    fn a_daemon_that_is_not_there_is_found_by_its_first_cause() {
        for (load, active, file, expected) in [
            ("loaded", "active", "enabled", None),
            ("loaded", "active", "enabled-runtime", None),
            ("loaded", "active", "disabled", Some("daemon-disabled")),
            ("loaded", "inactive", "enabled", Some("daemon-stopped")),
            ("loaded", "inactive", "disabled", Some("daemon-stopped")),
            ("loaded", "failed", "enabled", Some("daemon-failed")),
            ("loaded", "activating", "enabled", Some("daemon-not-up")),
            ("masked", "inactive", "masked", Some("daemon-masked")),
            ("masked", "active", "masked", Some("daemon-masked")),
            ("not-found", "inactive", "", Some("daemon-missing")),
            ("bad-setting", "inactive", "enabled", Some("daemon-missing")),
        ] {
            assert_eq!(code(&state(load, active, file), None), expected, "{load} {active} {file}");
        }
        assert_eq!(code(&state("loaded", "active", "enabled"), Some("no answer")), Some("daemon-silent"));
        assert_eq!(code(&state("loaded", "failed", "enabled"), Some("no answer")), Some("daemon-failed"));
    }

    fn backup(source: &str, age: Duration) -> BackupSummary {
        let (name, child) = source.split_once('/').map_or((source, None), |(name, child)| (name, Some(child.into())));
        let at = NOW - u64::try_from(age.as_micros()).unwrap();
        BackupSummary {
            id: BackupId([1; 16]),
            source: SourceKey { source: name.parse().unwrap(), child },
            started_at: at,
            snapshot_at: at,
            finished_at: at + 60_000_000,
            ..BackupSummary::nothing()
        }
    }

    fn newest(backups: &[BackupSummary], source: &str) -> Option<Duration> {
        newest_good(backups, &source.parse().unwrap(), NOW).map(|at| Duration::from_micros(NOW - at))
    }

    #[test]
    fn only_good_backups_of_the_source_and_of_the_past_count() {
        let mut backups = vec![
            backup("shop", 30 * HOUR),
            BackupSummary { suspect: true, ..backup("shop", 2 * HOUR) },
            BackupSummary { damaged: true, ..backup("shop", HOUR) },
            backup("crm", HOUR),
        ];
        assert_eq!(newest(&backups, "shop"), Some(30 * HOUR));
        assert_eq!(newest(&backups, "none"), None);
        let ahead = BackupSummary { snapshot_at: NOW + 86_400_000_000, ..backup("shop", HOUR) };
        backups.push(ahead);
        assert_eq!(newest(&backups, "shop"), Some(30 * HOUR));
    }

    #[test]
    fn a_whole_server_is_as_old_as_its_oldest_database_that_is_still_there() {
        let (old, new) = (RunId::new(), RunId::new());
        let of = |run, source: &str, age| BackupSummary { run_id: Some(run), whole_run: true, ..backup(source, age) };
        let mut backups =
            vec![of(old, "all/a", 26 * HOUR), of(old, "all/b", 26 * HOUR), of(old, "all/dropped", 26 * HOUR)];
        backups.extend([of(new, "all/a", 2 * HOUR), of(new, "all/b", HOUR), backup("all/a", HOUR)]);
        assert_eq!(newest(&backups, "all"), Some(HOUR));
        backups[4].suspect = true;
        assert_eq!(newest(&backups, "all"), Some(26 * HOUR), "of b there is only the old one");
        backups[1].damaged = true;
        assert_eq!(newest(&backups, "all"), None, "of b there is none");
        assert_eq!(usual_duration(&backups, &"all".parse().unwrap()), Duration::from_secs(60) + HOUR);
    }

    #[test]
    fn a_source_is_too_old_from_its_limit_on_and_a_new_one_has_its_time() {
        let limit = |basis| Some(AgeLimit { limit: 26 * HOUR, basis });
        let at = |age: Duration| NOW - u64::try_from(age.as_micros()).unwrap();
        let watched = |limit, newest: Option<Duration>, configured| Watched {
            name: "shop".to_owned(),
            limit,
            newest_good: newest.map(at),
            configured_at: at(configured),
        };
        let find = |watched: Watched| source_finding(&watched, NOW).map(|finding| (finding.code, finding.message));
        let daily = limit(Basis::Schedule(24 * HOUR));
        assert_eq!(find(watched(daily, Some(25 * HOUR), 900 * HOUR)), None);
        assert_eq!(find(watched(None, None, 900 * HOUR)), None);
        assert_eq!(find(watched(daily, None, HOUR)), None);
        let (code, message) = find(watched(daily, Some(27 * HOUR), HOUR)).unwrap();
        assert_eq!(code, "backup-too-old");
        assert!(message.contains("is 1d 3h old") && message.contains("every 1d, and 1d 2h were waited"), "{message}");
        let (code, message) = find(watched(limit(Basis::Rpo), None, 50 * HOUR)).unwrap();
        assert_eq!(code, "no-backup");
        assert!(message.contains("2d 2h after it was configured") && message.contains("`rpo` is 1d 2h"), "{message}");
        assert_eq!([words(Duration::from_secs(59)), words(90 * HOUR / 60)], ["59s", "1h 30min"]);
    }

    proptest! {
        #[test]
        fn what_is_wrong_is_told_at_once_then_once_an_interval_and_then_that_it_is_over(
            looks in prop::collection::vec((prop::collection::btree_set(0_usize..3, 0..4), 0_u64..40), 1..60),
        ) {
            const CODES: [&str; 3] = ["daemon-stopped", "daemon-failed", "daemon-silent"];
            let (mut told, mut now) = (Told::default(), NOW);
            let mut last: BTreeMap<usize, u64> = BTreeMap::new();
            for (wrong, hours) in looks {
                now += hours * 3_600_000_000;
                let findings: Vec<Finding> = wrong.iter().map(|n| Finding::general(CODES[*n], "")).collect();
                let (due, over) = told.update(&findings, now, 24 * HOUR);
                let gone: Vec<usize> = last.keys().filter(|n| !wrong.contains(n)).copied().collect();
                prop_assert_eq!(over.len(), gone.len());
                last.retain(|n, _| wrong.contains(n));
                for (n, due) in wrong.iter().zip(due) {
                    let expected = last.get(n).is_none_or(|at| now - at >= 24 * 3_600_000_000);
                    prop_assert_eq!(due, expected);
                    if due {
                        last.insert(*n, now);
                    }
                }
            }
        }
    }
}
