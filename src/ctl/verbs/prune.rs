//! `prune`: shows what goes, asks, and lets the daemon do it.

use super::{
    super::{
        arguments::PruneArguments,
        client::Client,
        confirm,
        error::CtlError,
        follow::{self, OnInterrupt},
        human,
        manager::Manager,
        output::{Output, say},
    },
    conclude,
    retention::{self, Explanation},
    took,
};
use crate::{bus::types::prune_options_to_wire, service::operations::PruneOptions};

pub(super) async fn run(mut client: Client, output: &Output, arguments: &PruneArguments) -> Result<(), CtlError> {
    let mut options = PruneOptions {
        source: arguments.source.clone().unwrap_or_default(),
        force: arguments.force,
        despite_clock: arguments.despite_clock,
    };
    if arguments.dry_run || !arguments.yes {
        let (json, plan) =
            retention::ask(client.manager(), arguments.source.as_deref(), arguments.despite_clock).await?;
        if arguments.dry_run {
            return if output.is_json() { output.json(&going_only(json)) } else { show(output, &plan) };
        }
        options.force |= ask(output, &plan, arguments.force).await?;
    }
    let wire = prune_options_to_wire(&options);
    let start = async |manager: Manager| manager.prune(&wire, 0).await;
    let job = follow::run(&mut client, output, "prune", OnInterrupt::Detach, start).await?;
    conclude(output, &job, || {
        let number = |name: &str| job.view.statistics.get(name).and_then(serde_json::Value::as_u64).unwrap_or_default();
        let deleted = human::plural(usize::try_from(number("deleted")).unwrap_or(usize::MAX), "backup");
        format!("{deleted} deleted in {}, {} freed.", took(&job), human::size(number("freed_bytes")))
    })
}

/// Shows what goes, and asks. Gives whether a changed policy may delete much.
async fn ask(output: &Output, plan: &Explanation, force: bool) -> Result<bool, CtlError> {
    let going = |of: &retention::OfSource| of.backups.iter().filter(|backup| !backup.stays).count();
    let (mut free, mut held) = (0, 0);
    for of in &plan.sources {
        match &of.held {
            Some(why) if !force => {
                say(why);
                held += going(of);
            }
            _ => free += going(of),
        }
    }
    if free + held == 0 {
        return Ok(false);
    }
    show(output, plan)?;
    if free > 0 {
        confirm::ask(&format!("Delete {}?", human::plural(free, "backup")), "the prune").await?;
    }
    if held > 0 {
        let question =
            format!("Delete also the {} that a changed retention does not keep?", human::plural(held, "backup"));
        confirm::ask(&question, "the prune").await?;
    }
    Ok(held > 0)
}

fn show(output: &Output, plan: &Explanation) -> Result<(), CtlError> {
    let going = plan.sources.iter().flat_map(|of| &of.backups).filter(|backup| !backup.stays);
    output.table(&retention::table(going), "backup")?;
    for held in plan.sources.iter().filter_map(|of| of.held.as_ref()) {
        output.line(held)?;
    }
    Ok(())
}

/// The explanation without what stays.
fn going_only(mut json: serde_json::Value) -> serde_json::Value {
    let sources = json.get_mut("sources").and_then(serde_json::Value::as_array_mut);
    for of in sources.into_iter().flatten() {
        if let Some(backups) = of.get_mut("backups").and_then(serde_json::Value::as_array_mut) {
            backups.retain(|backup| backup.get("stays") == Some(&serde_json::Value::Bool(false)));
        }
    }
    json
}
