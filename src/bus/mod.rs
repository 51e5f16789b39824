//! The D-Bus interface `org.backupd1`: objects, wire types, who may call what.
//!
//! - `org.backupd1.xml`: the contract; a test compares it with what is served.
//! - [`types`]: the structures and options on the wire, and their way to and from the service's own types.
//! - [`proxy`]: the client's side.
//! - [`server`]: the daemon's side: on a message bus, and on a socket of its own.
//! - `session`: one connection, its signals and their order; `manager`, `job`: the objects.
//! - [`identity`]: who calls; [`error`]: how a failure goes out.

pub mod error;
pub mod identity;
mod job;
mod manager;
pub mod proxy;
pub mod server;
mod session;
pub mod types;

/// The well-known name of the daemon on a bus.
pub const NAME: &str = "org.backupd1";
/// The object with the interface `org.backupd1.Manager`, and the ObjectManager of the jobs below it.
pub const MANAGER_PATH: &str = "/org/backupd1";
/// The introspection data that is the contract of the interfaces.
pub const INTROSPECTION: &str = include_str!("org.backupd1.xml");

/// The path of a job's object. (A component may not begin with a digit in sd-bus's escaping, hence the underscore.)
#[must_use]
pub fn job_path(number: crate::model::job::JobNumber) -> String {
    format!("{MANAGER_PATH}/job/_{number}")
}
