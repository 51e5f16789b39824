//! The verbs that only read, on a repository where no daemon runs: `list`, `show`, `diff`, `stats`, `verify`, `export`, `restore`.
//!
//! Invariant: nothing is written to the repository, not even what a verification finds.

use std::{
    fs::File,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    arguments::{BackupArguments, ExportArguments, RestoreArguments, Verb, VerifyArguments},
    error::CtlError,
    human,
    output::{Output, say},
    progress::{JobView, Progress},
    selector,
    table::visible,
    verbs,
};
use crate::{
    clock::now_micros,
    config::{ConnectionSpec, PasswordSource, Secret, SwapHooks, uri},
    model::{ErrorCode, RunId, manifest, summary::BackupSummary},
    repository::{Catalog, Problem, Repository},
    service::{
        ServiceError, export,
        jobs::JobOutcome,
        listing,
        operations::{ListFilter, RestoreOptions, VerifyRequest},
        reading, restore,
        selector::{Chosen, Selector},
        statistics, verify,
    },
    source::JobContext,
    stream::{self, Cancel, CancelReason},
};

/// Carries out a verb that only reads.
///
/// # Errors
/// `InvalidArgs` for a verb that needs the daemon; what the verb meets.
pub(super) async fn run(verb: &Verb, repository: &Path, output: &Output) -> Result<(), CtlError> {
    match verb {
        Verb::List(arguments) => {
            let filter = verbs::list::filter(arguments)?;
            let reading = Reading::open(repository)?;
            verbs::list::print(output, &listing::matching(&reading.backups, &filter)?)
        }
        Verb::Show(arguments) => {
            let selector = arguments.selector()?;
            let reading = Reading::open(repository)?;
            match reading.choose(&selector)? {
                Chosen::One(backup) => verbs::show::print(output, reading::describe(&reading.repository, &backup)?),
                Chosen::Whole(backups) => verbs::list::print(output, &backups),
            }
        }
        Verb::Diff(arguments) => {
            let (from, to) = (selector::selector(&arguments.from)?, selector::selector(&arguments.to)?);
            let reading = Reading::open(repository)?;
            let (from, to) = (reading.select(&from)?, reading.select(&to)?);
            verbs::diff::print(output, json_of(&statistics::compare(&reading.repository, &from, &to)?)?)
        }
        Verb::Stats(arguments) => {
            let source = arguments.source.as_deref().unwrap_or_default();
            let reading = Reading::open(repository)?;
            let report = statistics::of_backups(source, &reading.backups)?;
            verbs::stats::print(output, json_of(&report)?, !source.is_empty())
        }
        Verb::Verify(arguments) => run_verify(repository, output, arguments).await,
        Verb::Export(arguments) => run_export(repository, output, arguments).await,
        Verb::Restore(arguments) => run_restore(repository, output, arguments).await,
        _ => Err(CtlError::usage(
            "this needs the daemon; --no-daemon is for list, show, diff, stats, verify, export and restore",
        )),
    }
}

fn json_of(value: &impl serde::Serialize) -> Result<Value, CtlError> {
    serde_json::to_value(value).map_err(|error| CtlError::new(ErrorCode::Internal, error.to_string()))
}

/// A repository opened for reading, and the backups in it in the order of listings.
struct Reading {
    repository: Repository,
    backups: Vec<BackupSummary>,
    problems: Vec<Problem>,
}

impl Reading {
    fn open(path: &Path) -> Result<Self, CtlError> {
        let opened = Repository::open_path(path).map_err(ServiceError::from)?;
        let catalog = Catalog::open(&opened, None).map_err(ServiceError::from)?;
        let problems: Vec<_> = catalog.problems().collect();
        for problem in &problems {
            say(format_args!("Cannot list the backup in {}: {}", problem.folder.path(), visible(&problem.message)));
        }
        let backups = catalog.backups().into_iter().cloned().collect();
        Ok(Self { repository: opened, backups, problems })
    }

    fn select(&self, selector: &str) -> Result<BackupSummary, CtlError> {
        Ok(self.choose(selector)?.into_one()?)
    }

    fn choose(&self, selector: &str) -> Result<Chosen, CtlError> {
        Ok(Selector::parse(selector)?.find_or_explain(&self.backups, || self.problems.clone())?)
    }

    fn find(path: &Path, arguments: &BackupArguments) -> Result<(Self, BackupSummary), CtlError> {
        let selector = arguments.selector()?;
        let reading = Self::open(path)?;
        let backup = reading.select(&selector)?;
        Ok((reading, backup))
    }
}

async fn run_verify(path: &Path, output: &Output, arguments: &VerifyArguments) -> Result<(), CtlError> {
    let request: VerifyRequest = verbs::verify::request(arguments)?;
    let reading = Reading::open(path)?;
    let backups = if request.backup.is_empty() {
        listing::matching(&reading.backups, &ListFilter { source: request.source, ..ListFilter::default() })?
    } else {
        reading.choose(&request.backup)?.into_backups()
    };
    let level = request.level;
    let began = Instant::now();
    let work = move |context: &JobContext| verify::examine(&reading.repository, &backups, level, context);
    let report = with_progress(output, "verification", work).await?;
    let statistics = verify::statistics(&report);
    if output.is_json() {
        output.json(&statistics)?;
    }
    verify::judge(&report)?;
    if output.is_json() || output.is_quiet() {
        return Ok(());
    }
    output.line(verbs::verify::sentence(&statistics, &took(began)))
}

async fn run_export(path: &Path, output: &Output, arguments: &ExportArguments) -> Result<(), CtlError> {
    let (reading, backup) = Reading::find(path, &arguments.backup)?;
    let target = verbs::export::Target::open(output, arguments.output.as_deref())?;
    let descriptor = target.descriptor()?;
    let work = move |context: &JobContext| {
        let reader = reading::open_reader(&reading.repository, &backup, context)?;
        export::export_to_file(&reader, File::from(descriptor), context)
    };
    let exported = with_progress(output, "export", work).await?;
    target.conclude(output, &json!({ "raw_bytes": exported.raw_bytes, "written_bytes": exported.written_bytes }))
}

async fn run_restore(path: &Path, output: &Output, arguments: &RestoreArguments) -> Result<(), CtlError> {
    if arguments.verb.is_some() || arguments.apply.is_some() || arguments.replace {
        let message = "undo, forget, --apply and --replace need the daemon, which keeps what they are about; without it a \
                       database is restored beside the present one, with --to";
        return Err(CtlError::usage(message));
    }
    let selector = arguments.selector()?;
    let connection = arguments.connection.as_deref().map(|text| connection_of(text, |name| std::env::var(name).ok()));
    let connection = connection.transpose()?;
    let reading = Reading::open(path)?;
    let wanted = Wanted::choose(&reading, &selector, arguments.all, connection)?;
    // Nobody keeps a journal here that a crash in the middle of a swap would need.
    let options = RestoreOptions { replace: false, ..arguments.options() };
    let (reading, wanted) = (Arc::new(reading), Arc::new(wanted));
    if arguments.dry_run || !arguments.yes {
        let (reading, wanted, options) = (reading.clone(), wanted.clone(), options.clone());
        let work = move |context: &JobContext| wanted.plan(&reading, &options, context);
        let plan = with_progress(output, "plan", work).await?.to_string();
        if arguments.dry_run {
            return verbs::restore::print_plan(output, &plan);
        }
        verbs::restore::ask(&plan).await?;
    }
    let began = Instant::now();
    let work = move |context: &JobContext| wanted.carry_out(&reading, &options, context);
    let JobOutcome { statistics, failure, .. } = with_progress(output, "restore", work).await?;
    if output.is_json() {
        output.json(&statistics)?;
    } else if !output.is_quiet() {
        match verbs::restore_all::AllRestored::of(&statistics) {
            Some(restored) => output.text(&restored.lines(&took(began)))?,
            None => output.line(verbs::restore::sentence(&statistics, &took(began)))?,
        }
    }
    failure.map_or(Ok(()), |error| Err(error.into()))
}

/// What is restored, and where to.
enum Wanted {
    One(Box<BackupSummary>, restore::Target),
    All(Vec<BackupSummary>, restore::PostgresTarget),
}

impl Wanted {
    fn choose(
        reading: &Reading,
        selector: &str,
        all: bool,
        connection: Option<ConnectionSpec>,
    ) -> Result<Self, CtlError> {
        let chosen = reading.choose(selector)?;
        let backup = match chosen {
            Chosen::Whole(backups) if all => return Ok(Self::All(backups, server(connection)?)),
            Chosen::One(_) if all => {
                return Err(CtlError::usage(format!("{selector} is one backup, not a run over all databases")));
            }
            Chosen::Whole(_) => {
                let error = chosen.into_one().err().map_or_else(String::new, |error| error.to_string());
                return Err(CtlError::usage(format!("to restore all databases, say --all: {error}")));
            }
            Chosen::One(backup) => backup,
        };
        let target = match (&connection, backup.kind) {
            (None, manifest::Kind::Sqlite) => restore::Target::Sqlite(restore::SqliteTarget::default()),
            (Some(_), manifest::Kind::Sqlite) => {
                let message = "an SQLite database is restored to a file; give --to PATH, not --connection";
                return Err(CtlError::usage(message));
            }
            _ => restore::Target::Postgres(server(connection)?),
        };
        Ok(Self::One(backup, target))
    }

    fn plan(&self, reading: &Reading, options: &RestoreOptions, context: &JobContext) -> Result<Value, ServiceError> {
        match self {
            Self::One(backup, target) => {
                target.plan(&reading::open_reader(&reading.repository, backup, context)?, options, context)
            }
            Self::All(backups, target) => {
                let plan = Self::whole(reading, backups, target, options)?.plan(context)?;
                serde_json::to_value(&plan).map_err(|error| ServiceError::new(ErrorCode::Internal, error.to_string()))
            }
        }
    }

    fn carry_out(
        &self,
        reading: &Reading,
        options: &RestoreOptions,
        context: &JobContext,
    ) -> Result<JobOutcome, ServiceError> {
        match self {
            Self::One(backup, target) => {
                let reader = reading::open_reader(&reading.repository, backup, context)?;
                let report = target.restore(&reader, options, RunId::new(), context, &|_| Ok(()), &|_| Ok(()))?;
                Ok(JobOutcome::new(Some(backup.id), report))
            }
            Self::All(backups, target) => {
                Self::whole(reading, backups, target, options)?.carry_out(RunId::new(), context, &|_| Ok(()))
            }
        }
    }

    fn whole<'a>(
        reading: &'a Reading,
        backups: &[BackupSummary],
        target: &'a restore::PostgresTarget,
        options: &'a RestoreOptions,
    ) -> Result<restore::WholeRestore<'a>, ServiceError> {
        restore::WholeRestore::new(&reading.repository, target, backups.to_vec(), &reading.backups, options)
    }
}

/// The server to restore to.
fn server(connection: Option<ConnectionSpec>) -> Result<restore::PostgresTarget, CtlError> {
    let connection = connection
        .ok_or_else(|| CtlError::usage("give --connection postgresql://USER@HOST, the server to restore to"))?;
    Ok(restore::PostgresTarget { connection, client_bin_dir: None, hooks: SwapHooks::default() })
}

fn took(began: Instant) -> String {
    human::duration(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX))
}

/// The connection to restore over, from a URI and libpq's variables for what it does not say.
fn connection_of(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<ConnectionSpec, CtlError> {
    let mut keys = uri::parse(text).map_err(|error| CtlError::usage(format!("--connection: {error}")))?;
    // Too late to keep it secret now, but the next time and in every script it will not be there.
    if matches!(keys.password, Some(PasswordSource::Given(_))) {
        return Err(CtlError::usage(
            "--connection holds a password, which everybody on this machine can see in the list of processes; \
             leave it out and give it in $PGPASSWORD or in a file that $PGPASSFILE names",
        ));
    }
    let variable = |name| variable(name).filter(|value| !value.is_empty());
    if keys.user.is_none() {
        let user = || nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name);
        keys.user = variable("PGUSER").or_else(user);
    }
    if keys.password.is_none() {
        let given = variable("PGPASSWORD").map(|password| PasswordSource::Given(Secret::new(password)));
        keys.password = given.or_else(|| variable("PGPASSFILE").map(|file| PasswordSource::PassFile(file.into())));
    }
    keys.database = keys.database.or_else(|| Some("postgres".into()));
    keys.resolve().ok_or_else(|| CtlError::usage("--connection names no database"))
}

/// Runs blocking work in a thread, with progress; Control-C cancels it, and it cleans up after itself.
async fn with_progress<T: Send + 'static>(
    output: &Output,
    title: &str,
    work: impl FnOnce(&JobContext) -> Result<T, ServiceError> + Send + 'static,
) -> Result<T, CtlError> {
    let scratch = tempfile::tempdir().map_err(|error| CtlError::io("cannot make a scratch folder", &error))?;
    let context = JobContext {
        cancel: Cancel::new(),
        progress: Arc::default(),
        scratch: scratch.path().to_owned(),
        runtime: tokio::runtime::Handle::current(),
    };
    let (cancel, state) = (context.cancel.clone(), context.progress.clone());
    let mut task = tokio::task::spawn_blocking(move || work(&context));
    let mut progress = Progress::new(title.to_owned(), output.is_quiet());
    let began = Instant::now();
    loop {
        tokio::select! {
            result = &mut task => {
                return match result {
                    Ok(result) => result.map_err(CtlError::from),
                    Err(error) => Err(CtlError::new(ErrorCode::Internal, format!("the {title} died: {error}"))),
                };
            }
            () = tokio::time::sleep(progress.interval()) => progress.update(&view(&state, began.elapsed())),
            signal = tokio::signal::ctrl_c() => {
                signal.map_err(|error| CtlError::io("cannot wait for Control-C", &error))?;
                progress.say("Cancelling.");
                cancel.cancel(CancelReason::Requested);
            }
        }
    }
}

/// What the progress shows; the rate is the average.
fn view(state: &stream::Progress, elapsed: Duration) -> JobView {
    let (bytes_done, bytes_total) = (state.bytes_done(), state.bytes_total());
    let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).max(1);
    let rate = bytes_done.saturating_mul(1_000_000) / micros;
    let left = bytes_total.saturating_sub(bytes_done).saturating_mul(1_000_000).checked_div(rate).unwrap_or_default();
    JobView {
        phase: state.phase().as_str().to_owned(),
        bytes_done,
        bytes_total,
        rate,
        expected_end_time: if left > 0 { now_micros() + left } else { 0 },
        ..JobView::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_takes_what_the_uri_does_not_say_from_the_variables() {
        let none = |_: &str| None;
        let spec = connection_of("postgresql://anna@db:6432/", none).unwrap();
        assert_eq!((spec.host.as_str(), spec.port, spec.user.as_str()), ("db", 6432, "anna"));
        assert_eq!(spec.database, "postgres".into());
        let with =
            |name: &'static str, value: &'static str| move |asked: &str| (asked == name).then(|| value.to_owned());
        let spec = connection_of("postgresql://anna@db", with("PGPASSWORD", "p")).unwrap();
        assert_eq!(spec.password, PasswordSource::Given(Secret::new("p".into())));
        let spec = connection_of("postgresql://anna@db", with("PGPASSFILE", "/f")).unwrap();
        assert_eq!(spec.password, PasswordSource::PassFile("/f".into()));
        assert_eq!(connection_of("postgresql://", with("PGUSER", "otto")).unwrap().user, "otto");
        assert_eq!(connection_of("db", none).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_password_on_the_command_line_is_refused_and_not_repeated() {
        for uri in ["postgresql://anna:s3cret@db", "postgresql://db/x?user=anna&password=s3cret"] {
            let error = connection_of(uri, |_| None).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("$PGPASSFILE") && !error.to_string().contains("s3cret"), "{error}");
        }
        let spec = connection_of("postgresql://anna@db?passfile=/f", |_| None).unwrap();
        assert_eq!(spec.password, PasswordSource::PassFile("/f".into()));
    }
}
