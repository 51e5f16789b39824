//! `source enable` and `source disable`: one key of the file, and nothing else of it.

use serde_json::json;

use super::{
    super::super::{
        arguments::{Common, NameArguments},
        error::CtlError,
        output::{Output, say},
    },
    Place,
    effect::{self, Change},
    file,
};
use crate::{
    config::{self, SourceKind},
    model::ErrorCode,
};

pub(super) async fn run(
    arguments: &NameArguments,
    enabled: bool,
    common: &Common,
    output: &Output,
) -> Result<(), CtlError> {
    let place = Place::of(&arguments.name, &arguments.place)?;
    place.may_write()?;
    let invalid = |message: String| CtlError::new(ErrorCode::ConfigInvalid, message);
    let old = place.read()?;
    let new = file::set_enabled(&old, enabled)
        .map_err(|error| invalid(format!("{} is not TOML: {}", place.file.display(), error.message())))?;
    let source = config::read_source(&place.file, &new).map_err(|errors| invalid(errors.to_string()))?;
    let was = config::read_source(&place.file, &old).map_or(!enabled, |source| source.enabled);
    if new != old {
        file::replace(&place.file, &new)?;
    }
    let scheduled = enabled && !source.schedule.is_empty();
    // The folder of an SQLite database is open to the daemon only while its source is enabled.
    let restart = enabled && !was && matches!(source.kind, SourceKind::Sqlite(_));
    let restart = effect::take(&place, common, Change { scheduled, restart }).await.map_err(|error| {
        let message = format!(
            "{} is changed, but the daemon has not taken it: {error}. When that is mended, `backupctl reload`",
            place.file.display()
        );
        error.with_message(message)
    })?;
    if !enabled && effect::enabled_by_hand(&place) {
        say(format_args!("Its timer was enabled by hand as well: `systemctl disable {}`", effect::timer(&place)));
    }
    if output.is_json() {
        return output.json(&json!({
            "source": place.name.as_str(),
            "file": place.file,
            "enabled": enabled,
            "changed": was != enabled,
            "restart": restart.as_str(),
        }));
    }
    if output.is_quiet() {
        return Ok(());
    }
    let word = if enabled { "enabled" } else { "disabled" };
    let already = if was == enabled { " already" } else { "" };
    output.line(format_args!("Source {} is {word}{already}.", place.name))?;
    restart.sentence().map_or(Ok(()), |sentence| output.line(sentence))
}
