//! `globals.sql`: roles and tablespaces, made once for all databases of a run.
//!
//! Invariants: the script is kept in an unlinked file, because it may hold password verifiers; a dump is given it only
//! if it names every role that the dump's database needs, so a role that was created meanwhile makes it anew.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    model::{
        Name,
        manifest::{FileRole, Incomplete, Table},
    },
    source::{
        SetSink, SourceError,
        postgres::restore::roles::{Globals, is_predefined},
    },
    stream::{ByteSink, Cut},
};

/// The script of the dumps that share it. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct SharedGlobals {
    script: Arc<Mutex<Option<Script>>>,
}

/// A complete `globals.sql`.
#[derive(Debug)]
pub(super) struct Script {
    file: File,
    roles: BTreeSet<Name>,
    /// What it does not say.
    pub(super) incomplete: Option<Incomplete>,
}

impl SharedGlobals {
    /// The script, if there is one already. Nobody else can use or make it meanwhile.
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Script>> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Script {
    /// Takes a spooled script in.
    pub(super) fn read(spool: Spool, incomplete: Option<Incomplete>) -> Result<Self, SourceError> {
        let mut file = spool.file;
        let mut text = Vec::new();
        rewind(&mut file)
            .and_then(|file| file.read_to_end(&mut text))
            .map_err(|error| SourceError::io("read the script of the roles in the scratch folder", &error))?;
        Ok(Self { file, roles: Globals::parse(&text).roles().cloned().collect(), incomplete })
    }

    /// Whether it says how to make all of these roles, as far as they do not come with the server.
    pub(super) fn covers(&self, roles: &[Name]) -> bool {
        roles.iter().all(|role| is_predefined(role) || self.roles.contains(role))
    }

    /// Its bytes, from the first on.
    pub(super) fn bytes(&mut self) -> Result<&mut File, SourceError> {
        rewind(&mut self.file)
            .map_err(|error| SourceError::io("read the script of the roles in the scratch folder", &error))
    }
}

fn rewind(file: &mut File) -> io::Result<&mut File> {
    file.rewind()?;
    Ok(file)
}

/// Takes one file of a set into an unlinked file.
pub(super) struct Spool {
    file: File,
}

impl Spool {
    pub(super) fn new(scratch: &Path) -> Result<Self, SourceError> {
        let failed = |error| SourceError::io(format!("create a file in {}", scratch.display()), &error);
        Ok(Self { file: tempfile::tempfile_in(scratch).map_err(failed)? })
    }
}

impl SetSink for Spool {
    fn begin_file(&mut self, _name: &str, _role: FileRole) -> io::Result<()> {
        Ok(())
    }

    fn bytes(&mut self) -> &mut dyn ByteSink {
        self
    }

    fn end_file(&mut self, _tables: Vec<Table>) -> io::Result<()> {
        Ok(())
    }
}

impl ByteSink for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn cut(&mut self, _cut: Cut) -> io::Result<()> {
        Ok(())
    }
}
