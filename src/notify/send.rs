//! One try to tell something through one notifier.

use std::path::Path;

use tokio::time::timeout;

use super::{command, error::SendError, mail, message::Message, queue::Batch, web};
use crate::{
    config::{NotifyConfig, notify::Transport},
    model::notice::Notice,
};

/// Tries to tell a batch, within the time that the notifier has for a try.
///
/// # Errors
/// Why nobody was reached; never a secret.
pub async fn send(config: &NotifyConfig, batch: &Batch) -> Result<(), SendError> {
    let Some(message) = Message::of(batch, &host()) else { return Ok(()) };
    match timeout(config.timeout, by_transport(config, &message)).await {
        Ok(result) => result,
        Err(_) => Err(SendError::passing(format!(
            "the {} did not get through in {} seconds",
            config.transport.as_str(),
            config.timeout.as_secs_f32()
        ))),
    }
}

/// Tells one notice at once, whatever the notifier is told otherwise: for tries, and for who runs when no daemon does.
///
/// # Errors
/// As [`send`].
pub async fn send_now(config: &NotifyConfig, notice: Notice) -> Result<(), SendError> {
    send(config, &Batch::alone(vec![notice], 0)).await
}

async fn by_transport(config: &NotifyConfig, message: &Message) -> Result<(), SendError> {
    match &config.transport {
        Transport::Mail(mail) => mail::send(mail, message, config.timeout).await,
        Transport::Webhook(webhook) => web::webhook(webhook, message).await,
        Transport::Ping(ping) => web::ping(ping, message).await,
        Transport::Command(words) => {
            let Some((program, arguments)) = words.split_first() else { return Ok(()) };
            command::run(Path::new(program), arguments, facts(message), format!("{}\n", message.text).as_bytes()).await
        }
    }
}

/// What a program finds in its environment.
fn facts(message: &Message) -> [(&'static str, String); 9] {
    // A value of the environment ends at a NUL.
    let plain = |text: &str| text.replace('\0', " ");
    let job = if message.job == 0 { String::new() } else { message.job.to_string() };
    [
        ("BACKUPD_EVENT", message.event.to_string()),
        ("BACKUPD_SEVERITY", message.severity.to_string()),
        ("BACKUPD_SUBJECT", plain(&message.subject)),
        ("BACKUPD_SOURCE", plain(&message.source)),
        ("BACKUPD_BACKUP", plain(&message.backup)),
        ("BACKUPD_JOB_NUMBER", job),
        ("BACKUPD_TIME", message.time.clone()),
        ("BACKUPD_HOST", plain(&message.host)),
        ("BACKUPD_NOTICES", short(&message.notices)),
    ]
}

/// The kernel takes no variable of more than 128 KiB, and no start of a program at all then.
fn short(notices: &str) -> String {
    if notices.len() < 100 << 10 { notices.to_owned() } else { "[]".to_owned() }
}

fn host() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}
