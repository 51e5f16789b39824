//! Giving a database back as a new file: written under a temporary name beside its place, checked, then named.
//!
//! Invariants: what exists is never touched; the file has its name only when all its bytes are on disk and SQLite found
//! the rows that were counted; a journal or log of an older file of that name, which SQLite would apply to the new one,
//! stands in the way.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
    unistd::{Gid, Group, Uid, User, geteuid},
};
use serde::Serialize;

use super::{
    IMAGE,
    connection::open_copy,
    contents::{self, Facts, Soundness},
};
use crate::{
    config::SqliteCheck,
    fail_point,
    model::{
        ErrorCode, RunId, SourceKey,
        job::Phase,
        manifest::{Manifest, SqliteFacts, Table},
    },
    source::{JobContext, SetReader, SourceError, space::free_bytes},
};

/// Bytes that are read and written at once.
const BUFFER: usize = 256 << 10;

/// What the names of the files end in that SQLite keeps beside a database.
const SIDECARS: [&str; 3] = ["-journal", "-wal", "-shm"];

/// Where a restore goes.
pub struct RestoreRequest<'a> {
    /// The new file. It must not exist.
    pub to: PathBuf,
    /// `USER` or `USER:GROUP` that the file shall belong to; empty for the one who runs this program.
    pub owner: String,
    /// The run, which is part of the temporary name.
    pub run_id: RunId,
    /// Told the temporary path before the file exists, and `None` when it is gone or has its name.
    pub on_temporary_file: &'a (dyn Fn(Option<&Path>) -> Result<(), SourceError> + Sync),
}

/// What a restore would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestorePlan {
    /// The backup.
    pub backup: PlannedBackup,
    /// The new file.
    pub to: PathBuf,
    /// Who it will belong to, as asked for; empty for the one who runs this program.
    pub owner: String,
    /// Bytes that the file will have.
    pub space_needed: u64,
    /// Bytes that are free where it goes; absent where that cannot be told.
    pub space_free: Option<u64>,
    /// What stands in the way; empty if nothing does.
    pub obstacles: Vec<Remark>,
    /// What will be done, a sentence each.
    pub steps: Vec<String>,
}

/// What a plan says of the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedBackup {
    /// Its source.
    #[serde(flatten)]
    pub source: SourceKey,
    /// Its number within the source.
    pub sequence: u64,
    /// The instant whose state it holds, microseconds since the epoch.
    pub snapshot_at: u64,
    /// Rows of all its tables.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// The version of SQLite that it was read with.
    pub sqlite_version: String,
}

/// Something that a plan says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// A stable word: `target-exists`, `journal-exists`, `journal-name`, `no-folder`, `not-writable`, `no-space`, `owner`.
    pub what: &'static str,
    /// A sentence for people, with what helps.
    pub message: String,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// The new file.
    pub path: PathBuf,
    /// Its size, bytes.
    pub bytes: u64,
    /// Its tables.
    pub tables: u64,
    /// Rows of all of them, counted in the new file.
    pub rows: u64,
}

/// What a restore would do and what stands in its way. Touches nothing.
///
/// # Errors
/// `NotSupported` for a backup that is no SQLite database.
pub fn plan(
    request: &RestoreRequest<'_>,
    reader: &dyn SetReader,
    _context: &JobContext,
) -> Result<RestorePlan, SourceError> {
    let manifest = reader.manifest();
    let (facts, bytes) = image_of(manifest)?;
    let to = request.to.display();
    let folder = folder_of(&request.to);
    let space_free = free_bytes(folder);
    let belongs = match request.owner.as_str() {
        "" => String::new(),
        owner => format!(" It will belong to {owner}."),
    };
    Ok(RestorePlan {
        backup: PlannedBackup {
            source: manifest.source.clone(),
            sequence: manifest.sequence,
            snapshot_at: manifest.snapshot_at,
            rows: manifest.tables().map(|table| table.rows).sum(),
            bytes,
            sqlite_version: facts.sqlite_version.clone(),
        },
        to: request.to.clone(),
        owner: request.owner.clone(),
        space_needed: bytes,
        space_free,
        obstacles: obstacles(request, bytes, space_free),
        steps: vec![
            format!(
                "Write the database to a temporary file in {}, readable by its owner only.{belongs}",
                folder.display()
            ),
            format!("Let SQLite check it ({}) and compare the rows of each table.", check_of(facts).as_str()),
            format!("Give it its name, {to}."),
        ],
    })
}

/// Restores. Without an error the file is there, whole, synced and checked; with one, nothing of it is left.
///
/// # Errors
/// `TargetExists` and `RestoreRefused` with the obstacles; `RestoreFailed`, `RestoreMismatch`, `NoSpace`, the reader's.
pub fn carry_out(
    plan: &RestorePlan,
    request: &RestoreRequest<'_>,
    reader: &dyn SetReader,
    context: &JobContext,
) -> Result<RestoreReport, SourceError> {
    refuse(&plan.obstacles)?;
    let owner = Owner::find(&request.owner).map_err(|why| SourceError::new(ErrorCode::RestoreRefused, why))?;
    let (facts, bytes) = image_of(reader.manifest())?;
    let temporary = temporary_of(&request.to, request.run_id);
    (request.on_temporary_file)(Some(&temporary))?;
    let restored = Restore { request, reader, context, temporary: &temporary }.run(&owner, facts, bytes);
    if restored.is_err() {
        context.progress.enter(Phase::CleaningUp);
        sweep(&temporary)?;
    }
    (request.on_temporary_file)(None)?;
    restored
}

/// Removes a temporary file that a crash left.
///
/// # Errors
/// `Io`; a file that is not there is no error.
pub fn sweep(temporary: &Path) -> Result<(), SourceError> {
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(SourceError::io(format!("remove {}", temporary.display()), &error))
        }
        _ => Ok(()),
    }
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

fn temporary_of(to: &Path, run: RunId) -> PathBuf {
    folder_of(to).join(format!(".backupd-restore-{run}.tmp"))
}

fn obstacles(request: &RestoreRequest<'_>, bytes: u64, free: Option<u64>) -> Vec<Remark> {
    let mut found = Vec::new();
    let mut add = |what, message: String| found.push(Remark { what, message });
    let (to, folder) = (&request.to, folder_of(&request.to));
    if to.symlink_metadata().is_ok() {
        add("target-exists", format!("{} exists; restore to another path with --to, or move it away", to.display()));
    }
    let name = to.file_name().unwrap_or_default().as_encoded_bytes();
    if SIDECARS.iter().any(|suffix| name.ends_with(suffix.as_bytes())) {
        add(
            "journal-name",
            format!(
                "{} is the name of a file that SQLite keeps beside another database, and would be taken for it; \
                 restore to another name with --to",
                to.display()
            ),
        );
    }
    for suffix in SIDECARS {
        let mut sidecar = OsString::from(to);
        sidecar.push(suffix);
        let sidecar = PathBuf::from(sidecar);
        if sidecar.symlink_metadata().is_ok() {
            add(
                "journal-exists",
                format!(
                    "{} exists, which SQLite would take for a part of the new database; move it away together with the \
                 database that it belongs to",
                    sidecar.display()
                ),
            );
        }
    }
    match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => {
            let wanted = nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK;
            if let Err(errno) = nix::unistd::eaccess(folder, wanted) {
                add("not-writable", format!("no file can be made in {}: {errno}", folder.display()));
            }
        }
        Ok(_) => add("no-folder", format!("{} is not a folder", folder.display())),
        Err(error) => add("no-folder", format!("the folder {} cannot be used: {error}", folder.display())),
    }
    if let Some(free) = free.filter(|free| *free < bytes) {
        add("no-space", format!("the database has {bytes} bytes, and {free} are free at {}", folder.display()));
    }
    if let Err(why) = Owner::find(&request.owner) {
        add("owner", why);
    }
    found
}

fn refuse(obstacles: &[Remark]) -> Result<(), SourceError> {
    let Some(first) = obstacles.first() else { return Ok(()) };
    let code = match first.what {
        "target-exists" => ErrorCode::TargetExists,
        "no-space" => ErrorCode::NoSpace,
        _ => ErrorCode::RestoreRefused,
    };
    let all: Vec<&str> = obstacles.iter().map(|obstacle| obstacle.message.as_str()).collect();
    Err(SourceError::new(code, format!("the restore was not begun: {}", all.join("; "))))
}

/// Who the file shall belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    user: Option<Uid>,
    group: Option<Gid>,
}

impl Owner {
    /// Reads `USER` or `USER:GROUP`, names or numbers. A user alone brings the login group, as with chown(1)'s `USER:`.
    fn find(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self { user: None, group: None });
        }
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let known = match user.parse() {
            Ok(number) => User::from_uid(Uid::from_raw(number)).ok().flatten(),
            Err(_) => User::from_name(user).ok().flatten(),
        };
        let number = known.as_ref().map(|user| user.uid).or_else(|| user.parse().ok().map(Uid::from_raw));
        let uid = number.ok_or_else(|| format!("there is no user {user:?} for the file to belong to"))?;
        let gid = match group {
            None => known.map(|user| user.gid),
            Some(group) => {
                let number = match group.parse() {
                    Ok(number) => Some(Gid::from_raw(number)),
                    Err(_) => Group::from_name(group).ok().flatten().map(|group| group.gid),
                };
                Some(number.ok_or_else(|| format!("there is no group {group:?} for the file to belong to"))?)
            }
        };
        if !geteuid().is_root() && uid != geteuid() {
            let own = User::from_uid(geteuid()).ok().flatten().map_or_else(|| geteuid().to_string(), |user| user.name);
            return Err(format!(
                "only root can give a file to {user}, and this runs as {own}; restore without an owner, then as root: \
                 chown {text} FILE"
            ));
        }
        Ok(Self { user: Some(uid), group: gid })
    }

    fn give(self, file: &File) -> io::Result<()> {
        let (user, group) = (self.user.map(Uid::as_raw), self.group.map(Gid::as_raw));
        if user.is_none() && group.is_none() {
            return Ok(());
        }
        std::os::unix::fs::fchown(file, user, group)
    }
}

struct Restore<'a> {
    request: &'a RestoreRequest<'a>,
    reader: &'a dyn SetReader,
    context: &'a JobContext,
    temporary: &'a Path,
}

impl Restore<'_> {
    fn run(&self, owner: &Owner, facts: &SqliteFacts, bytes: u64) -> Result<RestoreReport, SourceError> {
        let to = self.request.to.display();
        self.context.progress.enter(Phase::Data);
        self.context.progress.expect_bytes(bytes);
        let file = self.write()?;
        self.context.progress.enter(Phase::Comparing);
        let (tables, rows) = self.compare(facts)?;
        let failed = |attempted: &str, error: &io::Error| SourceError::io(format_args!("{attempted} {to}"), error);
        owner.give(&file).map_err(|error| failed("set the owner of", &error))?;
        file.sync_all().map_err(|error| failed("write", &error))?;
        drop(file);
        self.context.cancel.check()?;
        self.context.progress.enter(Phase::Committing);
        hit("image-checked")?;
        self.publish()?;
        Ok(RestoreReport { path: self.request.to.clone(), bytes, tables, rows })
    }

    /// Writes the image to the temporary file.
    fn write(&self) -> Result<File, SourceError> {
        let path = self.temporary;
        let failed = |error: io::Error| SourceError::io(format_args!("write {}", path.display()), &error);
        let mut file =
            fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        hit("image-created")?;
        let mut image = self.reader.open(IMAGE).map_err(SourceError::from_sink)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            self.context.cancel.check()?;
            let length = match image.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(SourceError::from_sink(error)),
            };
            file.write_all(&buffer[..length]).map_err(failed)?;
            self.context.progress.add_bytes(length as u64);
        }
        file.sync_all().map_err(failed)?;
        hit("image-written")?;
        Ok(file)
    }

    /// Lets SQLite look at the new file, and compares its tables with what was counted when the backup was taken. Gives
    /// the number of tables and of their rows.
    fn compare(&self, facts: &SqliteFacts) -> Result<(u64, u64), SourceError> {
        let mismatch = |message: String| {
            let message = format!(
                "the database restored for {} is not the one that was backed up: {message}",
                self.request.to.display()
            );
            SourceError::new(ErrorCode::RestoreMismatch, message)
        };
        let found = self.look(facts).map_err(|error| match self.context.cancel.check() {
            Err(reason) => reason.into(),
            Ok(()) => mismatch(format!("SQLite says: {error}")),
        })?;
        let (restored, soundness, tables) = found;
        if let Soundness::Damaged(lines) = soundness {
            return Err(mismatch(format!("{} says: {lines}", check_of(facts).as_str())));
        }
        if (restored.pages, restored.page_size) != (facts.pages, facts.page_size) || restored.schema != facts.schema {
            return Err(mismatch("its header or schema differs".to_owned()));
        }
        let (mut count, mut rows) = (0, 0);
        for expected in self.reader.manifest().tables() {
            let found = tables.iter().find(|table| table.name == expected.name).map(|table| table.rows);
            if found != Some(expected.rows) {
                let found = found.map_or_else(|| "none".to_owned(), |rows| rows.to_string());
                return Err(mismatch(format!("table {} had {} rows and has {found}", expected.name, expected.rows)));
            }
            count += 1;
            rows += expected.rows;
        }
        Ok((count, rows))
    }

    fn look(&self, facts: &SqliteFacts) -> rusqlite::Result<(Facts, Soundness, Vec<Table>)> {
        let connection = open_copy(self.temporary, &self.context.cancel)?;
        let restored = Facts::read(&connection)?;
        let soundness = contents::check(&connection, check_of(facts))?;
        let (tables, _) = contents::count_rows(&connection)?;
        Ok((restored, soundness, tables))
    }

    /// Gives the file its name, unless something else has got it meanwhile.
    fn publish(&self) -> Result<(), SourceError> {
        let to = &self.request.to;
        let renamed = match renameat2(AT_FDCWD, self.temporary, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
            // The file system has no such rename; a hard link does not replace anything either.
            Err(nix::errno::Errno::EINVAL) => {
                fs::hard_link(self.temporary, to).and_then(|()| fs::remove_file(self.temporary))
            }
            other => other.map_err(io::Error::from),
        };
        renamed.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => SourceError::new(
                ErrorCode::TargetExists,
                format!("{} came into being while the database was restored; it was not touched", to.display()),
            ),
            _ => SourceError::io(format_args!("give the restored database its name {}", to.display()), &error),
        })?;
        let synced = fail_point::hit("image-named")
            .and_then(|()| File::open(folder_of(to)))
            .and_then(|folder| folder.sync_all());
        synced.map_err(|error| {
            // A name that a crash may take back is none; nobody can have relied on it yet.
            let _ = fs::remove_file(to);
            SourceError::io(format_args!("sync {}", folder_of(to).display()), &error)
        })
    }
}

fn hit(place: &'static str) -> Result<(), SourceError> {
    fail_point::hit(place).map_err(|error| SourceError::io(format_args!("go on after {place:?}"), &error))
}

#[cfg(test)]
mod tests;
