//! Named places where a test can kill, fail or hold the process. Compiled to nothing without the feature `failpoints`.
//!
//! `BACKUPD_FAIL_POINT=NAME=ACTION[,NAME=ACTION…]` in the environment, where ACTION is
//! - `kill`: SIGKILL to this process;
//! - `error`: [`hit`] gives an error of the operating system (EIO);
//! - `full`: [`hit`] gives ENOSPC;
//! - `hold:DIR`: makes the file `DIR/NAME.reached` and waits until `DIR/NAME.go` exists.
//!
//! A number behind the name, as in `pack-renamed#3=kill`, means the third time the place is passed.

/// Passes the place `name`.
///
/// # Errors
/// Only where a test asked for one.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn hit(_name: &'static str) -> std::io::Result<()> {
    Ok(())
}

#[cfg(feature = "failpoints")]
pub use enabled::hit;

#[cfg(feature = "failpoints")]
mod enabled {
    use std::{
        collections::HashMap,
        env, fs, io,
        path::Path,
        sync::{LazyLock, Mutex, PoisonError},
        thread,
        time::Duration,
    };

    struct Plan {
        action: String,
        at: u64,
    }

    static PLANS: LazyLock<HashMap<String, Plan>> = LazyLock::new(|| {
        let text = env::var("BACKUPD_FAIL_POINT").unwrap_or_default();
        text.split(',')
            .filter_map(|part| part.split_once('='))
            .map(|(place, action)| {
                let (name, at) = place.split_once('#').unwrap_or((place, "1"));
                (name.to_owned(), Plan { action: action.to_owned(), at: at.parse().unwrap_or(1) })
            })
            .collect()
    });
    static PASSED: LazyLock<Mutex<HashMap<&'static str, u64>>> = LazyLock::new(Mutex::default);

    /// Passes the place `name`.
    ///
    /// # Errors
    /// Only where a test asked for one.
    pub fn hit(name: &'static str) -> io::Result<()> {
        let Some(plan) = PLANS.get(name) else { return Ok(()) };
        let passed = {
            let mut counts = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(name).or_default();
            *count += 1;
            *count
        };
        if passed != plan.at {
            return Ok(());
        }
        match plan.action.split_once(':').unwrap_or((&plan.action, "")) {
            ("kill", _) => {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
                loop {
                    thread::park();
                }
            }
            ("full", _) => Err(io::Error::from_raw_os_error(nix::libc::ENOSPC)),
            ("hold", folder) => {
                let folder = Path::new(folder);
                fs::write(folder.join(format!("{name}.reached")), b"")?;
                while !folder.join(format!("{name}.go")).exists() {
                    thread::sleep(Duration::from_millis(5));
                }
                Ok(())
            }
            _ => Err(io::Error::from_raw_os_error(nix::libc::EIO)),
        }
    }
}
