//! A thousand calls a second from ten clients while a backup runs: what they cost the backup, and the daemon's memory.
//!
//! Full backups of one database, each deleted again, with and without the calls in turn, of which ratios are taken pair by pair. The clients send bytes that
//! were made before and look only at the lengths of answers, so that they take little of the processors that they share
//! with the daemon. Prints rows of a Markdown table.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    unused_imports,
    reason = "a benchmark, with the tests' harness"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    collections::HashMap,
    fs,
    io::{self, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use common::{Daemon, Server, World, postgres_source};
use zbus::{Message, Variant};

const ROUNDS: usize = 7;
const CLIENTS: usize = 10;
/// Between two calls of one client: all of them make a thousand a second.
const PACE: Duration = Duration::from_millis(10);
/// Small backups that are there to be listed.
const LISTED: usize = 20;

fn main() -> io::Result<()> {
    let server = Server::start();
    for database in ["shop", "small"] {
        server.sql("postgres", &format!("CREATE DATABASE {database}"));
    }
    server.sql("small", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS n");
    let rows = "SELECT n, md5(n::text) AS a, md5((n * 7)::text) AS b, repeat(md5((n % 1000)::text), 3) AS c";
    server.sql("shop", &format!("CREATE TABLE t AS {rows} FROM generate_series(1, 2500000) AS n"));
    let world = World::new(&server);
    world.source("small", &postgres_source(&server, "small"));
    let daemon = world.start();
    for _ in 0..LISTED {
        daemon.ctl(&["create", "small"]).ok();
    }
    let newest = daemon.list()[0]["id"].as_str().expect("an id").to_owned();

    timed_backup(&daemon, None); // Warms the server's cache.
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        rounds.run(&daemon, &world, &newest);
    }
    rounds.report();
    report_memory(&daemon, &world, &newest);
    Ok(())
}

/// What calls alone add to the daemon's memory, once it has what it keeps for them.
fn report_memory(daemon: &Daemon, world: &World, listed: &str) {
    let calls = |time| {
        let load = Load::start(&world.socket(), listed);
        thread::sleep(time);
        let calls = load.stop().len();
        (calls, resident(daemon))
    };
    let (_, before) = calls(Duration::from_secs(4));
    let (count, after) = calls(Duration::from_secs(12));
    println!(
        "| 1,000 calls/s from 10 clients: the daemon's memory does not grow | {:+.1} MB of {:.0} MB after {count} calls |",
        (after as f64 - before as f64) / 1e3,
        before as f64 / 1e3
    );
}

/// What was measured.
#[derive(Default)]
struct Rounds {
    alone: Vec<f64>,
    loaded: Vec<f64>,
    answers: Vec<Duration>,
    /// Processor seconds of the daemon and of this program, in backups alone and with calls.
    processor: [f64; 4],
}

impl Rounds {
    /// A backup with the calls and one without; each comes first every other time.
    fn run(&mut self, daemon: &Daemon, world: &World, listed: &str) {
        let loaded_first = self.alone.len() % 2 == 1;
        for with_load in [loaded_first, !loaded_first] {
            let before = [processor_of(daemon.pid()), processor_of("self")];
            let load = with_load.then(|| Load::start(&world.socket(), listed));
            let took = timed_backup(daemon, load.map(|load| (load, &mut self.answers)));
            self.processor[usize::from(with_load) * 2] += processor_of(daemon.pid()) - before[0];
            self.processor[usize::from(with_load) * 2 + 1] += processor_of("self") - before[1];
            if with_load { self.loaded.push(took) } else { self.alone.push(took) }
        }
    }

    fn report(mut self) {
        let calls_a_second = self.answers.len() as f64 / self.loaded.iter().sum::<f64>();
        self.answers.sort_unstable();
        let answered = |percent: usize| self.answers[self.answers.len() * percent / 100].as_secs_f64() * 1e3;
        let mut ratios: Vec<f64> = self.loaded.iter().zip(&self.alone).map(|(loaded, alone)| loaded / alone).collect();
        println!(
            "| 1,000 calls/s from 10 clients: a backup takes at most 5 % longer | {:+.1} % (median of {ROUNDS} pairs; {:.2} s \
             instead of {:.2} s; {calls_a_second:.0} calls/s, answered in {:.1} ms, 99 % of them in {:.1} ms; a call takes {:.0} us of a \
             processor in the daemon, {:.0} us in its client) |",
            (median(&mut ratios) - 1.0) * 100.0,
            median(&mut self.loaded),
            median(&mut self.alone),
            answered(50),
            answered(99),
            (self.processor[2] - self.processor[0]) / self.answers.len() as f64 * 1e6,
            (self.processor[3] - self.processor[1]) / self.answers.len() as f64 * 1e6,
        );
    }
}

/// How many seconds a full backup takes, with or without the calls; it is deleted again.
fn timed_backup(daemon: &Daemon, load: Option<(Load, &mut Vec<Duration>)>) -> f64 {
    let begin = Instant::now();
    daemon.ctl(&["create", "shop"]).ok();
    let took = begin.elapsed();
    if let Some((load, answers)) = load {
        answers.extend(load.stop());
    }
    daemon.ctl(&["delete", "shop@latest", "--yes"]).ok();
    took.as_secs_f64()
}

/// Processor seconds of a process so far, without those of its children.
fn processor_of(process: impl std::fmt::Display) -> f64 {
    let line = fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
    let fields: Vec<&str> = line.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks: f64 = fields[11..13].iter().map(|ticks| ticks.parse::<f64>().expect("a number")).sum();
    ticks / 100.0 // USER_HZ is 100 on every Linux.
}

/// Resident memory of the daemon, in kilobytes.
fn resident(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("the daemon runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Clients that call until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<thread::JoinHandle<Vec<Duration>>>,
}

impl Load {
    fn start(socket: &Path, backup: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let calls = Arc::new(calls(backup));
        let clients = (0..CLIENTS)
            .map(|number| {
                let (stop, calls, socket) = (Arc::clone(&stop), Arc::clone(&calls), socket.to_owned());
                thread::spawn(move || client(number, &socket, &calls, &stop).expect("a client of the socket"))
            })
            .collect();
        Self { stop, clients }
    }

    /// Ends the calls; gives how long each answer took.
    fn stop(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    }
}

/// The calls that each client makes in turn.
fn calls(backup: &str) -> Vec<Vec<u8>> {
    let options = HashMap::from([("source", Variant::from("small"))]);
    let manager = |method| Message::method_call("/org/backupd1", method).interface("org.backupd1.Manager");
    let property = |name: &str| {
        let get = Message::method_call("/org/backupd1", "Get").interface("org.freedesktop.DBus.Properties");
        get.build(&("org.backupd1.Manager", name)).expect("a call")
    };
    let calls = [
        manager("ListBackups").build(&(options, 100_u64, "", 0_u64)).expect("a call"),
        property("RepositoryState"),
        manager("GetBackup").build(&(backup, 0_u64)).expect("a call"),
        property("Backups"),
        manager("ListJobs").build(&(0_u64,)).expect("a call"),
        property("RepositoryProblem"),
    ];
    calls.iter().map(|call| call.data().to_vec()).collect()
}

fn client(number: usize, socket: &Path, calls: &[Vec<u8>], stop: &AtomicBool) -> io::Result<Vec<Duration>> {
    let mut stream = UnixStream::connect(socket)?;
    let uid: String = nix::unistd::geteuid().to_string().bytes().map(|digit| format!("{digit:02x}")).collect();
    stream.write_all(format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").as_bytes())?;
    let mut input = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    io::BufRead::read_line(&mut input, &mut line)?;
    assert!(line.starts_with("OK "), "{line}");
    let mut answers = Vec::new();
    let mut due = Instant::now() + PACE * u32::try_from(number).unwrap_or_default() / 10;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        due += PACE;
        let call = &calls[(answers.len() + number) % calls.len()];
        let begin = Instant::now();
        stream.write_all(call)?;
        // Signals come in between.
        while !matches!(message(&mut input)?, 2 | 3) {}
        answers.push(begin.elapsed());
    }
    Ok(answers)
}

/// Reads one message and gives its type: 2 is an answer, 3 an error, which none of the calls should give.
fn message(input: &mut impl Read) -> io::Result<u8> {
    let mut header = [0; 16];
    input.read_exact(&mut header)?;
    let length =
        |at: usize| u64::from(u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]));
    assert_eq!(header[0], b'l', "a message of another byte order");
    let rest = length(12).next_multiple_of(8) + length(4);
    io::copy(&mut input.take(rest), &mut io::sink())?;
    assert_ne!(header[1], 3, "a call failed");
    Ok(header[1])
}
