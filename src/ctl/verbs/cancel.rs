//! `cancel`: end jobs early.

use super::super::{client::Client, error::CtlError, output::Output};
use crate::model::job::JobNumber;

pub(super) async fn run(client: &Client, output: &Output, jobs: &[JobNumber]) -> Result<(), CtlError> {
    for &number in jobs {
        client.manager().cancel_job(number, 0).await?;
        if !output.is_quiet() && !output.is_json() {
            output.line(format_args!("Job {number} is being cancelled."))?;
        }
    }
    if output.is_json() { output.json(&serde_json::json!({ "jobs": jobs })) } else { Ok(()) }
}
