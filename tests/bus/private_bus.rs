//! The daemon on a message bus of its own, seen by systemd's `busctl`.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
};

use backupd::{
    bus::{
        MANAGER_PATH, NAME, job_path,
        proxy::ManagerProxy,
        server::{Bus, Server},
        source_path,
        types::Options,
    },
    service::operations::{Caller, CreateOptions, Operations},
};
use zbus::connection::Builder;

use crate::support::{LONG, Simulation};

const CONFIGURATION: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=@SOCKET@</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>
"#;

/// A message bus that any user may join.
pub(crate) struct PrivateBus {
    daemon: Child,
    pub(crate) address: String,
    pub(crate) folder: tempfile::TempDir,
}

impl PrivateBus {
    /// Starts one, where a `dbus-daemon` and `busctl` are installed.
    pub(crate) fn start() -> Option<Self> {
        let installed = |program| Command::new(program).arg("--version").output().is_ok();
        if !installed("dbus-daemon") || !installed("busctl") {
            eprintln!("skipped: dbus-daemon or busctl is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let socket = folder.path().join("bus");
        let configuration = folder.path().join("bus.conf");
        std::fs::write(&configuration, CONFIGURATION.replace("@SOCKET@", &socket.display().to_string())).unwrap();
        let mut daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", configuration.display()))
            .args(["--nofork", "--print-address"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Some(Self { daemon, address: address.trim().to_owned(), folder })
    }

    /// A call by `busctl`, as this user, of the daemon's object; `member` is of the Manager, or has its interface
    /// before it.
    pub(crate) async fn call(&self, uid: Option<u32>, member: &str, arguments: &[&str]) -> Output {
        self.call_at(MANAGER_PATH, uid, member, arguments).await
    }

    async fn call_at(&self, path: &str, uid: Option<u32>, member: &str, arguments: &[&str]) -> Output {
        let mut command = self.busctl(path, uid, member, arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// The command that makes such a call, and may be asked for a password.
    pub(crate) fn busctl(&self, path: &str, uid: Option<u32>, member: &str, arguments: &[&str]) -> Command {
        let mut command = match uid {
            None => Command::new("busctl"),
            Some(uid) => {
                let mut command = Command::new("setpriv");
                command.args([&format!("--reuid={uid}"), &format!("--regid={uid}"), "--clear-groups", "busctl"]);
                command
            }
        };
        let manager = format!("{NAME}.Manager");
        let (interface, member) = member.split_once(' ').unwrap_or((&manager, member));
        command.arg(format!("--address={}", self.address));
        command.args(["call", NAME, path, interface, member]).args(arguments);
        command
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busctl_sees_names_answers_and_errors() {
    let Some(bus) = PrivateBus::start() else { return };
    let service = Simulation::new(&bus.folder.path().join("state"));
    let server = Server::new(Arc::clone(&service) as Arc<dyn Operations>);
    let connection = server.join_bus(&Bus::At(bus.address.clone())).await.unwrap();

    let second = Server::new(Arc::clone(&service) as Arc<dyn Operations>);
    assert!(second.join_bus(&Bus::At(bus.address.clone())).await.is_err(), "two daemons have one name");
    second.stop().await;

    let created = bus.call(None, "CreateBackup", &["sa{sv}t", "shop", "1", "schema-only", "b", "true", "0"]).await;
    assert_eq!(text(&created), "to 1 \"/org/backupd1/job/_1\"\n");
    let busy = bus.call(None, "CreateBackup", &["sa{sv}t", "shop", "0", "0"]).await;
    assert!(!busy.status.success() && text(&busy).contains("job 1 (create shop)"), "{}", text(&busy));
    let wrong = bus.call(None, "CreateBackup", &["s", "shop"]).await;
    assert!(!wrong.status.success(), "{}", text(&wrong));
    // A client that is gone does not take its job with it.
    let jobs = bus.call(None, "ListJobs", &["t", "0"]).await;
    assert!(text(&jobs).contains("\"data\"") && text(&jobs).contains("/org/backupd1/job/_1"), "{}", text(&jobs));

    let client = Builder::address(bus.address.as_str()).build().await.unwrap();
    let manager = ManagerProxy::new(&client).await.unwrap();
    let mut removed = manager.receive_job_removed().await.unwrap();
    service.release();
    let signal = tokio::time::timeout(LONG, futures_util::StreamExt::next(&mut removed)).await.unwrap().unwrap();
    assert_eq!(signal.args().unwrap().result, "done");
    server.stop().await;
    tokio::time::timeout(LONG, connection.closed()).await.unwrap();
    assert!(manager.create_backup("shop", &Options::new(), 0).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_users_of_the_bus_learn_nothing_but_that_it_works() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let Some(bus) = PrivateBus::start() else { return };
    let service = Simulation::new(&bus.folder.path().join("state"));
    let server = Server::new(Arc::clone(&service) as Arc<dyn Operations>);
    let _connection = server.join_bus(&Bus::At(bus.address.clone())).await.unwrap();
    let nobody = Some(65534);
    let refused: &[(&str, &[&str])] = &[
        ("CreateBackup", &["sa{sv}t", "shop", "0", "0"]),
        ("PlanRestore", &["sa{sv}t", "ab", "0", "0"]),
        ("RestoreBackup", &["sa{sv}t", "ab", "0", "0"]),
        ("VerifyBackup", &["sa{sv}t", "", "0", "0"]),
        ("DeleteBackup", &["sa{sv}t", "ab", "0", "0"]),
        ("ListBackups", &["a{sv}tst", "0", "0", "", "0"]),
        ("GetBackup", &["st", "ab", "0"]),
        ("DescribeBackup", &["st", "ab", "0"]),
        ("ListSources", &["t", "0"]),
        ("GetSource", &["s", "shop"]),
        ("ListJobs", &["t", "0"]),
        ("GetJob", &["t", "1"]),
        ("DescribeJob", &["tt", "1", "0"]),
        ("CancelJob", &["tt", "1", "0"]),
        ("Reload", &["t", "0"]),
        ("org.freedesktop.DBus.Properties Get", &["ss", "org.backupd1.Manager", "RepositoryPath"]),
        ("org.freedesktop.DBus.Properties Get", &["ss", "org.backupd1.Manager", "ConfigProblems"]),
        ("org.freedesktop.DBus.ObjectManager GetManagedObjects", &[]),
    ];
    for (member, arguments) in refused {
        let answer = bus.call(nobody, member, arguments).await;
        let text = text(&answer);
        assert!(!answer.status.success() && text.contains("Access denied"), "{member}: {text}");
    }
    for property in ["Version", "RepositoryState"] {
        let arguments = ["ss", "org.backupd1.Manager", property];
        let answer = bus.call(nobody, "org.freedesktop.DBus.Properties Get", &arguments).await;
        assert!(answer.status.success(), "{property}: {}", text(&answer));
    }
    assert!(service.jobs().list().is_empty());
    // Of jobs and sources they see neither a property nor all at once.
    let number = service.create(Caller { uid: 0 }, "shop", CreateOptions::default()).unwrap();
    let client = Builder::address(bus.address.as_str()).build().await.unwrap();
    let manager = ManagerProxy::new(&client).await.unwrap();
    while manager.get_job(number).await.is_err() {
        tokio::task::yield_now().await; // The daemon announces it.
    }
    let objects =
        [(job_path(number), "org.backupd1.Job", "Source"), (source_path("shop"), "org.backupd1.Source", "Name")];
    for (path, interface, property) in objects {
        let get = ["org.freedesktop.DBus.Properties Get", "org.freedesktop.DBus.Properties GetAll"];
        let one = bus.call_at(&path, nobody, get[0], &["ss", interface, property]).await;
        assert!(!one.status.success() && text(&one).contains("Access denied"), "{path}: {}", text(&one));
        assert_eq!(text(&bus.call_at(&path, nobody, get[1], &["s", interface]).await), "a{sv} 0\n", "{path}");
        assert!(text(&bus.call_at(&path, None, get[0], &["ss", interface, property]).await).contains("shop"));
    }
    let cancel = bus.call_at(&job_path(number), nobody, "org.backupd1.Job Cancel", &["t", "0"]).await;
    assert!(!cancel.status.success() && text(&cancel).contains("Access denied"), "{}", text(&cancel));
    let all = bus.call(nobody, "org.freedesktop.DBus.Properties GetAll", &["s", "org.backupd1.Manager"]).await;
    assert!(text(&all).starts_with("a{sv} 2 "), "more than Version and RepositoryState: {}", text(&all));
    server.stop().await;
}
