//! What every storage must do, as one suite.

use super::{Object, PutMode, Storage, StorageErrorKind};

/// Runs the suite on an empty storage.
pub(crate) fn suite(storage: &dyn Storage) {
    objects(storage);
    modes(storage);
    uploads(storage);
    listings(storage);
    hostile_keys(storage);
    locks(storage);
    assert!(storage.list("").unwrap().is_empty(), "the suite leaves nothing");
}

fn objects(storage: &dyn Storage) {
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
    storage.put("a/one", &bytes, PutMode::Overwrite).unwrap();
    assert_eq!(storage.get("a/one").unwrap(), bytes);
    assert_eq!(storage.size("a/one").unwrap(), 100_000);
    assert_eq!(storage.get_range("a/one", 99_990, 10).unwrap(), bytes[99_990..]);
    assert_eq!(storage.get_range("a/one", 5, 0).unwrap(), b"");
    assert!(storage.get_range("a/one", 99_991, 10).unwrap_err().is_not_found());
    storage.delete("a/one").unwrap();
    storage.delete("a/one").unwrap();
    assert!(storage.get("a/one").unwrap_err().is_not_found());
    assert!(storage.get_range("a/one", 0, 1).unwrap_err().is_not_found());
    assert!(storage.size("a/one").unwrap_err().is_not_found());
    storage.put("empty", b"", PutMode::IfAbsent).unwrap();
    assert_eq!(storage.get("empty").unwrap(), b"");
    storage.delete("empty").unwrap();
}

fn modes(storage: &dyn Storage) {
    storage.put("m", b"1", PutMode::IfAbsent).unwrap();
    assert_eq!(storage.put("m", b"2", PutMode::IfAbsent).unwrap_err().kind, StorageErrorKind::AlreadyExists);
    assert_eq!(storage.get("m").unwrap(), b"1");
    storage.put("m", b"3", PutMode::Overwrite).unwrap();
    assert_eq!(storage.get("m").unwrap(), b"3");
    storage.delete("m").unwrap();
}

fn uploads(storage: &dyn Storage) {
    let mut upload = storage.upload().unwrap();
    upload.write(b"first ").unwrap();
    assert!(storage.list("").unwrap().is_empty(), "an upload is invisible");
    upload.write(b"second").unwrap();
    upload.publish("packs/ab/x.gz").unwrap();
    assert_eq!(storage.get("packs/ab/x.gz").unwrap(), b"first second");
    // The same content again, as a retry does.
    let mut again = storage.upload().unwrap();
    again.write(b"first second").unwrap();
    again.publish("packs/ab/x.gz").unwrap();
    let mut abandoned = storage.upload().unwrap();
    abandoned.write(b"lost").unwrap();
    drop(abandoned);
    storage.sweep().unwrap();
    assert_eq!(storage.list("").unwrap(), [Object { key: "packs/ab/x.gz".into(), size: 12 }]);
    storage.delete("packs/ab/x.gz").unwrap();
}

fn listings(storage: &dyn Storage) {
    assert!(storage.list("").unwrap().is_empty());
    assert!(storage.list("none/").unwrap().is_empty());
    for key in ["l/b", "l/a/2", "l/a/1", "lx"] {
        storage.put(key, key.as_bytes(), PutMode::Overwrite).unwrap();
    }
    let keys = |prefix| storage.list(prefix).unwrap().into_iter().map(|o| o.key).collect::<Vec<_>>();
    assert_eq!(keys("l/"), ["l/a/1", "l/a/2", "l/b"]);
    assert_eq!(keys("l/a/"), ["l/a/1", "l/a/2"]);
    assert_eq!(keys(""), ["l/a/1", "l/a/2", "l/b", "lx"]);
    for key in keys("") {
        storage.delete(&key).unwrap();
    }
}

fn hostile_keys(storage: &dyn Storage) {
    for key in ["", "/etc/passwd", "../x", "a/../x", "a//b", "a/", ".", "a/.hidden", "a\0b"] {
        assert!(storage.put(key, b"x", PutMode::Overwrite).is_err(), "{key:?} was accepted");
        assert!(storage.get(key).is_err());
        assert!(storage.delete(key).is_err());
    }
    for key in ["a b", "ü%2F'\"\\$(x)\n*", "-rf"] {
        storage.put(key, b"x", PutMode::Overwrite).unwrap();
        assert_eq!(storage.list("").unwrap(), [Object { key: key.into(), size: 1 }]);
        storage.delete(key).unwrap();
    }
}

fn locks(storage: &dyn Storage) {
    let lease = storage.lock("the first owner").unwrap();
    let error = storage.lock("the second").unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::Locked);
    assert!(error.to_string().contains("the first owner"), "{error}");
    drop(lease);
    drop(storage.lock("the second").unwrap());
}
