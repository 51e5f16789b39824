//! How much the daemon logs, changed as `systemctl service-log-level` and `service-log-target` do it.

use crate::{
    common::{Finished, World, run, wait_until},
    message_bus::MessageBus,
};

fn busctl(bus: &MessageBus, user: Option<&str>, arguments: &[&str]) -> Finished {
    let mut command = match user {
        Some(user) => {
            let mut command = bus.client("setpriv");
            command.args([&format!("--reuid={user}"), "--regid=nogroup", "--clear-groups", "busctl"]);
            command
        }
        None => bus.client("busctl"),
    };
    let address = format!("--address={}", bus.address);
    let object = ["org.backupd1", "/org/freedesktop/LogControl1", "org.freedesktop.LogControl1"];
    run(command.arg(address).arg(arguments[0]).args(object).args(&arguments[1..]))
}

#[test]
fn the_level_and_the_target_are_those_of_systemctl() {
    let bus = MessageBus::start();
    let mut world = World::without_sources();
    world.set_env("DBUS_SYSTEM_BUS_ADDRESS", &bus.address);
    let daemon = world.start_on_system_bus();
    let get = |name: &str| busctl(&bus, None, &["get-property", name]).ok().text().trim().to_owned();
    let set = |name: &str, value: &str| busctl(&bus, None, &["set-property", name, "s", value]);
    assert_eq!(get("SyslogIdentifier"), "s \"backupd\"");
    assert_eq!([get("LogLevel"), get("LogTarget")], ["s \"info\"", "s \"console\""]);

    // A call that only looks is a line while the level is debug.
    let looked = || world.log().matches("BACKUPD_CALL=\"ListJobs\"").count();
    daemon.ctl(&["jobs"]).ok();
    assert_eq!(looked(), 0);
    set("LogLevel", "debug").ok();
    assert_eq!(get("LogLevel"), "s \"debug\"");
    daemon.ctl(&["jobs"]).ok();
    wait_until("the call is a line", || looked() == 1);
    set("LogTarget", "null").ok();
    daemon.ctl(&["jobs"]).ok();
    set("LogTarget", "auto").ok();
    set("LogLevel", "info").ok();
    daemon.ctl(&["jobs"]).ok();
    assert_eq!(looked(), 1);
    assert!(world.log().contains("BACKUPD_POLKIT_ACTION=\"org.backupd1.reload\""), "{}", world.log());

    for (name, value) in [("LogLevel", "loud"), ("LogTarget", "kmsg"), ("SyslogIdentifier", "x")] {
        assert!(!set(name, value).status.success(), "{name}={value}");
    }
    assert_eq!([get("LogLevel"), get("LogTarget")], ["s \"info\"", "s \"console\""]);
    if nix::unistd::geteuid().is_root() {
        let refused = busctl(&bus, Some("nobody"), &["set-property", "LogLevel", "s", "debug"]);
        assert!(refused.stderr.contains("Access denied"), "{refused}");
        assert_eq!(get("LogLevel"), "s \"info\"");
    }
}
