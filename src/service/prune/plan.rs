//! What a prune would do, and why.

use std::collections::BTreeMap;

use chrono::Local;
use serde_json::{Value, json};

use super::sources;
use crate::{
    clock::now_micros,
    config::{Config, RetentionPolicy, SourceConfig, SourceKind},
    model::{BackupId, Name, SourceName, manifest::Selection, summary::BackupSummary},
    repository::{Usage, usage::BackupUsage},
    retention::{Candidate, Decision, Going, Question, forecast},
    service::{engine::Engine, error::ServiceError, opening::Opened},
    stream::Cancel,
};
use std::sync::Arc;

/// A policy that changed and would delete more than this part of a source waits for somebody's word.
const A_THIRD: usize = 3;

/// Looks at the backups as they are.
pub(super) struct Planner<'a> {
    engine: &'a Engine,
    config: Arc<Config>,
    backups: Arc<Vec<BackupSummary>>,
    usage: Option<Usage>,
    now: u64,
    despite_clock: bool,
}

/// What becomes of the backups of one source.
pub(super) struct Plan {
    pub(super) source: SourceName,
    pub(super) policy: RetentionPolicy,
    /// By database; a source that is one database or file has one without a name.
    pub(super) databases: BTreeMap<Option<Name>, Vec<(BackupSummary, Decision)>>,
    /// When each goes, as far as that can be seen.
    going_at: BTreeMap<BackupId, u64>,
    /// Why nothing is deleted until somebody says so.
    pub(super) held: Option<String>,
}

impl Plan {
    /// What goes now.
    pub(super) fn going(&self) -> impl Iterator<Item = (&BackupSummary, &Going)> {
        let all = self.databases.values().flatten();
        all.filter_map(|(backup, decision)| decision.going.as_ref().map(|why| (backup, why)))
    }
}

impl<'a> Planner<'a> {
    fn new(engine: &'a Engine, opened: &Opened, usage: Option<Usage>, despite_clock: bool) -> Self {
        let (config, now) = (engine.config(), now_micros());
        Self { engine, config, backups: opened.backups(), usage, now, despite_clock }
    }

    /// For plans of these sources; looks at the sizes of packs, which means at every manifest, only where a policy asks for
    /// them.
    pub(super) fn for_prune(
        engine: &'a Engine,
        opened: &Opened,
        sources: &[SourceName],
        despite_clock: bool,
        cancel: &Cancel,
    ) -> Result<Self, ServiceError> {
        let config = engine.config();
        let sizes = sources.iter().filter_map(|name| config.retention_of(name)).any(|p| p.max_size.is_some());
        let usage = sizes.then(|| opened.reading().usage(cancel)).transpose()?;
        Ok(Self::new(engine, opened, usage, despite_clock))
    }

    /// The plan for a source that is configured.
    pub(super) fn plan(&self, source: &SourceName) -> Option<Plan> {
        self.look(source, false)
    }

    fn look(&self, source: &SourceName, ahead: bool) -> Option<Plan> {
        let policy = self.config.retention_of(source)?;
        let selection = self.config.sources.get(source).and_then(own_selection);
        let mut by_database: BTreeMap<Option<Name>, Vec<&BackupSummary>> = BTreeMap::new();
        for backup in self.backups.iter().filter(|backup| backup.source.source == *source) {
            by_database.entry(backup.source.child.clone()).or_default().push(backup);
        }
        let question = Question {
            policy: &policy,
            space: self.usage.as_ref().map(|usage| &usage.packs),
            zone: &Local,
            now: self.now,
            despite_clock: self.despite_clock,
        };
        let (mut databases, mut going_at) = (BTreeMap::new(), BTreeMap::new());
        for (database, backups) in by_database {
            let candidates: Vec<Candidate> = backups.iter().map(|backup| Candidate::of(backup, selection)).collect();
            if ahead {
                going_at.extend(forecast::going(&question, &candidates, forecast::interval(&candidates)));
            }
            let decisions = question.decide(&candidates);
            let with_summary = decisions.into_iter().filter_map(|decision| {
                let backup = backups.iter().find(|backup| backup.id == decision.id)?;
                Some(((*backup).clone(), decision))
            });
            databases.insert(database, with_summary.collect());
        }
        let plan = Plan { source: source.clone(), policy, databases, going_at, held: None };
        Some(Plan { held: self.held(&plan), ..plan })
    }

    /// Why nothing of a plan is done yet: if the policy changed and much would go, or if it was never applied before, as
    /// after an upgrade, and anything would.
    fn held(&self, plan: &Plan) -> Option<String> {
        let (source, all, going) = (&plan.source, plan.databases.values().map(Vec::len).sum(), plan.going().count());
        let why = why_held(self.engine.accepted_policies().of(source).as_ref(), &plan.policy, going, all)?;
        Some(format!(
            "the retention of {source} {why}: look at `backupctl retention explain {source}`, then run `backupctl prune \
             {source} --force`, or pin what shall stay"
        ))
    }
}

/// What speaks against letting so many of all backups go under a policy, where `accepted` is the one of the last time.
fn why_held(accepted: Option<&RetentionPolicy>, policy: &RetentionPolicy, going: usize, all: usize) -> Option<String> {
    match accepted {
        Some(accepted) if accepted == policy => None,
        Some(_) if going * A_THIRD > all => {
            Some(format!("changed, and would delete {going} of its {all} backups, which is more than a third"))
        }
        None if going > 0 => Some(format!("was never applied before, and would delete {going} of its {all} backups")),
        _ => None,
    }
}

/// Why nothing of these sources is deleted although their retention says so, for who watches; nothing where the daemon deletes
/// only when it is asked to, or it cannot be told. Looks at no backup of a source whose policy was applied before.
pub(in crate::service) fn held(engine: &Engine, opened: &Opened) -> BTreeMap<SourceName, String> {
    let config = engine.config();
    if !config.pruning.automatic {
        return BTreeMap::new();
    }
    let is_new = |name: &&SourceName| engine.accepted_policies().of(name) != config.retention_of(name);
    let new: Vec<SourceName> = config.sources.keys().filter(is_new).cloned().collect();
    let planner = match Planner::for_prune(engine, opened, &new, false, &Cancel::new()) {
        Ok(planner) => planner,
        Err(error) => {
            tracing::warn!("cannot look at what retention keeps: {error}");
            return BTreeMap::new();
        }
    };
    new.into_iter().filter_map(|name| planner.plan(&name)?.held.map(|why| (name, why))).collect()
}

/// What a source itself chooses of its database.
fn own_selection(source: &SourceConfig) -> Option<&Selection> {
    match &source.kind {
        SourceKind::Postgres(postgres) => Some(&postgres.selection).filter(|own| **own != Selection::default()),
        SourceKind::Sqlite(_) => None,
    }
}

/// Each backup of a source, or of all, with why it stays or goes, when it will, and what that frees; JSON.
///
/// # Errors
/// `NoSuchSource`, `RepositoryUnavailable`, `Io`.
pub(in crate::service) fn explain(engine: &Engine, source: &str, despite_clock: bool) -> Result<Value, ServiceError> {
    let names = sources(engine, source)?;
    let opened = engine.repository()?;
    let usage = opened.reading().usage(&Cancel::new())?;
    let planner = Planner::new(engine, &opened, Some(usage), despite_clock);
    let plans: Vec<Value> = names
        .iter()
        .filter_map(|name| planner.look(name, true))
        .map(|plan| {
            let of = |id: &BackupId| planner.usage.as_ref().and_then(|usage| usage.backups.get(id)).copied();
            shown(&plan, of)
        })
        .collect();
    let unconfigured: Vec<String> = if source.is_empty() { orphans(&planner) } else { Vec::new() };
    Ok(json!({ "sources": plans, "not_configured": unconfigured }))
}

/// Sources with backups that are not configured: nothing of theirs goes.
fn orphans(planner: &Planner<'_>) -> Vec<String> {
    let known = |backup: &&BackupSummary| !planner.config.sources.contains_key(&backup.source.source);
    let mut names: Vec<String> = planner.backups.iter().filter(known).map(|b| b.source.source.to_string()).collect();
    names.dedup();
    names
}

fn shown(plan: &Plan, usage: impl Fn(&BackupId) -> Option<BackupUsage>) -> Value {
    let backup = |(backup, decision): &(BackupSummary, Decision)| {
        let reasons: Vec<String> = match &decision.going {
            Some(why) => vec![why.to_string()],
            None => decision.staying.iter().map(ToString::to_string).collect(),
        };
        json!({
            "id": backup.id,
            "source": backup.source.to_string(),
            "database": backup.source.child,
            "sequence": backup.sequence,
            "snapshot_at": backup.snapshot_at,
            "suspect": backup.suspect,
            "damaged": backup.damaged,
            "stays": decision.stays(),
            "why": reasons,
            "reasons": if decision.stays() { json!(decision.staying) } else { json!([decision.going]) },
            "goes_at": plan.going_at.get(&backup.id),
            "frees_bytes": usage(&backup.id).map(|usage| usage.freed_if_deleted()),
        })
    };
    json!({
        "source": plan.source,
        "policy": plan.policy,
        "held": plan.held,
        "backups": plan.databases.values().flatten().map(backup).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_applied_before_deletes_much_without_a_word() {
        let (policy, other) = (RetentionPolicy::default(), RetentionPolicy::everything());
        let held = |accepted, going| why_held(accepted, &policy, going, 9);
        assert_eq!(held(Some(&policy), 8), None);
        assert_eq!(held(Some(&other), 3), None, "exactly a third");
        assert!(held(Some(&other), 4).unwrap().contains("would delete 4 of its 9 backups"));
        assert_eq!(held(None, 0), None);
        assert!(held(None, 1).unwrap().contains("was never applied before"));
    }
}
