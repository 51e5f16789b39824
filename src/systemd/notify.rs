//! What systemd is told, by the protocol of sd_notify(3). Without `$NOTIFY_SOCKET` nothing is sent.

use std::time::Duration;

use sd_notify::NotifyState;

/// The daemon answers, with a sentence for `systemctl status`.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A new sentence for `systemctl status`.
pub fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// A reload begins; [`ready`] must follow whatever comes of it, or `systemctl reload` hangs.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "cannot read the clock to tell systemd about the reload"),
    }
}

/// The daemon stops.
pub fn stopping(status: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// What is under way (start or stop) needs this much longer from now.
pub fn extend_timeout(by: Duration) {
    send(&[NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX))]);
}

/// The daemon lives.
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// How often systemd wants [`watchdog`] at least, if it watches this process.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "cannot notify systemd");
    }
}
