//! What ties the daemon to systemd: [`notify`] and the watchdog's interval, [`logging`] to the journal, and the
//! [`generator`] of what its units take from the configuration.

pub mod generator;
pub mod logging;
pub mod notify;
