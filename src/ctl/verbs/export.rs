//! `export`: one `.sql.gz`, to standard output or to a file that appears only when it is complete.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use tempfile::NamedTempFile;

use super::super::{
    arguments::ExportArguments,
    client::Client,
    error::CtlError,
    follow::{self, OnInterrupt},
    human,
    manager::Manager,
    output::{Output, say},
};
use crate::bus::types::Options;

pub(super) async fn run(mut client: Client, output: &Output, arguments: &ExportArguments) -> Result<(), CtlError> {
    let selector = arguments.backup.selector()?;
    let target = Target::open(output, arguments.output.as_deref())?;
    let descriptor = target.descriptor()?;
    let start = async |manager: Manager| manager.export_backup(&selector, descriptor.into(), &Options::new(), 0).await;
    let job = follow::run(&mut client, output, "export", OnInterrupt::Cancel, start).await?;
    job.check()?;
    target.conclude(output, &job.json)
}

/// Where the script goes.
pub(in crate::ctl) enum Target<'a> {
    /// Standard output.
    Stdout,
    /// A file beside the one that it becomes; deleted unless it is published.
    File(&'a Path, NamedTempFile),
}

impl<'a> Target<'a> {
    /// Opens it.
    ///
    /// # Errors
    /// `InvalidArgs` for a terminal; `Io`.
    pub(in crate::ctl) fn open(output: &Output, path: Option<&'a Path>) -> Result<Self, CtlError> {
        let Some(path) = path else {
            if output.is_terminal() {
                return Err(CtlError::usage(
                    "compressed data is not written to a terminal; give --output FILE, or a pipe such as `| gunzip | psql`",
                ));
            }
            return Ok(Self::Stdout);
        };
        let temporary = tempfile::Builder::new().prefix(".backupctl-").suffix(".tmp").tempfile_in(folder_of(path));
        let temporary =
            temporary.map_err(|error| CtlError::io(format_args!("cannot write beside {}", path.display()), &error))?;
        Ok(Self::File(path, temporary))
    }

    /// A descriptor that can be given away.
    ///
    /// # Errors
    /// `Io`.
    pub(in crate::ctl) fn descriptor(&self) -> Result<OwnedFd, CtlError> {
        let cloned = match self {
            Self::Stdout => io::stdout().as_fd().try_clone_to_owned(),
            Self::File(_, temporary) => temporary.as_file().as_fd().try_clone_to_owned(),
        };
        cloned.map_err(|error| CtlError::io("cannot duplicate a descriptor", &error))
    }

    /// Publishes what was written, and says so: where it went to standard output, nothing more may be printed there.
    ///
    /// # Errors
    /// `Io`, `NoSpace`; the file is then not there.
    pub(in crate::ctl) fn conclude(self, output: &Output, json: &serde_json::Value) -> Result<(), CtlError> {
        let Some((path, length)) = self.publish()? else { return Ok(()) };
        if output.is_json() {
            return output.json(json);
        }
        if !output.is_quiet() {
            say(format_args!("Wrote {} to {}.", human::size(length), path.display()));
        }
        Ok(())
    }

    /// Makes the file visible under its name, all of it on disk. Gives its name and length; nothing for standard output.
    ///
    /// # Errors
    /// `Io`, `NoSpace`; the file is then not there.
    fn publish(self) -> Result<Option<(&'a Path, u64)>, CtlError> {
        let Self::File(path, temporary) = self else { return Ok(None) };
        let failed = |error: &io::Error| CtlError::io(format_args!("cannot write {}", path.display()), error);
        let length = temporary.as_file().metadata().map_err(|error| failed(&error))?.len();
        temporary.as_file().sync_all().map_err(|error| failed(&error))?;
        temporary.persist(path).map_err(|error| failed(&error.error))?;
        File::open(folder_of(path)).and_then(|folder| folder.sync_all()).map_err(|error| failed(&error))?;
        Ok(Some((path, length)))
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::PermissionsExt as _};

    use clap::Parser as _;

    use super::*;
    use crate::ctl::arguments::Arguments;

    #[test]
    fn a_file_appears_when_it_is_complete_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.sql.gz");
        let output = Output::new(&Arguments::try_parse_from(["backupctl"]).unwrap().common);
        let target = Target::open(&output, Some(&path)).unwrap();
        File::from(target.descriptor().unwrap()).write_all(b"data").unwrap();
        assert!(!path.exists());
        assert_eq!(target.publish().unwrap(), Some((path.as_path(), 4)));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let other = folder.path().join("other.sql.gz");
        drop(Target::open(&output, Some(&other)).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left of an export that failed");
    }
}
