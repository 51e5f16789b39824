//! The objects of sources and the properties of the daemon: what comes, changes and goes is announced, values included.

use std::collections::HashMap;

use backupd::{
    bus::{
        MANAGER_PATH,
        proxy::{ManagerProxy, SourceProxy},
        source_path,
        types::Options,
    },
    service::operations::SourceSummary,
};
use futures_util::StreamExt as _;
use zbus::{Connection, MessageStream, OwnedObjectPath, OwnedVariant, fdo};

use crate::{
    listening::{MANAGER, Objects, SOURCE, changes_of, error_name, next, object_of, until, what},
    support::{Daemon, LONG, source},
};

fn text(value: &OwnedVariant) -> String {
    String::try_from(value.clone()).unwrap()
}

fn number(value: &OwnedVariant) -> u64 {
    u64::try_from(value.clone()).unwrap()
}

async fn managed(client: &Connection) -> HashMap<OwnedObjectPath, Objects> {
    let reply = client
        .call_method(None::<&str>, MANAGER_PATH, Some("org.freedesktop.DBus.ObjectManager"), "GetManagedObjects", &())
        .await
        .unwrap();
    reply.body().deserialize().unwrap()
}

async fn source_object(client: &Connection, name: &str) -> SourceProxy<'static> {
    let path = ManagerProxy::new(client).await.unwrap().get_source(name).await.unwrap();
    SourceProxy::builder(client).path(path).build().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_are_objects_from_the_beginning() {
    let daemon = Daemon::start();
    let client = daemon.connect().await;
    let manager = ManagerProxy::new(&client).await.unwrap();
    let rows = manager.list_sources(0).await.unwrap();
    let objects = managed(&client).await;
    assert_eq!(objects.len(), rows.len());
    for row in rows {
        let path = manager.get_source(&row.name).await.unwrap();
        assert_eq!(path.as_str(), source_path(&row.name));
        let all = fdo::PropertiesProxy::builder(&client).destination("org.backupd1").path(&path).build().await.unwrap();
        let all = all.get_all(SOURCE.try_into().unwrap()).await.unwrap();
        assert_eq!(all, objects[&path][SOURCE], "what is read, and what the ObjectManager gives");
        let texts = ["Name", "Type", "State", "Location", "Description", "Problem", "LastBackup"];
        let read: Vec<_> = texts.iter().map(|property| text(&all[*property])).collect();
        let row_texts =
            [&row.name, &row.source_type, &row.state, &row.location, &row.description, &row.problem, &row.last_backup];
        assert_eq!(read.iter().collect::<Vec<_>>(), row_texts);
        assert_eq!((number(&all["LastBackupAt"]), number(&all["RunningJob"])), (row.last_backup_at, row.running_job));
        assert_eq!(all.len(), texts.len() + 2);
    }
    let missing = error_name(&client, MANAGER_PATH, MANAGER, "GetSource", &("missing",)).await;
    assert_eq!(missing, "org.backupd1.Error.NoSuchSource");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_announces_sources_that_come_change_and_go() {
    let daemon = Daemon::start();
    let (client, other) = (daemon.connect().await, daemon.connect().await);
    let manager = ManagerProxy::new(&client).await.unwrap();
    let (mut stream, mut elsewhere) = (MessageStream::from(&client), MessageStream::from(&other));
    // Both have seen what was there when they came.
    assert_eq!((managed(&client).await.len(), managed(&other).await.len()), (2, 2));
    until(&mut stream, "answer").await;
    until(&mut elsewhere, "answer").await;

    let shop = SourceSummary { state: "disabled".to_owned(), ..source("shop") };
    daemon.service.configure(vec![source("4crm"), shop]);
    manager.reload(0).await.unwrap();
    let gone = source_path("Bad Name");
    for (stream, steps) in [(&mut stream, 4), (&mut elsewhere, 3)] {
        let mut seen = Vec::new();
        for _ in 0..steps {
            let message = next(stream).await;
            if what(&message) == "SourceAdded" {
                let (_, interfaces): (OwnedObjectPath, Objects) = message.body().deserialize().unwrap();
                assert_eq!(interfaces[SOURCE].len(), 9);
                assert_eq!(text(&interfaces[SOURCE]["Name"]), "4crm");
            }
            seen.push((what(&message), object_of(&message)));
        }
        let announced = [
            ("SourceRemoved".to_owned(), gone.clone()),
            ("SourceAdded".to_owned(), "/org/backupd1/source/_34crm".to_owned()),
            ("PropertiesChanged".to_owned(), source_path("shop")),
        ];
        assert_eq!(seen[..3], announced);
        assert!(seen[3..].iter().all(|(what, _)| what == "answer"), "{seen:?}");
    }
    let names = managed(&client).await;
    assert_eq!(names.len(), 2);
    assert_eq!(source_object(&client, "4crm").await.description().await.unwrap(), "orders");
    let get = |path: String| {
        let client = client.clone();
        async move {
            let body = (SOURCE, "Name");
            error_name(&client, &path, "org.freedesktop.DBus.Properties", "Get", &body).await
        }
    };
    assert_eq!(get(gone).await, "org.freedesktop.DBus.Error.UnknownObject");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_shows_its_job_and_its_newest_backup() {
    let daemon = Daemon::start();
    let client = daemon.connect().await;
    let mut stream = MessageStream::from(&client);
    let manager = ManagerProxy::new(&client).await.unwrap();
    let shop = source_object(&client, "shop").await;
    let (job, _) = manager.create_backup("shop", &Options::new(), 0).await.unwrap();
    let changed = changes_of(&mut stream, SOURCE).await;
    assert_eq!((changed.len(), number(&changed["RunningJob"])), (1, job));
    assert_eq!(shop.running_job().await.unwrap(), job);

    let id = "ab".repeat(16);
    daemon.service.change(|overview| {
        let shop = overview.sources.iter_mut().find(|source| source.name == "shop").unwrap();
        (shop.last_backup, shop.last_backup_at) = (id.clone(), 77);
    });
    let changed = changes_of(&mut stream, SOURCE).await;
    assert_eq!((text(&changed["LastBackup"]), number(&changed["LastBackupAt"]), changed.len()), (id.clone(), 77, 2));
    daemon.service.release();
    let changed = changes_of(&mut stream, SOURCE).await;
    assert_eq!((changed.len(), number(&changed["RunningJob"])), (1, 0));
    assert_eq!(shop.last_backup().await.unwrap(), id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemons_properties_are_announced_when_they_change() {
    let daemon = Daemon::start();
    let client = daemon.connect().await;
    let manager = ManagerProxy::new(&client).await.unwrap();
    assert_eq!(manager.backups().await.unwrap(), 1);
    let mut stream = MessageStream::from(&client);
    // What looks as before is not announced.
    daemon.service.change(|_| {});
    daemon.service.change(|overview| overview.backups = 2);
    let changed = changes_of(&mut stream, MANAGER).await;
    assert_eq!((changed.len(), number(&changed["Backups"])), (1, 2));
    daemon.service.change(|overview| {
        overview.repository_state = "unavailable".to_owned();
        overview.repository_problem = "not\0mounted".to_owned();
        overview.config_problems.clear();
    });
    let changed = changes_of(&mut stream, MANAGER).await;
    assert_eq!(text(&changed["RepositoryState"]), "unavailable");
    assert_eq!(text(&changed["RepositoryProblem"]), "not\u{2400}mounted");
    assert_eq!(Vec::<String>::try_from(changed["ConfigProblems"].clone()).unwrap(), Vec::<String>::new());
    assert_eq!(changed.len(), 3);
    // Who watches a property hears of it.
    let mut states = manager.receive_repository_state_changed().await;
    while tokio::time::timeout(LONG, states.next()).await.unwrap().unwrap().get().await.unwrap() != "unavailable" {}
}
