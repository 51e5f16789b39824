//! `[notify.NAME]` of `backupd.toml`: who is told of what, and how. No secret is in here: passwords, signing keys and the
//! addresses of webhooks, which let anybody who knows them write, are names of credentials.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use toml::de::DeValue;

use super::{credential, health::Within, reader::Section, values};
use crate::model::notice::{Event, Severity};

/// An unchanged trouble is told again so often, where nothing is configured.
const REPEAT: Duration = Duration::from_secs(24 * 3600);
/// Notices that come within this time are told as one, where nothing is configured.
const GROUP: Duration = Duration::from_secs(30);
/// How long one try may take, where nothing is configured.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long is tried, where nothing is configured.
const RETRY_FOR: Duration = Duration::from_secs(3 * 86_400);
/// More notifiers than this are a mistake.
const MOST: usize = 64;

/// A notifier: what it is told, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyConfig {
    /// Only notices about these sources, or databases of them; empty for all notices.
    pub sources: Vec<String>,
    /// Only these events; empty for all that the type tells by itself.
    pub events: Vec<Event>,
    /// Only what matters at least so much. A recovery follows whatever was told.
    pub min_severity: Severity,
    /// A trouble that goes on is told again after this time; never where absent.
    pub repeat: Option<Duration>,
    /// Notices that come within this time after the first are told together.
    pub group: Duration,
    /// How long one try may take.
    pub timeout: Duration,
    /// For how long a notice is tried again.
    pub retry_for: Duration,
    /// How it is reached.
    pub transport: Transport,
}

impl NotifyConfig {
    /// Whether each start and end of a job is told by itself: neither grouped, nor left out when it repeats.
    #[must_use]
    pub fn is_ping(&self) -> bool {
        matches!(self.transport, Transport::Ping(_))
    }
}

/// How a notifier is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// An e-mail.
    Mail(MailConfig),
    /// A request to a web service, with the notice in its body.
    Webhook(WebhookConfig),
    /// Requests that tell a monitor of jobs of the start, success and failure of each.
    Ping(PingConfig),
    /// A program.
    Command(Vec<String>),
}

impl Transport {
    /// The word of `type`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Mail(_) => "mail",
            Self::Webhook(_) => "webhook",
            Self::Ping(_) => "ping",
            Self::Command(_) => "command",
        }
    }
}

/// `type = "mail"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailConfig {
    /// Who writes; `backupd@HOST` where absent.
    pub from: Option<String>,
    /// Who reads.
    pub to: Vec<String>,
    /// Who carries it.
    pub carrier: Carrier,
}

/// Who carries a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carrier {
    /// The host's own program, called as `PROGRAM -i -t`.
    Sendmail(PathBuf),
    /// A server that is spoken to by SMTP.
    Smtp(SmtpConfig),
}

/// A server for mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpConfig {
    /// Host name or address.
    pub server: String,
    /// TCP port.
    pub port: u16,
    /// What protects the connection.
    pub tls: MailTls,
    /// The user and the credential with the password.
    pub login: Option<(String, String)>,
    /// Certificates of authorities (PEM) that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
}

/// What protects a connection to a server for mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTls {
    /// TLS after STARTTLS, which the server must offer.
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// Nothing. With it no password is sent.
    None,
}

/// `type = "webhook"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookConfig {
    /// The credential with the URL.
    pub url: String,
    /// The body; Slack's `{"text": …}` where absent.
    pub template: Option<String>,
    /// The type of the body.
    pub content_type: String,
    /// The credential with the key that signs the body.
    pub signing_key: Option<String>,
    /// A header with a secret: its name, and the credential with its value.
    pub header: Option<(String, String)>,
    /// Certificates of authorities (PEM) that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
}

/// `type = "ping"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PingConfig {
    /// The credential with the URL, to which `/start` and `/fail` are added.
    pub url: String,
    /// Certificates of authorities (PEM) that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
}

/// Reads the tables. What has a problem is reported, and left out here.
pub(super) fn read(sections: Vec<(String, Section<'_>)>) -> BTreeMap<String, NotifyConfig> {
    let mut notifiers = BTreeMap::new();
    for (name, section) in sections {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            section.whole_problem("the name of a notifier has 1 to 64 letters, digits, '-' and '_'");
        }
        if notifiers.len() >= MOST {
            section.whole_problem(format!("there can be {MOST} notifiers at most"));
        }
        if let Some(notifier) = read_one(section) {
            notifiers.insert(name, notifier);
        }
    }
    notifiers
}

#[derive(Clone, Copy)]
enum Type {
    Mail,
    Webhook,
    Ping,
    Command,
}

fn read_one(mut section: Section<'_>) -> Option<NotifyConfig> {
    let types = [("mail", Type::Mail), ("webhook", Type::Webhook), ("ping", Type::Ping), ("command", Type::Command)];
    let kind = section.take("type", values::one_of(&types));
    if !section.has("type") {
        section.problem("type", "must be given: \"mail\" or \"webhook\" or \"ping\" or \"command\"");
    }
    let is_ping = matches!(kind, Some(Type::Ping));
    let sources = section.take("sources", values::words).unwrap_or_default();
    let events = section.take("events", events).unwrap_or_default();
    let severities: Vec<_> = Severity::ALL.iter().map(|severity| (severity.as_str(), *severity)).collect();
    let least = if is_ping { Severity::Info } else { Severity::Warning };
    let min_severity = section.take("min_severity", values::one_of(&severities)).unwrap_or(least);
    let timeout = section.take("timeout", values::duration).unwrap_or(TIMEOUT);
    let retry_for = section.take("retry_for", values::duration).unwrap_or(RETRY_FOR);
    let (mut repeat, mut group) = (None, Duration::ZERO);
    if is_ping {
        for key in ["repeat", "group"] {
            section.refuse(key, "a ping tells each start and end of a job by itself");
        }
    } else {
        repeat = section.take("repeat", super::health::within).unwrap_or(Within::Time(REPEAT)).time();
        group = section.take("group", super::health::within).map_or(GROUP, |group| group.time().unwrap_or_default());
    }
    let transport = match kind {
        Some(Type::Mail) => read_mail(&mut section).map(Transport::Mail),
        Some(Type::Webhook) => read_webhook(&mut section).map(Transport::Webhook),
        Some(Type::Ping) => read_ping(&mut section).map(Transport::Ping),
        Some(Type::Command) => read_command(&mut section).map(Transport::Command),
        // Which keys are right depends on the type; complaints about them would be noise.
        None => return None,
    };
    section.finish();
    let transport = transport?;
    Some(NotifyConfig { sources, events, min_severity, repeat, group, timeout, retry_for, transport })
}

fn read_mail(section: &mut Section<'_>) -> Option<MailConfig> {
    let from = section.take("from", address);
    let to = section.take("to", |value| values::words(value)?.into_iter().map(checked_address).collect());
    let to: Option<Vec<String>> = required(section, "to", to);
    if to.as_ref().is_some_and(Vec::is_empty) {
        section.problem("to", "must have at least one address");
    }
    let sendmail = section.take("sendmail", values::absolute_path);
    let server = section.take("server", values::word);
    let kinds = [("starttls", MailTls::StartTls), ("tls", MailTls::Tls), ("none", MailTls::None)];
    let tls = section.take("tls", values::one_of(&kinds));
    let port = section.take("port", values::integer(1..=u16::MAX));
    let user = section.take("user", values::word);
    let password = section.take("password_credential", credential_name);
    let ca_file = section.take("ca_file", values::absolute_path);
    let Some(server) = server else {
        for key in ["tls", "port", "user", "password_credential", "ca_file"] {
            if section.has(key) {
                section.problem(key, "is for a mail server; name it with `server`");
            }
        }
        let carrier = Carrier::Sendmail(sendmail.unwrap_or_else(|| PathBuf::from("/usr/sbin/sendmail")));
        return Some(MailConfig { from, to: to?, carrier });
    };
    if section.has("sendmail") {
        section.problem("sendmail", "either the host's own program or a `server` carries a mail, not both");
    }
    let tls = tls.unwrap_or(MailTls::StartTls);
    let port = port.unwrap_or(match tls {
        MailTls::StartTls => 587,
        MailTls::Tls => 465,
        MailTls::None => 25,
    });
    if section.has("user") != section.has("password_credential") {
        section.problem("user", "`user` and `password_credential` go together");
    } else if section.has("user") && tls == MailTls::None {
        section.problem("tls", "a password is never sent over a connection without TLS");
    }
    let smtp = SmtpConfig { server, port, tls, login: user.zip(password), ca_file };
    Some(MailConfig { from, to: to?, carrier: Carrier::Smtp(smtp) })
}

fn read_webhook(section: &mut Section<'_>) -> Option<WebhookConfig> {
    let url = read_url(section);
    let template = section.take("template", values::word);
    let content_type = section.take("content_type", header_text);
    let signing_key = section.take("signing_key_credential", credential_name);
    let name = section.take("header", header_name);
    let value = section.take("header_credential", credential_name);
    if section.has("header") != section.has("header_credential") {
        section.problem("header", "`header` and `header_credential` go together");
    }
    let ca_file = section.take("ca_file", values::absolute_path);
    Some(WebhookConfig {
        url: url?,
        template,
        content_type: content_type.unwrap_or_else(|| "application/json".to_owned()),
        signing_key,
        header: name.zip(value),
        ca_file,
    })
}

fn read_ping(section: &mut Section<'_>) -> Option<PingConfig> {
    let url = read_url(section);
    let ca_file = section.take("ca_file", values::absolute_path);
    Some(PingConfig { url: url?, ca_file })
}

fn read_url(section: &mut Section<'_>) -> Option<String> {
    section.refuse(
        "url",
        "the URL lets anybody who knows it write; put it into a credential and name that by `url_credential`",
    );
    let url = section.take("url_credential", credential_name);
    required(section, "url_credential", url)
}

fn read_command(section: &mut Section<'_>) -> Option<Vec<String>> {
    let command = section.take("command", |value| {
        let words = values::words(value)?;
        match words.first() {
            Some(program) if program.starts_with('/') => Ok(words),
            _ => Err("must begin with the absolute path of a program".to_owned()),
        }
    });
    required(section, "command", command)
}

fn required<T>(section: &Section<'_>, key: &'static str, value: Option<T>) -> Option<T> {
    if !section.has(key) {
        section.problem(key, "must be given for this type");
    }
    value
}

fn events(value: DeValue<'_>) -> Result<Vec<Event>, String> {
    let known = || Event::ALL.iter().filter(|event| **event != Event::Test);
    let one = |word: String| {
        known().find(|event| event.as_str() == word).copied().ok_or_else(|| {
            let words: Vec<_> = known().map(|event| event.as_str()).collect();
            format!("{word:?} is no event; these are: {}", words.join(", "))
        })
    };
    values::words(value)?.into_iter().map(one).collect()
}

fn credential_name(value: DeValue<'_>) -> Result<String, String> {
    let name = values::word(value)?;
    // Whatever looks like the secret itself must not be repeated in a message.
    if credential::is_name(&name) && !name.contains(':') {
        Ok(name)
    } else {
        Err("must be the name of a credential, not the secret itself".to_owned())
    }
}

fn address(value: DeValue<'_>) -> Result<String, String> {
    checked_address(values::word(value)?)
}

fn checked_address(text: String) -> Result<String, String> {
    match text.parse::<lettre::message::Mailbox>() {
        Ok(_) => Ok(text),
        Err(error) => Err(format!("{text:?} is not a mail address: {error}")),
    }
}

fn header_text(value: DeValue<'_>) -> Result<String, String> {
    let text = values::word(value)?;
    hyper::header::HeaderValue::from_str(&text).map_err(|_| "cannot be in a header of HTTP".to_owned())?;
    Ok(text)
}

fn header_name(value: DeValue<'_>) -> Result<String, String> {
    let text = values::word(value)?;
    match hyper::header::HeaderName::from_bytes(text.as_bytes()) {
        Ok(name)
            if !["host", "content-length", "content-type", "transfer-encoding", "connection"]
                .contains(&name.as_str()) =>
        {
            Ok(text)
        }
        _ => Err(format!("{text:?} is not the name of a header that can be set")),
    }
}
