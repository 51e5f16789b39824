//! A restore in place: what takes the name, what is kept, and the way back.

use std::time::{Duration, Instant};

use super::fixture::*;
use crate::{
    model::{ErrorCode, RunId},
    source::{
        Settled,
        postgres::{
            restore::{self, OnExisting, RestoreChoices},
            test_server::TestServer,
        },
    },
};

fn in_place() -> RestoreChoices {
    RestoreChoices { existing: OnExisting::Replace { break_replication: false }, jobs: 2, ..RestoreChoices::default() }
}

/// A server with a database of two tables that was backed up, and has changed since.
fn changed() -> (TestServer, Job, Backup) {
    let (server, job) = (TestServer::start("max_prepared_transactions = 2\n"), Job::new());
    server.sql("postgres", "CREATE ROLE keeper; CREATE ROLE other; CREATE DATABASE shop OWNER keeper");
    server.sql("shop", "CREATE TABLE stays AS SELECT generate_series(1, 5) n; CREATE TABLE goes AS SELECT 1 n");
    let backup = job.back_up(&server, "shop");
    server.sql("shop", "DROP TABLE goes; INSERT INTO stays SELECT 6; CREATE TABLE new AS SELECT 1 n; CREATE VIEW v AS SELECT * FROM stays");
    (server, job, backup)
}

const PROPERTIES: &str = "
SELECT pg_get_userbyid(datdba), datconnlimit, (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a), datallowconn, shobj_description(d.oid, 'pg_database'),
       (SELECT string_agg(setrole || array_to_string(setconfig, ','), ';' ORDER BY setrole) FROM pg_db_role_setting WHERE setdatabase = d.oid)
FROM pg_database d WHERE datname = 'shop'";

#[test]
fn the_name_passes_on_with_what_belongs_to_it_and_comes_back() {
    let (server, job, backup) = changed();
    server.sql(
        "postgres",
        "ALTER DATABASE shop OWNER TO other; ALTER DATABASE shop SET work_mem = '7MB'; COMMENT ON DATABASE shop IS 'live';
         ALTER ROLE keeper IN DATABASE shop SET search_path = a, b; REVOKE CONNECT ON DATABASE shop FROM PUBLIC;
         GRANT CONNECT ON DATABASE shop TO keeper; ALTER DATABASE shop CONNECTION LIMIT 20",
    );
    let (live, properties) = (dump_of(&server, "shop", &[]), server.sql("postgres", PROPERTIES));
    let plan = job.plan(&server, "postgres", &backup, in_place());
    assert!(plan.is_possible(), "{plan}");
    let replaced = plan.replaces.as_ref().unwrap();
    let changes: Vec<_> =
        replaced.changed_tables.iter().map(|t| (t.name.to_string(), t.rows_now, t.rows_in_backup, t.counted)).collect();
    assert_eq!(changes.len(), 3);
    for expected in [("stays", Some(6), Some(5)), ("new", Some(1), None), ("goes", None, Some(1))] {
        let expected = (expected.0.to_owned(), expected.1, expected.2, true);
        assert!(changes.contains(&expected), "{expected:?} is not in {changes:?}");
    }
    assert!(
        plan.notices.iter().any(|n| n.what == "properties" && n.message.contains("owner, privileges, settings")),
        "{plan}"
    );

    let report = job.restore(&server, "postgres", &backup, in_place()).unwrap();
    assert_eq!(server.sql("postgres", PROPERTIES), properties);
    assert_eq!(server.sql("shop", "SELECT count(*) FROM stays"), "5");
    assert_eq!(server.sql("shop", "SELECT to_regclass('new') IS NULL AND to_regclass('goes') IS NOT NULL"), "t");
    assert_eq!(leftovers(&server), "");
    let swap = job.swaps.lock().unwrap().pop().unwrap();
    assert_eq!(report.kept.as_ref(), Some(&swap.kept));
    let closed = format!("SELECT datallowconn FROM pg_database WHERE datname = '{}'", swap.kept);
    assert_eq!(server.sql("postgres", &closed), "f", "nobody writes into what is kept");

    let spec = server.spec("postgres", "ignored");
    assert_eq!(restore::settle(&spec, &swap, &job.context()).unwrap(), Settled::Swapped);
    let back = swap.reversed(RunId::new());
    restore::undo(&spec, &back, false, &job.context()).unwrap();
    assert_same(&dump_of(&server, "shop", &[]), &live);
    assert_eq!(server.sql("postgres", PROPERTIES), properties);
    let again = back.reversed(RunId::new());
    server.sql("shop", "BEGIN; CREATE TABLE p (n int); PREPARE TRANSACTION 'one'");
    let refused = restore::undo(&spec, &again, false, &job.context()).unwrap_err();
    assert!(refused.code() == ErrorCode::RestoreRefused && refused.to_string().contains("prepared"), "{refused}");
    server.sql("shop", "ROLLBACK PREPARED 'one'");
    restore::undo(&spec, &again, false, &job.context()).unwrap();
    assert_eq!(server.sql("shop", "SELECT count(*) FROM stays"), "5");

    assert!(restore::kept_size(&spec, &again, &job.context()).unwrap().is_some());
    restore::drop_kept(&spec, &again, &job.context()).unwrap();
    restore::drop_kept(&spec, &again, &job.context()).unwrap();
    assert_eq!(restore::kept_size(&spec, &again, &job.context()).unwrap(), None);
    assert_eq!(
        server.sql("postgres", "SELECT string_agg(datname, ' ' ORDER BY datname COLLATE \"C\") FROM pg_database"),
        "postgres shop template0 template1"
    );
    let gone = restore::undo(&spec, &again.reversed(RunId::new()), false, &job.context()).unwrap_err();
    assert_eq!(gone.code(), ErrorCode::RestoreRefused);
}

#[test]
fn sessions_are_ended_and_come_back_to_the_new_database() {
    let (server, job, backup) = changed();
    let sleep = || server.psql_command("shop").args(["-c", "SELECT pg_sleep(600)"]).spawn().unwrap();
    let mut sessions: Vec<_> = (0..3).map(|_| sleep()).collect();
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.sql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'") != "3" {
        assert!(Instant::now() < deadline, "the sessions do not begin");
    }
    let plan = job.plan(&server, "postgres", &backup, in_place());
    assert_eq!(plan.replaces.unwrap().sessions, 3);
    job.restore(&server, "postgres", &backup, in_place()).unwrap();
    for session in &mut sessions {
        assert!(!session.wait().unwrap().success(), "a session of the old database went on");
    }
    assert_eq!(server.sql("shop", "SELECT count(*) FROM stays"), "5");
}

#[test]
fn what_cannot_be_replaced_is_an_obstacle_and_is_left_alone() {
    let (server, job, backup) = changed();
    let before = dump_of(&server, "shop", &[]);
    let refuse = |options: RestoreChoices, user: &str, what: &str| {
        let plan = job.plan(&server, user, &backup, options.clone());
        assert!(plan.has_obstacle(what), "{plan}");
        let error = job.restore(&server, user, &backup, options).unwrap_err();
        assert!(matches!(error.code(), ErrorCode::RestoreRefused | ErrorCode::TargetExists), "{error}");
    };
    server.sql("shop", "BEGIN; CREATE TABLE p (n int); PREPARE TRANSACTION 'one'");
    refuse(in_place(), "postgres", "prepared-transactions");
    server.sql("shop", "ROLLBACK PREPARED 'one'");
    server.sql("postgres", "CREATE ROLE clerk LOGIN CREATEDB");
    refuse(in_place(), "clerk", "owner");
    server.sql("postgres", "ALTER DATABASE shop ALLOW_CONNECTIONS false");
    refuse(in_place(), "postgres", "closed");
    server.sql("postgres", "ALTER DATABASE shop ALLOW_CONNECTIONS true");
    server.sql("postgres", "ALTER DATABASE shop IS_TEMPLATE true");
    refuse(in_place(), "postgres", "template");
    server.sql("postgres", "ALTER DATABASE shop IS_TEMPLATE false");
    assert_same(&dump_of(&server, "shop", &[]), &before);
    assert_eq!(leftovers(&server), "");
}

#[test]
fn replication_is_broken_only_when_that_is_wanted() {
    let (server, job, backup) = changed();
    server.sql("shop", "CREATE TABLE sub (n int)");
    let conninfo = format!("host={} dbname=postgres user=postgres", server.folder().display());
    server.sql("postgres", "CREATE TABLE sub (n int); CREATE PUBLICATION pub FOR TABLE sub");
    server.sql("postgres", "SELECT pg_create_logical_replication_slot('subslot', 'pgoutput')");
    let sql = format!(
        "CREATE SUBSCRIPTION sub CONNECTION '{conninfo}' PUBLICATION pub WITH (create_slot = false, slot_name = subslot)"
    );
    server.sql("shop", &sql);
    let plan = job.plan(&server, "postgres", &backup, in_place());
    assert!(plan.has_obstacle("replication") && plan.obstacles[0].message.contains("--break-replication"), "{plan}");
    let anyway = RestoreChoices { existing: OnExisting::Replace { break_replication: true }, ..in_place() };
    job.restore(&server, "postgres", &backup, anyway).unwrap();
    let swap = job.swaps.lock().unwrap().pop().unwrap();
    assert_eq!(server.sql("postgres", "SELECT subenabled FROM pg_subscription"), "f");
    restore::drop_kept(&server.spec("postgres", "ignored"), &swap, &job.context()).unwrap();
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_subscription"), "0");
    assert_eq!(
        server.sql("postgres", "SELECT slot_name FROM pg_replication_slots"),
        "subslot",
        "a slot is the publisher's to drop"
    );
}

#[test]
fn settling_never_guesses() {
    let (server, job, backup) = changed();
    job.restore(&server, "postgres", &backup, in_place()).unwrap();
    let swap = job.swaps.lock().unwrap().pop().unwrap();
    let spec = server.spec("postgres", "ignored");
    // As a crash leaves it between closing the old database and the renames.
    let back = swap.reversed(RunId::new());
    server.sql("postgres", "ALTER DATABASE shop ALLOW_CONNECTIONS false");
    assert_eq!(restore::settle(&spec, &back, &job.context()).unwrap(), Settled::NotSwapped);
    assert_eq!(server.sql("shop", "SELECT count(*) FROM stays"), "5");
    let elsewhere = restore::Swap { system_identifier: "1".to_owned(), ..swap.clone() };
    assert_eq!(restore::settle(&spec, &elsewhere, &job.context()).unwrap_err().code(), ErrorCode::RestoreRefused);
    server.sql("postgres", "ALTER DATABASE shop RENAME TO moved");
    assert_eq!(restore::settle(&spec, &swap, &job.context()).unwrap_err().code(), ErrorCode::RestoreRefused);
    assert_eq!(server.sql("moved", "SELECT count(*) FROM stays"), "5");
}
