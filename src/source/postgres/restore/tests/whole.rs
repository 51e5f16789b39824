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
    let backup = back_up(&server, "shop", job.scratch.path());
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
