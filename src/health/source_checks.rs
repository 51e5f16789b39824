//! The checks of one source.
//!
//! Invariant: what is in the future is no proof of anything now: no age is judged by it.

use std::{collections::BTreeMap, time::Duration};

use super::{
    age::{AgeLimit, Basis, age_limit},
    facts::SourceFacts,
    finding::{Code, Finding, Severity, SourceHealth},
    text,
};
use crate::{
    clock::micros,
    config::{SourceConfig, Within},
    model::{
        SourceKey,
        job::{JobRecord, JobResult, JobType},
        summary::BackupSummary,
    },
};

/// Clocks of hosts that are kept in time differ by less.
pub(super) const CLOCK_TOLERANCE: u64 = 5 * 60 * 1_000_000;
/// So many failures in a row are more than a bad moment.
const FAILURES: usize = 2;
/// Backups whose time is looked at for how long one usually takes.
const TIMED: usize = 10;

/// Looks at one source.
pub(super) fn check(facts: &SourceFacts, now: u64) -> (SourceHealth, Vec<Finding>) {
    let mut check = Check { facts, now, findings: Vec::new(), health: SourceHealth::default() };
    check.health.source.clone_from(&facts.name);
    match &facts.config {
        None => check.broken(),
        Some(config) if !config.enabled => {
            check.find(
                Code::SourceDisabled,
                Severity::Ok,
                "is disabled by `enabled = false` in its file".to_owned(),
                "enable it, or remove its file where it is not needed any more",
            );
        }
        Some(config) => check.enabled(config),
    }
    let Check { mut health, findings, .. } = check;
    health.severity = super::finding::worst(&findings);
    (health, findings)
}

struct Check<'f> {
    facts: &'f SourceFacts,
    now: u64,
    findings: Vec<Finding>,
    health: SourceHealth,
}

impl Check<'_> {
    /// `message` continues the name of the source.
    fn find(&mut self, code: Code, severity: Severity, message: String, advice: &str) {
        let name = &self.facts.name;
        self.findings.push(Finding {
            code,
            severity,
            source: Some(name.clone()),
            message: format!("{name} {message}"),
            advice: advice.to_owned(),
        });
    }

    fn broken(&mut self) {
        let message = format!("is disabled by errors in its file: {}", self.facts.broken);
        self.find(Code::SourceBroken, Severity::Critical, message, "`backupctl config check`, then `backupctl reload`");
    }

    fn enabled(&mut self, config: &SourceConfig) {
        self.last_result();
        self.surroundings();
        self.timer(config);
        let Some(backups) = &self.facts.backups else { return };
        let limit = age_limit(config, self.facts.gap, usual(backups));
        self.health.age_limit = limit.map_or(0, |limit| micros(limit.limit));
        self.age(backups, limit);
        self.newest(backups);
        self.damage(backups);
        self.redundancy(backups);
        self.proof(backups);
    }

    fn last_result(&mut self) {
        // A backup of the whole is newer than all that came before it; later ones of single databases count beside it.
        let jobs: Vec<&JobRecord> = self
            .facts
            .jobs_of(JobType::Create)
            .filter(|job| !matches!(job.result, None | Some(JobResult::Canceled)))
            .collect();
        let whole = jobs.iter().position(|job| job.source == self.facts.name).map_or(jobs.len(), |at| at + 1);
        let failed = |job: &JobRecord| job.result != Some(JobResult::Done);
        let mut seen = Vec::new();
        for job in &jobs[..whole] {
            if seen.contains(&&job.source) {
                continue;
            }
            seen.push(&job.source);
            if !failed(job) {
                continue;
            }
            let row = jobs.iter().filter(|other| other.source == job.source).take_while(|job| failed(job)).count();
            let what = if job.result == Some(JobResult::Interrupted) { "was interrupted" } else { "failed" };
            let times = if row > 1 { format!(", the last {row} in a row") } else { String::new() };
            let reason = job.error.as_ref().map_or("", |error| error.message.as_str());
            let ago = text::duration(self.now.saturating_sub(job.end_time));
            let of = if job.source == self.facts.name { String::new() } else { format!(" of {}", job.source) };
            let message = format!("has no new backup{of}: job {} {what} {ago} ago{times}: {reason}", job.number);
            let severity = if row >= FAILURES { Severity::Critical } else { Severity::Warning };
            let advice =
                format!("`backupctl log {}` has the details; then `backupctl create {}`", job.number, job.source);
            self.find(Code::BackupFailed, severity, message, &advice);
        }
    }

    fn surroundings(&mut self) {
        if let Some(problem) = &self.facts.credential_problem {
            let message = format!("needs a password that cannot be read: {problem}");
            let advice = format!("`backupctl source credential {}`", self.facts.name);
            self.find(Code::CredentialUnreadable, Severity::Critical, message, &advice);
        }
        if let Some(problem) = &self.facts.client_problem {
            let message = format!("cannot be dumped: {problem}");
            self.find(
                Code::ClientProgramMissing,
                Severity::Critical,
                message,
                "install the client package of the server's version",
            );
        }
        if let Some(problem) = &self.facts.retention_problem {
            let message = format!("keeps more than its retention says: {problem}");
            let advice = format!("`backupctl retention explain {0}`, then `backupctl prune {0}`", self.facts.name);
            self.find(Code::RetentionHeld, Severity::Warning, message, &advice);
        }
    }

    fn timer(&mut self, config: &SourceConfig) {
        let Some(timer) = &self.facts.timer else { return };
        let scheduled = !config.schedule.is_empty();
        if timer.masked && (scheduled || config.rpo.is_some_and(|rpo| rpo != Within::Off)) {
            let message = format!("is not backed up by itself: {} is masked", timer.unit);
            let advice = format!("`systemctl unmask {0}`, then `systemctl start {0}`", timer.unit);
            self.find(Code::TimerMasked, Severity::Warning, message, &advice);
        } else if scheduled && !timer.active {
            let message = format!("is not backed up by itself: {} is not active", timer.unit);
            let advice = format!("`systemctl daemon-reload`, then `systemctl start {}`", timer.unit);
            self.find(Code::TimerInactive, Severity::Warning, message, &advice);
        } else if !scheduled && !timer.active && config.rpo.is_none() {
            let message = "has no schedule, so nobody misses a backup that is not taken".to_owned();
            self.find(Code::NoSchedule, Severity::Ok, message, "set `schedule` or `rpo` in the file of the source");
        }
    }

    fn age(&mut self, backups: &[BackupSummary], limit: Option<AgeLimit>) {
        let current = self.current(backups);
        let mut oldest: Option<(u64, &SourceKey)> = None;
        let mut without: Vec<String> = Vec::new();
        for (key, backups) in &current {
            let good = backups.iter().filter(|backup| backup.is_good() && !self.in_future(backup));
            match good.map(|backup| backup.snapshot_at).max() {
                Some(at) if oldest.is_none_or(|(oldest, _)| at < oldest) => oldest = Some((at, key)),
                Some(_) => {}
                None => without.push(key.to_string()),
            }
        }
        self.health.last_good_at = if without.is_empty() { oldest.map_or(0, |(at, _)| at) } else { 0 };
        let create = format!("`backupctl create {}`", self.facts.name);
        if current.is_empty() || !without.is_empty() {
            let patience = limit.map_or(u64::MAX, |limit| micros(limit.limit));
            let late = self.facts.configured_at != 0 && self.now.saturating_sub(self.facts.configured_at) > patience;
            let severity = if late || !backups.is_empty() { Severity::Critical } else { Severity::Warning };
            let of = if backups.is_empty() || without == [self.facts.name.clone()] {
                String::new()
            } else {
                format!(" of {}", without.join(", "))
            };
            let message =
                if backups.is_empty() { "has no backup yet".to_owned() } else { format!("has no good backup{of}") };
            self.find(Code::NoBackup, severity, message, &create);
        }
        if let (Some((at, key)), Some(AgeLimit { limit, basis })) = (oldest, limit) {
            let age = self.now.saturating_sub(at);
            if age > micros(limit) {
                let why = match basis {
                    Basis::Rpo => format!("rpo is {}", text::duration(micros(limit))),
                    Basis::Schedule(gap) => format!("the schedule takes one every {}", text::duration(micros(gap))),
                };
                let of = if key.child.is_some() { format!(" of {key}") } else { String::new() };
                let message = format!("has no good backup{of} for {}; {why}", text::duration(age));
                let advice = format!(
                    "`backupctl jobs` and `systemctl status backupd-create@{}.timer` may tell why; {create}",
                    self.facts.name
                );
                self.find(Code::BackupOverdue, Severity::Critical, message, &advice);
            }
        }
    }

    /// The newest backup of each database: it is in the future, or suspect.
    fn newest(&mut self, backups: &[BackupSummary]) {
        for backups in self.current(backups).values() {
            if let Some(future) = backups.iter().find(|backup| self.in_future(backup)) {
                let ahead = text::duration(future.snapshot_at - self.now);
                let message = format!("has backup {} that is {ahead} in the future", future.id.short());
                let advice = "look at the clock of this host; ages are judged by other backups until then";
                self.find(Code::BackupInFuture, Severity::Warning, message, advice);
            }
            let Some(newest) = backups.iter().max_by_key(|backup| backup.sequence) else { continue };
            if newest.suspect {
                let row = backups.iter().take_while(|backup| backup.suspect).count();
                let which = if row > 1 {
                    format!("the newest {row} backups are suspect")
                } else {
                    format!("backup {} is suspect", newest.id.short())
                };
                let message = format!("may have lost rows: {which}, {}", newest.source);
                let advice = format!(
                    "`backupctl show {}` has the numbers; if the loss was meant, raise `suspicious_loss` for one backup or delete the larger ones",
                    newest.id.short()
                );
                self.find(Code::BackupSuspect, Severity::Warning, message, &advice);
            }
        }
    }

    fn damage(&mut self, backups: &[BackupSummary]) {
        let damaged: Vec<&BackupSummary> = backups.iter().filter(|backup| backup.damaged).collect();
        if let Some(first) = damaged.first() {
            let more = if damaged.len() > 1 { format!(" and {} more", damaged.len() - 1) } else { String::new() };
            let message = format!("has damaged backups: {}{more}", first.id.short());
            let advice = format!(
                "look at the disk; `backupctl create {}` stores again what they lack, `backupctl verify` then tells what is left",
                self.facts.name
            );
            self.find(Code::BackupDamaged, Severity::Critical, message, &advice);
        }
    }

    fn redundancy(&mut self, backups: &[BackupSummary]) {
        self.health.good_backups = backups.iter().filter(|backup| backup.is_good()).count() as u64;
        let wanted = self.facts.health.min_backups.unwrap_or(0) as usize;
        for (key, backups) in &self.current(backups) {
            let good = backups.iter().filter(|backup| backup.is_good()).count();
            if good < wanted {
                let message = format!("has {good} good backups of {key}, of {wanted} that there shall be");
                let advice = "let retention keep more, take more backups, or lower `min_backups`";
                self.find(Code::TooFewBackups, Severity::Warning, message, advice);
            }
        }
    }

    fn proof(&mut self, backups: &[BackupSummary]) {
        let sane = |at: u64| if at > self.now.saturating_add(CLOCK_TOLERANCE) { 0 } else { at };
        let verified = backups.iter().map(|backup| sane(backup.verified_at.max(backup.drilled_at))).max().unwrap_or(0);
        let drilled = backups.iter().map(|backup| sane(backup.drilled_at)).max().unwrap_or(0);
        let failed = backups.iter().map(|backup| backup.drill_failed_at).max().unwrap_or(0);
        // Something to prove is there since the oldest backup is.
        let since = backups.iter().map(|backup| backup.finished_at).min();
        self.health.verified_at = verified;
        self.health.drilled_at = drilled;
        let name = &self.facts.name;
        let verify =
            format!("`backupctl verify {name}`; `systemctl enable --now backupd-verify.timer` makes it a habit");
        let drill = format!("`backupctl drill {name}`; `systemctl enable --now backupd-drill.timer` makes it a habit");
        if let Some(since) = since {
            let limits = &self.facts.health;
            let (verified_within, drilled_within) = (limits.verified_within, limits.drilled_within);
            self.within(Code::NotVerified, "verified", verified_within, (verified, since), &verify);
            self.within(Code::NotDrilled, "drilled", drilled_within, (drilled, since), &drill);
        }
        if failed > drilled {
            let ago = text::duration(self.now.saturating_sub(failed));
            let message = format!("did not restore as it should: its drill failed {ago} ago");
            let advice = "`backupctl show` of the backup has the findings; drill again when the cause is gone";
            self.find(Code::DrillFailed, Severity::Critical, message, advice);
        }
    }

    fn within(&mut self, code: Code, done: &str, limit: Option<Within>, (at, since): (u64, u64), advice: &str) {
        let Some(limit) = limit.and_then(Within::time).map(micros) else { return };
        let age = self.now.saturating_sub(if at == 0 { since } else { at });
        if age <= limit {
            return;
        }
        let severity = if age > limit.saturating_mul(2) { Severity::Critical } else { Severity::Warning };
        let (age, limit) = (text::duration(age), text::duration(limit));
        let message = match at {
            0 => format!("was never {done}, and has backups for {age}; `{done}_within` is {limit}"),
            _ => format!("was last {done} {age} ago; `{done}_within` is {limit}"),
        };
        self.find(code, severity, message, advice);
    }

    /// The backups of each database that is still there: those of a single source, and of a whole server the databases
    /// that its newest run found, with or without success.
    fn current<'b>(&self, backups: &'b [BackupSummary]) -> BTreeMap<&'b SourceKey, Vec<&'b BackupSummary>> {
        let run = backups.iter().filter(|backup| backup.whole_run).max_by_key(|backup| backup.run_id).map(|b| b.run_id);
        let failed: Vec<&str> = self
            .facts
            .jobs_of(JobType::Create)
            .find(|job| job.source == self.facts.name)
            .and_then(|job| job.statistics.get("failures")?.as_array())
            .map(|failures| failures.iter().filter_map(|failure| failure.get("database")?.as_str()).collect())
            .unwrap_or_default();
        let mut current: BTreeMap<&SourceKey, Vec<&BackupSummary>> = BTreeMap::new();
        for backup in backups {
            current.entry(&backup.source).or_default().push(backup);
        }
        current.retain(|key, backups| match &key.child {
            None => true,
            Some(child) => {
                run.is_none_or(|run| backups.iter().any(|backup| backup.run_id == run))
                    || failed.contains(&&*child.lossy())
            }
        });
        current
    }

    fn in_future(&self, backup: &BackupSummary) -> bool {
        backup.snapshot_at > self.now.saturating_add(CLOCK_TOLERANCE)
    }
}

/// How long backups of the source take: the longest of the last ones.
fn usual(backups: &[BackupSummary]) -> Duration {
    let mut newest: Vec<&BackupSummary> = backups.iter().collect();
    newest.sort_by_key(|backup| std::cmp::Reverse(backup.finished_at));
    let longest = newest.iter().take(TIMED).map(|backup| backup.finished_at.saturating_sub(backup.started_at)).max();
    // A clock that jumped while one was taken says nothing.
    Duration::from_micros(longest.unwrap_or(0).min(86_400_000_000))
}
