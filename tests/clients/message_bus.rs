//! A message bus of a test's own, which the daemon takes for the system bus.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use crate::common::{Daemon, Finished, Scratch, Server, World, run};

const CONFIGURATION: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=@FOLDER@/bus</listen>
  <servicedir>@FOLDER@/services</servicedir>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>
"#;

/// A `dbus-daemon`.
pub struct MessageBus {
    daemon: Child,
    pub address: String,
    folder: Scratch,
}

impl MessageBus {
    pub fn start() -> Self {
        let folder = Scratch::new();
        let configuration = folder.join("bus.conf");
        fs::create_dir(folder.join("services")).expect("a folder for services");
        let text = CONFIGURATION.replace("@FOLDER@", &folder.path().display().to_string());
        fs::write(&configuration, text).expect("bus.conf");
        let mut daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", configuration.display()))
            .args(["--nofork", "--print-address"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("start dbus-daemon");
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().expect("piped")).read_line(&mut address).expect("the bus's address");
        Self { daemon, address: address.trim().to_owned(), folder }
    }

    /// Lets the bus start the daemon where somebody calls it: it only leaves the file whose path this gives.
    pub fn activate(&self) -> PathBuf {
        let mark = self.folder.join("started");
        let service = format!("[D-BUS Service]\nName=org.backupd1\nExec=/bin/touch {}\n", mark.display());
        fs::write(self.folder.join("services/org.backupd1.service"), service).expect("a service");
        let mut reload = self.client("dbus-send");
        reload.args(["--system", "--print-reply", "--dest=org.freedesktop.DBus", "/org/freedesktop/DBus"]);
        run(reload.arg("org.freedesktop.DBus.ReloadConfig")).ok();
        mark
    }

    /// A client program, for which this is the system bus.
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", &self.address).env_remove("BACKUPD_ADDRESS").env("LC_ALL", "C.UTF-8");
        command
    }
}

impl Drop for MessageBus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A server with a small database `shop`, and a daemon on a message bus. Dropped from the top: the daemon first.
pub struct OnBus {
    pub daemon: Daemon,
    pub bus: MessageBus,
    pub world: World,
    pub server: Server,
}

impl OnBus {
    /// With `held`, backups stop at that place until [`OnBus::release`].
    pub fn start(held: Option<&str>) -> Self {
        let server = Server::start();
        server.sql("postgres", "CREATE DATABASE shop");
        server.sql("shop", "CREATE TABLE t AS SELECT n FROM generate_series(1, 1000) AS n");
        let bus = MessageBus::start();
        let mut world = World::new(&server);
        world.set_env("DBUS_SYSTEM_BUS_ADDRESS", &bus.address);
        if let Some(place) = held {
            world.set_env("BACKUPD_FAIL_POINT", format!("{place}=hold:{}", world.path().display()));
        }
        let daemon = world.start_on_system_bus();
        Self { daemon, bus, world, server }
    }

    pub fn is_held_at(&self, place: &str) -> bool {
        self.world.path().join(format!("{place}.reached")).exists()
    }

    pub fn release(&self, place: &str) {
        fs::write(self.world.path().join(format!("{place}.go")), b"").expect("let it go on");
    }

    /// The restored rows, once the database is there.
    pub fn count_in(&self, database: &str) -> String {
        self.server.sql(database, "SELECT count(*) FROM t").trim().to_owned()
    }

    pub fn has_database(&self, name: &str) -> bool {
        let databases = self.server.sql("postgres", "SELECT datname FROM pg_database");
        databases.lines().any(|line| line == name)
    }
}
