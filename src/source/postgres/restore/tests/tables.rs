//! Single tables.

use super::fixture::*;
use crate::source::postgres::{
    restore::{OnExisting, RestoreChoices},
    test_server::TestServer,
};

const SHOP: &str = r#"
CREATE ROLE "ow ner"; CREATE DATABASE shop;
\c shop
CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('a', 'b');
CREATE FUNCTION s.one() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TABLE s."it's; a table" (id serial PRIMARY KEY, m s.mood DEFAULT 'a', n int DEFAULT s.one());
ALTER TABLE s."it's; a table" OWNER TO "ow ner"; GRANT USAGE ON SCHEMA s TO "ow ner";
INSERT INTO s."it's; a table" SELECT FROM generate_series(1, 300);
CREATE TABLE s.other (id int PRIMARY KEY, t int REFERENCES s."it's; a table");
INSERT INTO s.other SELECT i, i FROM generate_series(1, 30) i;
CREATE VIEW s.v AS SELECT * FROM s.other;
CREATE TABLE s.p (id int, x text) PARTITION BY HASH (id);
CREATE TABLE s.p0 PARTITION OF s.p FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE s.p1 PARTITION OF s.p FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE INDEX ON s.p (x);
INSERT INTO s.p SELECT i, i FROM generate_series(1, 200) i;
SELECT lo_from_bytea(1, 'x');
"#;

fn only(tables: &[&str]) -> RestoreChoices {
    RestoreChoices { tables: tables.iter().map(|table| (*table).to_owned()).collect(), ..to("part") }
}

#[test]
fn a_table_comes_with_its_rows_type_function_and_sequence() {
    let server = TestServer::start("");
    server.sql("postgres", SHOP);
    let job = Job::new();
    let backup = job.back_up(&server, "shop");
    let plan = job.plan(&server, "postgres", &backup, only(&["s.it's; a table"]));
    assert!(plan.is_possible() && plan.backup.rows == 300, "{plan}");
    assert_eq!(plan.notices.iter().filter(|notice| notice.what == "left-out").count(), 1, "{plan}");
    let report = job.restore(&server, "postgres", &backup, only(&["s.it's; a table"])).unwrap();
    assert_eq!((report.tables, report.rows), (1, 300));
    let tables = "SELECT string_agg(relname, ',' ORDER BY relname) FROM pg_class WHERE relnamespace = 's'::regnamespace AND relkind IN ('r', 'p', 'v')";
    assert_eq!(server.sql("part", tables), "it's; a table");
    assert_eq!(server.sql("part", "INSERT INTO s.\"it's; a table\" DEFAULT VALUES RETURNING id, m, n"), "301|a|1");
    assert_same(
        &dump_of(&server, "shop", &["-t", "s.\"it's; a table\"", "--data-only", "--section=data"])
            .replace("300, true", ""),
        &dump_of(&server, "part", &["-t", "s.\"it's; a table\"", "--data-only", "--section=data"])
            .replace("301\ta\t1\n", "")
            .replace("301, true", ""),
    );
}

#[test]
fn a_partitioned_table_comes_whole() {
    let server = TestServer::start("");
    server.sql("postgres", SHOP);
    let job = Job::new();
    let backup = job.back_up(&server, "shop");
    let tables: Vec<String> =
        backup.manifest.tables().map(|table| format!("{}.{}", table.schema, table.name)).collect();
    let root = RestoreChoices { tables: vec!["s.p".to_owned()], ..to("part") };
    let report = job.restore(&server, "postgres", &backup, root).unwrap();
    assert_eq!(report.rows, 200, "{tables:?}");
    assert_eq!(server.sql("part", "SELECT count(*), count(DISTINCT tableoid) FROM s.p"), "200|2");
}

#[test]
fn a_table_that_the_backup_does_not_hold_is_refused() {
    let server = TestServer::start("");
    server.sql("postgres", SHOP);
    let job = Job::new();
    let backup = job.back_up(&server, "shop");
    let plan = job.plan(&server, "postgres", &backup, only(&["s.nothing"]));
    assert!(plan.has_obstacle("no-such-table"), "{plan}");
}

#[test]
fn tables_come_beside_the_live_ones_and_change_nothing() {
    let server = TestServer::start("");
    server.sql("postgres", SHOP);
    server.sql("shop", "CREATE STATISTICS s.st ON id, m FROM s.\"it's; a table\"; CREATE TABLE s.i (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)");
    server.sql("shop", "INSERT INTO s.i SELECT FROM generate_series(1, 9)");
    let job = Job::new();
    let backup = job.back_up(&server, "shop");
    server.sql("shop", "DELETE FROM s.other; DELETE FROM s.\"it's; a table\"; TRUNCATE s.p");
    let before = dump_of(&server, "shop", &[]);
    let beside = |tables: &[&str]| RestoreChoices {
        to: None,
        existing: OnExisting::Replace { break_replication: false },
        ..only(tables)
    };
    let wanted = beside(&["s.it's; a table", "s.p", "s.i"]);
    let plan = job.plan(&server, "postgres", &backup, wanted.clone());
    assert!(plan.is_possible() && plan.beside && plan.replaces.is_none(), "{plan}");
    let report = job.restore(&server, "postgres", &backup, wanted).unwrap();
    assert_eq!(report.tables_beside.len(), 5, "{:?}", report.tables_beside);
    assert_eq!(leftovers(&server), "");
    let named = |beginning: &str| {
        let found = report.tables_beside.iter().find(|(_, name)| name.lossy().starts_with(beginning)).unwrap();
        format!("\"{}\".\"{}\"", found.0, found.1)
    };
    let count = |table: &str| server.sql("shop", format!("SELECT count(*) FROM {table}"));
    let (table, partitioned, identity) =
        (named("it's; a table__restored_"), named("p__restored_"), named("i__restored_"));
    assert_eq!((count(&table), count(&partitioned), count(&identity)), ("300".into(), "200".into(), "9".into()));
    assert_eq!(server.sql("shop", format!("INSERT INTO {table} DEFAULT VALUES RETURNING id, m, n")), "301|a|1");
    assert_eq!(server.sql("shop", format!("INSERT INTO {identity} DEFAULT VALUES RETURNING id")), "10");
    let owner = format!(
        "SELECT tableowner FROM pg_tables WHERE tablename = '{}'",
        named("it's").split("\".\"").nth(1).unwrap().trim_end_matches('"').replace('\'', "''")
    );
    assert_eq!(server.sql("shop", owner), "ow ner");
    for (schema, name) in &report.tables_beside {
        server.sql("shop", format!("DROP TABLE IF EXISTS \"{schema}\".\"{name}\" CASCADE"));
    }
    assert_same(&dump_of(&server, "shop", &[]), &before);
}

#[test]
fn tables_that_cannot_be_put_beside_leave_nothing() {
    let server = TestServer::start("");
    server.sql("postgres", SHOP);
    let job = Job::new();
    let backup = job.back_up(&server, "shop");
    server.sql("shop", "DROP SCHEMA s CASCADE; CREATE SCHEMA s");
    let before = dump_of(&server, "shop", &[]);
    let beside = RestoreChoices {
        to: None,
        existing: OnExisting::Replace { break_replication: false },
        ..only(&["s.it's; a table"])
    };
    // Its type is gone.
    let error = job.restore(&server, "postgres", &backup, beside).unwrap_err();
    assert!(error.to_string().contains("s.mood"), "{error}");
    assert_same(&dump_of(&server, "shop", &[]), &before);
    assert_eq!(leftovers(&server), "");
}
