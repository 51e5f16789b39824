//! Run by systemd whenever it reads its units; everything is in [`backupd::systemd::generator`].
//!
//! It always ends with 0: a generator that fails says nothing that the kernel's log does not.

use std::{fs::OpenOptions, io::Write as _, path::Path};

use backupd::{config, systemd::generator};

fn main() {
    // The first of three folders is that between /etc and /usr in priority. Without any, it was called by hand.
    let Some(output) = std::env::args_os().nth(1) else {
        eprintln!("backupd-generator is run by systemd, with the folder to write to; see systemd.generator(7)");
        return;
    };
    let program = std::env::current_exe().unwrap_or_default();
    let template = generator::template_beside(&program);
    let problems = generator::generate(Path::new(config::DEFAULT_DIRECTORY), Path::new(&output), &template);
    // There is no journal yet when a host boots.
    let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") else { return };
    for problem in problems.iter().flat_map(|problem| problem.lines()) {
        // A record of its own for each write; one that is lost is no reason to fail.
        let _ = log.write_all(format!("<4>backupd-generator: {problem}\n").as_bytes());
    }
}
