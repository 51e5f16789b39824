//! Whether the client programs of this host fit the servers, which each server has to be asked for: seldom, and never for
//! the sake of an answer.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    config::SourceKind,
    model::{ErrorCode, SourceName},
    service::engine::Engine,
    source::postgres::databases,
};

/// How often a server is asked.
const EVERY: Duration = Duration::from_secs(3600);
/// What asking may take at a time; the others are asked the next time.
const BUDGET: Duration = Duration::from_secs(30);

/// What is known, by source.
#[derive(Debug, Clone, Default)]
pub(super) struct Clients {
    known: BTreeMap<SourceName, (Instant, Option<String>)>,
}

impl Clients {
    /// Why no client programs fit the server of a source, as far as it is known.
    pub(super) fn problem(&self, source: &SourceName) -> Option<String> {
        self.known.get(source).and_then(|(_, problem)| problem.clone())
    }

    /// Asks those that were not asked for long. A server that does not answer changes nothing: a backup will say it.
    pub(super) fn refresh(&mut self, engine: &Engine) {
        let config = engine.config();
        let began = Instant::now();
        self.known.retain(|name, _| config.sources.contains_key(name));
        for (name, source) in config.sources.iter().filter(|(_, source)| source.enabled) {
            let SourceKind::Postgres(postgres) = &source.kind else { continue };
            // One that was found wrong is looked at each time: somebody may install what is missing.
            let is_known = |(asked, problem): &(Instant, Option<String>)| asked.elapsed() < EVERY && problem.is_none();
            if self.known.get(name).is_some_and(is_known) {
                continue;
            }
            if began.elapsed() >= BUDGET {
                return;
            }
            let Ok(checks) = engine.early_checks() else { return };
            let asked = databases::client(&postgres.connection, postgres.client_bin_dir.as_deref(), checks.context());
            let problem = match asked {
                Err(error) if error.code() == ErrorCode::ClientProgramMissing => Some(error.to_string()),
                Err(error) => {
                    tracing::debug!(source = %name, %error, "cannot ask for the server's version");
                    self.problem(name)
                }
                Ok(_) => None,
            };
            self.known.insert(name.clone(), (Instant::now(), problem));
        }
    }
}
