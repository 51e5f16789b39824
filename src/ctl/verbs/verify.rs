//! `verify`: read backups back.

use super::{
    super::{
        arguments::VerifyArguments,
        client::Client,
        error::CtlError,
        follow::{self, OnInterrupt},
        human,
        manager::Manager,
        output::Output,
        selector,
    },
    conclude, took,
};
use crate::{bus::types::verify_options_to_wire, service::operations::VerifyRequest};

pub(super) async fn run(mut client: Client, output: &Output, arguments: &VerifyArguments) -> Result<(), CtlError> {
    let request = request(arguments)?;
    let start =
        async |manager: Manager| manager.verify_backup(&request.backup, &verify_options_to_wire(&request), 0).await;
    if arguments.waiting.no_block {
        return follow::start_only(&client, output, start).await;
    }
    let job = follow::run(&mut client, output, "verification", OnInterrupt::Detach, start).await?;
    conclude(output, &job, || sentence(&job.view.statistics, &took(&job)))
}

/// What is asked for.
pub(in crate::ctl) fn request(arguments: &VerifyArguments) -> Result<VerifyRequest, CtlError> {
    Ok(VerifyRequest {
        backup: arguments.backup.as_deref().map(selector::selector).transpose()?.unwrap_or_default(),
        source: arguments.source.clone().unwrap_or_default(),
        level: arguments.level.into(),
        subset: arguments.subset.clone(),
    })
}

/// What was looked at, from the report of the verification.
pub(in crate::ctl) fn sentence(statistics: &serde_json::Map<String, serde_json::Value>, took: &str) -> String {
    let number = |name: &str| statistics.get(name).and_then(serde_json::Value::as_u64).unwrap_or_default();
    let backups = human::plural(usize::try_from(number("good")).unwrap_or(usize::MAX), "backup");
    let looked = match (number("raw_bytes"), number("stored_bytes")) {
        (0, 0) => String::new(),
        (0, stored) => format!(", {} of stored data", human::size(stored)),
        (raw, _) => format!(", {} of data decoded and compared", human::size(raw)),
    };
    format!("{backups} verified in {took}{looked}: no damage found.")
}
