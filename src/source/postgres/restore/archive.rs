//! `schema.dump` as a file in the job's scratch folder, for `pg_restore`, which seeks in it, and what pg_restore says of
//! it. It holds no rows; table data is never copied to disk.

use std::{
    io::{self, Read as _},
    path::Path,
};

use tempfile::NamedTempFile;

use crate::{
    model::{
        ErrorCode,
        manifest::{FileRole, Manifest},
    },
    source::{
        JobContext, SetReader, SourceError,
        postgres::{child::ClientCommand, client_programs::ClientPrograms, environment::LibpqEnvironment},
    },
};

/// The archive, spooled; removed when dropped.
#[derive(Debug)]
pub(super) struct Archive {
    file: NamedTempFile,
}

impl Archive {
    /// Copies the archive out of the backup. Every byte of it has been verified when this returns.
    pub(super) fn spool(reader: &dyn SetReader, context: &JobContext) -> Result<Self, SourceError> {
        let name = file_name(reader.manifest(), FileRole::SchemaArchive)?;
        let mut file = scratch_file(context, "schema-")?;
        let mut input = reader.open(name).map_err(SourceError::from_sink)?;
        copy(&mut input, file.as_file_mut(), context)?;
        Ok(Self { file })
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// What `pg_restore -l -v` lists.
    pub(super) fn listing(&self, programs: &ClientPrograms, context: &JobContext) -> Result<Vec<u8>, SourceError> {
        self.output(programs, context, &["--list".as_ref(), "--verbose".as_ref()])
    }

    /// The SQL of the entries of a list.
    pub(super) fn script(
        &self,
        programs: &ClientPrograms,
        list: &Path,
        context: &JobContext,
    ) -> Result<Vec<u8>, SourceError> {
        self.output(programs, context, &["--file=-".as_ref(), "--use-list".as_ref(), list.as_os_str()])
    }

    fn output(
        &self,
        programs: &ClientPrograms,
        context: &JobContext,
        arguments: &[&std::ffi::OsStr],
    ) -> Result<Vec<u8>, SourceError> {
        let environment = LibpqEnvironment::base(&context.scratch);
        let command = ClientCommand::new(&programs.pg_restore(), &environment, ErrorCode::RestoreFailed);
        let mut child = command
            .args(arguments.iter().copied())
            .arg(self.path())
            .piped_stdout()
            .spawn(&context.cancel, &context.runtime)
            .map_err(|error| error.context("cannot read the schema archive"))?;
        let mut output = Vec::new();
        if let Some(mut pipe) = child.take_stdout() {
            pipe.read_to_end(&mut output).map_err(|error| SourceError::io("read from pg_restore", &error))?;
        }
        child.wait().map_err(|error| error.context("cannot read the schema archive"))?;
        Ok(output)
    }
}

/// The name of the file with this role.
pub(super) fn file_name(manifest: &Manifest, role: FileRole) -> Result<&str, SourceError> {
    manifest.files.iter().find(|file| file.role == role).map(|file| file.name.as_str()).ok_or_else(|| {
        let message = format!("the backup has no file with the role {role:?}: it cannot be restored by this program");
        SourceError::new(ErrorCode::NotSupported, message)
    })
}

/// The whole content of the file with this role; empty where the backup has none.
pub(super) fn read_role(reader: &dyn SetReader, role: FileRole, context: &JobContext) -> Result<Vec<u8>, SourceError> {
    let mut content = Vec::new();
    if let Ok(name) = file_name(reader.manifest(), role) {
        let mut input = reader.open(name).map_err(SourceError::from_sink)?;
        copy(&mut input, &mut content, context)?;
    }
    Ok(content)
}

/// An empty private file in the job's scratch folder.
pub(super) fn scratch_file(context: &JobContext, prefix: &str) -> Result<NamedTempFile, SourceError> {
    let failed = |error| SourceError::io(format!("create a file in {}", context.scratch.display()), &error);
    tempfile::Builder::new().prefix(prefix).tempfile_in(&context.scratch).map_err(failed)
}

fn copy(input: &mut dyn io::Read, output: &mut dyn io::Write, context: &JobContext) -> Result<(), SourceError> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        context.cancel.check()?;
        let length = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(SourceError::from_sink(error)),
        };
        output.write_all(&buffer[..length]).map_err(|error| SourceError::io("write to the scratch folder", &error))?;
    }
    output.flush().map_err(|error| SourceError::io("write to the scratch folder", &error))
}
