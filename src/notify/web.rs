//! Webhooks, which get the notice in a body, and pings, which tell a monitor that a job began, went well or failed.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::header::{HeaderName, HeaderValue};
use sha2::Sha256;

use super::{
    error::SendError,
    http::{Target, post},
    message::{Message, fill},
};
use crate::{
    config::{
        Secret, credential,
        notify::{PingConfig, WebhookConfig},
    },
    model::notice::Event,
};

/// The body where none is configured: what Slack and those that follow it take.
const SLACK: &str = r#"{"text":"{{text}}"}"#;
/// The header with the signature.
const SIGNATURE: HeaderName = HeaderName::from_static("x-backupd-signature");

pub(super) async fn webhook(config: &WebhookConfig, message: &Message) -> Result<(), SendError> {
    let url = credential::read(&config.url, "URL credential").map_err(SendError::passing)?;
    let target = Target::parse(&url, "")?;
    let is_json = config.content_type.contains("json");
    let body = fill(config.template.as_deref().unwrap_or(SLACK), message, is_json);
    let mut headers = Vec::new();
    if let Some(name) = &config.signing_key {
        let key = credential::read(name, "signing key credential").map_err(SendError::passing)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        headers.push((SIGNATURE, secret_header(&signature(&key, now, &body))?));
    }
    if let Some((name, value)) = &config.header {
        let value = credential::read(value, "header credential").map_err(SendError::passing)?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| SendError::last(error.to_string()))?;
        headers.push((name, secret_header(value.reveal())?));
    }
    post(&target, headers, &config.content_type, body, config.ca_file.as_deref()).await
}

/// Tells the monitor. What is trouble is a failure, whatever it is; what is tried out is a success.
pub(super) async fn ping(config: &PingConfig, message: &Message) -> Result<(), SendError> {
    let url = credential::read(&config.url, "URL credential").map_err(SendError::passing)?;
    let suffix = match message.event {
        Event::Start => "/start",
        Event::Failure => "/fail",
        _ if message.severity > crate::model::notice::Severity::Info => "/fail",
        _ => "",
    };
    let target = Target::parse(&url, suffix)?;
    post(&target, Vec::new(), "text/plain; charset=utf-8", message.text.clone(), config.ca_file.as_deref()).await
}

/// The signature of a body at a time in seconds: with the time in it, a message cannot be sent again by somebody else later.
fn signature(key: &Secret, now: u64, body: &str) -> String {
    use std::fmt::Write as _;
    let mut text = format!("t={now},v1=");
    // HMAC takes keys of any length, so there is always one.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.reveal().as_bytes()) {
        mac.update(format!("{now}.{body}").as_bytes());
        for byte in mac.finalize().into_bytes() {
            let _ = write!(text, "{byte:02x}");
        }
    }
    text
}

fn secret_header(text: &str) -> Result<HeaderValue, SendError> {
    let wrong = |_| SendError::passing("a credential for a header holds what no header of HTTP can hold");
    let mut value = HeaderValue::from_str(text).map_err(wrong)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_openssl() {
        // printf '1.{"a":1}' | openssl dgst -sha256 -hmac key
        let signed = signature(&Secret::new("key".to_owned()), 1, "{\"a\":1}");
        assert_eq!(signed, "t=1,v1=6d79bda23417c5d4f1b421c877b89fec92fde17dd9d447f5d140713ed9b8b48f");
    }
}
