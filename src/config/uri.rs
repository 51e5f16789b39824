//! Connection URIs: `postgresql://[user[:password]@][host][:port][/database][?name=value&…]` (PostgreSQL manual,
//! "Connection URIs"), as far as this program can honour them.
//!
//! Invariant: no error message contains any part of the URI in which a password can be.

use std::time::Duration;

use super::connection::{ConnectionKeys, PasswordSource, Secret, SslMode};
use crate::model::Name;

/// Why a text is not a connection URI that can be used. Prints a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UriError(String);

fn refuse<T>(message: impl Into<String>) -> Result<T, UriError> {
    Err(UriError(message.into()))
}

/// Reads a connection URI. A password in it comes out as [`PasswordSource::Given`].
///
/// # Errors
/// When it is malformed, or asks for something that is not supported: several hosts, or parameters other than `host`,
/// `port`, `user`, `password`, `dbname`, `sslmode`, `sslrootcert`, `passfile` and `connect_timeout`.
pub fn parse(uri: &str) -> Result<ConnectionKeys, UriError> {
    let Some(rest) = uri.strip_prefix("postgresql://").or_else(|| uri.strip_prefix("postgres://")) else {
        return refuse("a connection URI begins with postgresql://");
    };
    let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user_info, host_port) = authority.rsplit_once('@').unwrap_or(("", authority));
    let mut keys = ConnectionKeys::default();
    let (user, password) = match user_info.split_once(':') {
        Some((user, password)) => (user, password),
        None => (user_info, ""),
    };
    set(&mut keys, "user", user)?;
    set(&mut keys, "password", password)?;
    let (host, port) = split_host_port(host_port)?;
    set(&mut keys, "host", host)?;
    set(&mut keys, "port", port)?;
    set(&mut keys, "dbname", database)?;
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let Some((name, value)) = parameter.split_once('=') else {
            return refuse("each parameter after the question mark has the form name=value");
        };
        let name = decode_text(name, "the name of a parameter")?;
        set(&mut keys, &name, value)?;
    }
    Ok(keys)
}

/// Splits `host:port`, `[v6-address]:port`.
fn split_host_port(text: &str) -> Result<(&str, &str), UriError> {
    if text.contains(',') {
        return refuse("several hosts are not supported; give the one that is to be backed up");
    }
    if let Some(rest) = text.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((host, "")) => Ok((host, "")),
            Some((host, port)) if port.starts_with(':') => Ok((host, &port[1..])),
            _ => refuse("an address in brackets must end with ] or ]:port"),
        };
    }
    match text.split_once(':') {
        Some((_, port)) if port.contains(':') => refuse("an IPv6 address must be in brackets: [::1]"),
        Some(split) => Ok(split),
        None => Ok((text, "")),
    }
}

/// Sets one key from its percent-encoded value. An empty value leaves the default, as libpq does.
fn set(keys: &mut ConnectionKeys, name: &str, value: &str) -> Result<(), UriError> {
    if value.is_empty() {
        return Ok(());
    }
    match name {
        "host" => {
            let host = decode_text(value, "the host")?;
            if host.contains(',') {
                return refuse("several hosts are not supported; give the one that is to be backed up");
            }
            keys.host = Some(host);
        }
        "port" => {
            let port = decode_text(value, "the port")?.parse().ok().filter(|&port| port != 0);
            keys.port = Some(port.ok_or_else(|| UriError("the port must be a number from 1 to 65535".to_owned()))?);
        }
        "user" => keys.user = Some(decode_text(value, "the user")?),
        "password" => keys.password = Some(PasswordSource::Given(Secret::new(decode_text(value, "the password")?))),
        "dbname" => keys.database = Some(Name::from(decode(value, "the database")?)),
        "sslmode" => {
            let word = decode_text(value, "sslmode")?;
            let mode = SslMode::ALL.into_iter().find(|mode| mode.as_str() == word);
            let words = SslMode::ALL.map(SslMode::as_str).join(", ");
            keys.sslmode = Some(mode.ok_or_else(|| UriError(format!("sslmode must be one of {words}")))?);
        }
        "sslrootcert" => keys.sslrootcert = Some(decode_text(value, "sslrootcert")?.into()),
        // A password in the URI itself is the stronger one, as in libpq.
        "passfile" if keys.password.is_none() => {
            keys.password = Some(PasswordSource::PassFile(decode_text(value, "passfile")?.into()));
        }
        "passfile" => {}
        "connect_timeout" => {
            let seconds = decode_text(value, "connect_timeout")?.parse().ok().filter(|s| (1..=86_400).contains(s));
            let wrong = || UriError("connect_timeout must be a number of seconds from 1 to 86400".to_owned());
            keys.connect_timeout = Some(Duration::from_secs(seconds.ok_or_else(wrong)?));
        }
        // Not a value: a name cannot hold a password unless somebody forgot an `&`, so only plain words are repeated.
        other if other.len() <= 40 && other.bytes().all(|c| c.is_ascii_lowercase() || c == b'_') => {
            return refuse(format!("the parameter {other} is not supported in a connection URI here"));
        }
        _ => return refuse("a parameter after the question mark is not supported in a connection URI here"),
    }
    Ok(())
}

fn decode_text(text: &str, what: &str) -> Result<String, UriError> {
    String::from_utf8(decode(text, what)?)
        .map_err(|_| UriError(format!("{what} is not UTF-8 after its %XX are decoded")))
}

/// Decodes `%XX`. NUL is refused: no name can have it.
fn decode(text: &str, what: &str) -> Result<Vec<u8>, UriError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = if byte == b'%' {
            let mut digit = || rest.next().and_then(|c| char::from(c).to_digit(16));
            let pair = digit().zip(digit()).and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
            pair.ok_or_else(|| UriError(format!("{what} has a % that no two hex digits follow; write %25 for a %")))?
        } else {
            byte
        };
        if byte == 0 {
            return refuse(format!("{what} contains the character NUL"));
        }
        bytes.push(byte);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::name::percent_escape;

    fn given(password: &str) -> Option<PasswordSource> {
        Some(PasswordSource::Given(Secret::new(password.to_owned())))
    }

    #[test]
    fn every_part_is_found() {
        let keys = parse(
            "postgresql://anna:s%40crt@db.example:6432/sh%20op?sslmode=verify-full&sslrootcert=%2Fca.pem&connect_timeout=3",
        )
        .unwrap();
        let expected = ConnectionKeys {
            host: Some("db.example".to_owned()),
            port: Some(6432),
            user: Some("anna".to_owned()),
            database: Some("sh op".into()),
            password: given("s@crt"),
            sslmode: Some(SslMode::VerifyFull),
            sslrootcert: Some("/ca.pem".into()),
            connect_timeout: Some(Duration::from_secs(3)),
        };
        assert_eq!(keys, expected);
    }

    #[test]
    fn the_forms_of_the_manual() {
        assert_eq!(parse("postgresql://").unwrap(), ConnectionKeys::default());
        assert_eq!(parse("postgres://localhost").unwrap().host.as_deref(), Some("localhost"));
        let v6 = parse("postgresql://[2001:db8::1234]:5433/database").unwrap();
        assert_eq!((v6.host.as_deref(), v6.port), (Some("2001:db8::1234"), Some(5433)));
        let socket = parse("postgresql:///dbname?host=/var/lib/postgresql&user=other").unwrap();
        assert_eq!((socket.host.as_deref(), socket.user.as_deref()), (Some("/var/lib/postgresql"), Some("other")));
        let encoded = parse("postgresql://%2Fvar%2Flib%2Fpostgresql/dbname").unwrap();
        assert_eq!(encoded.host.as_deref(), Some("/var/lib/postgresql"));
        let pass_file = parse("postgresql:///d?passfile=/etc/pgpass").unwrap();
        assert_eq!(pass_file.password, Some(PasswordSource::PassFile("/etc/pgpass".into())));
        assert_eq!(parse("postgresql://u:p@/d?passfile=/x").unwrap().password, given("p"));
    }

    #[test]
    fn what_is_refused() {
        for (uri, part) in [
            ("shop", "begins with postgresql://"),
            ("mysql://h/d", "begins with postgresql://"),
            ("postgresql://a,b/d", "several hosts"),
            ("postgresql:///d?host=a,b", "several hosts"),
            ("postgresql://h:0/d", "port must be"),
            ("postgresql://h:65536/d", "port must be"),
            ("postgresql://[::1/d", "in brackets must end"),
            ("postgresql://::1/d", "must be in brackets"),
            ("postgresql://h/d%", "no two hex digits"),
            ("postgresql://h/d%zz", "no two hex digits"),
            ("postgresql://h/d%00", "NUL"),
            ("postgresql://%ff@h/d", "UTF-8"),
            ("postgresql://h/d?sslmode=maybe", "one of disable"),
            ("postgresql://h/d?connect_timeout=0", "seconds"),
            ("postgresql://h/d?target_session_attrs=any", "target_session_attrs is not supported"),
            ("postgresql://h/d?x", "name=value"),
        ] {
            let error = parse(uri).unwrap_err().to_string();
            assert!(error.contains(part), "{uri}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_names_survive(database in prop::collection::vec(1_u8.., 1..40), user in "[^\0]{1,20}", password in "[^\0]{1,20}") {
            let escape = |text: &str| percent_escape(text.as_bytes());
            let uri = format!("postgresql://{}:{}@h/{}", escape(&user), escape(&password), percent_escape(&database));
            let keys = parse(&uri).unwrap();
            prop_assert_eq!(keys.database, Some(Name::from(database)));
            prop_assert_eq!(keys.user, Some(user));
            prop_assert_eq!(keys.password, given(&password));
        }

        #[test]
        fn no_message_has_the_password(rest in "[a-z:/?@&=%,\\[\\]0-9]{0,30}") {
            for uri in [
                format!("postgresql://u:XSECRETX@{rest}"),
                format!("postgresql://u:XSECRETX{rest}"),
                format!("postgresql://h/d?password=XSECRETX{rest}"),
            ] {
                if let Err(error) = parse(&uri) {
                    prop_assert!(!error.to_string().contains("SECRET"), "{}", error);
                }
            }
        }
    }
}
