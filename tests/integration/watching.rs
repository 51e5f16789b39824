//! What a client that only watches is told of a daemon with a real repository and real sources.

use std::{fs, future::Future};

use backupd::bus::proxy::{ManagerProxy, SourceProxy, connect_peer};
use futures_util::StreamExt as _;
use zbus::proxy::{CacheProperties, PropertyStream};

use crate::common::{LIMIT, Server, World};

/// Waits until a watched property has this value.
async fn until<T>(what: &str, stream: &mut PropertyStream<'_, T>, is: impl Fn(&T) -> bool) -> T
where
    T: zbus::Type + serde::de::DeserializeOwned + TryFrom<zbus::OwnedVariant> + Unpin,
    T::Error: Into<zbus::Error>,
{
    let wait = async {
        loop {
            let value = stream.next().await.expect("the connection lasts").get().await.expect("a value");
            if is(&value) {
                return value;
            }
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("never announced: {what}"))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

#[test]
fn backups_reloads_and_a_lost_repository_are_announced() {
    let server = Server::start();
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", "CREATE TABLE t AS SELECT n FROM generate_series(1, 1000) AS n");
    let world = World::new(&server);
    let daemon = world.start();
    block_on(async {
        let client = connect_peer(&format!("unix:path={}", world.socket().display())).await.expect("connect");
        let manager = ManagerProxy::new(&client).await.expect("the daemon");
        let path = manager.get_source("shop").await.expect("the source");
        let shop = SourceProxy::builder(&client).path(path).build().await.expect("the source");
        let (mut states, mut backups) =
            (manager.receive_repository_state_changed().await, manager.receive_backups_changed().await);
        let mut last = shop.receive_last_backup_changed().await;
        until("the repository is open", &mut states, |state| state == "ready").await;

        let id = daemon.create("shop", &[])["id"].as_str().expect("id").to_owned();
        until("the newest backup", &mut last, |last| *last == id).await;
        until("a backup more", &mut backups, |count| *count == 1).await;
        daemon.ctl(&["delete", &id, "--yes"]).ok();
        until("no backup", &mut last, |last| last.is_empty()).await;
        until("a backup less", &mut backups, |count| *count == 0).await;

        // What a reload finds.
        let mut state = shop.receive_state_changed().await;
        let text = fs::read_to_string(world.path().join("config/sources.d/shop.toml")).expect("shop.toml");
        world.source("shop", &format!("enabled = false\n{text}"));
        world.source("broken", "type = ");
        daemon.ctl(&["reload"]).ok();
        until("a disabled source", &mut state, |state| state == "disabled").await;
        let path = manager.get_source("broken").await.expect("a broken source is an object too");
        let broken = SourceProxy::builder(&client).path(path).build().await.expect("the source");
        assert_eq!(broken.state().await.expect("a state"), "broken");
        assert!(!broken.problem().await.expect("a problem").is_empty());

        // Who only watches hears what another client's question found.
        let away = world.path().join("away");
        fs::rename(world.repository(), &away).expect("take the repository away");
        let asking = ManagerProxy::builder(&client).cache_properties(CacheProperties::No).build().await.expect("ask");
        assert_eq!(asking.repository_state().await.expect("a state"), "unavailable");
        until("a repository that is gone", &mut states, |state| state == "unavailable").await;
        fs::rename(&away, world.repository()).expect("bring it back");
        assert_eq!(asking.repository_state().await.expect("a state"), "ready");
        until("a repository that is back", &mut states, |state| state == "ready").await;
    });
}
