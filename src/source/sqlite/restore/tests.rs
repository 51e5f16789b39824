//! Restores into folders, with everything that can stand in the way or go wrong.

mod in_place;

use std::sync::Mutex;

use nix::unistd::{User, geteuid};
use rusqlite::Connection;

use super::{
    super::test_database::{Fixture, MemorySet},
    *,
};

fn backup(fixture: &Fixture) -> MemorySet {
    fixture
        .application()
        .execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
             INSERT INTO t SELECT i, hex(randomblob(300)) FROM n; CREATE VIEW v AS SELECT id FROM t;",
        )
        .unwrap();
    fixture.dump().unwrap().1
}

fn restore(fixture: &Fixture, set: &MemorySet, to: &Path, owner: &str) -> Result<RestoreReport, SourceError> {
    let told = Mutex::new(Vec::new());
    let on_step = |step: FileStep<'_>| {
        told.lock().unwrap().push(match step {
            FileStep::Building(path) => Some((path.to_owned(), path.exists())),
            _ => None,
        });
        Ok(())
    };
    let request = RestoreRequest {
        to: to.to_owned(),
        owner: owner.to_owned(),
        replace: false,
        lock_timeout: Duration::ZERO,
        look_timeout: Duration::ZERO,
        run_id: RunId::new(),
        on_step: &on_step,
    };
    let plan = plan(&request, set, &fixture.context)?;
    let result = carry_out(&plan, &request, set, &fixture.context);
    let temporary = temporary_of(to, request.run_id);
    let told = told.lock().unwrap().clone();
    assert!(!temporary.exists());
    if plan.obstacles.is_empty() {
        assert_eq!(told, [Some((temporary, false)), None], "told before it exists, and when it is gone");
    } else {
        assert!(told.is_empty());
    }
    result
}

#[test]
fn the_file_is_what_was_backed_up() {
    let fixture = Fixture::new();
    let set = backup(&fixture);
    let to = fixture.folder.path().join("new.db");
    let report = restore(&fixture, &set, &to, "").unwrap();
    assert_eq!(
        report,
        RestoreReport { path: to.clone(), bytes: set.image.len() as u64, tables: 1, rows: 1000, kept: None }
    );
    assert_eq!(fs::read(&to).unwrap(), set.image);
    assert_eq!(fs::metadata(&to).unwrap().mode() & 0o777, 0o600);
    let restored = Connection::open(&to).unwrap();
    assert_eq!(restored.query_row("SELECT count(*) FROM v", [], |row| row.get::<_, u64>(0)), Ok(1000));
    let names: Vec<_> = fs::read_dir(fixture.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with(".backupd")), "{names:?}");
}

#[test]
fn an_owner_is_given_where_that_is_allowed() {
    let fixture = Fixture::new();
    let set = backup(&fixture);
    let own = format!("{}:{}", nix::unistd::geteuid(), nix::unistd::getegid());
    restore(&fixture, &set, &fixture.folder.path().join("own.db"), &own).unwrap();
    let to = fixture.folder.path().join("nobody.db");
    let given = restore(&fixture, &set, &to, "nobody");
    if geteuid().is_root() {
        given.unwrap();
        let nobody = User::from_name("nobody").unwrap().unwrap();
        let metadata = fs::metadata(&to).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (nobody.uid.as_raw(), nobody.gid.as_raw()));
    } else {
        assert_eq!(given.unwrap_err().code(), ErrorCode::RestoreRefused);
        assert!(!to.exists());
    }
    for unknown in ["no-such-user-here", ":x", "nobody:no-such-group-here"] {
        let error = restore(&fixture, &set, &fixture.folder.path().join("x.db"), unknown).unwrap_err();
        assert_eq!(error.code(), ErrorCode::RestoreRefused, "{unknown:?}: {error}");
    }
}

#[test]
fn what_stands_in_the_way_is_said_before_anything_is_touched() {
    let fixture = Fixture::new();
    let set = backup(&fixture);
    let folder = fixture.folder.path();
    fs::write(folder.join("there.db"), "precious").unwrap();
    std::os::unix::fs::symlink("nowhere", folder.join("link.db")).unwrap();
    fs::write(folder.join("old.db-wal"), "").unwrap();
    let cases = [
        ("there.db", ErrorCode::TargetExists),
        ("link.db", ErrorCode::TargetExists),
        ("old.db", ErrorCode::RestoreRefused),
        ("app.db-wal", ErrorCode::RestoreRefused),
        ("no/such.db", ErrorCode::RestoreRefused),
        ("there.db/x", ErrorCode::RestoreRefused),
    ];
    for (name, code) in cases {
        let error = restore(&fixture, &set, &folder.join(name), "").unwrap_err();
        assert_eq!(error.code(), code, "{name}: {error}");
    }
    assert_eq!(fs::read(folder.join("there.db")).unwrap(), b"precious");
}

#[test]
fn damage_leaves_nothing() {
    let fixture = Fixture::new();
    let mut set = backup(&fixture);
    let to = fixture.folder.path().join("new.db");
    set.fails_at = Some(100_000);
    let error = restore(&fixture, &set, &to, "").unwrap_err();
    assert!(error.to_string().contains("does not match its hash"), "{error}");
    assert!(!to.exists());

    // What no hash of a chunk could find: the counts are not those of the image.
    set.fails_at = None;
    set.manifest.as_mut().unwrap().files[0].tables[0].rows += 1;
    let error = restore(&fixture, &set, &to, "").unwrap_err();
    assert_eq!(error.code(), ErrorCode::RestoreMismatch);
    assert!(error.to_string().contains("table t had 1001 rows and has 1000"), "{error}");
    set.manifest.as_mut().unwrap().files[0].tables[0].rows -= 1;
    set.image[8192..9000].fill(0xaa);
    let error = restore(&fixture, &set, &to, "").unwrap_err();
    assert_eq!(error.code(), ErrorCode::RestoreMismatch, "{error}");
    assert!(!to.exists());
}

#[test]
fn a_cancel_leaves_nothing() {
    let fixture = Fixture::new();
    let set = backup(&fixture);
    fixture.context.cancel.cancel(crate::stream::CancelReason::Requested);
    let to = fixture.folder.path().join("new.db");
    assert_eq!(restore(&fixture, &set, &to, "").unwrap_err().code(), ErrorCode::Canceled);
    assert!(!to.exists());
}
