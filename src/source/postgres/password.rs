//! Where a password comes from. It is read when it is needed and never kept in configuration, argv or messages.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use crate::{
    config::{ConnectionSpec, PasswordSource, Secret, credential},
    model::ErrorCode,
    source::SourceError,
};

/// A file with passwords that is longer than this is not one.
const LIMIT: u64 = 1 << 20;

/// Reads the password of a connection; `None` where none is configured or the file has no line for it.
///
/// # Errors
/// `CredentialsMissing` when the credential or the file is missing, may be read by others, or is no text.
pub fn resolve(spec: &ConnectionSpec) -> Result<Option<Secret>, SourceError> {
    match &spec.password {
        PasswordSource::None => Ok(None),
        PasswordSource::Given(secret) => Ok(Some(secret.clone())),
        PasswordSource::Credential(name) => credential::read(name, "password credential").map(Some).map_err(missing),
        PasswordSource::PassFile(path) => {
            let text = read_private(path)?;
            Ok(lookup(&text, spec).map(Secret::new))
        }
    }
}

fn missing(message: String) -> SourceError {
    SourceError::new(ErrorCode::CredentialsMissing, message)
}

/// Reads a file as libpq does: a plain file that nobody else can read or write.
fn read_private(path: &Path) -> Result<String, SourceError> {
    let failed = |error: std::io::Error| missing(format!("cannot read the password file {}: {error}", path.display()));
    // Not blocking: a named pipe must not hang the daemon.
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
        .open(path)
        .map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(missing(format!("the password file {} is not a plain file", path.display())));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(missing(format!("the password file {} can be accessed by others; `chmod 600` it", path.display())));
    }
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// The password of the first line that matches (PostgreSQL manual, "The Password File").
fn lookup(text: &str, spec: &ConnectionSpec) -> Option<String> {
    let port = spec.port.to_string();
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = split(line.strip_suffix('\r').unwrap_or(line));
        let [host, line_port, database, user, password] = fields.as_slice() else { return None };
        let matches = |field: &Field, value: &[u8]| field.wildcard || field.text.as_bytes() == value;
        let host_matches =
            matches(host, spec.host.as_bytes()) || (is_default_socket(&spec.host) && host.text == "localhost");
        (host_matches
            && matches(line_port, port.as_bytes())
            && matches(database, spec.database.as_bytes())
            && matches(user, spec.user.as_bytes()))
        .then(|| password.text.clone())
    })
}

/// Whether libpq, as its packagers build it, takes this folder for the default one: `localhost` in a password file
/// means it.
fn is_default_socket(host: &str) -> bool {
    matches!(host, "/tmp" | "/run/postgresql" | "/var/run/postgresql")
}

struct Field {
    text: String,
    wildcard: bool,
}

/// Splits a line at its first four bare colons; a backslash makes the next character plain.
fn split(line: &str) -> Vec<Field> {
    let mut fields = vec![Field { text: String::new(), wildcard: false }];
    let mut characters = line.chars();
    let mut start = 0;
    let mut position = 0;
    while let Some(c) = characters.next() {
        let raw = &line[start..];
        position += c.len_utf8();
        let last = fields.len() - 1;
        match c {
            ':' if last < 4 => {
                fields[last].wildcard = raw.split(':').next() == Some("*");
                fields.push(Field { text: String::new(), wildcard: false });
                start = position;
            }
            '\\' => {
                if let Some(next) = characters.next() {
                    position += next.len_utf8();
                    fields[last].text.push(next);
                }
            }
            _ => fields[last].text.push(c),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::SslMode, model::Name};

    fn spec(host: &str, database: &str, password: PasswordSource) -> ConnectionSpec {
        ConnectionSpec {
            host: host.to_owned(),
            port: 5432,
            user: "reader".to_owned(),
            database: Name::from(database),
            password,
            sslmode: SslMode::Prefer,
            sslrootcert: None,
            connect_timeout: 1,
        }
    }

    #[test]
    fn the_first_matching_line_wins() {
        let text = "# comment\nother:5432:shop:reader:no\nlocalhost:*:shop:reader:a\\:b\\\\c:d\n*:*:*:*:any\n";
        let at = |host: &str, database: &str| lookup(text, &spec(host, database, PasswordSource::None));
        assert_eq!(at("/run/postgresql", "shop").unwrap(), "a:b\\c:d");
        assert_eq!(at("localhost", "shop").unwrap(), "a:b\\c:d");
        assert_eq!(at("db.example", "shop").unwrap(), "any");
        assert_eq!(at("other", "shop").unwrap(), "no");
        // An escaped star is a star.
        assert!(lookup("\\*:5432:shop:reader:x", &spec("h", "shop", PasswordSource::None)).is_none());
        assert_eq!(lookup("h:5432:a\\:b:reader:", &spec("h", "a:b", PasswordSource::None)).unwrap(), "");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgpass");
        fs::write(&path, "*:*:*:*:secret\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let spec = spec("h", "d", PasswordSource::PassFile(path.clone()));
        let error = resolve(&spec).unwrap_err();
        assert_eq!(error.code(), ErrorCode::CredentialsMissing);
        assert!(!error.to_string().contains("secret"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(resolve(&spec).unwrap().unwrap().reveal(), "secret");
    }
}
