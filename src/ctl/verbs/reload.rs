//! `reload`: let the daemon read its configuration again, and say what it thinks of it.

use super::super::{
    client::Client,
    error::CtlError,
    output::{Output, say},
    table::visible,
};

pub(super) async fn run(client: &Client, output: &Output) -> Result<(), CtlError> {
    client.manager().reload(0).await?;
    let problems = match client.manager().config_problems().await.map_err(CtlError::from) {
        Ok(problems) => problems,
        // Who may reload need not be one who may look.
        Err(error) if error.is_refusal() => return output.line("The configuration was read."),
        Err(error) => return Err(error),
    };
    if output.is_json() {
        return output.json(&serde_json::json!({ "config_problems": problems }));
    }
    for problem in &problems {
        say(visible(problem));
    }
    if problems.is_empty() && !output.is_quiet() {
        output.line("The configuration was read; no problem was found.")?;
    }
    Ok(())
}
