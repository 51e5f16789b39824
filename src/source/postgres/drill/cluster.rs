//! The server of a drill: its folder, its process, and its end.
//!
//! Invariants: it is reached by a socket in a private folder and by nothing else; it runs nothing of its own accord; it
//! dies with this process at the latest; whatever it keeps is in the one folder, shared memory included.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use super::{programs::ServerPrograms, unavailable};
use crate::{
    config::{ConnectionSpec, PasswordSource, SslMode},
    model::ErrorCode,
    source::{
        JobContext, SourceError,
        postgres::{
            child::{ClientChild, ClientCommand},
            connection::Session,
            environment::LibpqEnvironment,
        },
    },
    stream::Cancel,
};

/// How long the server may take to answer.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How often it is asked meanwhile.
const START_STEP: Duration = Duration::from_millis(20);

/// The role that everything is done as.
const SUPERUSER: &str = "postgres";

/// A throwaway server: nothing needs to survive it, and nothing runs that was not asked for.
const SETTINGS: [&str; 16] = [
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "fsync=off",
    "full_page_writes=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_wal_size=4GB",
    "jit=off",
    "autovacuum=off",
    "max_logical_replication_workers=0",
    "archive_mode=off",
    "logging_collector=off",
    "log_min_messages=fatal",
    "log_line_prefix=postgres: ",
    // Files below the data directory, which go with it, rather than /dev/shm.
    "dynamic_shared_memory_type=mmap",
    "lc_messages=C",
];

/// A running server; dropping it ends it.
#[derive(Debug)]
pub(super) struct Cluster {
    socket: PathBuf,
    server: ClientChild,
}

impl Cluster {
    /// Makes one in this folder, and waits until it answers.
    pub(super) fn start(
        programs: &ServerPrograms,
        folder: &Path,
        preload: &[String],
        context: &JobContext,
    ) -> Result<Self, SourceError> {
        let (data, socket) = (folder.join("data"), folder.join("s"));
        DirBuilder::new()
            .mode(0o700)
            .create(&socket)
            .map_err(|error| unavailable(SourceError::io(format!("make {}", socket.display()), &error)))?;
        let environment = LibpqEnvironment::base(&context.scratch);
        ClientCommand::new(&programs.initdb(), &environment, ErrorCode::DrillUnavailable)
            .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username", SUPERUSER])
            .arg("--pgdata")
            .arg(&data)
            .spawn(&context.cancel, &context.runtime)
            .and_then(ClientChild::wait)
            .map_err(unavailable)?;
        let mut command = ClientCommand::new(&programs.postgres(), &environment, ErrorCode::DrillUnavailable)
            // Immediate shutdown: nothing is worth a checkpoint.
            .stopped_by(Signal::SIGQUIT)
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&socket);
        for setting in SETTINGS {
            command = command.arg("-c").arg(setting);
        }
        command = command.arg("-c").arg(format!("shared_preload_libraries={}", preload.join(",")));
        let server = command.spawn(&context.cancel, &context.runtime).map_err(unavailable)?;
        let cluster = Self { socket, server };
        match context.runtime.block_on(cluster.answers(&context.cancel)) {
            Ok(()) => Ok(cluster),
            Err(canceled @ SourceError::Canceled(_)) => Err(canceled),
            Err(error) if cluster.server.has_ended() => match cluster.server.wait() {
                Err(why) => Err(unavailable(why)),
                Ok(()) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    async fn answers(&self, cancel: &Cancel) -> Result<(), SourceError> {
        let (spec, began) = (self.connection("postgres"), Instant::now());
        loop {
            let why = match Session::connect(&spec, cancel).await {
                Ok(_) => return Ok(()),
                Err(canceled @ SourceError::Canceled(_)) => return Err(canceled),
                Err(why) => why,
            };
            if self.server.has_ended() || began.elapsed() > START_LIMIT {
                let message = format!("the server of the drill does not start: {why}");
                return Err(SourceError::new(ErrorCode::DrillUnavailable, message));
            }
            tokio::time::sleep(START_STEP).await;
        }
    }

    /// How to connect to a database of it, as its superuser.
    pub(super) fn connection(&self, database: &str) -> ConnectionSpec {
        ConnectionSpec {
            host: self.socket.to_string_lossy().into_owned(),
            port: 5432,
            user: SUPERUSER.to_owned(),
            database: database.into(),
            password: PasswordSource::None,
            sslmode: SslMode::Disable,
            sslrootcert: None,
            connect_timeout: 10,
        }
    }

    /// The result of the drill; where the server ended before it did, that says nothing about the backup. Ends the server.
    pub(super) fn judge(self, result: Result<(), SourceError>) -> Result<(), SourceError> {
        match result {
            Err(SourceError::Failed { message, .. }) if self.server.has_ended() => {
                let why = self.server.wait().err().map(|why| format!(": {why}")).unwrap_or_default();
                let message = format!("the server of the drill ended before the drill did{why}; then: {message}");
                Err(SourceError::new(ErrorCode::DrillUnavailable, message))
            }
            other => other,
        }
    }
}
