//! What ties the daemon to systemd: [`notify`] and the watchdog's interval, [`logging`] to the journal, the
//! [`generator`] of what its units take from the configuration, what health asks of its [`timers`] and their [`calendar`], and [`drill_units`].

pub mod calendar;
pub mod drill_units;
pub mod generator;
pub mod logging;
pub mod notify;
pub mod timers;
