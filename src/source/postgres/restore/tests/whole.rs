//! Restores that succeed give back what was backed up.

use super::fixture::*;
use crate::source::postgres::{restore::RestoreChoices, test_server::TestServer};

/// The sample database of the integration tests, without the extension that only their server has.
fn sample() -> String {
    let own_extension =
        |line: &&str| line.starts_with("CREATE EXTENSION sample_settings") || line.contains("settings.setting");
    let lines: Vec<&str> =
        include_str!("../../../../../tests/fixtures/sample.sql").lines().filter(|line| !own_extension(line)).collect();
    format!("\\set db shop\n{}\n", lines.join("\n"))
}

fn with_sample() -> (TestServer, Job, Backup) {
    let server = TestServer::start("");
    server.sql("postgres", sample());
    let job = Job::new();
    let backup = job.back_up(&server, "shop");
    (server, job, backup)
}

#[test]
fn a_superuser_restores_everything() {
    let (server, job, backup) = with_sample();
    let plan = job.plan(&server, "postgres", &backup, to("again \"1\""));
    assert!(plan.is_possible(), "{plan}");
    let report = job.restore(&server, "postgres", &backup, to("again \"1\"")).unwrap();
    assert_eq!(report.rows, backup.manifest.statistics.rows);
    assert_same(&dump_of(&server, "shop", &[]), &dump_of(&server, "again \"1\"", &[]));
    let properties = "SELECT pg_get_userbyid(datdba), datconnlimit, shobj_description(oid, 'pg_database'), \
                      (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(coalesce(datacl, acldefault('d', datdba))) a), \
                      (SELECT array_agg(setrole || array_to_string(setconfig, ',') ORDER BY setrole) FROM pg_db_role_setting WHERE setdatabase = d.oid) \
                      FROM pg_database d WHERE datname = current_database()";
    assert_eq!(server.sql("shop", properties), server.sql("again \"1\"", properties));
    assert_eq!(leftovers(&server), "");
    let names = job.names.lock().unwrap().clone();
    assert!(names.len() == 2 && names[0].is_some() && names[1].is_none(), "{names:?}");
    assert_eq!(std::fs::read_dir(job.scratch.path()).unwrap().count(), 0, "files are left in the scratch folder");
}

#[test]
fn without_owners_and_privileges_everything_belongs_to_the_restoring_role() {
    let (server, job, backup) = with_sample();
    let options = RestoreChoices { no_owner: true, no_privileges: true, ..to("mine") };
    let report = job.restore(&server, "postgres", &backup, options).unwrap();
    assert_eq!(report.rows, backup.manifest.statistics.rows);
    let dump = dump_of(&server, "mine", &[]);
    assert!(!dump.contains("OWNER TO shop_owner") && !dump.contains("GRANT "), "{dump}");
    assert_same(
        &dump_of(&server, "shop", &["--no-owner", "--no-privileges", "--no-comments"]).replace("Owner: shop_owner", ""),
        &dump_of(&server, "mine", &["--no-owner", "--no-privileges", "--no-comments"]).replace("Owner: postgres", ""),
    );
}

#[test]
fn a_database_of_another_encoding_keeps_its_bytes() {
    let server = TestServer::start("");
    let job = Job::new();
    server.sql("postgres", "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'");
    server.sql(
        "latin",
        b"SET client_encoding = 'LATIN1'; CREATE SCHEMA \"s\xe9\"; CREATE TABLE \"s\xe9\".\"\xfcber\" (\"\xe4\" text);\
          INSERT INTO \"s\xe9\".\"\xfcber\" SELECT 'gr\xfc\xdfe ' || i FROM generate_series(1, 100) i;",
    );
    let backup = job.back_up(&server, "latin");
    let report = job.restore(&server, "postgres", &backup, to("größer")).unwrap();
    assert_eq!(report.rows, 100);
    let dump = |database| client(&server, "pg_dump", database, &["--data-only", "--inserts"]);
    let rows = |dump: Vec<u8>| {
        dump.split(|&b| b == b'\n').filter(|l| l.starts_with(b"INSERT")).map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    assert_eq!(rows(dump("latin")), rows(dump("größer")));
    assert_eq!(server.sql("größer", "SHOW server_encoding"), "LATIN1");
}

#[test]
fn a_database_moves_to_an_empty_server_with_its_roles() {
    let (server, job, backup) = with_sample();
    let empty = TestServer::start("");
    let plan = job.plan(&empty, "postgres", &backup, RestoreChoices::default());
    assert!(plan.has_obstacle("missing-role"), "{plan}");
    assert!(plan.missing_roles.iter().all(|role| role.in_backup), "{:?}", plan.missing_roles);

    let options = RestoreChoices { create_roles: true, ..RestoreChoices::default() };
    let report = job.restore(&empty, "postgres", &backup, options).unwrap();
    assert_eq!(report.database, "shop".into());
    assert!(!report.created_roles.is_empty());
    assert_same(&dump_of(&server, "shop", &[]), &dump_of(&empty, "shop", &[]));
    let staff = "SELECT rolinherit, rolconfig FROM pg_roles WHERE rolname = 'shop_staff'";
    assert_eq!(empty.sql("postgres", staff), "f|{work_mem=8MB}");
}
