//! Notices by mail, to a real server with STARTTLS and a password, and what stands in their way.

use std::net::TcpListener;

use backupd::model::ErrorCode;

use super::notified::{Authority, Does, Receiver, credentials};
use crate::common::{World, sqlite_source};

const PASSWORD: &str = "open sesame";

/// The table of a notifier that writes to a server on this host.
fn mail(name: &str, port: u16, authority: &Authority, more: &str) -> String {
    format!(
        "[notify.{name}]\ntype = \"mail\"\nto = [\"Ops <ops@example.org>\"]\nfrom = \"db1@example.org\"\nserver = \"127.0.0.1\"\n\
         port = {port}\nuser = \"backupd\"\npassword_credential = \"smtp\"\nca_file = \"{}\"\ngroup = \"off\"\n\
         events = [\"failure\"]\n{more}",
        authority.file().display()
    )
}

fn world(notifiers: &str, password: &str) -> World {
    let mut world = World::without_sources();
    world.source("gone", &sqlite_source(&world.path().join("gone.sqlite")));
    world.configure(&format!("[repository]\npath = \"{}\"\n{notifiers}", world.repository().display()));
    let folder = credentials(world.path(), &[("smtp", password)]);
    world.set_env("CREDENTIALS_DIRECTORY", folder);
    world
}

#[test]
fn a_mail_arrives_by_starttls_and_password() {
    let authority = Authority::new("IP:127.0.0.1");
    let server = Receiver::smtp(&[Does::Takes], &authority);
    let world = world(&mail("ops", server.port, &authority, ""), PASSWORD);
    let daemon = world.start();
    daemon.ctl(&["create", "gone"]).fails_with(ErrorCode::NoSuchDatabase);
    let mail = server.next();
    assert_eq!(mail.line, format!("backupd {PASSWORD}"));
    for line in
        ["To: Ops <ops@example.org>", "From: db1@example.org", "Subject: [backupd ", "Auto-Submitted: auto-generated"]
    {
        assert!(mail.body.lines().any(|found| found.starts_with(line)), "{line}: {}", mail.body);
    }
    assert!(mail.body.contains("CRITICAL: The backup of gone could not begin"), "{}", mail.body);
    daemon.ctl(&["notify", "test", "ops"]).ok();
    assert!(server.next().body.contains("TEST: This is a test"));
    assert!(!world.log().contains(PASSWORD), "{}", world.log());
}

#[test]
fn several_failures_at_once_are_one_mail() {
    let authority = Authority::new("IP:127.0.0.1");
    let server = Receiver::smtp(&[Does::Takes], &authority);
    let table = mail("ops", server.port, &authority, "").replace("group = \"off\"", "group = \"2s\"");
    let world = world(&table, PASSWORD);
    world.source("lost", &sqlite_source(&world.path().join("lost.sqlite")));
    let daemon = world.start();
    for source in ["gone", "lost"] {
        daemon.ctl(&["create", source]).fails_with(ErrorCode::NoSuchDatabase);
    }
    let mail = server.next().body;
    assert!(mail.contains("(and 1 more)") && mail.contains("source: gone") && mail.contains("source: lost"), "{mail}");
    assert!(server.is_empty());
}

#[test]
fn what_stands_in_the_way_of_a_mail_is_said_without_the_password() {
    let (authority, stranger) = (Authority::new("IP:127.0.0.1"), Authority::new("IP:127.0.0.1"));
    let good = Receiver::smtp(&[Does::Takes], &authority);
    let hangs = Receiver::smtp(&[Does::Hangs], &authority);
    let refuses = Receiver::smtp(&[Does::Answers(550)], &authority);
    let foreign = Receiver::smtp(&[Does::Takes], &stranger);
    // A port at which nobody listens any more.
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let notifiers = [
        mail("password", good.port, &authority, ""),
        mail("hangs", hangs.port, &authority, "timeout = \"1s\"\n"),
        mail("refuses", refuses.port, &authority, ""),
        mail("stranger", foreign.port, &authority, ""),
        mail("closed", closed, &authority, ""),
    ];
    let world = world(&notifiers.concat(), "wr0ng pass");
    let daemon = world.start();
    for (name, words) in [
        ("password", ["535", "wrong password"]),
        ("hangs", ["hangs: ", "1 seconds"]),
        ("stranger", ["invalid peer certificate", "127.0.0.1"]),
        ("closed", ["refused", "127.0.0.1"]),
    ] {
        let failed = daemon.ctl(&["notify", "test", name]);
        failed.fails_with(ErrorCode::Failed);
        failed.says(&words);
        assert!(!failed.stderr.contains("wr0ng"), "{failed}");
    }
    // Each is tried by itself; the exit code tells of those that failed.
    let all = daemon.ctl(&["notify", "test", "--json=short"]);
    all.fails_with(ErrorCode::Failed);
    assert_eq!(all.json()["notifiers"].as_array().expect("notifiers").len(), 5);
    credentials(world.path(), &[("smtp", PASSWORD)]);
    daemon.ctl(&["notify", "test", "password"]).ok();
    daemon.ctl(&["notify", "test", "refuses"]).says(&["550"]);
    daemon.ctl(&["notify", "test", "nobody"]).fails_with(ErrorCode::InvalidArgs);
    assert!(!world.log().contains("wr0ng") && !world.log().contains(PASSWORD), "{}", world.log());
}
