//! The client of the daemon; everything is in [`backupd::ctl`].

fn main() -> std::process::ExitCode {
    backupd::ctl::main()
}
