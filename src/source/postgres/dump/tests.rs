//! Dumps of a real server, taken apart and restored.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use nix::unistd::Pid;

use super::*;
use crate::{
    model::{Name, manifest::Table},
    source::postgres::test_server::TestServer,
    stream::{ByteSink, Cut, Progress},
};

mod failures;
mod snapshot;

type Hook = Box<dyn FnMut(&str)>;

/// Keeps a set in memory; can fail, or do something when a file begins.
#[derive(Default)]
struct MemorySink {
    files: Vec<(String, FileRole, Vec<u8>, Vec<Table>)>,
    hard_cuts: BTreeMap<String, Vec<usize>>,
    on_begin: Option<Hook>,
    fail_after: Option<usize>,
    written: usize,
}

impl ByteSink for MemorySink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len();
        if self.fail_after.is_some_and(|limit| self.written > limit) {
            return Err(io::Error::from_raw_os_error(nix::libc::ENOSPC));
        }
        self.files.last_mut().unwrap().2.extend_from_slice(bytes);
        Ok(())
    }
    fn cut(&mut self, cut: Cut) -> io::Result<()> {
        let (name, _, bytes, _) = self.files.last().unwrap();
        if cut == Cut::Hard {
            self.hard_cuts.entry(name.clone()).or_default().push(bytes.len());
        }
        Ok(())
    }
}

impl SetSink for MemorySink {
    fn begin_file(&mut self, name: &str, role: FileRole) -> io::Result<()> {
        if let Some(hook) = &mut self.on_begin {
            hook(name);
        }
        self.files.push((name.to_owned(), role, Vec::new(), Vec::new()));
        Ok(())
    }
    fn bytes(&mut self) -> &mut dyn ByteSink {
        self
    }
    fn end_file(&mut self, tables: Vec<Table>) -> io::Result<()> {
        self.files.last_mut().unwrap().3 = tables;
        Ok(())
    }
}

impl MemorySink {
    fn file(&self, name: &str) -> &[u8] {
        &self.files.iter().find(|file| file.0 == name).unwrap().2
    }
    fn tables(&self) -> &[Table] {
        &self.files.iter().find(|file| file.0 == "data-001.sql").unwrap().3
    }
    fn rows(&self, schema: &str, name: &str) -> Option<u64> {
        let of = |table: &&Table| table.schema == Name::from(schema) && table.name == Name::from(name);
        self.tables().iter().find(of).map(|table| table.rows)
    }
}

struct Fixture {
    server: TestServer,
    runtime: tokio::runtime::Runtime,
    scratch: tempfile::TempDir,
    cancel: Cancel,
}

impl Fixture {
    fn new(configuration: &str) -> Self {
        Self {
            server: TestServer::start(configuration),
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap(),
            scratch: tempfile::tempdir().unwrap(),
            cancel: Cancel::new(),
        }
    }

    fn context(&self) -> JobContext {
        JobContext {
            cancel: self.cancel.clone(),
            progress: Arc::new(Progress::default()),
            scratch: self.scratch.path().to_owned(),
            runtime: self.runtime.handle().clone(),
        }
    }

    fn request(&self, user: &str, database: &str) -> DumpRequest {
        DumpRequest {
            connection: self.server.spec(user, database),
            selection: Selection::default(),
            lock_timeout: Duration::from_secs(5),
            client_bin_dir: Some(self.server.bin().to_owned()),
            globals: SharedGlobals::default(),
        }
    }

    fn dump(&self, request: &DumpRequest) -> Result<(Dumped, MemorySink), SourceError> {
        let mut sink = MemorySink::default();
        dump(request, &mut sink, &self.context()).map(|dumped| (dumped, sink))
    }

    /// Dumps, and does something each time a file begins.
    fn dump_with(&self, request: &DumpRequest, hook: impl FnMut(&str) + 'static) -> Result<Dumped, SourceError> {
        let mut sink = MemorySink { on_begin: Some(Box::new(hook)), ..MemorySink::default() };
        dump(request, &mut sink, &self.context())
    }

    /// A database with rows for several pipes' worth.
    fn big_database(&self) -> DumpRequest {
        self.server.sql("postgres", "CREATE DATABASE big");
        self.server
            .sql("big", "CREATE TABLE t AS SELECT i, repeat(md5(i::text), 8) AS v FROM generate_series(1, 100000) i");
        self.request("postgres", "big")
    }

    /// The client programs that run against this server.
    fn clients(&self) -> Vec<Pid> {
        clients_of(self.server.folder())
    }

    /// Nothing of a dump is left: no program, no session, no password file.
    fn assert_clean(&self) {
        assert_eq!(self.clients(), []);
        let left = std::fs::read_dir(self.scratch.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(left.into_iter().all(|name| name == "schema.dump"));
    }

    /// The SQL that psql runs to restore a set into a database made from it.
    fn restore(&self, sink: &MemorySink, into: &str) {
        for name in ["pre-data.sql", "data-001.sql", "post-data.sql"] {
            self.server.sql(into, sink.file(name));
        }
    }

    /// What `pg_dump` says of a database, without what differs in each run.
    fn plain_dump(&self, database: &str) -> String {
        let output = std::process::Command::new(self.server.bin().join("pg_dump"))
            .args(["-U", "postgres", "-h"])
            .arg(self.server.folder())
            .env("PGDATABASE", database)
            .env("LC_ALL", "C")
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter(|line| !line.starts_with('\\') || *line == "\\.")
            .fold(String::new(), |text, line| text + line + "\n")
    }
}

/// Processes whose environment names this folder as the server's.
fn clients_of(folder: &Path) -> Vec<Pid> {
    let sign = [b"PGHOST=".as_slice(), folder.as_os_str().as_encoded_bytes(), b"\0"].concat();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let ours = |number: &i32| {
        let environment = std::fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
        memchr::memmem::find(&environment, &sign).is_some()
    };
    numbers.filter(ours).map(Pid::from_raw).collect()
}

const HOSTILE: &str = r#"
CREATE SCHEMA "we ""ird; --";
CREATE TABLE "we ""ird; --"."COPY public.t FROM stdin;
\." ("a""b
c" text, "select" int GENERATED ALWAYS AS IDENTITY, g int GENERATED ALWAYS AS (1) STORED);
INSERT INTO "we ""ird; --"."COPY public.t FROM stdin;
\." ("a""b
c") VALUES (E'\\.'), (E'\n\\.\n'), (NULL), ('-- PostgreSQL database dump complete'), (E'tab\there\\N'), ('ü€😀'), ('');
CREATE TABLE "Ünïcödé '$$' € 😀" (id serial PRIMARY KEY, v jsonb, b bytea);
INSERT INTO "Ünïcödé '$$' € 😀" (v, b) SELECT jsonb_build_object('n', i), decode(md5(i::text), 'hex') FROM generate_series(1, 1000) i;
CREATE TABLE empty (a int);
CREATE TABLE nocolumns ();
INSERT INTO nocolumns SELECT FROM generate_series(1, 5);
CREATE TABLE part (a int, b text) PARTITION BY HASH (a);
CREATE TABLE part0 PARTITION OF part FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE part1 PARTITION OF part FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO part SELECT i, i FROM generate_series(1, 100) i;
CREATE MATERIALIZED VIEW mv AS SELECT count(*) AS n FROM part;
CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $_$ BEGIN RETURN 1; /* COPY x.y FROM stdin; */ END $_$;
SELECT lo_from_bytea(4242, '\x00ff5c27');
CREATE EVENT TRIGGER et ON ddl_command_end EXECUTE FUNCTION f2();
"#;

fn hostile_sql() -> String {
    HOSTILE.replace(
        "CREATE EVENT TRIGGER",
        "CREATE FUNCTION f2() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$;\nCREATE EVENT TRIGGER",
    )
}

#[test]
fn a_hostile_database_restores_equal_by_psql_alone() {
    let fixture = Fixture::new("");
    let name = "dbname=postgres 'x' \\ \"";
    fixture.server.sql("postgres", r#"CREATE ROLE "ow ner" SUPERUSER LOGIN PASSWORD 'x'; CREATE DATABASE "dbname=postgres 'x' \ """ OWNER "ow ner";"#);
    fixture.server.sql(name, hostile_sql());
    let (dumped, sink) = fixture.dump(&fixture.request("postgres", name)).unwrap();

    let names: Vec<&str> = sink.files.iter().map(|file| file.0.as_str()).collect();
    assert_eq!(names, ["globals.sql", "database.sql", "schema.dump", "pre-data.sql", "data-001.sql", "post-data.sql"]);
    assert!(dumped.incomplete.is_empty(), "{:?}", dumped.incomplete);
    assert_eq!(sink.rows("we \"ird; --", "COPY public.t FROM stdin;\n\\."), Some(7));
    assert_eq!(sink.rows("public", "Ünïcödé '$$' € 😀"), Some(1000));
    assert_eq!(sink.rows("public", "empty"), Some(0));
    assert_eq!(sink.rows("public", "nocolumns"), Some(5));
    assert_eq!(sink.rows("public", "part0").unwrap() + sink.rows("public", "part1").unwrap(), 100);
    assert_eq!(dumped.rows, 7 + 1000 + 5 + 100);
    assert_eq!(dumped.facts.large_objects, 1);
    assert!(
        dumped.facts.superuser_needed.contains(&"event trigger et".to_owned()),
        "{:?}",
        dumped.facts.superuser_needed
    );
    assert!(dumped.facts.roles.contains(&Name::from("ow ner")) && dumped.facts.roles.contains(&Name::from("postgres")));
    assert!(String::from_utf8_lossy(sink.file("globals.sql")).contains("SCRAM-SHA-256$"));
    assert!(!dumped.facts.system_identifier.is_empty());
    for file in ["pre-data.sql", "data-001.sql", "post-data.sql"] {
        let restricted = memchr::memmem::find(sink.file(file), b"\n\\restrict ").is_some();
        assert_eq!(sink.hard_cuts.get(file).map_or(0, Vec::len), if restricted { 2 } else { 0 }, "{file}");
    }
    for table in sink.tables() {
        for range in &table.ranges {
            let block = &sink.file("data-001.sql")[range.offset as usize..][..range.length as usize];
            assert!(block.starts_with(b"COPY ") && block.ends_with(b"\n\\.\n"));
        }
    }

    fixture.server.sql("postgres", "CREATE DATABASE copy TEMPLATE template0");
    fixture.restore(&sink, "copy");
    assert_eq!(fixture.plain_dump("copy"), fixture.plain_dump(name));
    // Nothing is left but the spooled schema, which goes with the job's folder.
    let left: Vec<_> =
        std::fs::read_dir(fixture.scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["schema.dump"]);
}

#[test]
fn a_role_without_superuser_rights_is_told_what_is_missing() {
    let fixture = Fixture::new("");
    let server = &fixture.server;
    server.sql("postgres", "CREATE ROLE reader LOGIN; CREATE DATABASE shop;");
    server.sql(
        "shop",
        "CREATE SCHEMA s; CREATE TABLE s.t (a int); INSERT INTO s.t VALUES (1), (2); CREATE TABLE public.open (a int);
         GRANT SELECT ON open TO reader;",
    );
    let request = fixture.request("reader", "shop");
    let error = fixture.dump(&request).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::DatabasePermission);
    assert!(error.to_string().contains("relation s.t. Help: GRANT pg_read_all_data TO reader;"), "{error}");

    server.sql("shop", "GRANT pg_read_all_data TO reader; ALTER TABLE s.t ENABLE ROW LEVEL SECURITY;");
    let error = fixture.dump(&request).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("s.t") && error.to_string().contains("BYPASSRLS"), "{error}");

    server.sql("shop", "ALTER ROLE reader BYPASSRLS; SELECT lo_create(77)");
    let error = fixture.dump(&request).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("GRANT SELECT ON LARGE OBJECT 77 TO reader"), "{error}");

    server.sql(
        "shop",
        "GRANT SELECT ON LARGE OBJECT 77 TO reader; CREATE FOREIGN DATA WRAPPER w; CREATE SERVER sv FOREIGN DATA WRAPPER w;
         CREATE USER MAPPING FOR postgres SERVER sv OPTIONS (password 'x'); CREATE FOREIGN TABLE ft (a int) SERVER sv;
         CREATE SUBSCRIPTION sub CONNECTION 'host=/nonexistent' PUBLICATION p WITH (connect = false);",
    );
    let (dumped, sink) = fixture.dump(&request).unwrap();
    let gaps: Vec<&str> = dumped.incomplete.iter().map(|gap| gap.what.as_str()).collect();
    assert_eq!(gaps, ["subscriptions", "user-mapping-options", "foreign-table-data"]);
    assert_eq!(sink.rows("s", "t"), Some(2));
    assert!(String::from_utf8_lossy(sink.file("globals.sql")).contains("CREATE ROLE reader"));

    // Without pg_read_all_data, which reaches the passwords too.
    server.sql(
        "shop",
        "REVOKE pg_read_all_data FROM reader; GRANT USAGE ON SCHEMA s TO reader;
         GRANT SELECT ON s.t TO reader; ALTER ROLE reader PASSWORD 'x';",
    );
    let afresh = DumpRequest { globals: SharedGlobals::default(), ..request };
    let (dumped, sink) = fixture.dump(&afresh).unwrap();
    assert!(dumped.incomplete.iter().any(|gap| gap.what == "role-passwords"), "{:?}", dumped.incomplete);
    assert!(!String::from_utf8_lossy(sink.file("globals.sql")).contains("SCRAM"));
}

#[test]
fn databases_of_other_encodings_keep_their_bytes() {
    let fixture = Fixture::new("");
    for (database, encoding) in [("l1", "LATIN1"), ("ascii", "SQL_ASCII")] {
        fixture
            .server
            .sql("postgres", format!("CREATE DATABASE {database} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"));
        let sql = [
            format!("SET client_encoding = '{encoding}';").as_bytes(),
            b"CREATE TABLE \"caf\xe9\" (\"\xe4\" text); INSERT INTO \"caf\xe9\" VALUES ('\xfc');",
        ]
        .concat();
        fixture.server.sql(database, sql);
        let (dumped, sink) = fixture.dump(&fixture.request("postgres", database)).unwrap();
        assert_eq!(dumped.facts.database.encoding, encoding);
        assert_eq!(sink.tables()[0].name, Name::from(b"caf\xe9".to_vec()));
        assert!(memchr::memmem::find(sink.file("data-001.sql"), b"\n\xfc\n").is_some());
        fixture.server.sql(
            "postgres",
            format!("CREATE DATABASE {database}2 TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"),
        );
        fixture.restore(&sink, &format!("{database}2"));
        assert_eq!(fixture.plain_dump(&format!("{database}2")), fixture.plain_dump(database));
    }
}

#[test]
fn a_standby_is_dumped_as_well() {
    let mut fixture = Fixture::new("");
    fixture.server.sql("postgres", "CREATE DATABASE shop");
    fixture
        .server
        .sql("shop", "CREATE TABLE t AS SELECT generate_series(1, 100) a; CREATE UNLOGGED TABLE u AS SELECT 1 a");
    let standby = fixture.server.standby();
    let primary = std::mem::replace(&mut fixture.server, standby);
    let (dumped, sink) = fixture.dump(&fixture.request("postgres", "shop")).unwrap();
    assert!(dumped.facts.standby);
    assert_eq!(sink.rows("public", "t"), Some(100));
    assert!(dumped.incomplete.iter().any(|gap| gap.what == "unlogged-table-data"), "{:?}", dumped.incomplete);
    drop(primary);
}

#[test]
fn a_selection_is_what_is_dumped() {
    let fixture = Fixture::new("");
    fixture.server.sql("postgres", "CREATE DATABASE shop");
    fixture.server.sql(
        "shop",
        "CREATE SCHEMA a; CREATE SCHEMA \"B\"; CREATE TABLE a.one (x int); CREATE TABLE a.two (x int); CREATE TABLE \"B\".\"o.ne\" (x int);
         SELECT lo_create(5);",
    );
    let dumped = |selection: Selection| {
        let request = DumpRequest { selection, ..fixture.request("postgres", "shop") };
        let (dumped, sink) = fixture.dump(&request).unwrap();
        let tables: Vec<String> = sink.tables().iter().map(|t| format!("{}.{}", t.schema, t.name)).collect();
        (tables, dumped.incomplete.into_iter().map(|gap| gap.what).collect::<Vec<_>>())
    };
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<String>>();
    let (tables, gaps) = dumped(Selection { include_schemas: texts(&["a"]), ..Selection::default() });
    assert_eq!((tables, gaps), (texts(&["a.one", "a.two"]), texts(&["excluded", "large-objects"])));
    let (tables, gaps) = dumped(Selection { exclude_tables: texts(&["a.t*"]), ..Selection::default() });
    assert_eq!((tables, gaps), (texts(&["B.o.ne", "a.one"]), texts(&["excluded"])));
    let both = Selection {
        include_schemas: texts(&["?"]),
        include_tables: texts(&["*.o*e"]),
        exclude_schemas: texts(&["a"]),
        ..Selection::default()
    };
    assert_eq!(dumped(both).0, texts(&["B.o.ne"]));

    let nothing = Selection { include_tables: texts(&["a.missing"]), ..Selection::default() };
    let error = fixture
        .dump(&DumpRequest { selection: nothing, ..fixture.request("postgres", "shop") })
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgs);
    let schema_only = Selection { schema_only: true, ..Selection::default() };
    let (_, sink) =
        fixture.dump(&DumpRequest { selection: schema_only, ..fixture.request("postgres", "shop") }).unwrap();
    assert!(sink.files.iter().all(|file| file.1 != FileRole::Data));
}

#[test]
fn databases_share_the_script_of_the_roles_until_one_needs_a_newer_role() {
    let fixture = Fixture::new("");
    let shared = SharedGlobals::default();
    let dumped = |database: &str, before: &str| {
        fixture.server.sql("postgres", before);
        let request = DumpRequest { globals: shared.clone(), ..fixture.request("postgres", database) };
        String::from_utf8(fixture.dump(&request).unwrap().1.file("globals.sql").to_vec()).unwrap()
    };
    let first = dumped("postgres", "CREATE ROLE early");
    assert!(first.contains("CREATE ROLE early;"), "{first}");
    let second = dumped("template1", "CREATE ROLE late");
    assert_eq!(first, second, "it was made once");
    let third = dumped("owned", "CREATE DATABASE owned OWNER late");
    assert!(third.contains("CREATE ROLE late;"), "{third}");
    assert_eq!(third, dumped("postgres", "CREATE ROLE later"));
}
