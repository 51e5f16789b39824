//! Clients of the socket that do not read what they are sent: only their own connections suffer.

use std::{
    io::Write as _,
    os::{fd::AsFd as _, unix::net::UnixStream},
    time::{Duration, Instant},
};

use backupd::{
    bus::{
        MANAGER_PATH,
        proxy::{JobProxy, ManagerProxy},
        types::Options,
    },
    model::summary::BackupSummary,
    service::operations::{ListFilter, Operations as _},
};
use futures_util::StreamExt as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zbus::{Connection, Message};

use crate::{
    limits::authenticated,
    support::{Daemon, LONG},
};

/// What anybody may wait for while somebody else does not read.
const SOON: Duration = Duration::from_secs(5);

/// Waits until the daemon has closed a connection that nobody reads from.
async fn closed(stream: UnixStream) -> UnixStream {
    let waiting = tokio::task::spawn_blocking(move || {
        let mut descriptors = [PollFd::new(stream.as_fd(), PollFlags::empty())];
        let ready = poll(&mut descriptors, PollTimeout::from(20_000_u16)).unwrap();
        let hung_up = descriptors[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP));
        assert!(ready == 1 && hung_up, "the connection of a client that does not read stays open");
        stream
    });
    waiting.await.unwrap()
}

/// Nine clients that follow the job, and are answered at once while it runs and until it is done.
async fn others_are_served(daemon: &Daemon, clients: Vec<Connection>, while_slow: impl Future<Output = ()>) {
    let manager = ManagerProxy::new(&clients[0]).await.unwrap();
    let (number, path) = manager.create_backup("busy", &Options::new(), 0).await.unwrap();
    let mut followers = Vec::new();
    for client in &clients {
        followers.push(ManagerProxy::new(client).await.unwrap().receive_job_removed().await.unwrap());
    }
    let job = JobProxy::builder(&clients[1]).path(&path).cache_properties(zbus::proxy::CacheProperties::No);
    let job = job.build().await.unwrap();
    let before = job.bytes_done().await.unwrap();
    let mut while_slow = std::pin::pin!(while_slow);
    loop {
        for client in &clients {
            let begin = Instant::now();
            let manager = ManagerProxy::new(client).await.unwrap();
            tokio::time::timeout(SOON, manager.list_jobs(0)).await.expect("nobody is answered").unwrap();
            assert!(begin.elapsed() < SOON);
        }
        if tokio::time::timeout(Duration::from_millis(200), &mut while_slow).await.is_ok() {
            break;
        }
    }
    assert!(job.bytes_done().await.unwrap() > before, "the job stood still");
    daemon.service.release();
    for follower in &mut followers {
        let signal = tokio::time::timeout(SOON, follower.next()).await.expect("a signal is late").unwrap();
        assert_eq!(signal.args().unwrap().id, number);
    }
}

async fn nine(daemon: &Daemon) -> Vec<Connection> {
    let mut clients = Vec::new();
    for _ in 0..9 {
        clients.push(daemon.connect().await);
    }
    clients
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_does_not_read_signals_loses_only_his_own_connection() {
    let daemon = Daemon::start();
    let clients = nine(&daemon).await;
    let slow = authenticated(&daemon);
    // More than a socket holds.
    for round in 0..8 {
        daemon.service.change(|overview| overview.config_problems = vec![format!("{round}").repeat(60_000); 4]);
        ManagerProxy::new(&clients[0]).await.unwrap().get_source("shop").await.unwrap();
        tokio::task::yield_now().await;
    }
    let slow = async { drop(closed(slow).await) };
    others_are_served(&daemon, clients, slow).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_asks_and_does_not_read_answers_loses_only_his_own_connection() {
    let daemon = Daemon::start();
    // Every answer has megabytes.
    let one = daemon.service.list(&ListFilter::default(), 0, "").unwrap().backups.remove(0);
    daemon.service.keep((0..20_000).map(|sequence| BackupSummary { sequence, ..one.clone() }).collect());
    let clients = nine(&daemon).await;
    let mut slow = authenticated(&daemon);
    slow.set_write_timeout(Some(LONG)).unwrap();
    let call = Message::method_call(MANAGER_PATH, "ListBackups").interface("org.backupd1.Manager");
    let call = call.build(&(Options::new(), 0_u64, "", 0_u64)).unwrap();
    let mut bytes = call.data().to_vec();
    let asking = tokio::task::spawn_blocking(move || {
        // Each with a number of its own; far more than may be under way.
        for serial in 1_u32..=3000 {
            bytes[8..12].copy_from_slice(&serial.to_ne_bytes());
            if slow.write_all(&bytes).is_err() {
                break;
            }
        }
        slow
    });
    let slow = async { drop(closed(asking.await.unwrap()).await) };
    others_are_served(&daemon, clients, slow).await;
    // What he asked for beyond that was not even read.
    let looked_at = daemon.service.listings();
    assert!((1..=32).contains(&looked_at), "{looked_at} answers were made for one who does not read");
}
