//! What differs between the kinds of sources when a backup is taken.

use crate::{
    config::{PostgresConfig, SourceKind},
    model::{
        ErrorCode, Name,
        manifest::{ChunkerParameters, Kind, Selection},
    },
    repository::ManifestFacts,
    service::ServiceError,
    source::{
        JobContext, SetSink,
        postgres::dump::{self as postgres, DumpRequest, SharedGlobals},
        sqlite,
    },
};

/// What is taken, and how.
#[derive(Debug, Clone)]
pub(super) enum Taking {
    /// The set of SQL files of a PostgreSQL database.
    Postgres(Box<DumpRequest>),
    /// The image of an SQLite database.
    Sqlite(sqlite::DumpRequest),
}

/// What the early checks found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Preflight {
    /// Size of the database, bytes.
    pub(super) database_bytes: u64,
    /// How a first backup is cut.
    pub(super) chunker: ChunkerParameters,
}

impl Taking {
    /// What a source is, with its selection narrowed by the options of one backup.
    pub(super) fn of(kind: &SourceKind, narrower: &Selection) -> Result<Self, ServiceError> {
        match kind {
            SourceKind::Postgres(postgres) => {
                Self::of_database(postgres, &postgres.connection.database, narrower, &SharedGlobals::default())
            }
            SourceKind::Sqlite(sqlite) if *narrower == Selection::default() => Ok(Self::Sqlite(sqlite.clone())),
            SourceKind::Sqlite(_) => Err(ServiceError::new(
                ErrorCode::InvalidArgs,
                "an SQLite database is backed up whole; tables and schemas cannot be chosen",
            )),
        }
    }

    /// One database of a server. Dumps with the same `globals` make the script of the roles once.
    pub(super) fn of_database(
        postgres: &PostgresConfig,
        database: &Name,
        narrower: &Selection,
        globals: &SharedGlobals,
    ) -> Result<Self, ServiceError> {
        let mut request = postgres_request(postgres, narrower)?;
        request.connection.database = database.clone();
        request.globals = globals.clone();
        Ok(Self::Postgres(Box::new(request)))
    }

    /// The checks that are made before the job is accepted and again when it starts.
    pub(super) fn preflight(&self, context: &JobContext) -> Result<Preflight, ServiceError> {
        Ok(match self {
            Self::Postgres(request) => {
                let database_bytes = postgres::preflight(request, context)?.database_bytes;
                Preflight { database_bytes, chunker: ChunkerParameters::for_database_size(database_bytes) }
            }
            Self::Sqlite(request) => {
                let database_bytes = sqlite::preflight(request, context)?.database_bytes;
                Preflight { database_bytes, chunker: ChunkerParameters::for_sqlite_size(database_bytes) }
            }
        })
    }

    /// Writes the files of the set.
    pub(super) fn take(&self, sink: &mut dyn SetSink, context: &JobContext) -> Result<ManifestFacts, ServiceError> {
        Ok(match self {
            Self::Postgres(request) => {
                let dumped = postgres::dump(request, sink, context)?;
                ManifestFacts {
                    incomplete: dumped.incomplete,
                    postgresql: Some(dumped.facts),
                    ..ManifestFacts::new(Kind::Logical, dumped.snapshot_at, dumped.database_bytes)
                }
            }
            Self::Sqlite(request) => {
                let dumped = sqlite::dump(request, sink, context)?;
                ManifestFacts {
                    incomplete: dumped.incomplete,
                    sqlite: Some(dumped.facts),
                    ..ManifestFacts::new(Kind::Sqlite, dumped.snapshot_at, dumped.database_bytes)
                }
            }
        })
    }
}

/// The source's selection, narrowed by the options of one backup.
fn postgres_request(config: &PostgresConfig, narrower: &Selection) -> Result<DumpRequest, ServiceError> {
    let own = &config.selection;
    let narrow_both = |a: &[String], b: &[String], what: &str| {
        if a.is_empty() || b.is_empty() {
            Ok([a, b].concat())
        } else {
            Err(ServiceError::new(
                ErrorCode::InvalidArgs,
                format!("the source already includes only some {what}; a backup cannot choose among them again"),
            ))
        }
    };
    let selection = Selection {
        schema_only: own.schema_only || narrower.schema_only,
        include_tables: narrow_both(&own.include_tables, &narrower.include_tables, "tables")?,
        exclude_tables: [&own.exclude_tables[..], &narrower.exclude_tables].concat(),
        include_schemas: narrow_both(&own.include_schemas, &narrower.include_schemas, "schemas")?,
        exclude_schemas: [&own.exclude_schemas[..], &narrower.exclude_schemas].concat(),
    };
    Ok(DumpRequest {
        connection: config.connection.clone(),
        selection,
        lock_timeout: config.lock_timeout,
        client_bin_dir: config.client_bin_dir.clone(),
        globals: SharedGlobals::default(),
    })
}
