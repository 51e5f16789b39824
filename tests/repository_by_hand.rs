//! Restoring with `restore.sh` alone: no program of ours, only a shell, coreutils and gzip (psql for one test) on PATH.
//!
//! `tests/golden/format-1` is a repository of format 1 that must be readable for ever. It was made once by
//! `cargo test --test repository_by_hand make_golden -- --ignored`; make it again only for a format of a new number,
//! in a folder of its own.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
};

use backupd::{
    model::{
        RunId, SourceKey,
        manifest::{ChunkerParameters, CodecName, FileRole, Kind},
    },
    repository::{BackupFolder, BeginBackup, ManifestFacts, OwnedRepository, Repository},
    source::SetSink as _,
    stream::Cancel,
};

/// Everything that `restore.sh` may need, but the shell and the decompressor.
const COREUTILS: &[&str] = &["cat", "head", "mkfifo", "mktemp", "rm", "sha256sum", "sort", "tail", "tee", "tr", "wc"];
const SOURCE_WITH_CHILD: &str = "a b'$(x)\n";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/format-1")
}

/// A folder with links to a few programs, to be the whole PATH.
struct Programs(tempfile::TempDir);

impl Programs {
    fn new(extra: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in COREUTILS.iter().chain(&["gzip"]).chain(extra) {
            symlink(find(name).unwrap_or_else(|| panic!("{name} is not installed")), folder.path().join(name)).unwrap();
        }
        Self(folder)
    }

    fn run(&self, shell: &[&str], repository: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new(find(shell[0]).unwrap());
        command.args(&shell[1..]).arg(repository.join("restore.sh")).args(arguments);
        command.env_clear().env("PATH", self.0.path()).env("TMPDIR", self.0.path()).stdin(Stdio::null());
        let output = command.output().unwrap();
        let left = fs::read_dir(self.0.path()).unwrap();
        let left: Vec<_> =
            left.map(|e| e.unwrap().file_name()).filter(|n| n.as_encoded_bytes().contains(&b'.')).collect();
        assert!(left.is_empty(), "temporary files are left: {left:?}");
        output
    }
}

fn find(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The shells to try: those of them that are installed.
fn shells() -> Vec<Vec<&'static str>> {
    let all: [&[&str]; 3] = [&["dash"], &["busybox", "sh"], &["bash", "--posix"]];
    all.into_iter().filter(|shell| find(shell[0]).is_some()).map(<[_]>::to_vec).collect()
}

fn rows(seed: u32, count: u32) -> String {
    (0..count).map(|n| format!("{n}\t{}\tcustomer {}\n", n.wrapping_mul(2_654_435_761 ^ seed), n % 97)).collect()
}

/// The files of the n-th backup that a test takes.
fn set(n: u32) -> Vec<(&'static str, FileRole, String)> {
    let data =
        format!("SET client_encoding = 'UTF8';\nCOPY t (a, b, c) FROM stdin;\n{}\\.\n\n", rows(0, 1500) + &rows(n, 20));
    vec![
        ("globals.sql", FileRole::Globals, "CREATE ROLE shop;\n".to_owned()),
        ("pre-data.sql", FileRole::PreData, "CREATE TABLE t (a int, b bigint, c text);\n".to_owned()),
        ("data-000.sql", FileRole::Data, data),
        ("empty.sql", FileRole::Data, String::new()),
        ("post-data.sql", FileRole::PostData, "CREATE INDEX ON t (a);\n".to_owned()),
    ]
}

fn sql(n: u32) -> String {
    let wanted = ["pre-data.sql", "data-000.sql", "post-data.sql"];
    set(n).into_iter().filter(|(name, ..)| wanted.contains(name)).map(|(_, _, text)| text).collect()
}

fn take(owned: &OwnedRepository, source: &SourceKey, scratch: &Path, n: u32) -> BackupFolder {
    let time = 1_700_000_000_000_000 + u64::from(n) * 1_000_000;
    let begin = BeginBackup {
        source: source.clone(),
        run_id: RunId::new(),
        whole_run: false,
        started_at: time,
        level: 6,
        chunker: ChunkerParameters::with_average(4096),
        threads: 1,
        verify_members: true,
        max_size: None,
        scratch: scratch.to_owned(),
        cancel: Cancel::new(),
        progress: Arc::default(),
    };
    let mut writer = owned.begin_backup(begin).unwrap();
    for (name, role, text) in set(n) {
        writer.begin_file(name, role).unwrap();
        writer.bytes().write(text.as_bytes()).unwrap();
        writer.end_file(Vec::new()).unwrap();
    }
    let facts = ManifestFacts {
        kind: Kind::Logical,
        snapshot_at: time,
        description: "hostile, \"extents_sha256\":\"00\",\nsecond line".to_owned(),
        tags: vec![",\"extents_sha256\":\"00\"".to_owned()],
        incomplete: Vec::new(),
        postgresql: None,
        sqlite: None,
        database_bytes: 0,
    };
    writer.commit(facts).unwrap().folder
}

fn sources() -> [SourceKey; 2] {
    let single = SourceKey::single("shop".parse().unwrap());
    [single, SourceKey { source: "server".parse().unwrap(), child: Some(SOURCE_WITH_CHILD.into()) }]
}

/// A repository with two backups of a source and one of another, in a folder with a hostile name.
fn repository(codec: CodecName) -> (tempfile::TempDir, PathBuf, Vec<BackupFolder>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a b'$(x)\t*");
    let owned = OwnedRepository::create_path(&path, codec).unwrap();
    let [single, child] = sources();
    let backups = vec![
        take(&owned, &single, folder.path(), 0),
        take(&owned, &single, folder.path(), 1),
        take(&owned, &child, folder.path(), 2),
    ];
    (folder, path, backups)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
#[ignore = "makes the checked-in repository anew"]
fn make_golden() {
    assert!(!golden().exists(), "a golden repository is never changed");
    let scratch = tempfile::tempdir().unwrap();
    let owned = OwnedRepository::create_path(&golden(), CodecName::Gzip).unwrap();
    let [single, child] = sources();
    for (source, n) in [(&single, 0), (&single, 1), (&child, 2)] {
        take(&owned, source, scratch.path(), n);
    }
    drop(owned);
    for left in ["LOCK", "tmp", "sessions"] {
        let path = golden().join(left);
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
    }
}

#[test]
fn the_golden_repository_restores_with_shell_tools_alone() {
    let programs = Programs::new(&[]);
    for shell in shells() {
        let list = programs.run(&shell, &golden(), &["list"]);
        assert!(list.status.success(), "{}", text(&list.stderr));
        let list = text(&list.stdout);
        let mut backups: Vec<_> = list.lines().map(|line| line.split("  ").collect::<Vec<_>>()).collect();
        backups.sort_by_key(|backup| backup[1].to_owned());
        assert_eq!(
            backups.iter().map(|b| b[1]).collect::<Vec<_>>(),
            ["20231114T221320Z", "20231114T221321Z", "20231114T221322Z"]
        );
        assert_eq!(backups.iter().map(|b| b[2]).collect::<Vec<_>>(), ["shop", "shop", "server/a%20b%27%24%28x%29%0A"]);
        for (n, backup) in (0..).zip(&backups) {
            let restored = programs.run(&shell, &golden(), &["sql", &backup[0][..8]]);
            assert!(restored.status.success(), "{shell:?}: {}", text(&restored.stderr));
            assert_eq!(text(&restored.stdout), sql(n));
        }
    }
}

#[test]
fn the_golden_repository_is_read_by_this_program() {
    let repository = Repository::open_path(&golden()).unwrap();
    let report = repository
        .verify(None, backupd::repository::verify::Level::Data, 1, &Cancel::new(), &Default::default())
        .unwrap();
    assert_eq!((report.good.len(), report.damaged.len(), report.skipped.len()), (3, 0, 0));
}

#[test]
fn every_verb_works_from_read_only_media_under_a_hostile_path() {
    let (_folder, path, backups) = repository(CodecName::Gzip);
    for entry in ["packs", "backups", ""] {
        fs::set_permissions(path.join(entry), fs::Permissions::from_mode(0o500)).unwrap();
    }
    let programs = Programs::new(&[]);
    for shell in shells() {
        let run = |arguments: &[&str]| programs.run(&shell, &path, arguments);
        let id = backups[1].id.to_string();
        assert_eq!(text(&run(&["list"]).stdout).lines().count(), 3);
        let files = run(&["files", &id]);
        let expected: String = set(1).iter().map(|(name, _, text)| format!("{}\t{name}\n", text.len())).collect();
        assert_eq!(text(&files.stdout), expected);
        let cat = run(&["cat", &id, "globals.sql", "empty.sql", "post-data.sql"]);
        assert_eq!(text(&cat.stdout), "CREATE ROLE shop;\nCREATE INDEX ON t (a);\n", "{}", text(&cat.stderr));
        let by_folder = run(&["sql", path.join(backups[2].path()).to_str().unwrap()]);
        assert_eq!(text(&by_folder.stdout), sql(2), "{}", text(&by_folder.stderr));
        for (wrong, code) in [
            (&["cat", &id, "none"][..], 1),
            (&["sql", "ffffffffffff"], 1),
            (&["sql", ""], 1),
            (&["sql"], 2),
            (&["what"], 2),
            (&[], 2),
        ] {
            let output = run(wrong);
            assert_eq!(output.status.code(), Some(code), "{wrong:?}");
            assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{wrong:?}");
        }
    }
}

#[test]
fn zstd_restores_too() {
    let (_folder, path, backups) = repository(CodecName::Zstd);
    let restored = Programs::new(&["zstd"]).run(&["dash"], &path, &["sql", &backups[1].id.to_string()]);
    assert_eq!(text(&restored.stdout), sql(1), "{}", text(&restored.stderr));
}

#[test]
fn damage_is_found_before_the_first_byte() {
    let (_folder, path, backups) = repository(CodecName::Gzip);
    let backup = &backups[1];
    let id = backup.id.to_string();
    let programs = Programs::new(&[]);
    let owned_manifest = path.join(backup.path()).join("manifest.json");
    let manifest = Repository::open_path(&path).unwrap().manifest(backup).unwrap().0;
    let packs = manifest.packs.iter().flatten().map(|pack| {
        let hex = pack.id.to_string();
        path.join(format!("packs/{}/{hex}.gz", &hex[..2]))
    });
    let extents = path.join(backup.path()).join("extents.tsv");
    for object in packs.chain([owned_manifest, extents]) {
        let good = fs::read(&object).unwrap();
        // A sample of places; the unit tests go through all of them.
        for at in (0..good.len()).step_by(good.len() / 7) {
            let mut bad = good.clone();
            bad[at] ^= 4;
            fs::write(&object, bad).unwrap();
            let output = programs.run(&["dash"], &path, &["sql", &id]);
            let harmless = output.status.success() && text(&output.stdout) == sql(1);
            assert!(harmless || (output.status.code() == Some(1) && output.stdout.is_empty()), "{object:?} at {at}");
        }
        fs::remove_file(&object).unwrap();
        let output = programs.run(&["dash"], &path, &["sql", &id]);
        assert!(!output.status.success() && output.stdout.is_empty(), "{object:?}");
        fs::write(&object, good).unwrap();
    }
    assert_eq!(text(&programs.run(&["dash"], &path, &["sql", &id]).stdout), sql(1));
}

/// A pack vanishes after all were checked: a `mkfifo` in front of the real one, which is called then, removes it.
#[test]
fn a_pack_that_vanishes_halfway_ends_in_an_error_for_psql() {
    let (_folder, path, backups) = repository(CodecName::Gzip);
    let id = backups[1].id.to_string();
    let extents = fs::read_to_string(path.join(backups[1].path()).join("extents.tsv")).unwrap();
    // The last pack that the data file uses.
    let data = extents.split("file\t").find(|part| part.starts_with("data-000.sql")).unwrap();
    let pack = data.lines().last().unwrap().split('\t').next().unwrap();
    let victim = path.join(format!("packs/{}/{pack}.gz", &pack[..2]));
    let programs = Programs::new(&[]);
    let wrapper = programs.0.path().join("mkfifo");
    fs::remove_file(&wrapper).unwrap();
    let script = format!(
        "#!{}\nrm -f -- \"{}\"\nexec {} \"$@\"\n",
        find("dash").unwrap().display(),
        victim.display().to_string().replace('$', "\\$"),
        find("mkfifo").unwrap().display()
    );
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let good = fs::read(&victim).unwrap();
    for shell in shells() {
        fs::write(&victim, &good).unwrap();
        let output = programs.run(&shell, &path, &["sql", &id]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        let stdout = text(&output.stdout);
        assert!(stdout.contains("\n\\.\n\\backupd_restore_failed\n"), "{stdout:?}");
        assert!(text(&output.stderr).contains("vanished"), "{}", text(&output.stderr));
    }
}
