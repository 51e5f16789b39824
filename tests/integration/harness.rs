//! The harness itself: a comparison that sees nothing would make every other test here worthless.

use crate::common::{Server, assert_same_database, database_difference, dump_of, run};

#[test]
fn the_sample_database_survives_pg_dump_and_psql() {
    let server = Server::with_sample();
    let dump = run(server.client("pg_dump").args(["--create", "-d", "shop"])).ok();
    server.sql("postgres", "ALTER DATABASE shop RENAME TO original");
    server.sql("postgres", dump.text());
    assert_same_database((&server, "original"), (&server, "shop"));
}

#[test]
fn a_single_changed_row_is_seen() {
    let server = Server::start();
    server.sql("postgres", "CREATE DATABASE a; CREATE DATABASE b");
    for (database, value) in [("a", 1), ("b", 2)] {
        server.sql(database, &format!("CREATE TABLE t (n int); INSERT INTO t VALUES ({value})"));
    }
    assert_eq!(dump_of(&server, "a", &["-s"]), dump_of(&server, "b", &["-s"]));
    assert!(database_difference((&server, "a"), (&server, "b")).is_some());
}
