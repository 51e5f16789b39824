//! The agent that asks for a password on this terminal, polkit's pkttyagent, while the daemon is called.
//!
//! Invariants: it answers for this process only, and only where no agent of a desktop does (`--fallback`); it is there
//! before the first call, and gone when this is dropped. Where it cannot be had the daemon refuses, and says why.

use std::{
    io::{self, IsTerminal as _, Read as _},
    os::fd::AsRawFd as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long the agent may take to register.
const START_LIMIT: Duration = Duration::from_secs(5);
/// How long it may take to end; it gives the terminal its echo back.
const STOP_LIMIT: Duration = Duration::from_millis(500);

/// A running agent.
#[derive(Debug)]
pub(crate) struct Agent(Child);

impl Agent {
    /// Starts one where a person can answer. root is never asked for anything.
    pub(crate) fn start() -> Option<Self> {
        if nix::unistd::geteuid().is_root() || !io::stdin().is_terminal() {
            return None;
        }
        Self::spawn().ok()
    }

    fn spawn() -> io::Result<Self> {
        let (mut registered, notify) = io::pipe()?;
        // The agent shall inherit it; nothing else is started meanwhile.
        fcntl(&notify, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let child = Command::new("pkttyagent")
            .args(["--process", &std::process::id().to_string()])
            .args(["--notify-fd", &notify.as_raw_fd().to_string(), "--fallback"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let agent = Self(child);
        drop(notify);
        // It closes its end when it is registered, or ends.
        let limit = PollTimeout::try_from(START_LIMIT).unwrap_or(PollTimeout::MAX);
        {
            use std::os::fd::AsFd as _;
            if poll(&mut [PollFd::new(registered.as_fd(), PollFlags::POLLIN)], limit)? > 0 {
                let _ = registered.read(&mut [0])?;
            }
        }
        Ok(agent)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Ok(process) = i32::try_from(self.0.id()) {
            let _ = kill(Pid::from_raw(process), Signal::SIGTERM);
        }
        let deadline = Instant::now() + STOP_LIMIT;
        while matches!(self.0.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                let _ = self.0.kill();
                let _ = self.0.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
