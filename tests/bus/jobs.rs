//! Jobs as clients see them: the order of signals of each method that starts one, how often they change, what a cancel does.

use std::{collections::HashMap, os::fd::OwnedFd, sync::Arc, time::Instant};

use backupd::{
    bus::{
        MANAGER_PATH,
        proxy::{JobProxy, ManagerProxy},
        server::{Bus, Server},
        types::Options,
    },
    service::operations::Operations,
};
use futures_util::StreamExt as _;
use zbus::{Connection, Message, MessageStream, OwnedObjectPath, OwnedVariant, Variant, connection::Builder, fdo};

use crate::{
    listening::{JOB, MANAGER, Objects, changes_of, error_name, next, object_of, until, what},
    private_bus::PrivateBus,
    support::{Daemon, LONG, Simulation},
};

/// Calls each method that starts a job and looks at the order in which its client is told of it.
async fn every_start_is_announced_in_order(client: &Connection) {
    let manager = ManagerProxy::new(client).await.unwrap();
    let mut stream = MessageStream::from(client);
    let none = Options::new();
    let all = Options::from([("source", Variant::from("all"))]);
    let mut open = Vec::new();
    let methods =
        ["CreateBackup", "RestoreBackup", "UndoRestore", "ForgetUndo", "VerifyBackup", "DeleteBackup", "DrillBackup"];
    for method in methods.into_iter().chain(["ExportBackup", "OpenBackup"]) {
        let started = match method {
            "CreateBackup" => manager.create_backup("shop", &none, 0).await,
            "RestoreBackup" => manager.restore_backup("kept", &none, 0).await,
            "UndoRestore" => manager.undo_restore(1, &none, 0).await,
            "ForgetUndo" => manager.forget_undo(1, 0).await,
            "VerifyBackup" => manager.verify_backup("", &all, 0).await,
            "DrillBackup" => manager.drill_backup("kept", &none, 0).await,
            "DeleteBackup" => manager.delete_backup("kept", &none, 0).await,
            "ExportBackup" => {
                let (reader, writer) = std::io::pipe().unwrap();
                open.push(OwnedFd::from(reader));
                manager.export_backup("kept", OwnedFd::from(writer).into(), &none, 0).await
            }
            _ => manager.open_backup("kept", &none, 0).await.map(|(number, job, output)| {
                open.push(output.into());
                (number, job)
            }),
        };
        let (number, job) = started.unwrap_or_else(|error| panic!("{method}: {error}"));
        // Answers of other calls say nothing here.
        let is_answer = |message: &Message| what(message) == "answer";
        let is_start = |message: &Message| is_answer(message) && message.body().signature().to_string().contains("to");
        let mut seen = Vec::new();
        while !seen.last().is_some_and(is_answer) {
            let message = next(&mut stream).await;
            let noise = ["PropertiesChanged", "SourceAdded"].contains(&what(&message).as_str());
            if is_start(&message) || !(noise || is_answer(&message)) {
                seen.push(message);
            }
        }
        let names: Vec<_> = seen.iter().map(what).collect();
        assert_eq!(names, ["InterfacesAdded", "JobNew", "answer"], "{method}");
        let (path, interfaces): (OwnedObjectPath, Objects) = seen[0].body().deserialize().unwrap();
        assert_eq!((path.as_str(), interfaces[JOB].len()), (job.as_str(), 16), "{method}");
        assert_eq!(seen[1].body().deserialize::<(u64, OwnedObjectPath)>().unwrap(), (number, job.clone()), "{method}");

        // An export ends with its reader, of which the answer has a copy.
        drop(seen);
        match open.pop() {
            Some(reader) => drop(reader),
            None => manager.cancel_job(number, 0).await.unwrap(),
        }
        let mut names = until(&mut stream, "InterfacesRemoved").await;
        names.retain(|name| name != "answer");
        assert_eq!(names, ["Finished", "JobRemoved", "InterfacesRemoved"], "{method}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_start_is_announced_in_order_on_the_socket() {
    let daemon = Daemon::start();
    every_start_is_announced_in_order(&daemon.connect().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_start_is_announced_in_order_on_a_bus() {
    let Some(bus) = PrivateBus::start() else { return };
    let service = Simulation::new(&bus.folder.path().join("state"));
    let server = Server::new(Arc::clone(&service) as Arc<dyn Operations>);
    let _connection = server.join_bus(&Bus::At(bus.address.clone())).await.unwrap();
    let client = Builder::address(bus.address.as_str()).build().await.unwrap();
    let rule = zbus::MatchRule::builder().msg_type(zbus::message::Type::Signal).sender("org.backupd1").build().unwrap();
    fdo::DBusProxy::new(&client).await.unwrap().add_match_rule(rule).await.unwrap();
    every_start_is_announced_in_order(&client).await;
    server.stop().await;
}

/// What the next PropertiesChanged of a job says.
async fn change(stream: &mut MessageStream) -> HashMap<String, OwnedVariant> {
    tokio::time::timeout(LONG, changes_of(stream, JOB)).await.expect("nothing changes")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_changes_all_the_time_is_announced_four_times_a_second() {
    let daemon = Daemon::start();
    let client = daemon.connect().await;
    let mut stream = MessageStream::from(&client);
    let manager = ManagerProxy::new(&client).await.unwrap();
    manager.create_backup("busy", &Options::new(), 0).await.unwrap();
    change(&mut stream).await;
    let (begin, mut before) = (Instant::now(), 0);
    for _ in 0..9 {
        let changed = change(&mut stream).await;
        let done = u64::try_from(changed["BytesDone"].clone()).unwrap();
        assert!(done > before, "{done} after {before}");
        before = done;
        assert!(!["Id", "Type", "Source", "RunId", "Result"].iter().any(|name| changed.contains_key(*name)));
    }
    // Nine steps take nine quarters of a second; one message may have come late.
    assert!(begin.elapsed().as_millis() >= 2000, "nine announcements in {:?}", begin.elapsed());
    daemon.service.release();
}

/// Waits for the signal Finished and gives result, name of the error, and whether a message came with it.
async fn finished(stream: &mut MessageStream, path: &OwnedObjectPath) -> (String, String, bool) {
    loop {
        let message: Message = next(stream).await;
        if what(&message) == "Finished" && object_of(&message) == path.as_str() {
            let (result, name, text, _): (String, String, String, HashMap<String, OwnedVariant>) =
                message.body().deserialize().unwrap();
            return (result, name, !text.is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_tells_the_truth() {
    let daemon = Daemon::start();
    let client = daemon.connect().await;
    let mut stream = MessageStream::from(&client);
    let manager = ManagerProxy::new(&client).await.unwrap();
    // A connection stands still while a stream of its messages is full, and one that asks and asks fills it.
    let asking = daemon.connect().await;

    // One that can be cancelled ends so, and cannot be cancelled again.
    let (number, path) = manager.create_backup("shop", &Options::new(), 0).await.unwrap();
    let job = JobProxy::builder(&asking).path(&path).cache_properties(zbus::proxy::CacheProperties::No);
    let job = job.build().await.unwrap();
    while job.phase().await.unwrap() != "data" {}
    assert!(job.cancelable().await.unwrap());
    job.cancel(0).await.unwrap();
    let canceled = ("canceled".to_owned(), "org.backupd1.Error.Canceled".to_owned(), true);
    assert_eq!(finished(&mut stream, &path).await, canceled);
    until(&mut stream, "InterfacesRemoved").await;
    let again = error_name(&client, MANAGER_PATH, MANAGER, "CancelJob", &(number, 0_u64)).await;
    assert_eq!(again, "org.backupd1.Error.NoSuchJob");
    let gone = error_name(&client, path.as_str(), JOB, "Cancel", &(0_u64,)).await;
    assert_eq!(gone, "org.freedesktop.DBus.Error.UnknownObject");
    assert_eq!(manager.list_jobs(0).await.unwrap()[0].result, "canceled");

    // One that commits says that it cannot, takes the call, and ends as done.
    let (_, path) = manager.create_backup("committing", &Options::new(), 0).await.unwrap();
    let job = JobProxy::builder(&asking).path(&path).cache_properties(zbus::proxy::CacheProperties::No);
    let job = job.build().await.unwrap();
    while job.phase().await.unwrap() != "committing" {}
    assert!(!job.cancelable().await.unwrap());
    job.cancel(0).await.unwrap();
    daemon.service.release();
    assert_eq!(finished(&mut stream, &path).await, ("done".to_owned(), String::new(), false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_waits_says_so_and_when_it_begins() {
    let daemon = Daemon::start();
    let client = daemon.connect().await;
    let manager = ManagerProxy::new(&client).await.unwrap();
    let none = Options::new();
    let (first, _) = manager.create_backup("a", &none, 0).await.unwrap();
    manager.create_backup("b", &none, 0).await.unwrap();
    let (_, waiting) = manager.create_backup("c", &none, 0).await.unwrap();
    let job = JobProxy::builder(&client).path(&waiting).build().await.unwrap();
    let mut phases = job.receive_phase_changed().await;
    assert_eq!(phases.next().await.unwrap().get().await.unwrap(), "queued");
    manager.cancel_job(first, 0).await.unwrap();
    let begun = async { while phases.next().await.unwrap().get().await.unwrap() != "data" {} };
    tokio::time::timeout(LONG, begun).await.expect("the job that waited does not begin");
    assert!(job.cancelable().await.unwrap());
}
