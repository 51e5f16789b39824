//! What ties the daemon to systemd: [`notify`] and the watchdog's interval, [`logging`] to the journal.

pub mod logging;
pub mod notify;
