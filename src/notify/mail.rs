//! E-mail, by SMTP or by the host's own sendmail.

use std::path::Path;

use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor,
    message::{
        Mailbox, Message as Mail,
        header::{ContentType, HeaderName, HeaderValue},
    },
    transport::smtp::{
        authentication::{Credentials, Mechanism},
        client::{Certificate, Tls, TlsParameters},
        extension::ClientId,
    },
};

use super::{command, error::SendError, http::read_certificates, message::Message};
use crate::config::{
    credential,
    notify::{Carrier, MailConfig, MailTls, SmtpConfig},
};

pub(super) async fn send(
    config: &MailConfig,
    message: &Message,
    timeout: std::time::Duration,
) -> Result<(), SendError> {
    let mail = compose(config, message)?;
    match &config.carrier {
        Carrier::Sendmail(program) => command::run(program, &["-i", "-t"], [], &mail.formatted()).await,
        Carrier::Smtp(smtp) => submit(smtp, mail, &message.host, timeout).await,
    }
}

fn compose(config: &MailConfig, message: &Message) -> Result<Mail, SendError> {
    let failed = |error: &dyn std::fmt::Display| SendError::last(format!("the mail cannot be written: {error}"));
    let mailbox = |text: &str| text.parse::<Mailbox>().map_err(|error| failed(&format_args!("{text:?}: {error}")));
    let from = match &config.from {
        Some(from) => mailbox(from)?,
        None => mailbox(&format!("backupd@{}", message.host)).or_else(|_| mailbox("backupd@localhost"))?,
    };
    let id = format!("<{}@{}>", uuid::Uuid::now_v7(), from.email.domain());
    let mut mail = Mail::builder().from(from).date_now().message_id(Some(id)).subject(&message.subject);
    for to in &config.to {
        mail = mail.to(mailbox(to)?);
    }
    for (name, value) in [
        // No answer of a machine to a machine (RFC 3834).
        (HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated"),
        (HeaderName::new_from_ascii_str("X-Backupd-Event"), message.event.as_str()),
        (HeaderName::new_from_ascii_str("X-Backupd-Severity"), message.severity.as_str()),
    ] {
        mail = mail.raw_header(HeaderValue::new(name, value.to_owned()));
    }
    mail.header(ContentType::TEXT_PLAIN).body(message.text.clone()).map_err(|error| failed(&error))
}

async fn submit(smtp: &SmtpConfig, mail: Mail, host: &str, timeout: std::time::Duration) -> Result<(), SendError> {
    let server = format!("{}:{}", smtp.server, smtp.port);
    let tls = match smtp.tls {
        MailTls::None => Tls::None,
        MailTls::StartTls => Tls::Required(parameters(smtp).await?),
        MailTls::Tls => Tls::Wrapper(parameters(smtp).await?),
    };
    let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&smtp.server)
        .port(smtp.port)
        .tls(tls)
        .hello_name(ClientId::Domain(host.to_owned()))
        .timeout(Some(timeout));
    if let Some((user, password)) = &smtp.login {
        let password = credential::read(password, "password credential").map_err(SendError::passing)?;
        transport = transport
            .authentication(vec![Mechanism::Plain, Mechanism::Login])
            .credentials(Credentials::new(user.clone(), password.reveal().to_owned()));
    }
    match transport.build().send(mail).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let mut message = format!("{server}: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(error) = source {
                let more = error.to_string();
                if !message.contains(&more) {
                    message = format!("{message}: {more}");
                }
                source = error.source();
            }
            let message = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
            // A password that is refused is put right by a person, after which the mail can go.
            let login = error.status().is_some_and(|code| ["530", "534", "535", "538"].contains(&&*code.to_string()));
            Err(if error.is_permanent() && !login { SendError::last(message) } else { SendError::passing(message) })
        }
    }
}

/// TLS that trusts what the system trusts, and the authorities of a file.
async fn parameters(smtp: &SmtpConfig) -> Result<TlsParameters, SendError> {
    let (server, ca_file) = (smtp.server.clone(), smtp.ca_file.clone());
    let build = move || {
        let mut builder = TlsParameters::builder(server);
        for certificate in authorities(ca_file.as_deref())? {
            builder = builder.add_root_certificate(certificate);
        }
        builder.build_rustls().map_err(|error| SendError::passing(format!("TLS cannot be set up: {error}")))
    };
    tokio::task::spawn_blocking(build).await.map_err(|error| SendError::passing(error.to_string()))?
}

fn authorities(ca_file: Option<&Path>) -> Result<Vec<Certificate>, SendError> {
    let Some(file) = ca_file else { return Ok(Vec::new()) };
    let wrong = |error| SendError::passing(format!("a certificate in {} is not one: {error}", file.display()));
    read_certificates(file)?.into_iter().map(|der| Certificate::from_der(der.to_vec()).map_err(wrong)).collect()
}
