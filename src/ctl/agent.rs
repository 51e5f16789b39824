//! The agent that asks for a password on this terminal, polkit's pkttyagent, while the daemon is called.
//!
//! Invariants: it answers for this process only, and only where no agent of a desktop can (`--fallback`); it is there
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
            .args(["--notify-fd", &notify.as_raw_fd().to_string()])
            .args(may_have_session().then_some("--fallback"))
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

/// Whether this process may belong to a session of logind, in which a desktop's agent could be. polkit looks for one there
/// before it takes a fallback, and gives up where there is no session: after `su` in a container, say, or in a service.
fn may_have_session() -> bool {
    std::fs::read_to_string("/proc/self/cgroup").map_or(true, |groups| is_of_a_user(&groups))
}

/// Sessions, and the services of users, are below this slice (systemd.special(7)).
fn is_of_a_user(groups: &str) -> bool {
    groups.lines().any(|line| line.split('/').any(|group| group == "user.slice"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_below_the_slice_of_users() {
        for session in [
            "0::/user.slice/user-1000.slice/session-3.scope\n",
            "12:pids:/x\n1:name=systemd:/user.slice/user-1000.slice/user@1000.service/app.slice/terminal.scope\n0::/\n",
        ] {
            assert!(is_of_a_user(session), "{session}");
        }
        for other in ["0::/system.slice/cron.service\n", "0::/\n", "", "0::/system.slice/my-user.slice.service\n"] {
            assert!(!is_of_a_user(other), "{other}");
        }
    }
}
