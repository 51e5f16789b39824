//! Giving a database back: written under a temporary name beside its place, checked, and then named, or, where there is
//! a database already, written into that one.
//!
//! Invariants: what exists is touched only where that was asked for, when the restored database is whole, on disk and
//! SQLite found the rows in it that were counted, and after what is there was kept; where nothing exists, the file has
//! its name only then; a journal or log of an older file of that name, which SQLite would apply to the new one, stands in
//! the way.

mod image;
mod overwrite;
mod owner;
mod plan;
mod present;
mod swap;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde::Serialize;

use self::{image::Image, owner::Owner, plan::refuse};
pub use self::{
    plan::{PlannedBackup, Remark, RestorePlan, plan},
    present::Replaced,
    swap::{FileSwap, Way, drop_kept, exchange, finish, kept_size, objection, settle},
};
use super::IMAGE;
use crate::{
    config::SqliteCheck,
    fail_point,
    model::{
        ErrorCode, RunId,
        job::Phase,
        manifest::{Manifest, SqliteFacts},
    },
    source::{JobContext, SetReader, Settled, SourceError},
};

/// What a journal must know, before it happens where that makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileStep<'a> {
    /// A file of this temporary name will be made.
    Building(&'a Path),
    /// It is complete, and its contents will take the place of others.
    Swapping(&'a FileSwap),
    /// They have; the others are kept.
    Swapped(&'a FileSwap),
    /// The file of the temporary name is gone, or has its final name.
    Over,
}

/// Where a restore goes.
pub struct RestoreRequest<'a> {
    /// The file.
    pub to: PathBuf,
    /// `USER` or `USER:GROUP` that a new file shall belong to; empty for the one who runs this program.
    pub owner: String,
    /// Whether what is there already is replaced.
    pub replace: bool,
    /// How long to wait for those who read or write what is replaced.
    pub lock_timeout: Duration,
    /// How long to wait for them when a plan is made.
    pub look_timeout: Duration,
    /// The run, which is part of the temporary name.
    pub run_id: RunId,
    /// Told of each step; an error stops the restore.
    pub on_step: &'a (dyn Fn(FileStep<'_>) -> Result<(), SourceError> + Sync),
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// The file.
    pub path: PathBuf,
    /// The size of the restored database, bytes.
    pub bytes: u64,
    /// Its tables.
    pub tables: u64,
    /// Rows of all of them, counted before the file had its name.
    pub rows: u64,
    /// The file that keeps what was replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<PathBuf>,
}

/// Restores. Without an error the database is there, whole, synced and checked; with one, everything is as it was.
///
/// # Errors
/// `TargetExists` and `RestoreRefused` with the obstacles; `RestoreFailed`, `RestoreMismatch`, `NoSpace`, `DatabaseBusy`,
/// the reader's.
pub fn carry_out(
    plan: &RestorePlan,
    request: &RestoreRequest<'_>,
    reader: &dyn SetReader,
    context: &JobContext,
) -> Result<RestoreReport, SourceError> {
    refuse(&plan.obstacles)?;
    let owner = Owner::find(&request.owner).map_err(|why| SourceError::new(ErrorCode::RestoreRefused, why))?;
    let (facts, bytes) = image_of(reader.manifest())?;
    let place = plan.replaces.as_ref().map_or(&request.to, |replaced| &replaced.path);
    let temporary = temporary_of(place, request.run_id);
    (request.on_step)(FileStep::Building(&temporary))?;
    let made = Image { path: &temporary, to: &request.to, reader, context }.make(&owner, facts, bytes);
    let restored = match (made, &plan.replaces) {
        (Err(error), _) => Err(error),
        (Ok(counted), None) => publish(&temporary, &request.to).map(|()| (counted, None)),
        (Ok(counted), Some(replaced)) => {
            let way = if replaced.is_database { Way::Overwrite } else { Way::Rename };
            let swap = FileSwap::new(&replaced.path, temporary.clone(), way, replaced.is_wal, request.run_id);
            match replace(request, replaced, &swap, context)? {
                Ok(()) => Ok((counted, Some(swap.kept))),
                Err(error) => Err(error),
            }
        }
    };
    if restored.is_err() {
        context.progress.enter(Phase::CleaningUp);
        sweep(&temporary)?;
    }
    (request.on_step)(FileStep::Over)?;
    let ((tables, rows), kept) = restored?;
    Ok(RestoreReport { path: request.to.clone(), bytes, tables, rows, kept })
}

/// Replaces. The outer error means that it is not known what became of it, or that it could not be written down: then
/// what the journal says stays for whoever settles it.
fn replace(
    request: &RestoreRequest<'_>,
    replaced: &Replaced,
    swap: &FileSwap,
    context: &JobContext,
) -> Result<Result<(), SourceError>, SourceError> {
    if let Err(error) = (request.on_step)(FileStep::Swapping(swap)) {
        return Ok(Err(error));
    }
    let swapped = hit("file-swap-planned")
        .and_then(|()| like_the_old_one(request, replaced, &swap.incoming))
        .and_then(|()| exchange(swap, request.lock_timeout, &context.cancel));
    if let Err(error) = swapped {
        match settle(swap, request.lock_timeout) {
            Ok(Settled::NotSwapped) => return Ok(Err(error)),
            // What failed came after it.
            Ok(Settled::Swapped) => tracing::warn!("{} was replaced, but: {error}", swap.path.display()),
            Err(unsettled) => {
                return Err(
                    error.context(format!("what became of it is not known yet ({unsettled}), it is looked after"))
                );
            }
        }
    }
    (request.on_step)(FileStep::Swapped(swap))?;
    hit("file-noted")?;
    finish(swap)?;
    Ok(Ok(()))
}

/// A file that takes the name of another gets its mode, and its owner where that is allowed.
fn like_the_old_one(request: &RestoreRequest<'_>, replaced: &Replaced, new: &Path) -> Result<(), SourceError> {
    if replaced.is_database {
        return Ok(());
    }
    let set = || -> io::Result<()> {
        let old = fs::metadata(&replaced.path)?;
        let file = File::open(new)?;
        if request.owner.is_empty() && nix::unistd::geteuid().is_root() {
            std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o777))?;
        file.sync_all()
    };
    set().map_err(|error| SourceError::io(format_args!("set owner and mode of {}", new.display()), &error))
}

/// Removes a temporary file that a crash left.
///
/// # Errors
/// `Io`; a file that is not there is no error.
pub fn sweep(temporary: &Path) -> Result<(), SourceError> {
    swap::remove(temporary)
}

/// The facts and the length of the image.
fn image_of(manifest: &Manifest) -> Result<(&SqliteFacts, u64), SourceError> {
    manifest.sqlite.as_ref().zip(manifest.file(IMAGE).map(|file| file.raw_length)).ok_or_else(|| {
        SourceError::new(ErrorCode::NotSupported, format!("the backup of {} is no SQLite database", manifest.source))
    })
}

fn check_of(facts: &SqliteFacts) -> SqliteCheck {
    if facts.checked_by == SqliteCheck::Integrity.as_str() { SqliteCheck::Integrity } else { SqliteCheck::Quick }
}

fn folder_of(to: &Path) -> &Path {
    to.parent().unwrap_or(Path::new("/"))
}

fn sync_folder(of: &Path) -> Result<(), SourceError> {
    let folder = folder_of(of);
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| SourceError::io(format_args!("sync {}", folder.display()), &error))
}

fn temporary_of(to: &Path, run: RunId) -> PathBuf {
    folder_of(to).join(format!(".backupd-restore-{run}.tmp"))
}

/// Gives a new file its name, unless something else has got it meanwhile.
fn publish(temporary: &Path, to: &Path) -> Result<(), SourceError> {
    let renamed = match renameat2(AT_FDCWD, temporary, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // The file system has no such rename; a hard link does not replace anything either.
        Err(nix::errno::Errno::EINVAL) => fs::hard_link(temporary, to).and_then(|()| fs::remove_file(temporary)),
        other => other.map_err(io::Error::from),
    };
    renamed.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => SourceError::new(
            ErrorCode::TargetExists,
            format!("{} came into being while the database was restored; it was not touched", to.display()),
        ),
        _ => SourceError::io(format_args!("give the restored database its name {}", to.display()), &error),
    })?;
    hit("image-named").and_then(|()| sync_folder(to)).inspect_err(|_| {
        // A name that a crash may take back is none; nobody can have relied on it yet.
        let _ = fs::remove_file(to);
    })
}

fn hit(place: &'static str) -> Result<(), SourceError> {
    fail_point::hit(place).map_err(|error| SourceError::io(format_args!("go on after {place:?}"), &error))
}

#[cfg(test)]
mod tests;
