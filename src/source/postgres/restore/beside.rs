//! Single tables put beside the live ones, under names of their own.
//!
//! They are restored into a database of their own first, like any others, and compared there; then they are renamed, and
//! copied into the live database in one transaction. Invariant: nothing that is there is changed, and what is added is
//! there whole or not at all.

use std::{
    collections::BTreeSet,
    io::{self, Read},
    process::ChildStdout,
};

use super::{
    database,
    load::Loader,
    report::hit,
    request::restored_name,
    run::{Restore, State},
    witness::Witness,
};
use crate::{
    config::ConnectionSpec,
    model::{ErrorCode, Name},
    source::{
        JobContext, SourceError,
        postgres::{
            child::{ClientChild, ClientCommand},
            connection::{Session, get},
            environment::LibpqEnvironment,
            quote::{quote_ident, quote_qualified},
        },
    },
};

/// What has a name within its schema: tables, indexes, sequences that belong to a table, statistics. Types of rows and
/// constraints go with their tables and indexes. What else the tables need is in the live database already.
const NAMED: &str = "
SELECT n.nspname::text, c.relname::text,
       CASE c.relkind WHEN 'i' THEN 'INDEX' WHEN 'I' THEN 'INDEX' WHEN 'S' THEN 'SEQUENCE' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END,
       c.relkind IN ('r', 'p', 'f')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid >= 16384 AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND (c.relkind IN ('r', 'p', 'f', 'i', 'I')
       OR c.relkind = 'S' AND EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass
                                      AND d.objid = c.oid AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i')))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
UNION ALL
SELECT n.nspname::text, s.stxname::text, 'STATISTICS', false
FROM pg_catalog.pg_statistic_ext s JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace
ORDER BY 1, 2";

/// A table by its schema and name.
type Table = (Name, Name);

impl Restore<'_> {
    /// Renames what was restored, copies it into the live database and drops the temporary one. Gives the new tables.
    pub(super) fn put_beside(&mut self, session: Session) -> Result<Vec<Table>, SourceError> {
        let witness = Witness::keep(session, self.context);
        let tables = self.rename_all()?;
        self.copy(&tables, witness)?;
        self.state = State::Published;
        hit("beside-copied")?;
        let (spec, name) = (&self.decisions.maintenance, &self.temporary);
        match self.context.runtime.block_on(database::clean_up(spec, name, &[])) {
            Ok(()) => self.over(),
            // The journal names it, so that it is tried again.
            Err(error) => {
                tracing::error!(database = %name, %error, "the database of a finished restore was not dropped")
            }
        }
        Ok(tables)
    }

    fn rename_all(&self) -> Result<Vec<Table>, SourceError> {
        let cancel = &self.context.cancel;
        self.context.runtime.block_on(async {
            let session = Session::connect(&self.connection, cancel).await?;
            let rows = session.query(cancel, "cannot list what was restored", NAMED, &[]).await?;
            let (mut taken, mut tables) = (BTreeSet::new(), Vec::new());
            for row in &rows {
                let (schema, name): (Name, Name) = (get(row, 0)?, get(row, 1)?);
                let kind: String = get(row, 2)?;
                let new = restored_name(&name, self.request.run_id, &mut taken);
                let alter = format!("ALTER {kind} ");
                let sql =
                    [alter.as_bytes(), &quote_qualified(&schema, &name), b" RENAME TO ", &quote_ident(new.as_bytes())];
                session.execute(cancel, &format!("cannot rename {schema}.{name}"), &sql.concat()).await?;
                if get(row, 3)? {
                    tables.push((schema, new));
                }
            }
            Ok(tables)
        })
    }

    /// pg_dump of the temporary database into psql on the live one.
    fn copy(&self, tables: &[Table], witness: Witness) -> Result<(), SourceError> {
        let (context, options) = (self.context, &self.request.options);
        let from = self.environment()?;
        let mut command = ClientCommand::new(&self.programs.pg_dump(), &from, ErrorCode::RestoreFailed);
        command = command.args(["--no-password", "--format=plain"]);
        for (schema, name) in tables {
            // A quoted name is no pattern (pg_dump(1), psql(1) "Patterns").
            let table = [b"--table=".as_slice(), &quote_qualified(schema, name)].concat();
            command = command.arg(std::os::unix::ffi::OsStrExt::from_bytes(table.as_slice()) as &std::ffi::OsStr);
        }
        let flags = [(options.no_owner, "--no-owner"), (options.no_privileges, "--no-privileges")];
        command = command.args(flags.iter().filter(|(wanted, _)| *wanted).map(|(_, flag)| *flag));
        let child = command.piped_stdout().spawn(&context.cancel, &context.runtime)?;
        let mut dump = Dump::start(child, witness, context)?;

        let spec = ConnectionSpec { database: self.target.clone(), ..self.request.connection.clone() };
        let encoding = &self.decisions.properties.encoding;
        let version = self.decisions.server_version_num;
        let into = LibpqEnvironment::new(&spec, version, Some(encoding), &context.scratch)?;
        let loader = Loader { programs: self.programs, environment: &into, reader: self.reader, context };
        // psql sees COMMIT only after pg_dump has ended well, and the server did not crash before.
        loader.feed(&mut [&mut b"BEGIN;\n".as_slice(), &mut dump, &mut b"\nCOMMIT;\n".as_slice()])
    }
}

/// What pg_dump writes. Its end is the end only if pg_dump has succeeded, on a server that lost nothing.
struct Dump<'a> {
    child: Option<(ClientChild, Witness)>,
    output: ChildStdout,
    context: &'a JobContext,
}

impl<'a> Dump<'a> {
    fn start(mut child: ClientChild, witness: Witness, context: &'a JobContext) -> Result<Self, SourceError> {
        match child.take_stdout() {
            Some(output) => Ok(Self { child: Some((child, witness)), output, context }),
            None => Err(SourceError::new(ErrorCode::Internal, "pg_dump was started without an output")),
        }
    }
}

impl Read for Dump<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.output.read(buffer)?;
        if length == 0
            && let Some((child, witness)) = self.child.take()
        {
            child.wait().and_then(|()| witness.end(self.context)).map_err(io::Error::other)?;
        }
        Ok(length)
    }
}
