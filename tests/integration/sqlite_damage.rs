//! Every byte of everything that a small backup of an SQLite database consists of is flipped in turn: a restore fails and
//! leaves nothing, or gives exactly the database that was backed up.

use std::{fs, path::Path, sync::Arc, time::Duration};

use backupd::{
    clock::now_micros,
    config::{SqliteCheck, SqliteConfig},
    model::{
        RunId, SourceKey,
        manifest::{ChunkerParameters, CodecName, Kind},
    },
    repository::{BackupFolder, BeginBackup, ManifestFacts, OwnedRepository, Repository},
    source::{
        JobContext,
        sqlite::{self, restore::RestoreRequest},
    },
    stream::Cancel,
};

use super::sqlite::sqlite3;
use crate::common::Scratch;

fn take(repository: &Path, database: &Path, context: &JobContext) -> BackupFolder {
    let owned = OwnedRepository::create_path(repository, CodecName::Gzip).expect("make a repository");
    let mut writer = owned
        .begin_backup(BeginBackup {
            source: SourceKey::single("app".parse().expect("a name")),
            run_id: RunId::new(),
            whole_run: false,
            started_at: now_micros(),
            level: 1,
            chunker: ChunkerParameters::fixed(1024),
            threads: 1,
            verify_members: true,
            max_size: None,
            scratch: context.scratch.clone(),
            cancel: Cancel::new(),
            progress: Arc::default(),
        })
        .expect("begin");
    let second = std::time::Duration::from_secs(1);
    let request = SqliteConfig {
        path: database.to_owned(),
        check: SqliteCheck::Integrity,
        lock_timeout: second,
        read_timeout: 60 * second,
        write_pause: second,
    };
    let dumped = sqlite::dump(&request, &mut writer, context).expect("dump");
    let facts = ManifestFacts {
        incomplete: dumped.incomplete,
        sqlite: Some(dumped.facts),
        ..ManifestFacts::new(Kind::Sqlite, dumped.snapshot_at, dumped.database_bytes)
    };
    writer.commit(facts).expect("commit").folder
}

/// Restores, and gives the bytes of the new file.
fn restore(repository: &Path, backup: &BackupFolder, to: &Path, context: &JobContext) -> Result<Vec<u8>, String> {
    let opened = Repository::open_path(repository).map_err(|error| error.to_string())?;
    let reader = opened.reader(backup, 1, Cancel::new()).map_err(|error| error.to_string())?;
    let request = RestoreRequest {
        to: to.to_owned(),
        owner: String::new(),
        run_id: RunId::new(),
        replace: false,
        lock_timeout: Duration::ZERO,
        look_timeout: Duration::ZERO,
        on_step: &|_| Ok(()),
    };
    let plan = sqlite::restore::plan(&request, &reader, context).map_err(|error| error.to_string())?;
    let restored = sqlite::restore::carry_out(&plan, &request, &reader, context);
    let folder: Vec<_> = fs::read_dir(to.parent().expect("a folder")).expect("list").collect();
    assert_eq!(folder.len(), usize::from(restored.is_ok()), "nothing but what was restored: {folder:?}");
    restored.map_err(|error| error.to_string())?;
    let bytes = fs::read(to).expect("read");
    fs::remove_file(to).expect("remove");
    Ok(bytes)
}

fn objects(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).expect("list").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() { objects(&entry, found) } else { found.push(entry) }
    }
}

#[test]
fn no_flipped_byte_gives_another_database() {
    let scratch = Scratch::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let context = JobContext {
        cancel: Cancel::new(),
        progress: Arc::default(),
        scratch: scratch.join("scratch"),
        runtime: runtime.handle().clone(),
    };
    for folder in ["scratch", "restored"] {
        fs::create_dir(scratch.join(folder)).expect("make a folder");
    }
    let database = scratch.join("app.db");
    sqlite3(
        &database,
        "PRAGMA page_size = 512; PRAGMA journal_mode = WAL; CREATE TABLE t(a, b UNIQUE);
         INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, hex(randomblob(300)))",
    );
    let repository = scratch.join("repository");
    let backup = take(&repository, &database, &context);
    let original = fs::read(&database).expect("read");
    let to = scratch.join("restored/app.db");
    assert!(restore(&repository, &backup, &to, &context).expect("restores") == original);
    let mut all = Vec::new();
    for folder in ["packs", "backups"] {
        objects(&repository.join(folder), &mut all);
    }
    assert_eq!(all.len(), 4, "{all:?}");
    let (mut refused, mut same) = (0, 0);
    for path in all {
        let good = fs::read(&path).expect("read");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&path, &bad).expect("write");
            match restore(&repository, &backup, &to, &context) {
                Ok(bytes) => {
                    assert!(bytes == original, "{} at {at}: another database was restored", path.display());
                    same += 1;
                }
                Err(message) => {
                    assert!(!message.is_empty());
                    refused += 1;
                }
            }
        }
        fs::write(&path, &good).expect("write");
    }
    assert!(refused > 1000, "{refused} refused, {same} restored all the same");
    assert!(restore(&repository, &backup, &to, &context).expect("restores") == original);
}
