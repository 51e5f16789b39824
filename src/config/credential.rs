//! Secrets that systemd passes to the daemon as files ("credentials", systemd.exec(5)). They are read when they are needed.

use std::{fs, io::Read as _, path::Path};

use super::Secret;

/// The folders whose files the unit passes, each with the prefix that their credentials have: `LoadCredential=ID:FOLDER`
/// makes a file NAME the credential `ID_NAME` (systemd.exec(5)).
const FOLDERS: [(&str, &str); 2] =
    [("secret", "/etc/backupd/credentials"), ("encrypted", "/etc/backupd/credentials.encrypted")];

/// systemd passes no credential that is longer.
const LIMIT: u64 = 1 << 20;

/// Reads a credential without the end of its line. `what` names it in messages: "password credential".
///
/// # Errors
/// A sentence that says why it cannot be read and what to do; never its content.
pub fn read(name: &str, what: &str) -> Result<Secret, String> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
        format!(
            "the {what} {name:?} cannot be read: systemd passed no credentials \
             (LoadCredential= or LoadCredentialEncrypted= in the unit)"
        )
    })?;
    read_from(Path::new(&folder), name, what)
}

/// Whether a text can be the name of a credential.
#[must_use]
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && name != "." && name != ".."
}

/// Reads a credential that was passed under its own name, or as a file of this name in one of the folders that the unit
/// names (see [`FOLDERS`]).
fn read_from(passed: &Path, name: &str, what: &str) -> Result<Secret, String> {
    if !is_name(name) {
        return Err(format!("{name:?} is not the name of a credential"));
    }
    let candidates = std::iter::once(name.to_owned()).chain(FOLDERS.iter().map(|(id, _)| format!("{id}_{name}")));
    for candidate in candidates {
        let path = passed.join(candidate);
        let failed = |error: std::io::Error| format!("cannot read the {what} in {}: {error}", path.display());
        match fs::File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
            Ok(file) => {
                let mut text = String::new();
                file.take(LIMIT).read_to_string(&mut text).map_err(failed)?;
                let text = text.strip_suffix('\n').unwrap_or(&text);
                return Ok(Secret::new(text.strip_suffix('\r').unwrap_or(text).to_owned()));
            }
        }
    }
    let folders = FOLDERS.map(|(_, folder)| folder).join(" or ");
    Err(format!(
        "systemd passed no credential {name:?} when the daemon started: put the file {name} into {folders}, \
         then let the daemon restart (`systemctl kill --kill-whom=main --signal=SIGUSR1 backupd` does that when no job runs)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_has_its_own_name_or_that_of_a_folder() {
        let passed = tempfile::tempdir().unwrap();
        let read = |name: &str| read_from(passed.path(), name, "password credential");
        let error = read("shop").unwrap_err();
        assert!(error.contains("put the file shop into /etc/backupd/credentials or "), "{error}");
        for (file, text) in [("encrypted_shop", "c"), ("secret_shop", "b\r\n"), ("shop", "a\n")] {
            fs::write(passed.path().join(file), text).unwrap();
            assert_eq!(read("shop").unwrap().reveal(), text.trim_end());
        }
        for bad in ["", "..", "a/b"] {
            assert!(read(bad).unwrap_err().contains("is not the name of a credential"), "{bad:?}");
        }
    }

    #[test]
    fn the_unit_passes_the_folders() {
        let unit = include_str!("../../systemd/backupd.service");
        for (line, (id, folder)) in ["LoadCredential", "LoadCredentialEncrypted"].into_iter().zip(FOLDERS) {
            assert!(unit.lines().any(|found| found == format!("{line}={id}:{folder}")), "{line}");
        }
    }
}
