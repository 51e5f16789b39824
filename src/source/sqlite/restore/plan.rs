//! The plan of a restore: what it would do, what would be lost, and what stands in its way.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    RestoreRequest, check_of, folder_of, image_of,
    owner::Owner,
    present::{Present, Replaced},
};
use crate::{
    model::{ErrorCode, SourceKey, manifest::SqliteFacts},
    source::{JobContext, SetReader, SourceError, space::free_bytes},
};

/// What the names of the files end in that SQLite keeps beside a database.
const SIDECARS: [&str; 3] = ["-journal", "-wal", "-shm"];

/// What a restore would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestorePlan {
    /// The backup.
    pub backup: PlannedBackup,
    /// The file.
    pub to: PathBuf,
    /// Who a new file will belong to, as asked for; empty for the one who runs this program.
    pub owner: String,
    /// What is replaced; absent where nothing is.
    pub replaces: Option<Replaced>,
    /// Bytes that are needed beside what there is, until the restore is over.
    pub space_needed: u64,
    /// Bytes that are free where it goes; absent where that cannot be told.
    pub space_free: Option<u64>,
    /// What stands in the way; empty if nothing does.
    pub obstacles: Vec<Remark>,
    /// What is worth knowing.
    pub notices: Vec<Remark>,
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
    /// A stable word. Obstacles: `target-exists`, `journal-exists`, `journal-name`, `no-folder`, `not-writable`,
    /// `no-space`, `owner`. Notices: `rows`, `damaged`, `no-database`, `page-size`.
    pub what: &'static str,
    /// A sentence for people, with what helps.
    pub message: String,
}

/// What a restore would do and what stands in its way. Touches nothing.
///
/// # Errors
/// `NotSupported` for a backup that is no SQLite database; `DatabaseBusy` where what is replaced cannot be looked at.
pub fn plan(
    request: &RestoreRequest<'_>,
    reader: &dyn SetReader,
    context: &JobContext,
) -> Result<RestorePlan, SourceError> {
    let manifest = reader.manifest();
    let (facts, bytes) = image_of(manifest)?;
    let Present { replaced, mut obstacles, mut notices } = match request.replace {
        true => Present::look(&request.to, manifest, request.look_timeout, context)?,
        false => Present::default(),
    };
    let place = replaced.as_ref().map_or(&request.to, |replaced| &replaced.path);
    let space_needed = replaced.as_ref().map_or(bytes, |replaced| space_needed(replaced, bytes));
    let space_free = free_bytes(folder_of(place));
    obstacles.extend(find_obstacles(request, replaced.as_ref(), space_needed, space_free));
    if let Some(replaced) = replaced.as_ref().filter(|replaced| needs_it_alone(replaced, facts)) {
        notices.push(Remark {
            what: "page-size",
            message: format!(
                "the pages of the backup have {} bytes, those of {} {}: SQLite changes that in WAL mode only while nobody has \
                 the database open, so its application must be stopped",
                facts.page_size,
                replaced.path.display(),
                replaced.page_size
            ),
        });
    }
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
        space_needed,
        space_free,
        obstacles,
        notices,
        steps: steps(request, replaced.as_ref(), facts),
        replaces: replaced,
    })
}

/// What a restore in place takes: the image, what is kept, what SQLite needs to be able to take the change back, and
/// what the file grows by.
fn space_needed(replaced: &Replaced, bytes: u64) -> u64 {
    if !replaced.is_database {
        return bytes;
    }
    let to_take_back = if replaced.is_wal { bytes } else { replaced.bytes };
    bytes
        .saturating_add(replaced.bytes)
        .saturating_add(to_take_back)
        .saturating_add(bytes.saturating_sub(replaced.bytes))
}

fn needs_it_alone(replaced: &Replaced, facts: &SqliteFacts) -> bool {
    replaced.is_wal && replaced.page_size != 0 && replaced.page_size != facts.page_size
}

fn steps(request: &RestoreRequest<'_>, replaced: Option<&Replaced>, facts: &SqliteFacts) -> Vec<String> {
    let to = replaced.map_or(&request.to, |replaced| &replaced.path);
    let belongs = match request.owner.as_str() {
        "" => String::new(),
        owner => format!(" It will belong to {owner}."),
    };
    let folder = folder_of(to).display();
    let mut steps = vec![
        format!("Write the database to a temporary file in {folder}, readable by its owner only.{belongs}"),
        format!("Let SQLite check it ({}) and compare the rows of each table.", check_of(facts).as_str()),
    ];
    let to = to.display();
    match replaced {
        None => steps.push(format!("Give it its name, {to}.")),
        Some(replaced) if !replaced.is_database => {
            steps
                .push(format!("Give what is {to} now another name, under which it is kept, and the database its own."));
        }
        Some(replaced) => {
            let waited = if replaced.is_wal { "who writes to it" } else { "who reads or writes it" };
            steps.push(format!("Wait for {waited} for {} s at most, then lock {to}.", request.lock_timeout.as_secs()));
            steps.push(format!(
                "Keep what it holds in a file beside it and write the restored database into it, in one transaction; its \
                 inode, owner, mode, label and journal mode ({}) stay.",
                if replaced.is_wal { "WAL" } else { "rollback" }
            ));
        }
    }
    steps
}

/// What stands in the way beside what [`Present::look`] found.
fn find_obstacles(
    request: &RestoreRequest<'_>,
    replaced: Option<&Replaced>,
    needed: u64,
    free: Option<u64>,
) -> Vec<Remark> {
    let mut found = Vec::new();
    let mut add = |what, message: String| found.push(Remark { what, message });
    let (to, is_database) = (&request.to, replaced.is_some_and(|replaced| replaced.is_database));
    let folder = folder_of(replaced.map_or(to, |replaced| &replaced.path));
    if !request.replace && to.symlink_metadata().is_ok() {
        add(
            "target-exists",
            format!(
                "{} exists; restore to another path with --to, or let the daemon replace it (--replace)",
                to.display()
            ),
        );
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
    for sidecar in SIDECARS.iter().filter(|_| !is_database).map(|suffix| beside(to, suffix)) {
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
    if let Some(message) = cannot_make_files_in(folder) {
        add(message.0, message.1);
    }
    if let Some(free) = free.filter(|free| *free < needed) {
        add("no-space", format!("{needed} bytes are needed at {}, and {free} are free there", folder.display()));
    }
    if is_database && !request.owner.is_empty() {
        add("owner", format!("{} exists and keeps its owner; --owner is for a new file", to.display()));
    } else if let Err(why) = Owner::find(&request.owner) {
        add("owner", why);
    }
    found
}

fn beside(to: &Path, suffix: &str) -> PathBuf {
    let mut sidecar = OsString::from(to);
    sidecar.push(suffix);
    sidecar.into()
}

fn cannot_make_files_in(folder: &Path) -> Option<(&'static str, String)> {
    match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => {
            let wanted = nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK;
            let errno = nix::unistd::eaccess(folder, wanted).err()?;
            Some(("not-writable", format!("no file can be made in {}: {errno}", folder.display())))
        }
        Ok(_) => Some(("no-folder", format!("{} is not a folder", folder.display()))),
        Err(error) => Some(("no-folder", format!("the folder {} cannot be used: {error}", folder.display()))),
    }
}

/// The error for what stands in the way.
pub(super) fn refuse(obstacles: &[Remark]) -> Result<(), SourceError> {
    let Some(first) = obstacles.first() else { return Ok(()) };
    let code = match first.what {
        "target-exists" => ErrorCode::TargetExists,
        "no-space" => ErrorCode::NoSpace,
        _ => ErrorCode::RestoreRefused,
    };
    let all: Vec<&str> = obstacles.iter().map(|obstacle| obstacle.message.as_str()).collect();
    Err(SourceError::new(code, format!("the restore was not begun: {}", all.join("; "))))
}
