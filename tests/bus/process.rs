//! The daemon's life as systemd sees it: a process of its own, its datagrams, its signals, its end.

use std::{
    fs::Permissions,
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::Path,
    process::{Child, Command, ExitStatus},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::support::{LONG, Simulation, address};
use backupd::{
    bus::{
        proxy::{ManagerProxy, connect_peer},
        types::Options,
    },
    daemon::{Ended, RESTART_EXIT_CODE, Reach, run},
    service::operations::Operations,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Not a test: the process that the tests start.
#[test]
#[ignore = "run by other tests"]
fn process() {
    let Ok(folder) = std::env::var("BACKUPD_TEST_FOLDER") else { return };
    backupd::systemd::logging::init("info").unwrap();
    let folder = Path::new(&folder);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let ended = runtime.block_on(async {
        let reach = Reach { bus: None, listen: Some(address(&folder.join("socket"))) };
        let operations: Arc<dyn Operations> = Simulation::new(&folder.join("state"));
        run(&reach, operations, std::future::pending()).await
    });
    let code = match ended {
        Ok(Ended::Stopped) => 0,
        Ok(Ended::Restart) => RESTART_EXIT_CODE,
        Err(error) => error.code().row().exit_code,
    };
    std::process::exit(code.into());
}

pub(crate) struct Process {
    child: Child,
    notices: UnixDatagram,
    pub(crate) folder: tempfile::TempDir,
}

impl Process {
    fn start(folder: tempfile::TempDir, environment: &[(&str, &str)]) -> Self {
        Self::start_by(Command::new(std::env::current_exe().unwrap()), folder, environment)
    }

    /// Starts it by a command that runs this program.
    pub(crate) fn start_by(mut command: Command, folder: tempfile::TempDir, environment: &[(&str, &str)]) -> Self {
        let notify = folder.path().join("notify");
        let _ = std::fs::remove_file(&notify);
        let notices = UnixDatagram::bind(&notify).unwrap();
        notices.set_read_timeout(Some(LONG)).unwrap();
        std::fs::set_permissions(&notify, Permissions::from_mode(0o666)).unwrap();
        let child = command
            .args(["--exact", "process::process", "--ignored", "--nocapture"])
            .env("BACKUPD_TEST_FOLDER", folder.path())
            .env("NOTIFY_SOCKET", &notify)
            .env_remove("JOURNAL_STREAM")
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID")
            .envs(environment.iter().copied())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let process = Self { child, notices, folder };
        process.notice("READY=1");
        process
    }

    /// The next datagram that holds this text.
    fn notice(&self, text: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let length = self.notices.recv(&mut buffer).unwrap_or_else(|error| panic!("waiting for {text}: {error}"));
            let datagram = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if datagram.contains(text) {
                return datagram;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + LONG;
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status,
                None if Instant::now() > deadline => panic!("the daemon does not end"),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    pub(crate) async fn manager(&self) -> ManagerProxy<'static> {
        let client = connect_peer(&address(&self.folder.path().join("socket"))).await.unwrap();
        ManagerProxy::new(&client).await.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_jobs_cleanly_and_a_restart_remembers_them() {
    let mut process = Process::start(tempfile::tempdir().unwrap(), &[]);
    let manager = process.manager().await;
    let (number, _) = manager.create_backup("shop", &Options::new(), 0).await.unwrap();
    process.notice("create shop");
    process.signal(Signal::SIGTERM);
    process.notice("STOPPING=1");
    process.notice("EXTEND_TIMEOUT_USEC=");
    assert_eq!(process.wait().code(), Some(0));
    assert!(!process.folder.path().join("socket").exists());
    assert_eq!(std::fs::read_dir(process.folder.path().join("state/scratch")).unwrap().count(), 0);

    let folder = std::mem::replace(&mut process.folder, tempfile::tempdir().unwrap());
    let process = Process::start(folder, &[]);
    let manager = process.manager().await;
    let jobs = manager.list_jobs(0).await.unwrap();
    assert_eq!((jobs[0].id, jobs[0].result.as_str()), (number, "interrupted"));
    assert_eq!(jobs[0].error_name, "org.backupd1.Error.ShuttingDown");
    let (next, _) = manager.create_backup("shop", &Options::new(), 0).await.unwrap();
    assert_eq!(next, number + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_waits_for_the_jobs() {
    let mut process = Process::start(tempfile::tempdir().unwrap(), &[]);
    let manager = process.manager().await;
    let (first, _) = manager.create_backup("shop", &Options::new(), 0).await.unwrap();
    process.signal(Signal::SIGUSR1);
    process.notice("restarts when no job runs");
    // It works on meanwhile.
    let (second, _) = manager.create_backup("app", &Options::new(), 0).await.unwrap();
    manager.cancel_job(first, 0).await.unwrap();
    let notice = process.notice(&format!("STATUS=Job {second}: create app"));
    assert!(notice.trim_end().ends_with("; restarts when no job runs"), "{notice}");
    manager.cancel_job(second, 0).await.unwrap();
    process.notice("STOPPING=1");
    assert_eq!(process.wait().code(), Some(RESTART_EXIT_CODE.into()));
    let folder = std::mem::replace(&mut process.folder, tempfile::tempdir().unwrap());
    let mut process = Process::start(folder, &[]);
    let jobs = process.manager().await.list_jobs(0).await.unwrap();
    assert_eq!(jobs.iter().map(|job| job.result.as_str()).collect::<Vec<_>>(), ["canceled", "canceled"]);
    process.signal(Signal::SIGUSR1);
    assert_eq!(process.wait().code(), Some(RESTART_EXIT_CODE.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_daemon_leaves_a_history_too() {
    let mut process = Process::start(tempfile::tempdir().unwrap(), &[]);
    let (number, _) = process.manager().await.create_backup("shop", &Options::new(), 0).await.unwrap();
    process.signal(Signal::SIGKILL);
    process.wait();
    let folder = std::mem::replace(&mut process.folder, tempfile::tempdir().unwrap());
    let process = Process::start(folder, &[]); // Over the stale socket.
    let jobs = process.manager().await.list_jobs(0).await.unwrap();
    assert_eq!((jobs[0].id, jobs[0].result.as_str()), (number, "interrupted"));
    assert_eq!(jobs[0].error_name, "org.backupd1.Error.Interrupted");
}

#[test]
fn a_failed_reload_is_ready_again_and_says_why() {
    let process = Process::start(tempfile::tempdir().unwrap(), &[]);
    process.signal(Signal::SIGHUP);
    let reloading = process.notice("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading:?}");
    let ready = process.notice("READY=1");
    assert!(ready.contains("STATUS=Reload failed: backupd.toml:3"), "{ready:?}");
}

#[test]
fn the_watchdog_is_fed_from_the_dispatcher_and_nothing_else_is_said_when_idle() {
    let process = Process::start(tempfile::tempdir().unwrap(), &[("WATCHDOG_USEC", "200000")]);
    for _ in 0..5 {
        let mut buffer = [0; 4096];
        let length = process.notices.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"WATCHDOG=1\n");
    }
}

#[test]
fn an_idle_daemon_is_small_and_asleep() {
    let process = Process::start(tempfile::tempdir().unwrap(), &[]);
    let pid = process.child.id();
    let switches = || -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        tasks
            .map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default())
            .filter_map(|status| {
                let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?;
                line.rsplit('\t').next()?.parse::<u64>().ok()
            })
            .sum()
    };
    // What is asleep stays so: look until two looks, a second apart, see no wake-up.
    let deadline = Instant::now() + LONG;
    let mut before = switches();
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let after = switches();
        if after == before {
            break;
        }
        assert!(Instant::now() < deadline, "the idle daemon wakes up: {before} to {after} switches in a second");
        before = after;
    }
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    let kilobytes: u64 = resident.split_whitespace().nth(1).unwrap().parse().unwrap();
    println!("resident: {kilobytes} kB");
    assert!(kilobytes < 20 * 1024, "{resident}");
}
