//! A drill's worker: the process that restores a backup where it can do no harm, and the way in which it is fed.
//!
//! What is in a backup runs in a drill with all rights of its server, and a server can run programs. So the worker is
//! another user, without network, repository or credentials; the daemon hands it the bytes over a socket.
//!
//! - `wire`: what goes over that socket;
//! - `remote`: the backup as the worker sees it;
//! - [`worker`]: its life.
//!
//! Invariant: what comes from a worker is foreign: bounded in size, and believed to be no more than a report.

mod remote;
pub mod wire;
pub mod worker;
