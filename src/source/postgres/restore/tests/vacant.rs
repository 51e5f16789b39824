//! A database that exists makes way only while it holds nothing, and is never lost when it does not.

use super::fixture::*;
use crate::source::postgres::{
    restore::{self, OnExisting, RestoreChoices, create_all_roles, plan_roles},
    test_server::TestServer,
};

fn in_place() -> RestoreChoices {
    RestoreChoices { existing: OnExisting::ReplaceVacant, create_roles: true, ..RestoreChoices::default() }
}

fn databases(server: &TestServer) -> String {
    server.sql("template1", "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database")
}

#[test]
fn the_initial_database_of_a_new_server_makes_way() {
    let (server, job) = (TestServer::start(""), Job::new());
    server.sql("postgres", "CREATE TABLE t AS SELECT 1 AS n; ALTER DATABASE postgres SET work_mem = '7MB'");
    let backup = job.back_up(&server, "postgres");
    let fresh = TestServer::start("");
    let plain = job.plan(&fresh, "postgres", &backup, RestoreChoices::default());
    assert!(plain.has_obstacle("target-exists") && !plain.replaces_vacant && !plain.holds_nothing, "{plain}");
    let plan = job.plan(&fresh, "postgres", &backup, in_place());
    assert!(plan.is_possible() && plan.replaces_vacant, "{plan}");
    let report = job.restore(&fresh, "postgres", &backup, in_place()).unwrap();
    assert_eq!((report.rows, report.notices.iter().any(|notice| notice.what == "replaced")), (1, false));
    assert_same(&dump_of(&server, "postgres", &["--create"]), &dump_of(&fresh, "postgres", &["--create"]));
    assert_eq!(databases(&fresh), "postgres template0 template1");
    // It holds something now.
    let again = job.plan(&fresh, "postgres", &backup, in_place());
    assert!(again.has_obstacle("target-exists"), "{again}");
}

#[test]
fn whatever_is_in_a_database_keeps_it() {
    let (server, job) = (TestServer::start(""), Job::new());
    let backup = job.back_up(&server, "postgres");
    server.sql("postgres", "CREATE ROLE somebody");
    for (make, unmake) in [
        ("CREATE TABLE t ()", "DROP TABLE t"),
        ("CREATE SCHEMA s", "DROP SCHEMA s"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "DROP FUNCTION f"),
        ("CREATE TYPE y AS ENUM ('a')", "DROP TYPE y"),
        ("SELECT lo_create(7)", "SELECT lo_unlink(7)"),
        ("CREATE COLLATION c (locale = 'C')", "DROP COLLATION c"),
        ("CREATE PUBLICATION p", "DROP PUBLICATION p"),
        ("CREATE EXTENSION pgcrypto", "DROP EXTENSION pgcrypto"),
        ("CREATE CAST (int AS bytea) WITH INOUT", "DROP CAST (int AS bytea)"),
        ("GRANT CREATE ON SCHEMA public TO somebody", "REVOKE CREATE ON SCHEMA public FROM somebody"),
        ("ALTER DATABASE postgres SET work_mem = '7MB'", "ALTER DATABASE postgres RESET ALL"),
        (
            "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO somebody",
            "ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM somebody",
        ),
    ] {
        assert!(job.plan(&server, "postgres", &backup, in_place()).replaces_vacant, "before {make}");
        server.sql("postgres", make);
        let plan = job.plan(&server, "postgres", &backup, in_place());
        assert!(plan.has_obstacle("target-exists") && !plan.replaces_vacant, "after {make}: {plan}");
        server.sql("postgres", unmake);
    }
    // Nor does one go whose owner somebody else is.
    server.sql("postgres", "CREATE ROLE maker LOGIN CREATEDB");
    let plan = job.plan(&server, "maker", &backup, in_place());
    assert!(plan.has_obstacle("target-exists") && plan.to_string().contains("belongs to another role"), "{plan}");
}

#[test]
fn what_holds_nothing_is_told_from_what_does() {
    let (server, job) = (TestServer::start(""), Job::new());
    server.sql("postgres", "CREATE DATABASE a; CREATE DATABASE b; CREATE DATABASE c; CREATE DATABASE d");
    server.sql("b", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'");
    server.sql("c", "SELECT lo_create(7)");
    server.sql("d", "CREATE TABLE t ()");
    for (database, expected) in [("postgres", true), ("a", true), ("b", false), ("c", false), ("d", false)] {
        let backup = job.back_up(&server, database);
        let plan = job.plan(&server, "postgres", &backup, RestoreChoices::default());
        assert_eq!(plan.holds_nothing, expected, "{database}");
    }
}

#[test]
fn a_database_that_is_used_meanwhile_stays_under_another_name() {
    let (server, job) = (TestServer::start(""), Job::new());
    server.sql("postgres", "CREATE DATABASE d");
    server.sql("d", "CREATE TABLE t AS SELECT 1 AS n");
    let mut backup = job.back_up(&server, "d");
    server.sql("postgres", "DROP DATABASE d; CREATE DATABASE d");
    let (folder, bin) = (server.folder().to_owned(), server.bin().to_owned());
    backup.on_open = Some(Box::new(move |file| {
        // The last look at the target before its rename is over.
        if file == "data-001.sql" {
            let done = std::process::Command::new(bin.join("psql"))
                .args(["-X", "-q", "-U", "postgres", "-d", "d", "-c", "CREATE TABLE precious AS SELECT 42 AS n", "-h"])
                .arg(&folder)
                .status();
            assert!(done.unwrap().success());
        }
    }));
    let report = job.restore(&server, "postgres", &backup, in_place()).unwrap();
    assert!(report.notices.iter().any(|notice| notice.what == "replaced"), "{:?}", report.notices);
    assert_eq!(server.sql("d", "SELECT n FROM t"), "1");
    let kept = server.sql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'd\\_\\_before\\_%'");
    assert_eq!(server.sql(&kept, "SELECT n FROM precious"), "42");

    // Nor does the sweep after a crash take it, although it takes an empty one.
    let digits = kept.rsplit_once('_').unwrap().1;
    server.sql("postgres", "CREATE DATABASE x__before_12345678; CREATE DATABASE x__restore_12345678");
    let names = [format!("d__restore_{digits}").into(), "x__restore_12345678".into()];
    restore::sweep(&server.spec("postgres", "postgres"), &names, &job.context()).unwrap();
    assert_eq!(databases(&server), format!("d {kept} postgres template0 template1"));
}

#[test]
fn all_roles_move_to_a_server_that_lacks_them() {
    let (server, job) = (TestServer::start(""), Job::new());
    server.sql(
        "postgres",
        "CREATE ROLE boss NOLOGIN; CREATE ROLE \"quo\"\"ted\" LOGIN PASSWORD 'x' CONNECTION LIMIT 3;
         GRANT boss TO \"quo\"\"ted\" WITH ADMIN OPTION; ALTER ROLE boss SET work_mem = '8MB'; CREATE ROLE root SUPERUSER",
    );
    let backup = job.back_up(&server, "postgres");
    let fresh = TestServer::start("");
    fresh.sql("postgres", "CREATE ROLE plain LOGIN CREATEROLE");
    let spec = |user: &str| fresh.spec(user, "postgres");
    let plan = plan_roles(&spec("plain"), &backup, &job.context()).unwrap();
    let obstacles: Vec<&str> = plan.obstacles.iter().map(|obstacle| obstacle.what.as_str()).collect();
    assert_eq!(obstacles, ["superuser"], "{plan:?}");
    assert_eq!(plan_roles(&spec("postgres"), &backup, &job.context()).unwrap().obstacles, []);
    let created = create_all_roles(&spec("postgres"), &backup, &job.context()).unwrap();
    assert_eq!(created.names, ["boss".into(), "quo\"ted".into(), "root".into()]);
    created.settle(&spec("postgres"), &job.context()).unwrap();
    fresh.sql("postgres", "DROP ROLE plain");
    let globals = |server: &TestServer| {
        let dump = client(server, "pg_dumpall", "postgres", &["--globals-only"]);
        let text = String::from_utf8_lossy(&dump).into_owned();
        text.lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n")
    };
    assert_same(&globals(&server), &globals(&fresh));
    assert_eq!(create_all_roles(&spec("postgres"), &backup, &job.context()).unwrap().names, []);
}
