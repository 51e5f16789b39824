//! Notices on their way to real servers, and what stands in it.

use std::time::{Duration, Instant};

use backupd::model::ErrorCode;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::notified::{Authority, Does, Receiver, credentials};
use super::sqlite::sqlite3;
use crate::common::{Daemon, World, sqlite_source, wait_until};

const SECRET: &str = "T0S3CR3T";

/// A daemon's folders with a source `shop` that works, a source `gone` whose file is not there, and notifiers.
fn world(notifiers: &str, secrets: &[(&str, &str)]) -> World {
    let mut world = World::without_sources();
    let database = world.path().join("shop.sqlite");
    sqlite3(&database, "CREATE TABLE t (n); INSERT INTO t VALUES (1)");
    world.source("shop", &sqlite_source(&database));
    world.source("gone", &sqlite_source(&world.path().join("gone.sqlite")));
    configure(&world, notifiers);
    let folder = credentials(world.path(), secrets);
    world.set_env("CREDENTIALS_DIRECTORY", folder);
    world
}

fn configure(world: &World, notifiers: &str) {
    world.configure(&format!("[repository]\npath = \"{}\"\n{notifiers}", world.repository().display()));
}

/// The URL of a server, with a secret in its path.
fn url(scheme: &str, port: u16) -> String {
    format!("{scheme}://127.0.0.1:{port}/hooks/{SECRET}?key={SECRET}")
}

/// A backup that cannot be taken.
fn fail(daemon: &Daemon) {
    daemon.ctl(&["create", "gone"]).fails_with(ErrorCode::NoSuchDatabase);
}

/// What waits for a notifier.
fn queue(daemon: &Daemon, name: &str) -> Value {
    let value = daemon.ctl(&["notify", "queue", "--json=short"]).ok().json();
    let notifiers = value["notifiers"].as_array().expect("notifiers").clone();
    notifiers.into_iter().find(|one| one["name"] == name).expect("the notifier")
}

/// Nothing that the daemon wrote or keeps has the secret.
fn assert_no_secret(world: &World, daemon: &Daemon) {
    let queue = daemon.ctl(&["notify", "queue", "--json=short"]).ok().text().to_owned();
    for text in [world.log(), queue] {
        assert!(!text.contains(SECRET) && !text.contains("open sesame"), "{text}");
    }
}

#[test]
fn a_failure_and_its_end_get_through_although_the_server_fails_at_first() {
    let server = Receiver::http(&[Does::Answers(503), Does::Takes], None);
    let chat = "[notify.chat]\ntype = \"webhook\"\nurl_credential = \"chat\"\nsigning_key_credential = \"key\"\n\
                events = [\"failure\", \"recovery\"]\ngroup = \"off\"\n";
    let world = world(chat, &[("chat", &url("http", server.port)), ("key", "k")]);
    let daemon = world.start();
    fail(&daemon);
    let (refused, told) = (server.next(), server.next());
    assert_eq!(refused.body, told.body, "it is the same notice");
    assert!(told.line.starts_with(&format!("POST /hooks/{SECRET}?key={SECRET} ")), "{}", told.line);
    assert!(told.header.contains("x-backupd-signature: t="), "{}", told.header);
    let body: Value = serde_json::from_str(&told.body).expect("JSON");
    let text = body["text"].as_str().expect("text");
    assert!(text.starts_with("CRITICAL: The backup of gone could not begin: "), "{text}");
    // The same again is no news; that it is over is.
    fail(&daemon);
    sqlite3(&world.path().join("gone.sqlite"), "CREATE TABLE t (n)");
    daemon.create("gone", &[]);
    let over: Value = serde_json::from_str(&server.next().body).expect("JSON");
    assert!(over["text"].as_str().expect("text").starts_with("RECOVERED: "), "{over}");
    wait_until("nothing waits", || queue(&daemon, "chat")["waiting"] == Value::Array(Vec::new()));
    assert!(server.is_empty());
    assert_no_secret(&world, &daemon);
}

#[test]
fn what_is_refused_for_good_is_given_up_and_counted() {
    let server = Receiver::http(&[Does::Answers(400), Does::Takes], None);
    let chat =
        "[notify.chat]\ntype = \"webhook\"\nurl_credential = \"chat\"\nevents = [\"failure\"]\ngroup = \"off\"\n";
    let world = world(chat, &[("chat", &url("http", server.port))]);
    let daemon = world.start();
    fail(&daemon);
    server.next();
    wait_until("it is given up", || queue(&daemon, "chat")["dropped"] == 1);
    assert!(world.log().contains("1 notice could not be told through chat and will not be"), "{}", world.log());
    // Since it was not told, the next failure is news, and says that something was lost.
    fail(&daemon);
    assert!(server.next().body.contains("Before this, 1 notice could not be told"));
    assert_no_secret(&world, &daemon);
}

#[test]
fn what_waits_when_the_daemon_is_killed_is_told_by_the_next() {
    let (hanging, good) = (Receiver::http(&[Does::Hangs], None), Receiver::http(&[Does::Takes], None));
    let chat =
        "[notify.chat]\ntype = \"webhook\"\nurl_credential = \"chat\"\nevents = [\"failure\"]\ngroup = \"off\"\n";
    let world = world(chat, &[("chat", &url("http", hanging.port))]);
    let mut daemon = world.start();
    fail(&daemon);
    let lost = hanging.next();
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    credentials(world.path(), &[("chat", &url("http", good.port))]);
    let daemon = world.start();
    assert_eq!(good.next().body, lost.body);
    wait_until("nothing waits", || queue(&daemon, "chat")["waiting"] == Value::Array(Vec::new()));
}

#[test]
fn a_notifier_that_hangs_delays_no_backup_and_a_ping_tells_start_and_end() {
    let (hanging, monitor) = (Receiver::http(&[Does::Hangs], None), Receiver::http(&[Does::Takes], None));
    let notifiers = "[notify.chat]\ntype = \"webhook\"\nurl_credential = \"chat\"\nmin_severity = \"info\"\ngroup = \"off\"\n\
                     [notify.monitor]\ntype = \"ping\"\nurl_credential = \"monitor\"\n";
    let secrets =
        [("chat", &*url("http", hanging.port)), ("monitor", &*format!("http://127.0.0.1:{}/{SECRET}", monitor.port))];
    let world = world(notifiers, &secrets);
    let daemon = world.start();
    let began = Instant::now();
    daemon.create("shop", &[]);
    fail(&daemon);
    // A try has 30 seconds.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let lines: Vec<String> = (0..3).map(|_| monitor.next().line).collect();
    let wanted = ["/start", "", "/fail"].map(|suffix| format!("POST /{SECRET}{suffix} HTTP/1.1"));
    assert_eq!(lines, wanted);
    // And it does not keep the daemon from ending.
    let began = Instant::now();
    assert!(daemon.stop().success());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn a_reload_takes_new_notifiers_and_forgets_what_waits_for_others() {
    let (hanging, good) = (Receiver::http(&[Does::Hangs], None), Receiver::http(&[Does::Takes], None));
    let table = |name: &str| {
        format!(
            "[notify.{name}]\ntype = \"webhook\"\nurl_credential = \"{name}\"\nevents = [\"failure\"]\ngroup = \"off\"\n"
        )
    };
    let secrets = [("old", &*url("http", hanging.port)), ("new", &*url("http", good.port))];
    let world = world(&table("old"), &secrets);
    let daemon = world.start();
    fail(&daemon);
    hanging.next();
    configure(&world, &table("new"));
    daemon.ctl(&["reload"]).ok();
    wait_until("the old queue is gone", || !world.path().join("state/notices/old").exists());
    wait_until("there is a new queue", || world.path().join("state/notices/new").exists());
    fail(&daemon);
    assert!(good.next().body.contains("gone"));
}

#[test]
fn tls_is_checked() {
    let (trusted, stranger) = (Authority::new("IP:127.0.0.1"), Authority::new("IP:127.0.0.1"));
    let other_host = Authority::new("DNS:example.org");
    let servers = [&trusted, &stranger, &other_host].map(|authority| Receiver::http(&[Does::Takes], Some(authority)));
    let table = |name: &str, authority: &Authority| {
        format!(
            "[notify.{name}]\ntype = \"webhook\"\nurl_credential = \"{name}\"\nca_file = {:?}\n",
            authority.file().display().to_string()
        )
    };
    let notifiers = table("good", &trusted) + &table("stranger", &trusted) + &table("other", &other_host);
    let urls = [0, 1, 2].map(|i: usize| url("https", servers[i].port));
    let world = world(&notifiers, &[("good", &urls[0]), ("stranger", &urls[1]), ("other", &urls[2])]);
    let daemon = world.start();
    assert!(daemon.ctl(&["notify", "test", "good"]).ok().text().contains("good (webhook): taken"));
    assert!(servers[0].next().body.contains("TEST: This is a test"));
    for name in ["stranger", "other"] {
        let failed = daemon.ctl(&["notify", "test", name]);
        failed.fails_with(ErrorCode::Failed);
        failed.says(&["TLS failed", "certificate"]);
    }
    assert!(servers[1].is_empty() && servers[2].is_empty(), "no secret goes to a stranger");
    assert_no_secret(&world, &daemon);
}

#[test]
fn a_backup_that_died_with_the_daemon_is_told_by_the_next() {
    let server = Receiver::http(&[Does::Takes], None);
    let chat =
        "[notify.chat]\ntype = \"webhook\"\nurl_credential = \"chat\"\nevents = [\"failure\"]\ngroup = \"off\"\n";
    let mut world = world(chat, &[("chat", &url("http", server.port))]);
    world.set_env("BACKUPD_FAIL_POINT", "pack-renamed=kill");
    let mut daemon = world.start();
    // Until what is remembered of jobs has begun, there is nothing to make up for.
    wait_until("notices are looked after", || world.path().join("state/notices/seen").exists());
    assert!(!daemon.ctl(&["create", "shop"]).status.success());
    daemon.wait();
    world.unset_env("BACKUPD_FAIL_POINT");
    let daemon = world.start();
    let body = server.next().body;
    assert!(body.contains("was interrupted: create of shop"), "{body}");
    // And not by the one after that.
    wait_until("nothing waits", || queue(&daemon, "chat")["waiting"] == Value::Array(Vec::new()));
    assert!(daemon.stop().success());
    let daemon = world.start();
    fail(&daemon);
    assert!(server.next().body.contains("The backup of gone could not begin"));
}
