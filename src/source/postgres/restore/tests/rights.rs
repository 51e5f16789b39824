//! What a restoring role without superuser rights can do, and what it is told.

use super::fixture::*;
use crate::source::postgres::{restore::RestoreChoices, test_server::TestServer};

const ORDINARY: &str = "
CREATE ROLE app LOGIN; CREATE ROLE reader; CREATE ROLE outsider LOGIN CREATEDB;
CREATE ROLE restorer LOGIN CREATEDB IN ROLE app;
CREATE DATABASE plain OWNER app;
ALTER DATABASE plain SET search_path = shop, \"$user\", 'a b';
ALTER DATABASE plain CONNECTION LIMIT 9;
REVOKE TEMPORARY ON DATABASE plain FROM PUBLIC;
\\c plain app
CREATE SCHEMA shop;
CREATE TABLE shop.t (id serial PRIMARY KEY, v text);
INSERT INTO shop.t (v) SELECT 'v' || i FROM generate_series(1, 500) i;
CREATE TABLE u (t int REFERENCES shop.t);
INSERT INTO u SELECT generate_series(1, 10);
CREATE TABLE hidden (who text);
INSERT INTO hidden VALUES ('a'), ('b');
ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
ALTER TABLE hidden FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON hidden TO reader USING (who = current_user);
SELECT lo_from_bytea(4242, 'x');
GRANT SELECT ON shop.t TO reader;
";

fn ordinary() -> (TestServer, Job, Backup) {
    let server = TestServer::start("");
    server.sql("postgres", ORDINARY);
    let job = Job::new();
    let backup = job.back_up(&server, "plain");
    (server, job, backup)
}

#[test]
fn createdb_and_membership_suffice() {
    let (server, job, backup) = ordinary();
    let plan = job.plan(&server, "restorer", &backup, to("copy"));
    assert!(plan.is_possible(), "{plan}");
    let report = job.restore(&server, "restorer", &backup, to("copy")).unwrap();
    assert_eq!(report.rows, 512);
    assert_same(&dump_of(&server, "plain", &[]), &dump_of(&server, "copy", &[]));
    let properties = "SELECT pg_get_userbyid(datdba), datconnlimit, datacl::text, (SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = d.oid) \
                      FROM pg_database d WHERE datname = current_database()";
    assert_eq!(server.sql("plain", properties), server.sql("copy", properties));
}

#[test]
fn what_a_role_lacks_is_said_before_anything_is_touched() {
    let (server, job, backup) = ordinary();
    let plan = job.plan(&server, "outsider", &backup, to("copy"));
    assert!(plan.has_obstacle("membership") && !plan.has_obstacle("createdb"), "{plan}");
    let plan = job.plan(&server, "app", &backup, to("copy"));
    assert!(plan.has_obstacle("createdb") && !plan.has_obstacle("membership"), "{plan}");
    let error = job.restore(&server, "outsider", &backup, to("copy")).unwrap_err();
    assert_eq!(error.code(), crate::model::ErrorCode::RestoreRefused);
    assert!(error.to_string().contains("GRANT \"app\" TO \"outsider\""), "{error}");
    assert!(job.names.lock().unwrap().is_empty());
    // Without owners and grants it is nobody's business but the role's own.
    let options = RestoreChoices { no_owner: true, no_privileges: true, ..to("copy") };
    assert_eq!(job.restore(&server, "outsider", &backup, options).unwrap().rows, 512);
    assert_eq!(
        server.sql("copy", "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'copy'"),
        "outsider"
    );
}

#[test]
fn a_superusers_objects_are_named() {
    let (server, job, _) = ordinary();
    server.sql(
        "plain",
        "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$; ALTER FUNCTION e() OWNER TO app;\
         CREATE EVENT TRIGGER \"on ddl\" ON ddl_command_end EXECUTE FUNCTION e()",
    );
    let backup = job.back_up(&server, "plain");
    let plan = job.plan(&server, "restorer", &backup, to("copy"));
    assert!(plan.has_obstacle("superuser") && plan.to_string().contains("on ddl"), "{plan}");
    assert!(job.plan(&server, "postgres", &backup, to("copy")).is_possible());
}

#[test]
fn an_owner_beside_its_schema_is_named_before_anything_is_touched() {
    let (server, job, _) = ordinary();
    server.sql("plain", "CREATE ROLE guest; CREATE ROLE friend IN ROLE app; GRANT guest, friend TO restorer");
    server.sql("plain", "CREATE TABLE shop.of_friend (); ALTER TABLE shop.of_friend OWNER TO friend");
    let backup = job.back_up(&server, "plain");
    assert_eq!(job.restore(&server, "restorer", &backup, to("fine")).unwrap().rows, 512);
    for schema in ["shop", "public"] {
        server.sql("plain", format!("GRANT CREATE ON SCHEMA {schema} TO guest; CREATE VIEW {schema}.seen AS SELECT 1; ALTER VIEW {schema}.seen OWNER TO guest"));
        let backup = job.back_up(&server, "plain");
        let plan = job.plan(&server, "restorer", &backup, to("copy"));
        // Before PostgreSQL 15 everybody may create in `public` when objects get their owners.
        let old = server.sql("plain", "SELECT current_setting('server_version_num')::int < 150000") == "t";
        let foreseen = plan.has_obstacle("superuser") && plan.to_string().contains("guest");
        assert!(foreseen || (old && schema == "public"), "{plan}");
        assert!(job.plan(&server, "postgres", &backup, to("copy")).is_possible());
        let options = RestoreChoices { no_owner: true, no_privileges: true, ..to("copy") };
        assert!(job.plan(&server, "restorer", &backup, options).is_possible());
        server.sql("plain", format!("DROP VIEW {schema}.seen"));
    }
}

#[test]
fn a_role_with_createrole_creates_what_is_missing() {
    let (_origin, job, backup) = ordinary();
    let server = TestServer::start("");
    server.sql("postgres", "CREATE ROLE maker LOGIN CREATEDB CREATEROLE");
    let options = RestoreChoices { create_roles: true, ..to("copy") };
    let report = job.restore(&server, "maker", &backup, options).unwrap();
    let names: Vec<String> = report.created_roles.iter().map(|role| role.display()).collect();
    assert_eq!(names, ["app", "reader"]);
    let members = "SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE rolname = 'maker'";
    assert_eq!(server.sql("postgres", members), "0");
    assert_eq!(server.sql("postgres", "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'app'"), "t");
}

#[test]
fn an_extension_that_is_not_there_stands_in_the_way() {
    let (server, job, mut backup) = ordinary();
    let facts = backup.manifest.postgresql.as_mut().unwrap();
    facts.extensions[0].name = "no_such_extension".into();
    let plan = job.plan(&server, "postgres", &backup, to("copy"));
    assert!(plan.has_obstacle("missing-extension"), "{plan}");
}

#[test]
fn an_older_server_and_an_unknown_locale_stand_in_the_way() {
    let (server, job, mut backup) = ordinary();
    let facts = backup.manifest.postgresql.as_mut().unwrap();
    facts.server_version_num = 990_001;
    facts.database.collate = "xx_XX.UTF-8".to_owned();
    let plan = job.plan(&server, "postgres", &backup, to("copy"));
    assert!(plan.has_obstacle("version-downgrade") && plan.has_obstacle("locale"), "{plan}");
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(serde_json::from_value::<crate::source::postgres::restore::RestorePlan>(json).unwrap(), plan);
}
