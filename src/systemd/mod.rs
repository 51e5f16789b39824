//! What ties the daemon to systemd: notify, watchdog, journal.
