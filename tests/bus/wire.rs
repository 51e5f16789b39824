//! The D-Bus interface on the daemon's own socket: contract, error names, order of signals, clients that come and go.

use std::{
    collections::HashMap,
    io::Read as _,
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
};

use crate::{
    listening::{JOB, MANAGER, error_name, next, until, what},
    support::{Daemon, LONG, address},
};
use backupd::{
    bus::{
        MANAGER_PATH, job_path,
        proxy::{JobProxy, ManagerProxy, connect_peer, service_error},
        types::{self, Options},
    },
    model::{ErrorCode, summary::BackupSummary},
    service::{
        jobs::JobState,
        operations::{ListFilter, Operations as _},
    },
};
use futures_util::StreamExt as _;
use zbus::{MessageStream, Variant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_have_their_names() {
    let daemon = Daemon::start();
    let client = daemon.connect().await;
    let none = Options::new();
    let unknown = Options::from([("colour", Variant::from("red"))]);
    let invalid = "org.freedesktop.DBus.Error.InvalidArgs";
    let call = async |method: &'static str, body: (&str, &Options<'_>, u64)| {
        error_name(&client, MANAGER_PATH, MANAGER, method, &body).await
    };
    assert_eq!(call("CreateBackup", ("missing", &none, 0)).await, "org.backupd1.Error.NoSuchSource");
    assert_eq!(call("CreateBackup", ("shop", &unknown, 0)).await, invalid);
    assert_eq!(call("CreateBackup", ("shop", &none, 1)).await, invalid);
    assert_eq!(call("RestoreBackup", ("shop@latest", &none, 0)).await, "org.backupd1.Error.RestoreRefused");
    assert_eq!(call("DeleteBackup", ("ab", &none, 0)).await, "org.backupd1.Error.NoSuchBackup");
    assert_eq!(call("DeleteBackup", ("ab", &unknown, 0)).await, invalid);
    let name =
        async |method: &'static str, body: (u64,)| error_name(&client, MANAGER_PATH, MANAGER, method, &body).await;
    assert_eq!(name("Reload", (0,)).await, "org.backupd1.Error.ConfigInvalid");
    assert_eq!(name("Reload", (4,)).await, invalid);
    assert_eq!(name("GetJob", (77,)).await, "org.backupd1.Error.NoSuchJob");
    // The wrong signature, and what does not exist.
    assert_eq!(name("CreateBackup", (1,)).await, invalid);
    assert_eq!(error_name(&client, MANAGER_PATH, MANAGER, "CancelJob", &("x", 0_u64)).await, invalid);
    assert_eq!(name("Nonsense", (1,)).await, "org.freedesktop.DBus.Error.UnknownMethod");
    let gone = error_name(&client, "/org/backupd1/job/_9", JOB, "Cancel", &(0_u64,)).await;
    assert_eq!(gone, "org.freedesktop.DBus.Error.UnknownObject");
    // Codes and messages come back on the client's side, of either family of names.
    let manager = ManagerProxy::new(&client).await.unwrap();
    let missing = service_error(manager.create_backup("missing", &none, 0).await.unwrap_err());
    assert_eq!(
        (missing.code(), missing.to_string().as_str()),
        (ErrorCode::NoSuchSource, "there is no source \"missing\"")
    );
    let refused = service_error(manager.create_backup("shop", &unknown, 0).await.unwrap_err());
    assert_eq!(refused.code(), ErrorCode::InvalidArgs);
    daemon.server.stop().await;
    let gone = service_error(manager.create_backup("shop", &none, 0).await.unwrap_err());
    assert_eq!(gone.code(), ErrorCode::DaemonUnreachable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_come_in_their_order_and_tell_the_outcome() {
    let daemon = Daemon::start();
    let client = daemon.connect().await;
    let other = daemon.connect().await;
    let mut stream = MessageStream::from(&client);
    let mut elsewhere = MessageStream::from(&other);
    let manager = ManagerProxy::new(&client).await.unwrap();
    let (number, path) = manager.create_backup("shop", &Options::new(), 0).await.unwrap();
    assert_eq!(path.as_str(), job_path(number));
    assert_eq!(until(&mut stream, "answer").await, ["InterfacesAdded", "JobNew", "answer"]);
    assert_eq!(until(&mut elsewhere, "JobNew").await, ["InterfacesAdded", "JobNew"]);

    let job = JobProxy::builder(&client).path(&path).build().await.unwrap();
    assert_eq!((job.job_type().await.unwrap(), job.source().await.unwrap()), ("create".into(), "shop".into()));
    assert_eq!(job.started_by_uid().await.unwrap(), nix::unistd::geteuid().as_raw());
    while job.bytes_done().await.unwrap() < 250 {
        next(&mut stream).await;
    }
    assert_eq!(manager.get_job(number).await.unwrap(), path);
    let mut finished = job.receive_finished().await.unwrap();
    daemon.service.release();
    let arguments = finished.next().await.unwrap();
    let arguments = arguments.args().unwrap();
    assert_eq!((arguments.result.as_str(), arguments.error_name.as_str()), ("done", ""));
    assert_eq!(u64::try_from(arguments.statistics["rows"].clone()).unwrap(), 5);
    let end = ["BackupAdded", "Finished", "JobRemoved", "InterfacesRemoved"];
    let seen = until(&mut elsewhere, "InterfacesRemoved").await;
    assert_eq!(seen, end);

    assert_eq!(manager.list_jobs(0).await.unwrap()[0].object.as_str(), "/");
    let state: JobState = serde_json::from_str(&manager.describe_job(number, 0).await.unwrap()).unwrap();
    assert_eq!(state.record.number, number);
    assert_eq!(state.record.statistics["rows"], 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_ends_at_once_is_still_seen_whole() {
    let daemon = Daemon::start();
    let client = daemon.connect().await;
    let manager = ManagerProxy::new(&client).await.unwrap();
    let description = Options::from([("description", Variant::from("pg_dump is gone"))]);
    for (source, options) in [("quick", Options::new()), ("failing", description)].into_iter().cycle().take(40) {
        let mut stream = MessageStream::from(&client);
        let (number, _) = manager.create_backup(source, &options, 0).await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < 5 || !seen.contains(&"InterfacesRemoved".to_owned()) || !seen.contains(&"answer".to_owned())
        {
            seen.push(what(&next(&mut stream).await));
        }
        seen.retain(|name| !["PropertiesChanged", "SourceAdded", "BackupAdded"].contains(&name.as_str()));
        let answer = seen.iter().position(|name| name == "answer").unwrap();
        assert!(answer >= 2, "job {number}: {seen:?}");
        seen.retain(|name| name != "answer");
        assert_eq!(seen, ["InterfacesAdded", "JobNew", "Finished", "JobRemoved", "InterfacesRemoved"]);
    }
    let failed = manager.list_jobs(0).await.unwrap().pop().unwrap();
    assert_eq!((failed.result.as_str(), failed.error_name.as_str()), ("failed", "org.backupd1.Error.DumpFailed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_create_is_busy_and_jobs_can_be_cancelled_wherever_they_are() {
    let daemon = Daemon::start();
    let client = daemon.connect().await;
    let manager = ManagerProxy::new(&client).await.unwrap();
    let none = Options::new();
    let both = tokio::join!(manager.create_backup("a", &none, 0), manager.create_backup("a", &none, 0));
    let (first, refused) = match both {
        (Ok(first), Err(refused)) | (Err(refused), Ok(first)) => (first, refused),
        other => panic!("{other:?}"),
    };
    let zbus::Error::MethodError(name, Some(message), _) = refused else { panic!("{refused:?}") };
    assert_eq!(name.as_str(), "org.backupd1.Error.SourceBusy");
    assert!(message.contains(&format!("job {}", first.0)), "{message}");
    let (_second, _) = manager.create_backup("b", &none, 0).await.unwrap();
    let (third, waiting) = manager.create_backup("c", &none, 0).await.unwrap();
    let (_fourth, _) = manager.create_backup("d", &none, 0).await.unwrap();
    let full = error_name(&client, MANAGER_PATH, MANAGER, "CreateBackup", &("e", &none, 0_u64)).await;
    assert_eq!(full, "org.freedesktop.DBus.Error.LimitsExceeded");

    let mut removed = manager.receive_job_removed().await.unwrap();
    let queued = JobProxy::builder(&client).path(&waiting).build().await.unwrap();
    assert_eq!(queued.phase().await.unwrap(), "queued");
    queued.cancel(0).await.unwrap();
    manager.cancel_job(first.0, 0).await.unwrap();
    let mut ended = HashMap::new();
    while ended.len() < 2 {
        let signal = tokio::time::timeout(LONG, removed.next()).await.unwrap().unwrap();
        let arguments = signal.args().unwrap();
        ended.insert(arguments.id, arguments.result.clone());
    }
    assert_eq!(ended, HashMap::from([(first.0, "canceled".to_owned()), (third, "canceled".to_owned())]));
    let again = error_name(&client, MANAGER_PATH, MANAGER, "CancelJob", &(third, 0_u64)).await;
    assert_eq!(again, "org.backupd1.Error.NoSuchJob");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_outlives_its_client_but_an_export_does_not_outlive_its_reader() {
    let daemon = Daemon::start();
    let client = daemon.connect().await;
    let watcher = daemon.connect().await;
    let mut removed = ManagerProxy::new(&watcher).await.unwrap().receive_job_removed().await.unwrap();
    let manager = ManagerProxy::new(&client).await.unwrap();
    let (kept, _) = manager.create_backup("shop", &Options::new(), 0).await.unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let output = zbus::OwnedFd::from(OwnedFd::from(writer));
    let (export, _) = manager.export_backup("ab", output, &Options::new(), 0).await.unwrap();
    let mut bytes = [0; 4096];
    reader.read_exact(&mut bytes).unwrap();
    drop((reader, manager, client));

    let next = async |removed: &mut backupd::bus::proxy::JobRemovedStream| {
        let signal = tokio::time::timeout(LONG, removed.next()).await.unwrap().unwrap();
        let arguments = signal.args().unwrap();
        (arguments.id, arguments.result.clone())
    };
    assert_eq!(next(&mut removed).await, (export, "failed".to_owned()));
    daemon.service.release();
    assert_eq!(next(&mut removed).await, (kept, "done".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descriptors_that_cannot_take_an_export_are_refused() {
    let daemon = Daemon::start();
    let client = daemon.connect().await;
    let (reader, writer) = std::io::pipe().unwrap();
    let folder = std::fs::File::open(daemon.folder.path()).unwrap();
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    for bad in [OwnedFd::from(reader), OwnedFd::from(folder), OwnedFd::from(writer)] {
        let body = ("ab", zbus::OwnedFd::from(bad), Options::new(), 0_u64);
        let name = error_name(&client, MANAGER_PATH, MANAGER, "ExportBackup", &body).await;
        assert_eq!(name, "org.freedesktop.DBus.Error.InvalidArgs");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listings_and_properties_arrive_as_they_were_sent() {
    let daemon = Daemon::start();
    let client = daemon.connect().await;
    let manager = ManagerProxy::new(&client).await.unwrap();
    let filter = ListFilter { source: "shop".to_owned(), tag: "nightly".to_owned(), ..ListFilter::default() };
    let (rows, cursor) = manager.list_backups(&types::list_filter_to_wire(&filter), 10, "", 0).await.unwrap();
    let sent = daemon.service.list(&filter, 10, "").unwrap();
    let listed = BackupSummary { run_id: None, ..sent.backups[0].clone() };
    assert_eq!(BackupSummary::try_from(rows[0].clone()).unwrap(), listed);
    assert_eq!(cursor, "next");
    let fields = manager.get_backup("00ff", 0).await.unwrap();
    assert_eq!(fields.len(), 23);
    assert_eq!(String::try_from(fields["run-id"].clone()).unwrap(), "01a1f972-b701-769b-a723-393f6179df4a");
    assert_eq!(Vec::<u8>::try_from(fields["database"].clone()).unwrap(), "caf\u{e9}".as_bytes());
    assert_eq!(manager.repository_state().await.unwrap(), "ready");
    assert_eq!(manager.config_problems().await.unwrap(), ["a problem"]);
    assert!(manager.plan_restore("ab", &Options::new(), 0).await.unwrap().contains("\"backup\":\"ab\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_clients_all_see_a_job() {
    let daemon = Daemon::start();
    let mut clients = Vec::new();
    for _ in 0..100 {
        let client = daemon.connect().await;
        let added = ManagerProxy::new(&client).await.unwrap().receive_job_new().await.unwrap();
        clients.push((client, added));
    }
    let manager = ManagerProxy::new(&clients[0].0).await.unwrap();
    let (number, _) = manager.create_backup("shop", &Options::new(), 0).await.unwrap();
    for (_, added) in &mut clients {
        let signal = tokio::time::timeout(LONG, added.next()).await.unwrap().unwrap();
        assert_eq!(signal.args().unwrap().id, number);
    }
    // One that comes later finds the job without a signal.
    let late = daemon.connect().await;
    let objects = zbus::fdo::ObjectManagerProxy::builder(&late)
        .destination("org.backupd1")
        .path(MANAGER_PATH)
        .build()
        .await
        .unwrap();
    let objects = objects.get_managed_objects().await.unwrap();
    assert_eq!(objects.keys().filter(|path| path.as_str().starts_with("/org/backupd1/job/")).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_is_private_and_goes_with_the_daemon() {
    let daemon = Daemon::start();
    let mode = std::fs::metadata(daemon.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(daemon.server.listen(&address(&daemon.socket())).is_err(), "two daemons listen on one socket");
    let client = daemon.connect().await;
    daemon.server.stop().await;
    assert!(!daemon.socket().exists());
    tokio::time::timeout(LONG, client.closed()).await.unwrap();

    // What a killed daemon leaves is replaced; another file is not.
    drop(std::os::unix::net::UnixListener::bind(daemon.socket()).unwrap());
    let server = backupd::bus::server::Server::new(daemon.service.clone());
    server.listen(&address(&daemon.socket())).unwrap();
    drop(connect_peer(&address(&daemon.socket())).await.unwrap());
    let file = daemon.folder.path().join("file");
    std::fs::write(&file, b"precious").unwrap();
    assert!(server.listen(&address(&file)).is_err());
    for bad in ["tcp:host=localhost,port=1", "unix:abstract=x", "/run/x", ""] {
        assert!(server.listen(bad).is_err(), "{bad}");
    }
    server.stop().await;
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
}
