//! Backups and swaps while clients work: what was backed up is one instant's, and a client loses its session once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::common::{Server, World, run, wait_until};

const CLIENTS: u32 = 4;

/// The sums of pgbench's four tables are equal in any instant's state (pgbench(1), "TPC-B (sort of)").
const SUMS: &str = "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers), \
                    (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)";

fn assert_consistent(server: &Server, database: &str) {
    let sums = server.sql(database, SUMS);
    let sums: Vec<&str> = sums.split('|').collect();
    assert!(sums.iter().all(|sum| *sum == sums[0]), "{database}: {sums:?}");
}

/// What the clients did.
#[derive(Default)]
struct Work {
    stop: AtomicBool,
    transactions: AtomicU64,
    lost_sessions: AtomicU64,
    longest_outage: AtomicU64,
}

/// One client that connects, works, and connects again where it lost its session.
async fn work(host: String, client: u32, work: Arc<Work>) {
    let config = format!("host={host} port=5432 user=postgres dbname=bench");
    let mut since = None;
    while !work.stop.load(Ordering::Relaxed) {
        let Ok((session, connection)) = tokio_postgres::connect(&config, tokio_postgres::NoTls).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let driver = tokio::spawn(connection);
        let mut delta = i64::from(client);
        while !work.stop.load(Ordering::Relaxed) {
            delta = (delta * 31 + 17) % 5000;
            let account = delta * 7 % 100_000 + 1;
            let teller = delta % 10 + 1;
            let sql = format!(
                "BEGIN; UPDATE pgbench_accounts SET abalance = abalance + {delta} WHERE aid = {account}; \
                 UPDATE pgbench_tellers SET tbalance = tbalance + {delta} WHERE tid = {teller}; \
                 UPDATE pgbench_branches SET bbalance = bbalance + {delta} WHERE bid = 1; \
                 INSERT INTO pgbench_history (tid, bid, aid, delta) VALUES ({teller}, 1, {account}, {delta}); END"
            );
            if session.batch_execute(&sql).await.is_err() {
                work.lost_sessions.fetch_add(1, Ordering::Relaxed);
                since = Some(Instant::now());
                break;
            }
            work.transactions.fetch_add(1, Ordering::Relaxed);
            if let Some(began) = since.take() {
                let outage = u64::try_from(began.elapsed().as_millis()).expect("milliseconds");
                work.longest_outage.fetch_max(outage, Ordering::Relaxed);
            }
        }
        drop(session);
        let _ = driver.await;
    }
}

#[test]
fn a_backup_is_of_one_instant_and_a_swap_costs_one_session() {
    let server = Server::start();
    server.sql("postgres", "CREATE DATABASE bench");
    run(server.client("pgbench").args(["-i", "-q", "-s", "1", "bench"])).ok();
    let world = World::new(&server);
    world.source("bench", &crate::common::postgres_source(&server, "bench"));
    let daemon = world.start();
    let done = Arc::new(Work::default());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| runtime.spawn(work(server.host().to_str().expect("UTF-8").to_owned(), client, done.clone())))
        .collect();
    let transactions = || done.transactions.load(Ordering::Relaxed);
    wait_until("clients work", || transactions() > 100);
    // One that has begun and does nothing, as applications do.
    let long = "BEGIN; SELECT count(*) FROM pgbench_accounts; SELECT pg_sleep(600)";
    let mut idle = server.psql_command("bench").args(["-c", long]).spawn().expect("psql");

    let before = transactions();
    let id = daemon.create("bench", &[])["id"].as_str().expect("id").to_owned();
    assert!(transactions() > before, "nobody worked during the backup");
    daemon.ctl(&["restore", &id, "--to", "copy", "--yes"]).ok();
    assert_consistent(&server, "copy");

    let before = transactions();
    daemon.ctl(&["restore", &id, "--yes", "--no-backup"]).ok();
    assert!(!idle.wait().expect("psql").success(), "a session of the old database went on");
    let at_swap = transactions();
    assert!(at_swap > before, "nobody worked while the new database was built");
    wait_until("clients work again", || transactions() > at_swap + 100);
    done.stop.store(true, Ordering::Relaxed);
    for client in clients {
        runtime.block_on(client).expect("a client");
    }
    assert_consistent(&server, "bench");
    let lost = done.lost_sessions.load(Ordering::Relaxed);
    assert!(lost <= u64::from(CLIENTS), "{lost} sessions of {CLIENTS} clients were lost");
    eprintln!("the longest outage of a client was {} ms", done.longest_outage.load(Ordering::Relaxed));
    let kept = daemon.ctl(&["restore", "undo", "--json"]).ok().json()[0]["job"].to_string();
    daemon.ctl(&["restore", "undo", &kept, "--yes"]).ok();
    assert_consistent(&server, "bench");
}
