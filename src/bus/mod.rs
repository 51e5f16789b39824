//! The D-Bus interface `org.backupd1`: objects, wire types, who may call what.
//!
//! - `org.backupd1.xml`: the contract; a test compares it with what is served.
//! - [`types`]: the structures and options on the wire, and their way to and from the service's own types.
//! - [`proxy`]: the client's side.
//! - [`server`]: the daemon's side: on a message bus, and on a socket of its own.
//! - `client_socket`: the bounds on what is held for a client of that socket.
//! - `session`: one connection, its jobs' signals and their order; `pinned`: what was allowed, to be done; `shown`: its sources' and the daemon's own;
//!   `manager` (with `rows`), `objects`, `job`, `source`, [`log_control`]: the objects. What the daemon's object offers
//!   beside backups themselves has an interface for each topic: `health`, `notices`, `retention`, `statistics`.
//! - [`identity`]: who calls; [`action`]: to do what; `authority`: whether they may; `audit`: what the journal says of
//!   it; [`error`]: how a failure goes out; [`limits`]: how much may be said.

pub mod action;
mod audit;
mod authority;
mod client_socket;
pub mod error;
mod health;
pub mod identity;
mod job;
pub mod limits;
pub mod log_control;
mod manager;
mod notices;
mod objects;
mod pinned;
pub mod proxy;
mod retention;
mod rows;
pub mod server;
mod session;
mod shown;
mod source;
mod statistics;
pub mod types;

/// The well-known name of the daemon on a bus.
pub const NAME: &str = "org.backupd1";
/// The object with the interface `org.backupd1.Manager`, and the ObjectManager of the jobs and sources below it.
pub const MANAGER_PATH: &str = "/org/backupd1";
/// The introspection data that is the contract of the interfaces.
pub const INTROSPECTION: &str = include_str!("org.backupd1.xml");

/// The path of a job's object. (A component may not begin with a digit in sd-bus's escaping, hence the underscore.)
#[must_use]
pub fn job_path(number: crate::model::job::JobNumber) -> String {
    format!("{MANAGER_PATH}/job/_{number}")
}

/// The path of a source's object. The name is escaped as sd-bus does it: what is no letter or digit, and a leading
/// digit, is `_` and two hexadecimal digits; an empty name is `_`.
#[must_use]
pub fn source_path(name: &str) -> String {
    use std::fmt::Write as _;

    let mut path = format!("{MANAGER_PATH}/source/");
    for (position, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (position > 0 && byte.is_ascii_digit()) {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "_{byte:02x}"); // To a string it cannot fail.
        }
    }
    if name.is_empty() {
        path.push('_');
    }
    path
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_escaped_as_sd_bus_does_it() {
        // What bus_label_escape() gives, as systemd's own test has it (src/libsystemd/sd-bus/test-bus-marshal.c).
        let pairs = [
            ("", "_"),
            ("foo123bar", "foo123bar"),
            ("123", "_3123"),
            ("foo.bar", "foo_2ebar"),
            ("foo_2ebar", "foo_5f2ebar"),
        ];
        for (name, label) in pairs.into_iter().chain([(":1", "_3a1"), ("_1", "_5f1"), ("\u{fc}", "_c3_bc")]) {
            assert_eq!(source_path(name), format!("/org/backupd1/source/{label}"), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn every_name_has_a_path_of_its_own(one in ".{0,12}", other in ".{0,12}") {
            let (path, another) = (source_path(&one), source_path(&other));
            prop_assert!(zbus::ObjectPath::try_from(path.as_str()).is_ok(), "{}", path);
            prop_assert_eq!(path == another, one == other);
        }
    }
}
