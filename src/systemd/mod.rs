//! What ties the daemon to systemd: [`notify`] and the watchdog's interval, [`logging`] to the journal, the
//! [`generator`] of what its units take from the configuration, and [`drill_units`].

pub mod drill_units;
pub mod generator;
pub mod logging;
pub mod notify;
