//! The completions of bash and zsh: real shells on a terminal, a real daemon that they ask.

use std::{fs, os::unix::net::UnixListener, path::Path, process::Command, time::Duration};

use super::message_bus::{MessageBus, OnBus};
use crate::common::{Daemon, Scratch, Server, World, postgres_source, project_file, run, run_within, wait_until};

const BACKUPCTL: &str = env!("CARGO_BIN_EXE_backupctl");

/// What the shell types for "insert all completions".
const ALL: &str = "\x1b*";

/// A server with the databases `shop` and `a b$`, and a daemon for which `shop` is a source, and `all` is all of it.
struct Shop {
    daemon: Daemon,
    world: World,
    _server: Server,
}

impl Shop {
    fn start() -> Self {
        let server = Server::start();
        server.sql("postgres", "CREATE DATABASE shop");
        server.sql("postgres", "CREATE DATABASE \"a b$\"");
        let world = World::new(&server);
        let file = postgres_source(&server, "all");
        world.source("all", &file);
        let daemon = world.start();
        daemon.create("shop", &["--tag", "nightly"]);
        daemon.ctl(&["create", "all"]).ok();
        Self { daemon, world, _server: server }
    }

    fn address(&self) -> String {
        format!("unix:path={}", self.world.socket().display())
    }
}

/// A shell on a terminal of its own. `backupctl` is a function there that notes its words, unless a script of ours asks for the program.
struct Shell {
    program: &'static str,
    folder: Scratch,
}

impl Shell {
    fn new(program: &'static str) -> Self {
        let folder = Scratch::new();
        // Below the names that are installed.
        fs::create_dir(folder.join("folder-of-zsh")).expect("a folder");
        fs::copy(project_file("packaging/completions/_backupctl"), folder.join("folder-of-zsh/_backupctl"))
            .expect("zsh's");
        fs::copy(project_file("packaging/completions/backupctl.bash"), folder.join("backupctl.bash")).expect("bash's");
        let note = "backupctl() { local words; words=$(printf '[%s]' \"$@\"); echo \"$words\" >>\"$NOTES\"; echo \"$words\"; }\n";
        let bash = format!(
            "PS1='$ '\nbind 'set enable-bracketed-paste off'\n. {}\n{note}",
            folder.join("backupctl.bash").display()
        );
        let zsh = format!(
            "PS1='$ '\nLISTMAX=1000\nunsetopt prompt_cr prompt_sp\nfpath=({} $fpath)\nautoload -U compinit\ncompinit -u -D\n\
             zstyle ':completion:*' insert-tab false\n{note}",
            folder.join("folder-of-zsh").display()
        );
        fs::write(folder.join("file-to-write"), "").expect("a file");
        fs::write(folder.join("bashrc"), bash).expect("bashrc");
        fs::write(folder.join(".zshrc"), zsh).expect(".zshrc");
        Self { program, folder }
    }

    /// Types lines; gives the words that each of them came to, in brackets, and what the terminal showed.
    fn types(&self, address: &str, lines: &[&str]) -> (Vec<String>, String) {
        let notes = self.folder.join("notes");
        fs::write(&notes, "").expect("notes");
        let line = match self.program {
            "bash" => format!("bash --noprofile --rcfile {} -i", self.folder.join("bashrc").display()),
            other => format!("{other} -d -i"),
        };
        let programs = Path::new(BACKUPCTL).parent().expect("a folder");
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", programs.display()));
        command.env("BACKUPD_ADDRESS", address).env("ZDOTDIR", self.folder.path()).env("HOME", self.folder.path());
        command.env("NOTES", &notes).env("TERM", "xterm").env("LC_ALL", "C.UTF-8").current_dir(self.folder.path());
        let typed = lines.join("\n") + "\nexit\n";
        let finished = run_within(Duration::from_secs(60), &mut command, typed.as_bytes());
        let noted = fs::read_to_string(&notes).expect("notes").lines().map(str::to_owned).collect();
        (noted, String::from_utf8_lossy(&finished.stdout).into_owned())
    }
}

/// Types lines, each of which must come to these words.
#[track_caller]
fn completes(shell: &Shell, address: &str, pairs: &[(&str, &str)]) {
    let (lines, words): (Vec<&str>, Vec<&str>) = pairs.iter().copied().unzip();
    let (noted, shown) = shell.types(address, &lines);
    assert_eq!(noted, words, "{} showed:\n{shown}", shell.program);
}

/// What both shells do alike.
#[track_caller]
fn completes_alike(shell: &Shell, shop: &Shop) {
    let address = shop.address();
    completes(
        shell,
        &address,
        &[
            ("backupctl statu\t", "[status]"),
            ("backupctl restore --dry\t", "[restore][--dry-run]"),
            ("backupctl verify --level=da\t", "[verify][--level=data]"),
            ("backupctl verify --level pa\t", "[verify][--level][packs]"),
            ("backupctl create sh\t", "[create][shop]"),
            ("backupctl list --source=sh\t", "[list][--source=shop]"),
            ("backupctl show shop@la\t", "[show][shop@latest]"),
            ("backupctl show shop@\tl\t", "[show][shop@latest]"),
            ("backupctl show shop\t", "[show][shop@latest]"),
            ("backupctl create all/a\t", "[create][all/a b$]"),
            ("backupctl create 'all/a\t", "[create][all/a b$]"),
            ("backupctl create \"all/a\t", "[create][all/a b$]"),
            ("backupctl show all/a\t", "[show][all/a b$@latest]"),
            ("backupctl list --tag night\t", "[list][--tag][nightly]"),
            ("backupctl --no-daemon --repository folder-o\tlist", "[--no-daemon][--repository][folder-of-zsh/list]"),
            // No job runs.
            ("backupctl cancel \t", "[cancel]"),
        ],
    );
    let backups = shop.daemon.list();
    let backup = backups.iter().find(|backup| backup["source"] == "shop").expect("a backup");
    let id = backup["id"].as_str().expect("an id");
    // Not so few digits that they could be another's.
    let (typed, whole) = (format!("backupctl delete {}\t", &id[..6]), format!("[delete][{}]", &id[..8]));
    completes(shell, &address, &[(&typed, &whole)]);
    let listed = shop.daemon.ctl(&["list", "shop", "--no-legend"]).ok();
    let taken: Vec<&str> = listed.text().split_whitespace().skip(2).take(2).collect();
    let instant = format!("[show][shop@{}]", taken.join("T"));
    completes(shell, &address, &[("backupctl show shop@2\t", &instant)]);
}

#[test]
fn bash_asks_the_daemon() {
    let (shop, shell) = (Shop::start(), Shell::new("bash"));
    completes_alike(&shell, &shop);
    let (sources, jobs) = (format!("backupctl create {ALL}"), format!("backupctl jobs {ALL}"));
    let found = [(sources.as_str(), "[create][all][shop][all/a b$][all/postgres][all/shop]"), (&jobs, "[jobs][2][1]")];
    completes(&shell, &shop.address(), &found);
    // What belongs to the shell it completes itself.
    completes(&shell, &shop.address(), &[("backupctl export shop@latest >file-to-wr\t", "[export][shop@latest]")]);
    assert_eq!(
        fs::read_to_string(shell.folder.join("file-to-write")).expect("what was written"),
        "[export][shop@latest]\n"
    );
}

#[test]
fn zsh_asks_the_daemon() {
    let (shop, shell) = (Shop::start(), Shell::new("zsh"));
    completes_alike(&shell, &shop);
    let (_, shown) = shell.types(&shop.address(), &["backupctl jobs \t"]);
    assert!(shown.contains("-- create shop done") && shown.contains("-- create all done"), "{shown}");
}

#[test]
fn a_daemon_that_is_away_or_hangs_is_not_noticed() {
    let folder = Scratch::new();
    let (away, hung) = (folder.join("away"), folder.join("hung"));
    // It accepts, as the kernel does for it, and says nothing.
    let _listener = UnixListener::bind(&hung).expect("listen");
    for program in ["bash", "zsh"] {
        let shell = Shell::new(program);
        for socket in [&away, &hung] {
            let lines = ["backupctl create sh\t", "backupctl show \t", "backupctl relo\t"];
            let (noted, shown) = shell.types(&format!("unix:path={}", socket.display()), &lines);
            assert_eq!(noted, ["[create][sh]", "[show]", "[reload]"], "{program} showed:\n{shown}");
            for word in ["annot", "error", "Hint", "panicked"] {
                assert!(!shown.contains(word), "{program} showed:\n{shown}");
            }
        }
    }
}

#[test]
fn no_daemon_is_started_for_a_completion() {
    let bus = MessageBus::start();
    let mark = bus.activate();
    let completed = run(bus.client(BACKUPCTL).args(["complete", "zsh", "backupctl", "create", ""])).ok();
    assert_eq!((completed.text(), completed.stderr.as_str()), ("", ""));
    assert!(!mark.exists());
    // Who calls it in earnest does have it started.
    assert_eq!(run(bus.client(BACKUPCTL).arg("sources")).status.code(), Some(69));
    assert!(mark.exists());
}

#[test]
fn only_a_job_that_runs_is_offered_to_be_cancelled() {
    let place = "data-begun";
    let on = OnBus::start(Some(place));
    let offered =
        |verb| run(on.bus.client(BACKUPCTL).args(["complete", "zsh", "backupctl", verb, ""])).ok().text().to_owned();
    assert_eq!(offered("cancel"), "");
    run(on.bus.client(BACKUPCTL).args(["create", "--no-block", "shop"])).ok();
    wait_until("the job is held", || on.is_held_at(place));
    assert!(offered("cancel").starts_with("1\tcreate shop "), "{}", offered("cancel"));
    on.release(place);
    wait_until("none runs", || offered("cancel").is_empty());
    assert_eq!(offered("jobs"), "1\tcreate shop done\n");
}
