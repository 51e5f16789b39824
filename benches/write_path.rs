//! Peak memory of taking a backup into a repository, and how long its pipeline waits for the storage:
//! `cargo bench --bench write_path [-- FOLDER]`. FOLDER is on the disk that is to be measured.
//!
//! Prints Markdown. Each row is a process of its own, because the peak is the process's (`VmHWM`).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{
    env, fs,
    io::Write as _,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use backupd::{
    model::{
        RunId, SourceKey,
        manifest::{ChunkerParameters, CodecName, FileRole},
    },
    repository::{
        BeginBackup, LocalStorage, OwnedRepository, Storage,
        storage::{Lease, Object, PutMode, StorageError, Upload},
    },
    source::SetSink as _,
    stream::{Cancel, Progress},
};

const LENGTH: usize = 1_000_000_000;
const THREADS: usize = 2;

fn main() {
    let arguments: Vec<_> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [kind, average, folder] = &arguments[..] {
        return measure(kind, average.parse().unwrap(), Path::new(folder));
    }
    let folder = arguments.first().map_or_else(env::temp_dir, Into::into);
    println!(
        "| 1 GB of | average chunk | wall s | CPU s | stored MB | packs | in write s | in publish s | longest ms | peak MiB |\n\
         |---|---|---|---|---|---|---|---|---|---|"
    );
    for kind in ["text", "noise"] {
        for average in ["65536", "1048576"] {
            let status = Command::new(env::current_exe().unwrap()).args([kind, average]).arg(&folder).status();
            assert!(status.unwrap().success());
        }
    }
}

fn measure(kind: &str, average: u32, folder: &Path) {
    let folder = tempfile::tempdir_in(folder).unwrap();
    let root = LocalStorage::new(folder.path().join("repository"));
    root.create_root().unwrap();
    let times = Arc::new(Times::default());
    let owned =
        OwnedRepository::create(Arc::new(Timed { inner: root, times: times.clone() }), CodecName::Gzip).unwrap();
    let mut writer = owned
        .begin_backup(BeginBackup {
            source: SourceKey::single("bench".parse().unwrap()),
            run_id: RunId::new(),
            whole_run: false,
            started_at: 0,
            level: 1,
            chunker: ChunkerParameters::with_average(average),
            threads: THREADS,
            verify_members: true,
            max_size: None,
            scratch: folder.path().to_owned(),
            cancel: Cancel::new(),
            progress: Arc::new(Progress::default()),
        })
        .unwrap();
    let (cpu, wall) = (cpu(), Instant::now());
    let mut random = Random(1);
    let mut piece = Vec::new();
    writer.begin_file("data", FileRole::Data).unwrap();
    for row in 0..LENGTH >> 16 {
        piece.clear();
        while piece.len() < 1 << 16 {
            match kind {
                "noise" => piece.extend_from_slice(&random.number().to_le_bytes()),
                _ => {
                    let (a, b, c) = (random.number() >> 40, random.number() % 50_000, random.number() % 9);
                    writeln!(piece, "{row}\t{a}\t{c}\t{}.{:02}\t2026-{:02}-01", b / 100, b % 100, 1 + c).unwrap();
                }
            }
        }
        writer.bytes().write(&piece[..1 << 16]).unwrap();
    }
    writer.end_file(Vec::new()).unwrap();
    println!(
        "| {kind} | {} KiB | {:.2} | {:.2} | {} | {} | {:.2} | {:.2} | {} | {} |",
        average >> 10,
        wall.elapsed().as_secs_f64(),
        self::cpu() - cpu,
        times.bytes.load(Relaxed) / 1_000_000,
        times.packs.load(Relaxed),
        times.write.load(Relaxed) as f64 / 1e6,
        times.publish.load(Relaxed) as f64 / 1e6,
        times.longest.load(Relaxed) / 1000,
        peak_kib() >> 10
    );
    writer.abort();
}

/// CPU seconds of this process, all threads.
fn cpu() -> f64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap();
    Duration::from(time).as_secs_f64()
}

fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// xorshift64 (Marsaglia 2003).
struct Random(u64);

impl Random {
    fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Microseconds within the storage, as the thread that stores members meets them.
#[derive(Debug, Default)]
struct Times {
    bytes: AtomicU64,
    packs: AtomicU64,
    write: AtomicU64,
    publish: AtomicU64,
    longest: AtomicU64,
}

impl Times {
    /// Publishing a pack, and naming it in the session.
    fn published(&self, since: Instant) {
        let took = micros(since);
        self.publish.fetch_add(took, Relaxed);
        self.longest.fetch_max(took, Relaxed);
    }
}

fn micros(since: Instant) -> u64 {
    since.elapsed().as_micros() as u64
}

#[derive(Debug)]
struct Timed {
    inner: LocalStorage,
    times: Arc<Times>,
}

struct TimedUpload {
    inner: Box<dyn Upload>,
    times: Arc<Times>,
}

impl Upload for TimedUpload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let start = Instant::now();
        let result = self.inner.write(bytes);
        self.times.write.fetch_add(micros(start), Relaxed);
        self.times.bytes.fetch_add(bytes.len() as u64, Relaxed);
        result
    }

    fn publish(self: Box<Self>, key: &str) -> Result<(), StorageError> {
        let start = Instant::now();
        let result = self.inner.publish(key);
        self.times.published(start);
        self.times.packs.fetch_add(1, Relaxed);
        result
    }
}

impl Storage for Timed {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn put(&self, key: &str, bytes: &[u8], mode: PutMode) -> Result<(), StorageError> {
        let start = Instant::now();
        let result = self.inner.put(key, bytes, mode);
        if key.starts_with("sessions/") {
            self.times.published(start);
        }
        result
    }

    fn upload(&self) -> Result<Box<dyn Upload>, StorageError> {
        Ok(Box::new(TimedUpload { inner: self.inner.upload()?, times: self.times.clone() }))
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, StorageError> {
        self.inner.get(key)
    }

    fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Vec<u8>, StorageError> {
        self.inner.get_range(key, offset, length)
    }

    fn size(&self, key: &str) -> Result<u64, StorageError> {
        self.inner.size(key)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Object>, StorageError> {
        self.inner.list(prefix)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.inner.delete(key)
    }

    fn sweep(&self) -> Result<(), StorageError> {
        self.inner.sweep()
    }

    fn free_bytes(&self) -> Result<Option<u64>, StorageError> {
        self.inner.free_bytes()
    }

    fn lock(&self, owner: &str) -> Result<Box<dyn Lease>, StorageError> {
        self.inner.lock(owner)
    }
}
