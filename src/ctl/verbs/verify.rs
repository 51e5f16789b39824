//! `verify`: read backups back.

use super::{
    super::{
        arguments::VerifyArguments,
        client::Client,
        error::CtlError,
        follow::{self, Finished, OnInterrupt},
        human,
        output::Output,
        selector,
    },
    conclude, took,
};
use crate::{bus::proxy::ManagerProxy, bus::types::verify_options_to_wire, service::operations::VerifyRequest};

pub(super) async fn run(mut client: Client, output: &Output, arguments: &VerifyArguments) -> Result<(), CtlError> {
    let request = VerifyRequest {
        backup: arguments.backup.as_deref().map(selector::selector).transpose()?.unwrap_or_default(),
        source: arguments.source.clone().unwrap_or_default(),
        level: arguments.level.into(),
    };
    let start = async |manager: ManagerProxy<'static>| {
        manager.verify_backup(&request.backup, &verify_options_to_wire(&request), 0).await
    };
    if arguments.waiting.no_block {
        return follow::start_only(&client, output, start).await;
    }
    let job = follow::run(&mut client, output, "verification", OnInterrupt::Detach, start).await?;
    conclude(output, &job, || sentence(&job))
}

fn sentence(job: &Finished) -> String {
    let number = |name: &str| job.view.statistics.get(name).and_then(serde_json::Value::as_u64);
    let backups = number("backups").and_then(|n| usize::try_from(n).ok());
    let what = backups.map_or_else(|| "Everything".to_owned(), |backups| human::plural(backups, "backup"));
    let read = number("bytes_read").or_else(|| number("raw_bytes")).filter(|bytes| *bytes > 0);
    let read = read.map_or_else(String::new, |bytes| format!(", {} read", human::size(bytes)));
    format!("{what} verified in {}{read}: no damage found.", took(job))
}
