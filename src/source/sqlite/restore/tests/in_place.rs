//! Restores into files that are in use, and the way back.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{
    super::super::test_database::{Fixture, MemorySet},
    *,
};
use crate::stream::{Cancel, CancelReason};

const MODES: [&str; 2] = ["WAL", "DELETE"];
const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(20);

/// A database in a journal mode with a backup of it, and what was written since.
struct Changed {
    fixture: Fixture,
    set: MemorySet,
}

fn sum(connection: &Connection) -> (u64, u64) {
    connection.query_row("SELECT count(*), coalesce(max(id), 0) FROM t", [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap()
}

fn mode_of(connection: &Connection) -> String {
    connection.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0)).unwrap().to_uppercase()
}

impl Changed {
    fn new(mode: &str, settings: &str) -> Self {
        let fixture = Fixture::new();
        fixture
            .application()
            .execute_batch(&format!(
                "{settings}; PRAGMA journal_mode = {mode}; CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
                 INSERT INTO t SELECT i, hex(randomblob(300)) FROM n;"
            ))
            .unwrap();
        let set = fixture.dump().unwrap().1;
        Self { fixture, set }
    }

    fn change(&self) {
        self.fixture
            .application()
            .execute_batch("DELETE FROM t WHERE id > 10; INSERT INTO t VALUES (5000, 'new'); CREATE TABLE u(x)")
            .unwrap();
    }

    fn request<'a>(
        &self,
        lock_timeout: Duration,
        on_step: &'a (dyn Fn(FileStep<'_>) -> Result<(), SourceError> + Sync),
    ) -> RestoreRequest<'a> {
        RestoreRequest {
            to: self.fixture.path(),
            owner: String::new(),
            replace: true,
            lock_timeout,
            look_timeout: lock_timeout,
            run_id: RunId::new(),
            on_step,
        }
    }

    fn plan(&self) -> RestorePlan {
        plan(&self.request(SHORT, &|_| Ok(())), &self.set, &self.fixture.context).unwrap()
    }

    fn restore(&self, lock_timeout: Duration) -> Result<FileSwap, SourceError> {
        let swapped = Mutex::new(None);
        let note = |step: FileStep<'_>| {
            if let FileStep::Swapped(swap) = step {
                *swapped.lock().unwrap() = Some(swap.clone());
            }
            Ok(())
        };
        let request = self.request(lock_timeout, &note);
        let plan = plan(&request, &self.set, &self.fixture.context)?;
        let report = carry_out(&plan, &request, &self.set, &self.fixture.context)?;
        let swap = swapped.lock().unwrap().clone().unwrap();
        assert_eq!(report.kept.as_ref(), Some(&swap.kept));
        assert!(!swap.incoming.exists());
        Ok(swap)
    }

    /// The files in the folder, but for the database and what SQLite keeps beside it.
    fn others(&self) -> Vec<String> {
        let names = fs::read_dir(self.fixture.folder.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.starts_with("app.db") && name != "scratch").collect()
    }
}

#[test]
fn an_application_that_has_it_open_goes_on_with_what_was_restored() {
    for (mode, of_the_backup) in [("WAL", "WAL"), ("DELETE", "DELETE"), ("WAL", "DELETE"), ("DELETE", "WAL")] {
        let it = Changed::new(of_the_backup, "");
        it.fixture.application().execute_batch(&format!("PRAGMA journal_mode = {mode}")).unwrap();
        let path = it.fixture.path();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let file = File::open(&path).unwrap();
        let labelled = rustix::fs::fsetxattr(&file, "user.label", b"x", rustix::fs::XattrFlags::empty()).is_ok();
        drop(file);
        it.change();
        let application = it.fixture.application();
        let mut statement = application.prepare("SELECT count(*) FROM t").unwrap();
        assert_eq!(statement.query_row([], |row| row.get(0)), Ok(11));
        let before = fs::metadata(&path).unwrap();

        let swap = it.restore(LONG).unwrap();
        assert_eq!(statement.query_row([], |row| row.get(0)), Ok(1000), "{mode}");
        drop(statement);
        assert!(application.execute_batch("SELECT * FROM u").is_err(), "the table is gone for it, too");
        application.execute_batch("INSERT INTO t VALUES (6000, 'later')").unwrap();
        assert_eq!(mode_of(&application), mode, "of a backup in mode {of_the_backup}");
        assert_eq!(sum(&it.fixture.application()), (1001, 6000));
        let after = fs::metadata(&path).unwrap();
        let identity = |m: &fs::Metadata| (m.dev(), m.ino(), m.uid(), m.gid(), m.mode());
        assert_eq!(identity(&before), identity(&after));
        let mut label = [0; 8];
        assert!(!labelled || rustix::fs::getxattr(&path, "user.label", &mut label[..]) == Ok(1));

        assert_eq!(fs::metadata(&swap.kept).unwrap().mode() & 0o777, 0o600);
        let kept = it.fixture.folder.path().join("scratch/kept.db");
        fs::copy(&swap.kept, &kept).unwrap();
        let kept = Connection::open(kept).unwrap();
        assert_eq!(sum(&kept), (11, 5000));
        kept.execute_batch("SELECT * FROM u").unwrap();

        // And back, and back again.
        let back = swap.reversed(RunId::new());
        exchange(&back, LONG, &Cancel::new()).unwrap();
        assert_eq!(settle(&back, LONG).unwrap(), Settled::Swapped);
        finish(&back).unwrap();
        assert_eq!(sum(&application), (11, 5000));
        assert_eq!(mode_of(&application), mode);
        let again = back.reversed(RunId::new());
        exchange(&again, LONG, &Cancel::new()).unwrap();
        finish(&again).unwrap();
        assert_eq!(sum(&application), (1001, 6000));
        assert_eq!(
            application.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)),
            Ok("ok".to_owned())
        );
        assert_eq!(it.others().len(), 1, "{:?}", it.others());
        drop_kept(&again).unwrap();
        assert_eq!(it.others(), Vec::<String>::new());
    }
}

/// Every transaction of a writer is either in what was kept or in what is there afterwards.
#[test]
fn no_commit_falls_between_what_is_kept_and_what_is_written() {
    for mode in MODES {
        let it = Changed::new(mode, "");
        for _ in 0..3 {
            let stop = Arc::new(AtomicBool::new(false));
            let (stopped, connection) = (stop.clone(), it.fixture.application());
            connection.busy_timeout(LONG).unwrap();
            let first = sum(&connection).1 + 1;
            let writer = std::thread::spawn(move || {
                let mut id = first;
                while !stopped.load(Ordering::Relaxed) {
                    connection.execute("INSERT INTO t VALUES (?1, 'w')", [id]).unwrap();
                    id += 1;
                    // A writer that never pauses lets nobody else get the lock of a rollback journal.
                    std::thread::yield_now();
                }
                id - 1
            });
            let reader = it.fixture.application();
            reader.busy_timeout(LONG).unwrap();
            while sum(&reader).1 < first + 5 {}
            let swap = it.restore(LONG).unwrap();
            let at_least = sum(&reader).1;
            while sum(&reader).1 < at_least + 5 {}
            stop.store(true, Ordering::Relaxed);
            let last = writer.join().unwrap();
            let kept = open_kept(&swap);
            let (kept_rows, kept_last) = sum(&kept);
            assert_eq!(kept_rows, 1000 + kept_last + 1 - first, "mode {mode}");
            let after: u64 =
                reader.query_row("SELECT count(*) FROM t WHERE id > ?1", [kept_last], |row| row.get(0)).unwrap();
            assert_eq!(after, last - kept_last, "mode {mode}: from {first}, kept to {kept_last}, written to {last}");
            assert_eq!(sum(&reader).0, 1000 + after);
            drop_kept(&swap).unwrap();
            reader.execute_batch("DELETE FROM t WHERE id > 1000").unwrap();
        }
    }
}

fn open_kept(swap: &FileSwap) -> Connection {
    super::super::super::connection::open_copy(&swap.kept, &Cancel::new()).unwrap()
}

#[test]
fn who_does_not_let_go_is_waited_for_and_nothing_is_changed() {
    for (mode, held) in
        [("DELETE", "BEGIN; SELECT * FROM t"), ("DELETE", "BEGIN IMMEDIATE"), ("WAL", "BEGIN IMMEDIATE")]
    {
        let it = Changed::new(mode, "");
        it.change();
        let holder = it.fixture.application();
        holder.execute_batch(held).unwrap();
        let began = std::time::Instant::now();
        let error = it.restore(SHORT).unwrap_err();
        assert_eq!(error.code(), ErrorCode::DatabaseBusy, "{mode} {held}: {error}");
        assert!(began.elapsed() >= SHORT && began.elapsed() < SHORT * 20, "{:?}", began.elapsed());
        holder.execute_batch("COMMIT").unwrap();
        assert_eq!(sum(&holder), (11, 5000));
        assert_eq!(it.others(), Vec::<String>::new());
        it.restore(SHORT).unwrap();
    }
    // In WAL mode readers are no hindrance, and keep what they see.
    let it = Changed::new("WAL", "");
    it.change();
    let reader = it.fixture.application();
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(sum(&reader).0, 11);
    it.restore(SHORT).unwrap();
    assert_eq!(sum(&reader).0, 11);
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(sum(&reader).0, 1000);
}

#[test]
fn pages_of_another_size() {
    for mode in MODES {
        let it = Changed::new(mode, "PRAGMA page_size = 1024");
        let resize = |size: u32| {
            it.fixture
                .application()
                .execute_batch(&format!(
                    "PRAGMA journal_mode = DELETE; PRAGMA page_size = {size}; VACUUM; PRAGMA journal_mode = {mode}"
                ))
                .unwrap();
        };
        for size in [512, 8192] {
            resize(size);
            it.change();
            if mode == "WAL" {
                let application = it.fixture.application();
                assert_eq!(sum(&application).1, 5000);
                assert!(it.plan().notices.iter().any(|notice| notice.what == "page-size"));
                let error = it.restore(SHORT).unwrap_err();
                assert_eq!(error.code(), ErrorCode::DatabaseBusy, "{error}");
                assert!(error.to_string().contains("stop its application"), "{error}");
                assert_eq!((mode_of(&application).as_str(), sum(&application).1), ("WAL", 5000));
                assert_eq!(it.others(), Vec::<String>::new());
            }
            let swap = it.restore(SHORT).unwrap();
            let application = it.fixture.application();
            assert_eq!((mode_of(&application).as_str(), sum(&application)), (mode, (1000, 1000)));
            assert_eq!(application.query_row("PRAGMA page_size", [], |row| row.get(0)), Ok(1024));
            drop(application);
            let back = swap.reversed(RunId::new());
            exchange(&back, SHORT, &Cancel::new()).unwrap();
            finish(&back).unwrap();
            let application = it.fixture.application();
            assert_eq!((mode_of(&application).as_str(), sum(&application)), (mode, (11, 5000)));
            assert_eq!(application.query_row("PRAGMA page_size", [], |row| row.get(0)), Ok(size));
            application.execute_batch("DROP TABLE u; PRAGMA integrity_check").unwrap();
            drop_kept(&back).unwrap();
        }
    }
}

#[test]
fn a_plan_says_what_is_lost() {
    for mode in MODES {
        let it = Changed::new(mode, "");
        it.change();
        let replaced = it.plan().replaces.unwrap();
        assert!(replaced.is_database && replaced.is_wal == (mode == "WAL") && replaced.bytes > 100_000);
        let told: Vec<_> =
            replaced.changed_tables.iter().map(|t| (t.name.display(), t.rows_now, t.rows_in_backup)).collect();
        assert_eq!(told, [("t".to_owned(), Some(11), Some(1000)), ("u".to_owned(), Some(0), None)]);
        let mut request = it.request(SHORT, &|_| Ok(()));
        request.owner = nix::unistd::geteuid().to_string();
        let refused = plan(&request, &it.set, &it.fixture.context).unwrap();
        assert_eq!(refused.obstacles.iter().map(|o| o.what).collect::<Vec<_>>(), ["owner"]);
        fs::remove_file(it.fixture.path()).unwrap();
        std::os::unix::fs::symlink("nowhere", it.fixture.path()).unwrap();
        let refused = plan(&it.request(SHORT, &|_| Ok(())), &it.set, &it.fixture.context).unwrap();
        assert_eq!(refused.obstacles[0].what, "target-exists");
    }
}

#[test]
fn a_link_is_followed() {
    let it = Changed::new("WAL", "");
    it.change();
    let real = it.fixture.folder.path().join("scratch/real.db");
    fs::rename(it.fixture.path(), &real).unwrap();
    std::os::unix::fs::symlink(&real, it.fixture.path()).unwrap();
    let swap = it.restore(SHORT).unwrap();
    assert_eq!((swap.path.as_path(), swap.kept.parent()), (real.as_path(), real.parent()));
    assert!(it.fixture.path().is_symlink());
    assert_eq!(sum(&it.fixture.application()), (1000, 1000));
}

#[test]
fn what_is_damaged_is_replaced_and_kept_as_it_is() {
    // A page of the table; the schema itself; the end of the file.
    type Damage = fn(&mut Vec<u8>);
    let damages: [Damage; 3] =
        [|file| file[8192..9000].fill(0x5a), |file| file[100..3000].fill(0x5a), |file| file.truncate(40_960)];
    for mode in MODES {
        for (number, damage) in damages.iter().enumerate() {
            let it = Changed::new(mode, "");
            let mut bytes = fs::read(it.fixture.path()).unwrap();
            damage(&mut bytes);
            fs::write(it.fixture.path(), &bytes).unwrap();
            let swap = it.restore(SHORT).unwrap_or_else(|error| panic!("{mode} {number}: {error}"));
            assert_eq!(sum(&it.fixture.application()), (1000, 1000));
            assert!(fs::read(&swap.kept).unwrap() == bytes, "{mode} {number}");
            let back = swap.reversed(RunId::new());
            exchange(&back, SHORT, &Cancel::new()).unwrap_or_else(|error| panic!("{mode} {number}: {error}"));
            assert_eq!(settle(&back, SHORT).unwrap(), Settled::Swapped, "{mode} {number}");
        }
    }
}

#[test]
fn what_is_no_database_is_kept_as_the_file_that_it_is() {
    let it = Changed::new("DELETE", "");
    let path = it.fixture.path();
    fs::write(&path, "precious".repeat(100)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    let before = fs::metadata(&path).unwrap().ino();
    assert!(!it.plan().replaces.unwrap().is_database);
    let swap = it.restore(SHORT).unwrap();
    assert_eq!(sum(&it.fixture.application()), (1000, 1000));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o604);
    assert_eq!(
        (fs::metadata(&swap.kept).unwrap().ino(), fs::read(&swap.kept).unwrap()),
        (before, "precious".repeat(100).into_bytes())
    );
    // The way back would take the file from who has it open.
    it.fixture.application().execute_batch("PRAGMA journal_mode = WAL; INSERT INTO t VALUES (2000, '')").unwrap();
    let application = it.fixture.application();
    assert_eq!(sum(&application), (1001, 2000));
    let back = swap.reversed(RunId::new());
    assert_eq!(exchange(&back, SHORT, &Cancel::new()).unwrap_err().code(), ErrorCode::DatabaseBusy);
    assert_eq!(settle(&back, SHORT).unwrap(), Settled::NotSwapped);
    drop(application);
    exchange(&back, SHORT, &Cancel::new()).unwrap();
    assert_eq!(settle(&back, SHORT).unwrap(), Settled::Swapped);
    assert_eq!(fs::read(&path).unwrap(), "precious".repeat(100).into_bytes());
    let again = back.reversed(RunId::new());
    exchange(&again, SHORT, &Cancel::new()).unwrap();
    assert_eq!(sum(&it.fixture.application()), (1001, 2000));
}

#[test]
fn an_empty_file_is_a_database_without_tables() {
    let it = Changed::new("DELETE", "");
    fs::write(it.fixture.path(), "").unwrap();
    let before = fs::metadata(it.fixture.path()).unwrap().ino();
    let swap = it.restore(SHORT).unwrap();
    assert_eq!(sum(&it.fixture.application()), (1000, 1000));
    assert_eq!(fs::metadata(it.fixture.path()).unwrap().ino(), before);
    assert_eq!(kept_size(&swap), Some(0));
    assert_eq!(settle(&swap, SHORT).unwrap(), Settled::Swapped);
    let back = swap.reversed(RunId::new());
    exchange(&back, SHORT, &Cancel::new()).unwrap();
    let tables: u64 =
        it.fixture.application().query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 0);
}

#[test]
fn a_swap_that_did_not_happen_leaves_nothing() {
    for mode in MODES {
        let it = Changed::new(mode, "");
        it.change();
        let incoming = it.fixture.folder.path().join("incoming");
        fs::write(&incoming, &it.set.image).unwrap();
        let swap = FileSwap::new(&it.fixture.path(), incoming, Way::Overwrite, mode == "WAL", RunId::new());
        assert_eq!(settle(&swap, SHORT).unwrap(), Settled::NotSwapped, "before anything");
        fs::write(swap.half_kept(), "half").unwrap();
        assert_eq!(settle(&swap, SHORT).unwrap(), Settled::NotSwapped, "while it was copied");
        assert!(!swap.half_kept().exists());
        // It was copied whole, and the application went on without changing its schema.
        let now = match mode {
            "WAL" => it.fixture.dump().unwrap().1.image,
            _ => fs::read(it.fixture.path()).unwrap(),
        };
        fs::write(&swap.kept, now).unwrap();
        it.fixture.application().execute_batch("INSERT INTO t VALUES (7000, '')").unwrap();
        assert_eq!(settle(&swap, SHORT).unwrap(), Settled::NotSwapped, "before the commit");
        assert!(!swap.kept.exists());
        // A database that was being given another page size says WAL again.
        it.fixture.application().execute_batch("PRAGMA journal_mode = DELETE").unwrap();
        settle(&swap, SHORT).unwrap();
        assert_eq!(mode_of(&it.fixture.application()), mode);
        // What is there is neither taken for a copy nor lost.
        fs::write(&swap.kept, "somebody's").unwrap();
        assert_eq!(exchange(&swap, SHORT, &Cancel::new()).unwrap_err().code(), ErrorCode::RestoreRefused);
        fs::remove_file(&swap.kept).unwrap();
        let canceled = Cancel::new();
        canceled.cancel(CancelReason::Requested);
        assert!(exchange(&swap, SHORT, &canceled).is_err());
        assert_eq!(settle(&swap, SHORT).unwrap(), Settled::NotSwapped);
        assert_eq!(sum(&it.fixture.application()), (12, 7000));
        assert_eq!(it.others(), ["incoming"]);
        // The file is gone: what was kept of it stays.
        fs::write(&swap.kept, &it.set.image).unwrap();
        fs::remove_file(it.fixture.path()).unwrap();
        assert_eq!(settle(&swap, SHORT).unwrap(), Settled::Swapped);
        assert!(objection(&swap).unwrap().contains("copy"));
    }
}
