//! Connections to a real server.

use super::*;
use crate::{
    config::{PasswordSource, Secret},
    source::postgres::test_server::TestServer,
    stream::CancelReason,
};

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_connecting_are_told_apart() {
    let server = TestServer::start("");
    server.sql("postgres", "CREATE ROLE locked LOGIN PASSWORD 'right'; CREATE ROLE nologin;");
    let hba = server.folder().join("data/pg_hba.conf");
    std::fs::write(&hba, "local all locked scram-sha-256\nlocal all all trust\n").unwrap();
    server.sql("postgres", "SELECT pg_reload_conf()");
    let cancel = Cancel::new();
    let connect = async |spec: ConnectionSpec| {
        Session::connect(&spec, &cancel).await.map(|_| ()).map_err(|e| (e.code(), e.to_string()))
    };

    let mut spec = server.spec("locked", "postgres");
    let (code, message) = connect(spec.clone()).await.unwrap_err();
    assert_eq!(code, ErrorCode::AuthenticationFailed, "{message}");
    spec.password = PasswordSource::Given(Secret::new("wrong".to_owned()));
    let (code, message) = connect(spec.clone()).await.unwrap_err();
    assert!(code == ErrorCode::AuthenticationFailed && message.contains("check the password"), "{message}");
    assert!(!message.contains("wrong"), "{message}");
    spec.password = PasswordSource::Given(Secret::new("right".to_owned()));
    connect(spec).await.unwrap();

    assert_eq!(connect(server.spec("nologin", "postgres")).await.unwrap_err().0, ErrorCode::AuthenticationFailed);
    assert_eq!(connect(server.spec("postgres", "no such")).await.unwrap_err().0, ErrorCode::NoSuchDatabase);
    let mut spec = server.spec("postgres", "postgres");
    spec.port = 1;
    let (code, message) = connect(spec).await.unwrap_err();
    assert!(code == ErrorCode::DatabaseUnreachable && message.contains("Is the server running"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_pinned_whatever_the_role_has() {
    let server = TestServer::start("statement_timeout = '10s'\nidle_in_transaction_session_timeout = '10s'\n");
    server.sql(
        "postgres",
        "ALTER ROLE postgres SET search_path = evil, public; ALTER ROLE postgres SET row_security = on;
                            ALTER ROLE postgres SET client_encoding = 'LATIN1'",
    );
    let cancel = Cancel::new();
    let session = Session::connect(&server.spec("postgres", "postgres"), &cancel).await.unwrap();
    assert_eq!(session.server().encoding, "UTF8");
    assert!(session.server().version_num > 130_000 && !session.server().standby);
    for (name, value) in [
        ("statement_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
        ("search_path", "\"\""),
        ("row_security", "off"),
        ("client_encoding", "SQL_ASCII"),
        ("default_transaction_isolation", "read committed"),
        ("application_name", "backupd"),
    ] {
        let row = session.query_one(&cancel, "show", "SELECT current_setting($1)", &[&name]).await.unwrap();
        assert_eq!(get::<String>(&row, 0).unwrap(), value, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_ends_a_query_on_the_server() {
    let server = TestServer::start("");
    let cancel = Cancel::new();
    let session = Session::connect(&server.spec("postgres", "postgres"), &cancel).await.unwrap();
    let waiting = session.execute(&cancel, "sleep", b"SELECT pg_sleep(1000)");
    let canceling = async {
        let running =
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%sleep(1000)%' AND pid <> pg_backend_pid()";
        tokio::task::block_in_place(|| while server.sql("postgres", running) == "0" {});
        cancel.cancel(CancelReason::Requested);
    };
    let (ended, ()) = tokio::join!(waiting, canceling);
    assert_eq!(ended.unwrap_err().code(), ErrorCode::Canceled);
    let active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%sleep(1000)%' AND pid <> pg_backend_pid()";
    assert_eq!(server.sql("postgres", active), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_raw_bytes_in_any_encoding() {
    let server = TestServer::start("");
    for (database, encoding) in [("l1", "LATIN1"), ("ascii", "SQL_ASCII")] {
        server
            .sql("postgres", format!("CREATE DATABASE {database} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"));
        let cancel = Cancel::new();
        let session = Session::connect(&server.spec("postgres", database), &cancel).await.unwrap();
        session.execute(&cancel, "create", b"CREATE TABLE public.\"caf\xe9\" (a int)").await.unwrap();
        let sql = "SELECT relname::text FROM pg_class WHERE relname::text = $1";
        let name = Name::from(b"caf\xe9".to_vec());
        let row = session.query_one(&cancel, "list", sql, &[&name]).await.unwrap();
        assert_eq!(get::<Name>(&row, 0).unwrap(), name);
        let error =
            session.execute(&cancel, "cannot create", b"CREATE TABLE public.\"caf\xe9\" (a int)").await.unwrap_err();
        assert!(error.to_string().contains("already exists"), "{error}");
    }
}
