//! Passwords: taken from a file, standard input or the terminal, and stored where `backupd.service` has systemd take
//! credentials from.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead as _, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::sys::termios::{self, LocalFlags, SetArg, Termios};

use super::{
    super::super::{child, error::CtlError},
    file,
};
use crate::{config::Secret, model::ErrorCode};

/// The folder of plain credentials below that of the configuration.
const PLAIN: &str = "credentials";
/// That of encrypted ones, whose names begin so within the encryption: `LoadCredentialEncrypted=encrypted:…`.
const ENCRYPTED: (&str, &str) = ("credentials.encrypted", "encrypted_");
/// A file that is longer is not a password.
const LIMIT: u64 = 64 << 10;
/// How long encrypting may take; a TPM is slow.
const ENCRYPT_TIMEOUT: Duration = Duration::from_secs(60);

/// A password and the name of its credential.
#[derive(Debug, Clone)]
pub(super) struct Credential {
    pub(super) name: String,
    pub(super) secret: Secret,
}

/// Takes the password of a role from where the command line says; `None` where it says nothing.
pub(super) async fn take(file: Option<&Path>, ask: bool, role: &str) -> Result<Option<Secret>, CtlError> {
    let text = match file {
        Some(path) if path == Path::new("-") => read_all(io::stdin().lock(), "standard input")?,
        Some(path) => {
            // Not blocking: opening a named pipe would wait for a writer for ever.
            let opened = fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path);
            let opened =
                opened.map_err(|error| CtlError::io(format_args!("cannot open {}", path.display()), &error))?;
            read_all(opened, &path.display().to_string())?
        }
        None if ask => ask_on_terminal(role).await?,
        None => return Ok(None),
    };
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() || line.contains(['\n', '\0']) {
        return Err(CtlError::usage(format!("the password of {role:?} must be one line that is not empty")));
    }
    Ok(Some(Secret::new(line.to_owned())))
}

fn read_all(from: impl io::Read, name: &str) -> Result<String, CtlError> {
    let mut text = String::new();
    from.take(LIMIT)
        .read_to_string(&mut text)
        .map_err(|error| CtlError::io(format_args!("cannot read a password from {name}"), &error))?;
    Ok(text)
}

/// Asks on the terminal, whatever standard input is, and shows nothing of what is typed.
async fn ask_on_terminal(role: &str) -> Result<String, CtlError> {
    let failed = |error: io::Error| CtlError::io("cannot ask for a password on the terminal", &error);
    let terminal = fs::OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(failed)?;
    let mut shown = terminal.try_clone().map_err(failed)?;
    let _silent = Silent::make(terminal.try_clone().map_err(failed)?).map_err(failed)?;
    write!(shown, "Password of the role {role:?}: ").and_then(|()| shown.flush()).map_err(failed)?;
    // In a thread, so that Control-C ends the question, and the terminal gets its echo back.
    let reading = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        io::BufReader::new(terminal).read_line(&mut line).map(|_| line)
    });
    let answer = tokio::select! {
        answer = reading => answer.map_err(io::Error::other).and_then(|line| line).map_err(failed),
        _ = tokio::signal::ctrl_c() => Err(CtlError::declined("nothing was done, as there was no password")),
    };
    let _ = writeln!(shown);
    answer
}

/// A terminal without echo for as long as this is there.
struct Silent {
    terminal: fs::File,
    before: Termios,
}

impl Silent {
    fn make(terminal: fs::File) -> io::Result<Self> {
        let before = termios::tcgetattr(&terminal)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        termios::tcsetattr(&terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        let _ = termios::tcsetattr(&self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

/// The files that hold a credential of this name. A name that would lead out of the folders has none: what is found here may
/// be removed, and a file whose text was never checked may say anything.
pub(super) fn files(config_dir: &Path, name: &str) -> Vec<PathBuf> {
    if name.contains('/') || matches!(name, "" | "." | "..") {
        return Vec::new();
    }
    let paths = [PLAIN, ENCRYPTED.0].map(|folder| config_dir.join(folder).join(name));
    paths.into_iter().filter(|path| path.exists()).collect()
}

/// Where a credential of this name would be stored.
pub(super) fn destination(config_dir: &Path, name: &str, encrypt: bool) -> PathBuf {
    config_dir.join(if encrypt { ENCRYPTED.0 } else { PLAIN }).join(name)
}

/// Stores a credential in the place of one of the same name, readable by root alone.
pub(super) async fn store(config_dir: &Path, credential: &Credential, encrypt: bool) -> Result<(), CtlError> {
    let path = destination(config_dir, &credential.name, encrypt);
    let bytes = match encrypt {
        true => encrypted(credential).await?,
        false => credential.secret.reveal().as_bytes().to_vec(),
    };
    write(&path, &bytes).map_err(|error| CtlError::io(format_args!("cannot write {}", path.display()), &error))?;
    // One of the two would be read, and it need not be the new one.
    for other in files(config_dir, &credential.name).into_iter().filter(|other| *other != path) {
        remove(&other)?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    if !folder.exists() {
        fs::create_dir(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    file::prepared(path, bytes, 0o600)?.persist(path).map_err(|error| error.error)?;
    file::sync_folder(path)
}

/// Removes the file of a credential; one that is gone is no failure.
pub(super) fn remove(path: &Path) -> Result<(), CtlError> {
    let removed = match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| file::sync_folder(path)),
    };
    removed.map_err(|error| CtlError::io(format_args!("cannot remove {}", path.display()), &error))
}

/// Encrypts with what systemd decrypts by when it starts the daemon.
async fn encrypted(credential: &Credential) -> Result<Vec<u8>, CtlError> {
    let attempted = format!("cannot encrypt the credential {}", credential.name);
    let failed = |error: io::Error| CtlError::io(format_args!("{attempted} by systemd-creds"), &error);
    let mut command = tokio::process::Command::new("systemd-creds");
    command.arg("encrypt").arg(format!("--name={}{}", ENCRYPTED.1, credential.name)).args(["-", "-"]);
    command.stderr(Stdio::piped());
    let secret = credential.secret.reveal().as_bytes();
    let output = child::answer(&mut command, secret, ENCRYPT_TIMEOUT).await.map_err(failed)?.ok_or_else(|| {
        let message = format!("{attempted}: systemd-creds did not end within {} s", ENCRYPT_TIMEOUT.as_secs());
        CtlError::new(ErrorCode::Failed, message)
    })?;
    if !output.status.success() || output.stdout.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr);
        let message = format!("{attempted}: systemd-creds says: {}", said.trim());
        return Err(CtlError::new(ErrorCode::Failed, message));
    }
    Ok(output.stdout)
}

/// The credentials that the files of other sources name.
///
/// # Errors
/// The first file that cannot be read as TOML: what it needs is not known.
pub(super) fn named_by_others(own: &Path) -> Result<BTreeSet<String>, PathBuf> {
    let folder = own.parent().unwrap_or(Path::new("/"));
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(|_| folder.to_owned())?.flatten() {
        let path = entry.path();
        if path == own || path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(|_| path.clone())?;
        names.extend(file::credentials(&text).map_err(|_| path)?);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[tokio::test]
    async fn a_password_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        for (text, expected) in [("se same\n", Some("se same")), ("x\r\n", Some("x")), ("x", Some("x"))] {
            fs::write(&path, text).unwrap();
            let taken = take(Some(&path), false, "r").await.unwrap();
            assert_eq!(taken.as_ref().map(Secret::reveal), expected, "{text:?}");
        }
        for text in ["", "\n", "hush\nmore\n", "hu\0sh"] {
            fs::write(&path, text).unwrap();
            let error = take(Some(&path), false, "r").await.unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(!error.to_string().contains("hu"), "{error}");
        }
        assert!(take(None, false, "r").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn it_is_stored_for_root_alone_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let credential = |secret: &str| Credential { name: "shop.password".into(), secret: Secret::new(secret.into()) };
        store(folder.path(), &credential("a"), false).await.unwrap();
        let path = folder.path().join("credentials/shop.password");
        assert_eq!(files(folder.path(), "shop.password"), std::slice::from_ref(&path));
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        // One that is stored in the other folder is not left to be read in its place.
        fs::create_dir(folder.path().join("credentials.encrypted")).unwrap();
        fs::write(folder.path().join("credentials.encrypted/shop.password"), "old").unwrap();
        store(folder.path(), &credential("b"), false).await.unwrap();
        assert_eq!(files(folder.path(), "shop.password"), std::slice::from_ref(&path));
        assert_eq!(fs::read_to_string(&path).unwrap(), "b");
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(files(folder.path(), "shop.password").is_empty());
        fs::write(folder.path().join("backupd.toml"), "").unwrap();
        for name in ["../backupd.toml", "", ".", ".."] {
            assert!(files(folder.path(), name).is_empty(), "{name}");
        }
    }

    #[test]
    fn what_others_need_is_known_or_said_to_be_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("shop.toml", "password_credential = \"own\"\n");
        write("app.toml", "password_credential = \"a\"\n[restore]\npassword_credential = \"b\"\n");
        write("old.toml.removed", "password_credential = \"c\"\n");
        let own = folder.path().join("shop.toml");
        assert_eq!(named_by_others(&own), Ok(["a", "b"].map(str::to_owned).into()));
        write("broken.toml", "x = ");
        assert_eq!(named_by_others(&own), Err(folder.path().join("broken.toml")));
    }
}
