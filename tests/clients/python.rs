//! Python with GLib: the example of the documentation, and what only a program can do.

use std::{fs, process::Command, thread};

use super::message_bus::OnBus;
use crate::common::{Finished, project_file, run, wait_until};

/// Debian's own interpreter: the one that its python3-gi is for.
const PYTHON: &str = "/usr/bin/python3";

/// Runs the example; with `socket`, without the bus.
fn example(on: &OnBus, source: &str, socket: bool) -> Finished {
    run(&mut example_command(on, source, socket))
}

fn example_command(on: &OnBus, source: &str, socket: bool) -> Command {
    let mut python = on.bus.client(PYTHON);
    if socket {
        python.env("BACKUPD_ADDRESS", format!("unix:path={}", on.world.socket().display()));
    }
    python.arg(project_file("docs/examples/backup.py")).arg(source);
    python
}

#[test]
fn the_example_works_on_the_bus_and_the_socket() {
    let on = OnBus::start(None);
    for socket in [false, true] {
        let finished = example(&on, "shop", socket).ok();
        for word in ["phase: ", ": done, ", "1000 rows", "tags: python"] {
            assert!(finished.text().contains(word), "{word}: {finished}");
        }
        let missing = example(&on, "nothing", socket);
        assert!(!missing.status.success());
        missing.says(&["org.backupd1.Error.NoSuchSource"]);
    }
    assert_eq!(on.daemon.list().len(), 2);
}

#[test]
fn the_example_sees_that_its_job_was_cancelled() {
    let place = "data-begun";
    let on = OnBus::start(Some(place));
    let mut command = example_command(&on, "shop", false);
    let client = thread::spawn(move || run(&mut command));
    wait_until("the job is held", || on.is_held_at(place));
    on.daemon.ctl(&["cancel", &on.daemon.running_job()]).ok();
    on.release(place);
    let finished = client.join().expect("the client");
    assert!(!finished.status.success(), "{finished}");
    finished.says(&["canceled org.backupd1.Error.Canceled"]);
}

#[test]
fn restores_and_exports_to_descriptors_of_its_own_and_of_the_daemon() {
    let on = OnBus::start(None);
    on.daemon.create("shop", &[]);
    let output = on.world.path().join("shop.sql.gz");
    let script = project_file("tests/clients/operations.py");
    run(on.bus.client(PYTHON).arg(script).arg(&output)).ok();
    assert_eq!(on.count_in("from_python"), "1000");
    assert!(fs::metadata(&output).expect("the export").len() > 0);
    let text = run(Command::new("gzip").arg("-dc").arg(&output)).ok();
    assert!(text.text().contains("COPY public.t"), "no rows in the export");
}
