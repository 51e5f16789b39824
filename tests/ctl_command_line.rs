//! `backupctl` without a daemon: the command line, the configuration check, exit codes, a reader that goes away.

#![allow(clippy::unwrap_used, reason = "a broken expectation is what a test reports")]

use std::{
    fs,
    os::unix::net::UnixListener,
    path::Path,
    process::{Command, Output, Stdio},
};

fn backupctl(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backupctl"));
    command.args(arguments).env_remove("BACKUPD_ADDRESS").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    backupctl(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn configuration(source: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("sources.d")).unwrap();
    fs::write(folder.path().join("sources.d/shop.toml"), source).unwrap();
    folder
}

fn check(folder: &Path, options: &[&str]) -> Output {
    let mut arguments = vec!["config", "check", "--config-dir", folder.to_str().unwrap()];
    arguments.extend(options);
    run(&arguments)
}

#[test]
fn a_good_configuration() {
    let folder = configuration("type = \"postgresql\"\ndatabase = \"shop\"\n");
    let output = check(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), format!("{}: no problem found, 1 source.\n", folder.path().display()));
    let output = check(folder.path(), &["--json=short"]);
    assert_eq!(stdout(&output), "{\"problems\":[],\"sources\":[\"shop\"]}\n");
    assert_eq!(stdout(&check(folder.path(), &["-q"])), "");
}

#[test]
fn a_bad_configuration_is_78_and_names_file_line_and_key() {
    let folder = configuration("type = \"postgresql\"\ndatabase = \"shop\"\nport = \"x\"\n");
    let file = folder.path().join("sources.d/shop.toml");
    let output = check(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(stdout(&output), format!("{}:3: port: must be an integer, not a string\n", file.display()));
    assert!(stderr(&output).contains("has 1 problem"));
    let output = check(folder.path(), &["--json=short"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected =
        serde_json::json!([{"file": file, "line": 3, "key": "port", "message": "must be an integer, not a string"}]);
    assert_eq!((output.status.code(), &json["problems"]), (Some(78), &expected));
    let output = check(&folder.path().join("nothing"), &[]);
    assert_eq!(output.status.code(), Some(78));
}

#[test]
fn a_schedule_that_systemd_cannot_read_is_found() {
    let source = |schedule: &str| format!("type = \"postgresql\"\ndatabase = \"shop\"\nschedule = {schedule}\n");
    let folder = configuration(&source("[\"daily\", \"30 2 * * 1-5\"]"));
    assert_eq!(check(folder.path(), &[]).status.code(), Some(0));
    let folder = configuration(&source("[\"daily\", \"dayly\"]"));
    let output = check(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
    assert!(stdout(&output).contains("shop.toml: schedule: \"dayly\" is no calendar event"), "{}", stdout(&output));
}

#[test]
fn a_wrong_command_line_is_2() {
    for arguments in [&["frobnicate"][..], &["show"], &["--address", "nonsense", "list"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for arguments in [&["--help"][..], &["--version"], &["restore", "--help"], &["config", "check", "--help"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(!output.stdout.is_empty());
    }
}

#[test]
fn nobody_there_is_69_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:path={}/socket", folder.path().display());
    for output in
        [run(&["--address", &address, "list"]), backupctl(&[]).env("BACKUPD_ADDRESS", &address).output().unwrap()]
    {
        assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
        assert!(stderr(&output).contains(&address) && stderr(&output).contains("Hint: "), "{}", stderr(&output));
    }
}

#[test]
fn a_peer_that_hangs_up_is_69() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let peer = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let output = run(&["--address", &format!("unix:path={}", path.display()), "status"]);
    peer.join().unwrap();
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert!(!stderr(&output).contains("panicked"));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = configuration("x = 1\n");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let arguments = ["config", "check", "--config-dir", folder.path().to_str().unwrap()];
    let output = backupctl(&arguments).stdout(writer).output().unwrap();
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    assert!(!stderr(&output).contains("standard output"), "{}", stderr(&output));
}

#[test]
fn a_full_standard_output_is_an_error() {
    let folder = configuration("type = \"postgresql\"\ndatabase = \"shop\"\n");
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let arguments = ["config", "check", "--config-dir", folder.path().to_str().unwrap()];
    let output = backupctl(&arguments).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(13), "{}", stderr(&output));
}

#[test]
fn the_manual_has_every_error_and_every_verb() {
    use backupd::{ctl::arguments::Arguments, model::error_code::TABLE};
    use clap::CommandFactory as _;

    let manual = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man/backupctl.1")).unwrap();
    let codes = manual.split_once(".SH EXIT STATUS").unwrap().1;
    for row in TABLE {
        let (_, rest) = codes.split_once(&format!(".B {}\n", row.exit_code)).unwrap();
        let section = rest.split(".TP").next().unwrap();
        let hint = row.hint.replace('-', "\\-").replace('`', "\"");
        assert!(section.contains(&format!("{}: {hint}\n", row.name)), "{} ({})", row.name, row.exit_code);
    }
    for verb in Arguments::command().get_subcommands() {
        let name = verb.get_name();
        let found = [format!(".B {name}"), format!("\\fB{name}\\fR")].iter().any(|text| manual.contains(text));
        assert!(found, "the manual does not mention {name}");
    }
}

#[test]
fn the_manuals_have_every_option() {
    use backupd::ctl::arguments::Arguments;
    use clap::CommandFactory as _;

    let manual = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man").join(name);
        fs::read_to_string(path).unwrap().replace("\\-", "-")
    };
    let known = |text: &str, option: &str| {
        text.match_indices(option)
            .any(|(at, _)| !text[at + option.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-'))
    };
    let page = manual("backupctl.1");
    let mut commands = vec![Arguments::command()];
    while let Some(command) = commands.pop() {
        for option in command.get_arguments().filter_map(|argument| argument.get_long()) {
            assert!(known(&page, &format!("--{option}")), "backupctl(1) does not mention {option}");
        }
        commands.extend(command.get_subcommands().cloned());
    }
    let page = manual("backupd.8");
    let help = Command::new(env!("CARGO_BIN_EXE_backupd")).arg("--help").output().unwrap();
    let help = stdout(&help);
    for option in
        help.split_whitespace().filter(|word| word.starts_with("--") && !["--help", "--version"].contains(word))
    {
        assert!(known(&page, option.trim_end_matches([',', ']'])), "backupd(8) does not mention {option}");
    }
}

#[test]
fn a_password_on_the_command_line_is_refused() {
    let uri = "postgresql://anna:s3cret@db.invalid/";
    let output = run(&["--no-daemon", "--repository", "/nowhere", "restore", "abcd", "--connection", uri]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("$PGPASSFILE") && !stderr(&output).contains("s3cret"), "{}", stderr(&output));
}

#[test]
fn a_daemon_that_nobody_could_reach_does_not_start() {
    let folder = configuration("type = \"postgresql\"\ndatabase = \"shop\"\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_backupd"));
    command
        .args(["--bus", "none", "--config-dir"])
        .arg(folder.path())
        .arg("--state-dir")
        .arg(folder.path().join("state"));
    let output = command.env_remove("JOURNAL_STREAM").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}
