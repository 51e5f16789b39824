//! A backup in memory, made with PostgreSQL's own programs, and a reader that can be made to fail.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use crate::{
    model::{Name, RunId, SourceKey, ids::Sha256Hash, manifest::*},
    source::{
        JobContext, SetReader, SourceError,
        postgres::{
            restore::{RestoreChoices, RestorePlan, RestoreReport, RestoreRequest, carry_out, plan, statements},
            test_server::TestServer,
        },
    },
    stream::{Cancel, Progress},
};

/// What the reader of a damaged backup gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a chunk does not match its hash")]
pub(super) struct Damage;

/// A backup.
pub(super) struct Backup {
    pub(super) manifest: Manifest,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// A file and the place in it at which reading fails.
    pub(super) damaged: Option<(&'static str, usize)>,
    /// Called when a data file has been read to its end.
    pub(super) at_end_of_data: Option<Box<dyn Fn() + Send + Sync>>,
}

struct Input {
    content: Vec<u8>,
    at: usize,
    fails_at: Option<usize>,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.fails_at.unwrap_or(self.content.len()).min(self.content.len());
        if self.fails_at == Some(self.at) {
            return Err(io::Error::other(Damage));
        }
        let length = buffer.len().min(end - self.at).min(10_000);
        buffer[..length].copy_from_slice(&self.content[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

impl SetReader for Backup {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn open(&self, file: &str) -> io::Result<Box<dyn Read + Send>> {
        let content = self.files.get(file).ok_or(io::ErrorKind::NotFound)?.clone();
        let fails_at = self.damaged.filter(|(name, _)| *name == file).map(|(_, at)| at);
        if file.starts_with("data-")
            && let Some(hook) = &self.at_end_of_data
        {
            hook();
        }
        Ok(Box::new(Input { content, at: 0, fails_at }))
    }

    fn open_ranges(&self, file: &str, ranges: &[Range]) -> io::Result<Box<dyn Read + Send>> {
        let content = &self.files[file];
        let parts: Vec<&[u8]> = ranges
            .iter()
            .map(|range| &content[range.offset as usize..(range.offset + range.length) as usize])
            .collect();
        let fails_at = self.damaged.filter(|(name, _)| *name == file).map(|(_, at)| at);
        Ok(Box::new(Input { content: parts.concat(), at: 0, fails_at }))
    }
}

/// Runs a client program on a database and gives its stdout.
pub(super) fn client(server: &TestServer, program: &str, database: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(server.bin().join(program))
        .args(arguments)
        .env("PGHOST", server.folder())
        .env("PGUSER", "postgres")
        .env("PGDATABASE", database)
        .env("LC_ALL", "C")
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{program} {arguments:?}");
    output.stdout
}

/// Backs up a database.
pub(super) fn back_up(server: &TestServer, database: &str, scratch: &Path) -> Backup {
    let archive = client(server, "pg_dump", database, &["-Fc", "--section=pre-data", "--section=post-data"]);
    let path = scratch.join("archive");
    std::fs::write(&path, &archive).unwrap();
    let section = |section: &str| {
        client(server, "pg_restore", database, &["-f-", &format!("--section={section}"), path.to_str().unwrap()])
    };
    let data = client(server, "pg_dump", database, &["--section=data", "--load-via-partition-root"]);
    let files = BTreeMap::from([
        ("globals.sql".to_owned(), client(server, "pg_dumpall", database, &["--globals-only"])),
        ("schema.dump".to_owned(), archive),
        ("pre-data.sql".to_owned(), section("pre-data")),
        ("data-000.sql".to_owned(), data),
        ("post-data.sql".to_owned(), section("post-data")),
    ]);
    std::fs::remove_file(path).unwrap();
    let manifest = manifest(server, database, &files);
    Backup { manifest, files, damaged: None, at_end_of_data: None }
}

fn manifest(server: &TestServer, database: &str, files: &BTreeMap<String, Vec<u8>>) -> Manifest {
    let role = |name: &str| match name {
        "globals.sql" => FileRole::Globals,
        "schema.dump" => FileRole::SchemaArchive,
        "pre-data.sql" => FileRole::PreData,
        "post-data.sql" => FileRole::PostData,
        _ => FileRole::Data,
    };
    let hash = Sha256Hash([0; 32]);
    let files: Vec<File> = files
        .iter()
        .map(|(name, content)| File {
            name: name.clone(),
            role: role(name),
            raw_length: content.len() as u64,
            raw_sha256: hash,
            stored_length: 0,
            first_chunk: 0,
            chunk_count: 0,
            tables: if name.starts_with("data-") { tables(content) } else { Vec::new() },
        })
        .collect();
    let rows = files.iter().flat_map(|file| &file.tables).map(|table| table.rows).sum();
    Manifest {
        format: FORMAT,
        required_features: Vec::new(),
        optional_features: Vec::new(),
        kind: Kind::Logical,
        base: None,
        source: SourceKey::single("test".parse().unwrap()),
        run_id: RunId::new(),
        sequence: 1,
        started_at: 0,
        snapshot_at: 0,
        finished_at: 0,
        description: String::new(),
        tags: Vec::new(),
        writer: Writer { program: "backupd".to_owned(), version: "0".to_owned(), host: "test".to_owned() },
        codec: Codec { name: CodecName::Gzip, level: 1 },
        chunker: ChunkerParameters::with_average(65536),
        files,
        packs: Vec::new(),
        chunk_table: ChunkTableReference { index_sha256: hash, segments: 0, entries: 0 },
        extents_sha256: hash,
        statistics: Statistics { rows, database_bytes: 1 << 20, ..Statistics::default() },
        incomplete: Vec::new(),
        postgresql: Some(facts(server, database)),
    }
}

/// The COPY blocks of a dump. Comments of a dump do not hold line feeds, so a line that begins with COPY is a statement.
fn tables(dump: &[u8]) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let mut at = 0;
    while at < dump.len() {
        let line_end = at + memchr::memchr(b'\n', &dump[at..]).unwrap() + 1;
        if !dump[at..].starts_with(b"COPY ") {
            at = line_end;
            continue;
        }
        const END: &[u8] = b" FROM stdin;\n";
        let rows_at = at + memchr::memmem::find(&dump[at..], END).unwrap() + END.len();
        let end = rows_at - 1 + memchr::memmem::find(&dump[rows_at - 1..], b"\n\\.\n").unwrap() + 4;
        let words = statements::words(&dump[at..rows_at]);
        let name = |index: usize| Name::from(words[index].identifier().unwrap().to_vec());
        let rows = dump[rows_at..end].iter().filter(|&&byte| byte == b'\n').count() as u64 - 1;
        let range = Range { offset: at as u64, length: (end - at) as u64 };
        match tables.iter_mut().find(|table| table.schema == name(1) && table.name == name(3)) {
            Some(table) => {
                table.rows += rows;
                table.ranges.push(range);
            }
            None => {
                tables.push(Table { schema: name(1), name: name(3), rows, bytes: range.length, ranges: vec![range] })
            }
        }
        at = end;
    }
    tables
}

fn facts(server: &TestServer, database: &str) -> PostgresFacts {
    let lines = |sql: &str| -> Vec<String> { server.sql(database, sql).lines().map(str::to_owned).collect() };
    let json = |sql: &str| -> serde_json::Value {
        serde_json::from_str(
            &server.sql(database, format!("SET client_encoding = 'UTF8'; SELECT to_json(x) FROM ({sql}) x")),
        )
        .unwrap()
    };
    let properties = json(
        "SELECT datname AS name, datdba::regrole::text AS owner_quoted, pg_get_userbyid(datdba) AS owner, \
         pg_encoding_to_char(encoding) AS encoding, CASE datlocprovider WHEN 'i' THEN 'icu' ELSE 'libc' END AS locale_provider, \
         datcollate AS collate, datctype AS ctype, daticulocale AS locale, datcollversion AS collation_version, \
         datconnlimit AS connection_limit, datistemplate AS is_template, \
         (SELECT spcname FROM pg_tablespace WHERE oid = dattablespace) AS tablespace, shobj_description(oid, 'pg_database') AS comment, \
         CASE WHEN datacl IS NOT NULL THEN (SELECT json_agg(json_build_object('grantee', CASE WHEN a.grantee = 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END, \
           'privilege', a.privilege_type, 'grantable', a.is_grantable)) FROM aclexplode(datacl) a) END AS acl, \
         (SELECT coalesce(json_agg(json_build_object('role', CASE WHEN setrole = 0 THEN NULL ELSE pg_get_userbyid(setrole) END, \
            'name', split_part(s, '=', 1), 'value', substr(s, strpos(s, '=') + 1))), '[]') \
          FROM pg_db_role_setting, unnest(setconfig) s WHERE setdatabase = d.oid) AS settings \
         FROM pg_database d WHERE datname = current_database()",
    );
    let extensions = json(
        "SELECT json_agg(json_build_object('name', extname, 'version', extversion, 'schema', nspname, 'trusted', true)) AS list \
         FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace",
    );
    let dump_version = Command::new(server.bin().join("pg_dump")).arg("--version").output().unwrap().stdout;
    PostgresFacts {
        server_version_num: server.sql(database, "SHOW server_version_num").parse().unwrap(),
        server_version: server.sql(database, "SHOW server_version"),
        pg_dump_version: String::from_utf8(dump_version).unwrap().trim().to_owned(),
        system_identifier: String::new(),
        standby: false,
        database: serde_json::from_value(properties).unwrap(),
        extensions: serde_json::from_value(extensions["list"].clone()).unwrap(),
        roles: lines(
            "SELECT DISTINCT rolname FROM pg_shdepend JOIN pg_roles r ON r.oid = refobjid JOIN pg_database d ON d.oid = dbid \
             WHERE refclassid = 'pg_authid'::regclass AND datname = current_database()",
        )
        .into_iter()
        .map(Name::from)
        .collect(),
        tablespaces: Vec::new(),
        large_objects: 0,
        superuser_needed: lines("SELECT 'event trigger ' || evtname FROM pg_event_trigger"),
        selection: None,
    }
}

/// A runtime, a scratch folder and a cancel flag.
pub(super) struct Job {
    pub(super) scratch: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    pub(super) cancel: Cancel,
    pub(super) progress: Arc<Progress>,
    pub(super) names: Mutex<Vec<Option<Name>>>,
}

impl Job {
    pub(super) fn new() -> Self {
        Self {
            scratch: tempfile::tempdir().unwrap(),
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap(),
            cancel: Cancel::new(),
            progress: Arc::default(),
            names: Mutex::default(),
        }
    }

    pub(super) fn context(&self) -> JobContext {
        JobContext {
            cancel: self.cancel.clone(),
            progress: Arc::clone(&self.progress),
            scratch: self.scratch.path().to_owned(),
            runtime: self.runtime.handle().clone(),
        }
    }

    fn with_request<T>(
        &self,
        server: &TestServer,
        user: &str,
        options: RestoreChoices,
        act: impl FnOnce(&RestoreRequest<'_>) -> T,
    ) -> T {
        let on_temporary_name = |name: Option<&Name>| {
            self.names.lock().unwrap().push(name.cloned());
            Ok(())
        };
        act(&RestoreRequest {
            connection: server.spec(user, "ignored"),
            options,
            client_bin_dir: Some(server.bin().to_owned()),
            run_id: RunId::new(),
            on_temporary_name: &on_temporary_name,
        })
    }

    pub(super) fn plan(
        &self,
        server: &TestServer,
        user: &str,
        backup: &Backup,
        options: RestoreChoices,
    ) -> RestorePlan {
        self.with_request(server, user, options, |request| plan(request, backup, &self.context()).unwrap())
    }

    pub(super) fn restore(
        &self,
        server: &TestServer,
        user: &str,
        backup: &Backup,
        options: RestoreChoices,
    ) -> Result<RestoreReport, SourceError> {
        self.with_request(server, user, options, |request| {
            let plan = plan(request, backup, &self.context())?;
            carry_out(&plan, request, backup, &self.context())
        })
    }
}

/// The options of a restore under another name.
pub(super) fn to(name: &str) -> RestoreChoices {
    RestoreChoices { to: Some(name.into()), jobs: 2, ..RestoreChoices::default() }
}

/// A database as pg_dump writes it, without what differs from run to run.
pub(super) fn dump_of(server: &TestServer, database: &str, arguments: &[&str]) -> String {
    let dump = client(server, "pg_dump", database, arguments);
    let dump = String::from_utf8_lossy(&dump);
    dump.lines()
        .filter(|line| !line.starts_with("\\restrict ") && !line.starts_with("\\unrestrict "))
        .collect::<Vec<_>>()
        .join("\n")
}

#[track_caller]
pub(super) fn assert_same(left: &str, right: &str) {
    for (number, (left, right)) in left.lines().zip(right.lines()).enumerate() {
        assert_eq!(left, right, "line {}", number + 1);
    }
    assert_eq!(left.len(), right.len());
}

/// Databases and roles that restores may have left.
pub(super) fn leftovers(server: &TestServer) -> String {
    server.sql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE '%\\_\\_restore\\_%'")
}
