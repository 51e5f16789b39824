//! Messages at their limits: what is too long to say, listings of any length, and clients that do not keep the rules.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    sync::Arc,
};

use backupd::{
    bus::{
        limits::{DESCRIPTION, PATTERNS, TAG, TAGS, TEXT},
        proxy::ManagerProxy,
        server::{Bus, Server},
        types::Options,
    },
    model::summary::BackupSummary,
    service::operations::{ListFilter, Operations},
};
use futures_util::StreamExt as _;
use zbus::{Connection, MessageStream, Variant, connection::Builder};

use crate::{
    listening::what,
    private_bus::PrivateBus,
    support::{Daemon, LONG, Simulation},
};

/// The message of a call that was refused as InvalidArgs.
fn refusal<T: std::fmt::Debug>(answer: zbus::Result<T>) -> String {
    match answer {
        Err(zbus::Error::FDO(error)) => match *error {
            zbus::fdo::Error::InvalidArgs(message) => message,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_long_is_refused_with_the_limit_and_not_repeated() {
    let daemon = Daemon::start();
    let client = daemon.connect().await;
    let manager = ManagerProxy::new(&client).await.unwrap();
    let none = Options::new();
    let text = |length: usize| "x".repeat(length);
    let lists = [
        ("description", Variant::from(text(40 << 20)), DESCRIPTION),
        ("description", text(DESCRIPTION + 1).into(), DESCRIPTION),
        ("tags", vec!["x"; TAGS + 1].into(), TAGS),
        ("tags", vec![text(TAG + 1)].into(), TAG),
        ("include-tables", vec!["x"; PATTERNS + 1].into(), PATTERNS),
        ("exclude-schemas", vec![text(1 << 20); 40].into(), 1024),
    ];
    for (option, value, limit) in lists {
        let message = refusal(manager.create_backup("shop", &Options::from([(option, value)]), 0).await);
        assert!(message.contains(option) && message.contains(&limit.to_string()), "{message}");
        assert!(message.len() < 200, "{message}");
    }
    let long = text(TEXT + 1);
    let filter = |option| Options::from([(option, Variant::from(text(TEXT + 1)))]);
    let refused = [
        refusal(manager.create_backup(&long, &none, 0).await),
        refusal(manager.restore_backup("ab", &filter("to"), 0).await),
        refusal(manager.plan_restore("ab", &filter("owner"), 0).await),
        refusal(manager.verify_backup("", &filter("source"), 0).await),
        refusal(manager.delete_backup(&long, &none, 0).await),
        refusal(manager.open_backup(&long, &none, 0).await),
        refusal(manager.get_backup(&long, 0).await),
        refusal(manager.describe_backup(&long, 0).await),
        refusal(manager.get_source(&long).await),
        refusal(manager.list_backups(&filter("tag"), 0, "", 0).await),
        refusal(manager.list_backups(&none, 0, &long, 0).await),
    ];
    for message in refused {
        assert!(message.len() < 200 && message.ends_with("at most 4096"), "{message}");
    }
    // The name of an option that is not known is cut.
    let options = std::collections::HashMap::from([(text(30 << 20), Variant::from(true))]);
    let body = ("shop", options, 0_u64);
    let answer = client.call_method(None::<&str>, "/org/backupd1", Some("org.backupd1.Manager"), "CreateBackup", &body);
    assert!(refusal(answer.await).len() < 2 * TEXT);

    assert!(manager.list_jobs(0).await.unwrap().is_empty());
    let longest = Options::from([
        ("description", Variant::from(text(DESCRIPTION))),
        ("tags", vec![text(TAG); TAGS].into()),
        ("exclude-tables", vec!["x"; PATTERNS].into()),
    ]);
    manager.create_backup("shop", &longest, 0).await.unwrap();
}

/// Backups that a walk has to pass, the longest with more text than a message bus takes at once.
fn many(service: &Simulation, count: u64) -> Vec<BackupSummary> {
    let one = service.list(&ListFilter::default(), 0, "").unwrap().backups.remove(0);
    let mut backups: Vec<_> = (1..=count).map(|sequence| BackupSummary { sequence, ..one.clone() }).collect();
    for (number, backup) in (1_u32..).zip(&mut backups[100..300]) {
        backup.description = "d".repeat(60_000);
        backup.tags = vec![format!("{number}").repeat(1000); 30];
    }
    backups[20].description = "d".repeat(70 << 20);
    backups[21].tags = vec!["t".repeat(1000); 70_000];
    backups
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_over_many_backups_fits_the_messages_of_a_bus() {
    let Some(bus) = PrivateBus::start() else { return };
    let service = Simulation::new(&bus.folder.path().join("state"));
    let backups = many(&service, 200_000);
    service.keep(backups);
    let server = Server::new(Arc::clone(&service) as Arc<dyn Operations>);
    let connection = server.join_bus(&Bus::At(bus.address.clone())).await.unwrap();
    let client = Builder::address(bus.address.as_str()).build().await.unwrap();
    let manager = ManagerProxy::new(&client).await.unwrap();
    let mut stream = MessageStream::from(&client);
    let (mut cursor, mut expected) = (String::new(), 200_000);
    while expected > 0 {
        let (rows, next) = manager.list_backups(&Options::new(), 0, &cursor, 0).await.unwrap();
        for row in rows {
            assert_eq!(row.sequence, expected);
            expected -= 1;
        }
        let size = loop {
            let message = tokio::time::timeout(LONG, stream.next()).await.unwrap().unwrap().unwrap();
            if what(&message) == "answer" {
                break message.data().len();
            }
        };
        assert!(size < 8 << 20, "a page of {size} bytes");
        assert_eq!(next.is_empty(), expected == 0);
        cursor = next;
    }
    assert!(!connection.is_closed());
    server.stop().await;
}

/// Sends a call on this connection, which the other end may close over it.
async fn send_long_call(client: &Connection, bytes: usize) -> zbus::Result<()> {
    let options = Options::from([("description", Variant::from("x".repeat(bytes)))]);
    ManagerProxy::new(client).await?.create_backup("shop", &options, 0).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_over_the_limit_ends_only_the_connection_of_its_sender() {
    // A message bus closes the connection of the client, and the daemon never sees it.
    if let Some(bus) = PrivateBus::start() {
        let service = Simulation::new(&bus.folder.path().join("state"));
        let server = Server::new(Arc::clone(&service) as Arc<dyn Operations>);
        let connection = server.join_bus(&Bus::At(bus.address.clone())).await.unwrap();
        let client = Builder::address(bus.address.as_str()).build().await.unwrap();
        let other = Builder::address(bus.address.as_str()).build().await.unwrap();
        assert!(tokio::time::timeout(LONG, send_long_call(&client, 40 << 20)).await.unwrap().is_err());
        tokio::time::timeout(LONG, client.closed()).await.unwrap();
        assert!(ManagerProxy::new(&other).await.unwrap().list_jobs(0).await.unwrap().is_empty());
        assert!(!connection.is_closed());
        server.stop().await;
    }
    // On its own socket the daemon does, as soon as it reads the length.
    let daemon = Daemon::start();
    let other = daemon.connect().await;
    let mut raw = authenticated(&daemon);
    let mut header = vec![b'l', 1, 0, 1];
    header.extend(200_u32.checked_mul(1 << 20).unwrap().to_le_bytes());
    header.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    raw.write_all(&header).unwrap();
    let end = tokio::task::spawn_blocking(move || raw.read_to_end(&mut Vec::new()));
    tokio::time::timeout(LONG, end).await.expect("the connection stays open").unwrap().unwrap();
    assert!(ManagerProxy::new(&other).await.unwrap().list_jobs(0).await.unwrap().is_empty());
}

/// A client of the socket that is past the handshake, and speaks for itself from there.
pub(crate) fn authenticated(daemon: &Daemon) -> UnixStream {
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let uid: String = nix::unistd::geteuid().to_string().bytes().map(|digit| format!("{digit:02x}")).collect();
    stream.write_all(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.extend(byte);
    }
    assert!(answer.starts_with(b"OK "), "{}", String::from_utf8_lossy(&answer));
    stream.write_all(b"BEGIN\r\n").unwrap();
    stream
}
