//! How large the blocks of an SQLite image should be: time and size of a first backup, and what the next one adds after
//! rows here and there were changed, by block size. The database is `$BACKUPD_BENCH_SQLITE`, which is changed, or a small
//! one that is made.

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on says why and stops")]

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use backupd::{
    clock::now_micros,
    config::{SqliteCheck, SqliteConfig},
    model::{
        RunId, SourceKey,
        manifest::{ChunkerParameters, CodecName, Kind, Statistics},
    },
    repository::{BeginBackup, ManifestFacts, OwnedRepository},
    source::{JobContext, sqlite},
    stream::{Cancel, Entry, Progress},
};
use rusqlite::Connection;

const BLOCKS: [u32; 4] = [4 << 10, 8 << 10, 16 << 10, 32 << 10];

fn main() {
    let folder = tempfile::tempdir_in(env::var_os("BENCH_DIR").unwrap_or("/var/tmp".into())).expect("a folder");
    let database = env::var_os("BACKUPD_BENCH_SQLITE").map_or_else(|| small(folder.path()), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    println!(
        "| block | first backup | stored | chunk table | new after 1 % of the pages changed | of the first |\n|---|---|---|---|---|---|"
    );
    for block in BLOCKS {
        let scratch = folder.path().join(format!("scratch-{block}"));
        std::fs::create_dir(&scratch).expect("a scratch folder");
        let context = JobContext {
            cancel: Cancel::new(),
            progress: Arc::new(Progress::default()),
            scratch,
            runtime: runtime.handle().clone(),
        };
        let repository = folder.path().join(format!("repository-{block}"));
        let owned = OwnedRepository::create_path(&repository, CodecName::Gzip).expect("a repository");
        let began = Instant::now();
        let first = take(&owned, &database, block, &context);
        let took = began.elapsed();
        change(&database);
        let second = take(&owned, &database, block, &context);
        #[allow(clippy::cast_precision_loss, reason = "figures for people")]
        let (mb, share) = (|bytes: u64| bytes as f64 / 1e6, second.new_bytes as f64 / first.new_bytes as f64 * 100.0);
        println!(
            "| {} KiB | {:.1} s | {:.0} MB | {:.1} MB | {:.1} MB | {share:.1} % |",
            block >> 10,
            took.as_secs_f64(),
            mb(first.new_bytes),
            mb(first.chunks * Entry::LENGTH as u64),
            mb(second.new_bytes)
        );
        std::fs::remove_dir_all(&repository).expect("remove the repository");
    }
}

fn take(owned: &OwnedRepository, database: &Path, block: u32, context: &JobContext) -> Statistics {
    let request = SqliteConfig {
        path: database.to_owned(),
        check: SqliteCheck::Quick,
        lock_timeout: Duration::from_secs(10),
        read_timeout: Duration::from_secs(600),
        write_pause: Duration::from_millis(200),
    };
    let mut writer = owned
        .begin_backup(BeginBackup {
            source: SourceKey::single("bench".parse().expect("a name")),
            run_id: RunId::new(),
            whole_run: false,
            started_at: now_micros(),
            level: 1,
            chunker: ChunkerParameters::fixed(block),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            verify_members: true,
            max_size: None,
            scratch: context.scratch.clone(),
            cancel: context.cancel.clone(),
            progress: context.progress.clone(),
        })
        .expect("begin");
    let dumped = sqlite::dump(&request, &mut writer, context).expect("dump");
    let facts = ManifestFacts {
        incomplete: dumped.incomplete,
        sqlite: Some(dumped.facts),
        ..ManifestFacts::new(Kind::Sqlite, dumped.snapshot_at, dumped.database_bytes)
    };
    writer.commit(facts).expect("commit").manifest.statistics
}

/// Changes one row in each of so many places that it makes a hundredth of the pages.
fn change(database: &Path) {
    let connection = Connection::open(database).expect("open");
    let pages: u32 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("pages");
    let each = pages / 200;
    for (table, set) in
        [("documents", "body = replace(body, 'lorem', hex(randomblob(2)))"), ("orders", "amount = -amount")]
    {
        connection
            .execute_batch(&format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {each})
                 UPDATE {table} SET {set} WHERE id IN
                 (SELECT 1 + abs(random()) % (SELECT max(id) FROM {table}) FROM n)"
            ))
            .expect("change");
    }
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("checkpoint");
}

fn small(folder: &Path) -> PathBuf {
    let path = folder.join("small.db");
    let sql = include_str!("sqlite.sql").replace(":scale", "0.05");
    Connection::open(&path).and_then(|connection| connection.execute_batch(&sql)).expect("make a database");
    path
}
