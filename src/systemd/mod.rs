//! What ties the daemon to systemd: [`notify`] and the watchdog's interval, [`logging`] to the journal, the
//! [`generator`] of what its units take from the configuration, the [`calendar`] of its timers, and [`drill_units`].

pub mod calendar;
pub mod drill_units;
pub mod generator;
pub mod logging;
pub mod notify;
