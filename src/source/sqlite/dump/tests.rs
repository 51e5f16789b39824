//! Dumps of databases that are in use, broken, locked or no databases at all.

use std::{
    fs,
    io::{self, Read as _, Seek as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::{
    super::test_database::{Fixture, MemorySet},
    *,
};
use crate::{
    config::SqliteCheck,
    model::Name,
    stream::{ByteSink, Cut},
};

fn wal_database(fixture: &Fixture, rows: u32) -> Connection {
    let application = fixture.application();
    application
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA application_id = 77; PRAGMA user_version = 5;
             CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT); CREATE INDEX i ON t(body);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             INSERT INTO t SELECT i, hex(randomblob(200)) FROM n;"
        ))
        .unwrap();
    application
}

fn count(connection: &Connection) -> u64 {
    connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

fn integrity(connection: &Connection) -> String {
    connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_writer_goes_on_and_the_image_is_one_state() {
    let fixture = Fixture::new();
    let application = wal_database(&fixture, 2000);
    let application = std::sync::Mutex::new(application);
    let mut written = 0;
    let sink = MemorySet {
        on_write: Some(Box::new(move |_| {
            let application = application.lock().unwrap();
            application.execute_batch("DELETE FROM t WHERE id % 3 = 0; INSERT INTO t(body) VALUES ('late')").unwrap();
            written += 1;
            assert!(written < 100);
        })),
        ..MemorySet::default()
    };
    let (dumped, set) = fixture.dump_with(&fixture.request(), sink).unwrap();
    let facts = &dumped.facts;
    assert_eq!((facts.journal_mode.as_str(), facts.checked_by.as_str()), ("wal", "quick_check"));
    assert_eq!((facts.application_id, facts.user_version, facts.encoding.as_str()), (77, 5, "UTF-8"));
    assert_eq!(facts.pages * u64::from(facts.page_size), set.image.len() as u64);
    assert!(facts.wal_bytes[0] > 0 && facts.wal_bytes[1] > facts.wal_bytes[0], "{:?}", facts.wal_bytes);
    assert_eq!(facts.schema.iter().map(|object| object.object_type.as_str()).collect::<Vec<_>>(), ["table", "index"]);
    assert_eq!(set.rows("t"), Some(2000));
    let image = set.open(&fixture.folder.path().join("image.db"));
    assert_eq!((count(&image), integrity(&image).as_str()), (2000, "ok"));
    assert_ne!(count(&fixture.application()), 2000, "the writer wrote");
}

#[test]
fn what_was_committed_is_in_the_image_wherever_it_lies() {
    // In the log only, checkpointed, and with nobody there who has the database open.
    for (checkpoint, closed) in [(false, false), (true, false), (false, true)] {
        let fixture = Fixture::new();
        let application = wal_database(&fixture, 300);
        if checkpoint {
            application.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        }
        let application = (!closed).then_some(application);
        let (_, set) = fixture.dump().unwrap();
        let image = set.open(&fixture.folder.path().join("image.db"));
        assert_eq!((count(&image), integrity(&image).as_str()), (300, "ok"));
        drop(application);
        let left: Vec<_> = ["-wal", "-shm"].iter().map(|s| fixture.folder.path().join(format!("app.db{s}"))).collect();
        assert!(left.iter().all(|file| !file.exists()), "what was made beside the database is taken away: {left:?}");
    }
}

#[test]
fn a_rollback_journal_database_is_copied_between_its_writers() {
    let fixture = Fixture::new();
    let application = fixture.application();
    application
        .execute_batch(
            "PRAGMA page_size = 1024; PRAGMA encoding = 'UTF-16le'; PRAGMA auto_vacuum = INCREMENTAL;
             CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT) STRICT;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
             INSERT INTO t SELECT i, hex(randomblob(200)) FROM n;",
        )
        .unwrap();
    let (dumped, set) = fixture.dump().unwrap();
    let facts = &dumped.facts;
    assert_eq!((facts.journal_mode.as_str(), facts.encoding.as_str()), ("rollback", "UTF-16le"));
    assert_eq!((facts.auto_vacuum.as_str(), facts.page_size), ("incremental", 1024));
    assert_eq!(set.rows("t"), Some(3000));
    assert_eq!(integrity(&set.open(&fixture.folder.path().join("image.db"))), "ok");
    assert_eq!(fs::read_dir(&fixture.context.scratch).unwrap().count(), 0, "the copy is gone");
}

#[test]
fn a_writer_that_never_rests_is_told_from_success() {
    let fixture = Fixture::new();
    fixture
        .application()
        .execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, body); INSERT INTO t VALUES (1, zeroblob(40000000))")
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, application) = (stop.clone(), fixture.application());
    application.busy_timeout(Duration::from_secs(10)).unwrap();
    let writer = thread::spawn(move || {
        let mut writes = 0;
        while !stopped.load(Ordering::Relaxed) {
            application.execute_batch("INSERT INTO t(body) VALUES (1)").unwrap();
            writes += 1;
        }
        writes
    });
    let mut request = DumpRequest { write_pause: Duration::from_millis(1), ..fixture.request() };
    request.lock_timeout = Duration::from_secs(30);
    let error = fixture.dump_with(&request, MemorySet::default()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::DatabaseBusy, "{error}");
    assert!(error.to_string().contains("write_pause"), "{error}");
    assert_eq!(fs::read_dir(&fixture.context.scratch).map(|left| left.count() <= 1).ok(), Some(true));
    request.write_pause = Duration::from_secs(20);
    let _ = fs::remove_file(fixture.context.scratch.join("copy.sqlite"));
    let (_, set) = fixture.dump_with(&request, MemorySet::default()).unwrap();
    stop.store(true, Ordering::Relaxed);
    assert!(writer.join().unwrap() > 1, "the writer got its turn");
    assert_eq!(integrity(&set.open(&fixture.folder.path().join("image.db"))), "ok");
}

#[test]
fn what_a_dead_writer_left_is_rolled_back() {
    let fixture = Fixture::new();
    let application = fixture.application();
    application
        .execute_batch(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, body); PRAGMA cache_size = 5;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
             INSERT INTO t SELECT i, zeroblob(2000) FROM n;
             BEGIN; UPDATE t SET body = randomblob(2000);",
        )
        .unwrap();
    // The files as they are after a kill: pages of the transaction are in the database, and the journal is hot.
    let dead = Fixture::new();
    for suffix in ["", "-journal"] {
        fs::copy(
            fixture.folder.path().join(format!("app.db{suffix}")),
            dead.folder.path().join(format!("app.db{suffix}")),
        )
        .unwrap();
    }
    application.execute_batch("ROLLBACK").unwrap();
    let (_, set) = dead.dump().unwrap();
    let image = set.open(&dead.folder.path().join("image.db"));
    assert_eq!((count(&image), integrity(&image).as_str()), (500, "ok"));
    let changed: u64 =
        image.query_row("SELECT count(*) FROM t WHERE body <> zeroblob(2000)", [], |row| row.get(0)).unwrap();
    assert_eq!(changed, 0);
}

#[test]
fn each_kind_of_trouble_has_its_own_error() {
    let fixture = Fixture::new();
    let path = fixture.path();
    let code = |fixture: &Fixture| {
        let early = preflight(&fixture.request(), &fixture.context).err().map(|error| error.code());
        let error = fixture.dump().map(|_| ()).unwrap_err();
        assert!(early.is_none_or(|early| early == error.code()), "{error}");
        (early.is_some(), error.code())
    };
    assert_eq!(code(&fixture), (true, ErrorCode::NoSuchDatabase));
    fs::create_dir(&path).unwrap();
    assert_eq!(code(&fixture), (true, ErrorCode::NotADatabase));
    fs::remove_dir(&path).unwrap();
    fs::write(&path, "id,name\n1,Anna\n".repeat(1000)).unwrap();
    assert_eq!(code(&fixture), (true, ErrorCode::NotADatabase));
    let mut noise = vec![0; 16 << 10];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    fs::write(&path, &noise).unwrap();
    assert_eq!(code(&fixture), (true, ErrorCode::DatabaseEncrypted));

    fs::remove_file(&path).unwrap();
    let application = wal_database(&fixture, 3000);
    application.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(application);
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[40_960..45_056].fill(0xaa);
    fs::write(&path, &damaged).unwrap();
    assert_eq!(code(&fixture), (false, ErrorCode::DatabaseCorrupt), "only reading all of it finds this");
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(code(&fixture).1, ErrorCode::DatabaseCorrupt);

    fs::write(&path, &whole).unwrap();
    let application = fixture.application();
    application.execute_batch("PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE").unwrap();
    assert_eq!(code(&fixture), (true, ErrorCode::DatabaseBusy));
    application.execute_batch("COMMIT; BEGIN IMMEDIATE").unwrap();
    fixture.dump().expect("a writer that has not begun to write into the database is no hindrance");
}

#[test]
fn the_deeper_check_finds_more() {
    let fixture = Fixture::new();
    let application = fixture.application();
    application
        .execute_batch(
            "CREATE TABLE t(a); CREATE INDEX i ON t(a); INSERT INTO t VALUES (1), (2); PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = 'CREATE INDEX i ON t(a DESC)' WHERE name = 'i';",
        )
        .unwrap();
    drop(application);
    fixture.dump().expect("quick_check does not compare indexes with their tables");
    let request = DumpRequest { check: SqliteCheck::Integrity, ..fixture.request() };
    let error = fixture.dump_with(&request, MemorySet::default()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::DatabaseCorrupt);
    assert!(error.to_string().contains("integrity_check says"), "{error}");
}

#[test]
fn an_empty_file_is_an_empty_database() {
    let fixture = Fixture::new();
    fs::write(fixture.path(), "").unwrap();
    let (dumped, set) = fixture.dump().unwrap();
    assert_eq!((dumped.facts.pages, dumped.facts.schema.len(), set.tables.len()), (1, 0, 0));
    assert_eq!(integrity(&set.open(&fixture.folder.path().join("image.db"))), "ok");
}

#[test]
fn a_cancel_and_the_time_of_the_transaction_end_it() {
    let fixture = Fixture::new();
    let _application = wal_database(&fixture, 3000);
    let request = DumpRequest { read_timeout: Duration::from_millis(1), ..fixture.request() };
    let slow =
        || MemorySet { on_write: Some(Box::new(|_| thread::sleep(Duration::from_millis(5)))), ..MemorySet::default() };
    let error = fixture.dump_with(&request, slow()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::TimedOut);
    assert!(error.to_string().contains("read_timeout"), "{error}");
    let cancel = fixture.context.cancel.clone();
    let canceling =
        MemorySet { on_write: Some(Box::new(move |_| cancel.cancel(CancelReason::Requested))), ..MemorySet::default() };
    let error = fixture.dump_with(&fixture.request(), canceling).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Canceled);
}

#[test]
fn a_path_may_have_any_bytes_and_be_a_link() {
    let fixture = Fixture::new();
    let real = fixture.folder.path().join("a ?b%20#'\"\n.db");
    Connection::open(&real).unwrap().execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t(x)").unwrap();
    std::os::unix::fs::symlink(&real, fixture.path()).unwrap();
    let (dumped, set) = fixture.dump().unwrap();
    assert_eq!(set.rows("t"), Some(0));
    assert_eq!(dumped.facts.path, Name::from(fixture.path().to_str().unwrap()));
}

/// Compares what is written with a file.
struct Comparing {
    file: fs::File,
    buffer: Vec<u8>,
    length: u64,
}

impl ByteSink for Comparing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.resize(bytes.len(), 0);
        self.file.read_exact(&mut self.buffer)?;
        assert!(self.buffer == bytes, "after {} bytes", self.length);
        self.length += bytes.len() as u64;
        Ok(())
    }
    fn cut(&mut self, _: Cut) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_database_beyond_the_page_with_the_lock_bytes_comes_whole() {
    let fixture = Fixture::new();
    let application = fixture.application();
    application
        .execute_batch(
            "PRAGMA page_size = 65536; PRAGMA synchronous = OFF; CREATE TABLE t(id INTEGER PRIMARY KEY, body);
             INSERT INTO t VALUES (1, zeroblob(600000000)), (2, zeroblob(600000000)), (3, 'behind it');",
        )
        .unwrap();
    drop(application);
    let copy = open_copy(&fixture.path(), &fixture.context.cancel).unwrap();
    begin(&copy).unwrap();
    let facts = Facts::read(&copy).unwrap();
    assert!(facts.bytes() > 1 << 30);
    let mut file = fs::File::open(fixture.path()).unwrap();
    file.rewind().unwrap();
    let mut sink = Comparing { file, buffer: Vec::new(), length: 0 };
    pages::copy(&copy, facts.pages, facts.page_size, &mut sink, &fixture.context.cancel, None).unwrap();
    assert_eq!(sink.length, fs::metadata(fixture.path()).unwrap().len());
}
