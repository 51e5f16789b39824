//! `pin`, `unpin`: whether a backup is kept whatever retention says.

use super::super::{
    arguments::{PinArguments, UnpinArguments},
    client::Client,
    error::CtlError,
    human,
    output::Output,
    selector,
};
use crate::bus::types::pin_options_to_wire;

pub(super) async fn pin(client: &Client, output: &Output, arguments: &PinArguments) -> Result<(), CtlError> {
    let until = arguments.until.as_deref().map(selector::until).transpose()?.unwrap_or_default();
    let options = pin_options_to_wire(until, &arguments.reason);
    client.manager().pin_backup(&selector::selector(&arguments.backup)?, &options, 0).await?;
    if output.is_json() {
        let until = (until != 0).then_some(until);
        return output.json(&serde_json::json!({ "backup": arguments.backup, "pinned": true, "until": until }));
    }
    let end = if until == 0 { String::new() } else { format!(" until {}", human::time(until)) };
    if output.is_quiet() { Ok(()) } else { output.line(format_args!("{} is kept{end}.", arguments.backup)) }
}

pub(super) async fn unpin(client: &Client, output: &Output, arguments: &UnpinArguments) -> Result<(), CtlError> {
    client.manager().unpin_backup(&selector::selector(&arguments.backup)?, 0).await?;
    if output.is_json() {
        return output.json(&serde_json::json!({ "backup": arguments.backup, "pinned": false }));
    }
    match output.is_quiet() {
        true => Ok(()),
        false => output.line(format_args!("{} is not pinned; its retention decides.", arguments.backup)),
    }
}
