//! Plans of restores that were shown: each has an id, and can be carried out as it was shown, or not at all.
//!
//! Invariant: what a plan depends on is compared by what both plans say, but for what changes by itself: free space,
//! sessions, rows that come and go, names that a run gives.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::store::{Record, Store};
use crate::{
    clock::now_micros,
    model::{
        BackupId, ErrorCode, RunId,
        job::{JobResult, JobType},
        summary::BackupSummary,
    },
    service::{ServiceError, engine::Engine, operations::RestoreOptions},
};

/// Plans older than this are forgotten.
const KEPT_FOR: u64 = 24 * 3600 * 1_000_000;
/// Plans that are kept; the oldest go first.
const KEPT: usize = 100;
/// What changes by itself, at the top of a plan and in what it says of the replaced database.
const VOLATILE: [&str; 10] = [
    "id",
    "steps",
    "space_free",
    "estimated_seconds",
    "kept_for_seconds",
    "sessions",
    "bytes",
    "rows_compared",
    "changed_tables",
    "changed_table_count",
];

/// A plan that was shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Planned {
    id: RunId,
    made_at: u64,
    backup: BackupId,
    options: RestoreOptions,
    plan: Value,
}

impl Record for Planned {
    const WHAT: &'static str = "the plan";
    const FOLDER: &'static str = "plans";

    fn run_id(&self) -> RunId {
        self.id
    }
}

fn store(engine: &Engine) -> Store<Planned> {
    Store::new(&engine.folders().state)
}

/// Gives a plan its id and what only the daemon's own past can tell, and keeps it.
pub(super) fn keep(
    engine: &Engine,
    backup: &BackupSummary,
    options: &RestoreOptions,
    mut plan: Value,
) -> Result<Value, ServiceError> {
    let (id, now, store) = (RunId::new(), now_micros(), store(engine));
    if let Value::Object(plan) = &mut plan {
        plan.insert("id".to_owned(), id.to_string().into());
        if let Some(seconds) = estimated_seconds(engine, backup) {
            plan.insert("estimated_seconds".to_owned(), seconds.into());
        }
        if !plan.get("replaces").is_none_or(Value::is_null) && !options.no_undo {
            plan.insert("kept_for_seconds".to_owned(), engine.config().undo.keep.as_secs().into());
        }
    }
    let planned = Planned { id, made_at: now, backup: backup.id, options: options.clone(), plan: plan.clone() };
    let old = store.all()?;
    let too_many = (old.len() + 1).saturating_sub(KEPT);
    for (index, planned) in old.iter().enumerate() {
        if index < too_many || planned.made_at.saturating_add(KEPT_FOR) < now {
            store.remove(planned.id)?;
        }
    }
    store.add(&planned)?;
    Ok(plan)
}

/// How long a restore of this backup takes: as the last one of its source did, by rows; else twice as long as it took
/// itself.
fn estimated_seconds(engine: &Engine, backup: &BackupSummary) -> Option<u64> {
    let restored = engine.jobs().list().into_iter().rev().map(|job| job.record).find(|record| {
        record.job_type == JobType::Restore
            && record.result == Some(JobResult::Done)
            && record.source == backup.source.to_string()
            && record.statistics.contains_key("rows")
    });
    let micros = match restored {
        Some(record) => {
            let took = record.end_time.saturating_sub(record.start_time);
            match record.statistics.get("rows").and_then(Value::as_u64) {
                Some(rows) if rows > 0 => {
                    u64::try_from(u128::from(took) * u128::from(backup.rows) / u128::from(rows)).ok()?
                }
                _ => took,
            }
        }
        None => backup.finished_at.saturating_sub(backup.started_at).saturating_mul(2),
    };
    Some(micros.div_ceil(1_000_000))
}

fn find(engine: &Engine, plan: &str) -> Result<Planned, ServiceError> {
    let now = now_micros();
    // What is no id names no plan.
    let found = plan.parse().ok().map(|id| store(engine).get(id)).transpose()?.flatten();
    let found = found.filter(|planned| planned.id.to_string() == plan);
    found.filter(|planned| planned.made_at.saturating_add(KEPT_FOR) >= now).ok_or_else(|| {
        let message =
            format!("there is no plan {plan:?}, or not any more: plans are kept for a day; make a new one (--dry-run)");
        ServiceError::new(ErrorCode::NoSuchPlan, message)
    })
}

/// The id of the backup that a plan is about, and the options that it was made with.
pub(in crate::service) fn planned(engine: &Engine, plan: &str) -> Result<(String, RestoreOptions), ServiceError> {
    let planned = find(engine, plan)?;
    Ok((planned.backup.to_string(), planned.options))
}

/// The options to restore with: those of the plan, where one is named. Others beside it would not be what was planned.
pub(super) fn options_of(
    engine: &Engine,
    backup: &str,
    options: RestoreOptions,
) -> Result<RestoreOptions, ServiceError> {
    if options.plan.is_empty() {
        return Ok(options);
    }
    let (planned_backup, planned) = planned(engine, &options.plan)?;
    let alone = RestoreOptions { plan: options.plan.clone(), ..RestoreOptions::default() };
    if options != alone || planned_backup != backup {
        let message = "a plan is carried out as it is: neither another backup nor options can be given beside it";
        return Err(ServiceError::new(ErrorCode::InvalidArgs, message));
    }
    Ok(RestoreOptions { plan: options.plan, ..planned })
}

/// Refuses what is not what was shown.
pub(super) fn check(engine: &Engine, plan: &str, now: &Value) -> Result<(), ServiceError> {
    let planned = find(engine, plan)?;
    let changed = differences(&planned.plan, now);
    if changed.is_empty() {
        return Ok(());
    }
    let message = format!(
        "what plan {plan} depends on has changed ({}), so nothing was touched; make a new plan (--dry-run)",
        changed.join(", ")
    );
    Err(ServiceError::new(ErrorCode::RestoreRefused, message))
}

/// The keys by which two plans differ.
fn differences(planned: &Value, now: &Value) -> Vec<String> {
    let nothing = Map::new();
    let (planned, now) = (planned.as_object().unwrap_or(&nothing), now.as_object().unwrap_or(&nothing));
    let keys: std::collections::BTreeSet<&String> = planned.keys().chain(now.keys()).collect();
    let differs = |key: &&&String| {
        let [planned, now] = [planned, now].map(|plan| plan.get(key.as_str()).unwrap_or(&Value::Null));
        match (key.as_str(), planned, now) {
            (key, _, _) if VOLATILE.contains(&key) => false,
            ("replaces", Value::Object(_), Value::Object(_)) => !differences(planned, now).is_empty(),
            ("notices", Value::Array(planned), Value::Array(now)) => {
                let lasting = |notices: &[Value]| {
                    notices
                        .iter()
                        .filter(|notice| notice["what"] != "space" && notice["what"] != "rows")
                        .cloned()
                        .collect::<Vec<_>>()
                };
                lasting(planned) != lasting(now)
            }
            _ => planned != now,
        }
    };
    keys.iter().filter(differs).map(|key| key.replace('_', " ")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_changes_by_itself_is_no_difference() {
        let planned = json!({
            "id": "1", "target": "shop", "steps": ["rename to shop__before_1"], "space_free": 7,
            "notices": [{"what": "space", "message": "a"}, {"what": "locale", "message": "b"}],
            "replaces": {"oid": 5, "sessions": 1, "bytes": 2, "slots": []},
        });
        let mut now = planned.clone();
        now["steps"] = json!(["rename to shop__before_2"]);
        now["space_free"] = json!(8);
        now["replaces"]["sessions"] = json!(0);
        now["notices"][0]["message"] = json!("c");
        assert_eq!(differences(&planned, &now), Vec::<String>::new());
        now["replaces"]["oid"] = json!(6);
        now["notices"][1]["message"] = json!("d");
        now["missing_roles"] = json!(["x"]);
        assert_eq!(differences(&planned, &now), ["missing roles", "notices", "replaces"]);
        assert_eq!(differences(&planned, &json!({"target": "shop", "replaces": null}))[1], "replaces");
    }
}
