//! `source add`: everything is made and looked at first, then written: credentials, file, and what systemd and the daemon
//! are told. A crash leaves at most credentials that nobody names, and the same command takes their place.

use std::path::Path;

use serde_json::json;

use super::{
    super::super::{
        arguments::{AddArguments, Common},
        error::CtlError,
        human,
        output::{Output, say},
        table::visible,
    },
    DAEMON, Place,
    credential::{self, Credential},
    effect::{self, Change},
    file, probe,
};
use crate::{
    config::{self, Secret, SourceConfig, SourceKind},
    model::ErrorCode,
    service::examination::{self, Examination},
};

pub(super) async fn run(arguments: &AddArguments, common: &Common, output: &Output) -> Result<(), CtlError> {
    let place = Place::of(&arguments.name, &arguments.place)?;
    if !arguments.dry_run && !arguments.print_sql {
        place.may_write()?;
    }
    let plan = Plan::make(place, arguments).await?;
    if arguments.print_sql {
        return output.text(&examination::role_sql(&plan.source, None, DAEMON));
    }
    let found = match arguments.no_check {
        true => None,
        false => Some(probe::ask(&plan.place, &plan.text, &plan.credentials).await?),
    };
    if let Some(found) = &found {
        report(found);
        if plan.place.is_the_systems() && probe::user().is_none() {
            say(format_args!("Note: this was tried as you are; root tries as the user {DAEMON} if there is one"));
        }
    }
    if arguments.dry_run {
        plan.show(output, found.as_ref())?;
        return found.as_ref().map_or(Ok(()), |found| verdict(&plan, found, "would not be added"));
    }
    if let Some(found) = found.as_ref().filter(|found| !found.problems.is_empty()) {
        help(&plan, found, output)?;
        return verdict(&plan, found, "was not added");
    }
    plan.write().await?;
    let restart = effect::take(&plan.place, common, plan.change()).await.map_err(|error| plan.not_taken(error))?;
    plan.conclude(output, found.as_ref(), restart)
}

/// What will be written.
struct Plan {
    place: Place,
    text: String,
    source: SourceConfig,
    credentials: Vec<Credential>,
    encrypt: bool,
    /// Whether the file is there already, with the same text.
    is_there: bool,
}

impl Plan {
    /// Everything that can be refused without asking a server.
    async fn make(place: Place, arguments: &AddArguments) -> Result<Self, CtlError> {
        let twice = |path: &Option<std::path::PathBuf>| path.as_deref() == Some(Path::new("-"));
        if twice(&arguments.password_file) && twice(&arguments.restore_password_file) {
            return Err(CtlError::usage("standard input can give one password only; put the other one into a file"));
        }
        // The name is enough to make the text; the password is taken when the text is known to be good.
        let credential = |wanted: bool, kind: &str| wanted.then(|| format!("{}.{kind}", place.name));
        let password = credential(arguments.password_file.is_some() || arguments.ask_password, "password");
        let restore = arguments.restore_password_file.is_some() || arguments.ask_restore_password;
        let restore = credential(restore, "restore.password");
        let text = file::compose(arguments, password.as_deref(), restore.as_deref());
        let source = checked(&place, &text)?;
        let is_there = is_there(&place, &text)?;
        let mut credentials = Vec::new();
        if !arguments.print_sql {
            not_needed_by_others(&place, [&password, &restore].into_iter().flatten())?;
            let roles = roles(&source);
            let sources = [
                (password, &arguments.password_file, arguments.ask_password, roles.0),
                (restore, &arguments.restore_password_file, arguments.ask_restore_password, roles.1),
            ];
            for (name, file, ask, role) in sources {
                let taken: Option<Secret> = credential::take(file.as_deref(), ask, &role).await?;
                credentials.extend(name.zip(taken).map(|(name, secret)| Credential { name, secret }));
            }
        }
        Ok(Self { place, text, source, credentials, encrypt: arguments.encrypt, is_there })
    }

    fn change(&self) -> Change {
        // The folder of an SQLite database is opened to the daemon when it starts.
        let restart = !self.credentials.is_empty() || matches!(self.source.kind, SourceKind::Sqlite(_));
        Change { scheduled: self.source.enabled && !self.source.schedule.is_empty(), restart }
    }

    async fn write(&self) -> Result<(), CtlError> {
        for each in &self.credentials {
            credential::store(&self.place.config_dir, each, self.encrypt).await?;
        }
        if self.is_there { Ok(()) } else { file::create(&self.place.file, &self.text) }
    }

    /// The file is there, and the daemon goes on without it.
    fn not_taken(&self, error: CtlError) -> CtlError {
        let name = &self.place.name;
        let message = format!(
            "{} is written, but the daemon has not taken it: {error}. When that is mended, `backupctl reload`; \
             `backupctl source remove {name}` takes it away again",
            self.place.file.display()
        );
        error.with_message(message)
    }

    fn steps(&self) -> Vec<String> {
        let stored = self.credentials.iter().map(|each| {
            format!("store {}", credential::destination(&self.place.config_dir, &each.name, self.encrypt).display())
        });
        let mut steps: Vec<String> = stored.collect();
        if !self.is_there {
            steps.push(format!("write {}", self.place.file.display()));
        }
        if self.place.has_units() {
            steps.push("let systemd read its units again".to_owned());
        }
        steps.push("let the daemon read its configuration again".to_owned());
        let change = self.change();
        if change.scheduled && self.place.has_units() {
            steps.push(format!("start {}", effect::timer(&self.place)));
        }
        if change.restart {
            steps.push("restart the daemon when no job runs".to_owned());
        }
        steps
    }

    fn show(&self, output: &Output, found: Option<&Examination>) -> Result<(), CtlError> {
        let sql = examination::role_sql(&self.source, found.and_then(|found| found.major), DAEMON);
        if output.is_json() {
            return output.json(&json!({
                "source": self.place.name.as_str(),
                "file": self.place.file,
                "text": self.text,
                "sql": if sql.is_empty() { None } else { Some(sql) },
                "steps": self.steps(),
                "examination": found,
            }));
        }
        output.line(format_args!("{}:\n", self.place.file.display()))?;
        output.text(&indented(&self.text))?;
        if !sql.is_empty() {
            output.line("\nSQL for the roles:\n")?;
            output.text(&indented(&sql))?;
        }
        output.line("\nWould be done:")?;
        self.steps().iter().try_for_each(|step| output.line(format_args!("  - {step}")))
    }

    fn conclude(&self, output: &Output, found: Option<&Examination>, restart: effect::Restart) -> Result<(), CtlError> {
        let (name, file) = (&self.place.name, self.place.file.display());
        if output.is_json() {
            return output.json(&json!({
                "source": name.as_str(),
                "file": self.place.file,
                "examination": found,
                "restart": restart.as_str(),
            }));
        }
        if output.is_quiet() {
            return Ok(());
        }
        match self.is_there {
            true => output.line(format_args!("Source {name} was there already: {file}."))?,
            false => output.line(format_args!("Source {name} was added: {file}."))?,
        }
        if let Some(found) = found {
            let as_user = probe::user().map(|user| format!(" as the user {user}")).unwrap_or_default();
            let what = human::plural(found.databases, "database");
            output.line(format_args!("{what} can be read{as_user}."))?;
        }
        if let Some(sentence) = restart.sentence() {
            output.line(sentence)?;
        }
        output.line(format_args!("Next: `backupctl create {name}`"))
    }
}

/// What the daemon would make of the text, and of the configuration with it.
fn checked(place: &Place, text: &str) -> Result<SourceConfig, CtlError> {
    let invalid = |message: String| CtlError::new(ErrorCode::ConfigInvalid, message);
    let source = config::read_source(&place.file, text).map_err(|errors| {
        let problems: Vec<String> = errors.0.iter().map(|each| format!("{}: {}", each.key, each.message)).collect();
        CtlError::usage(format!("source {} cannot be configured so: {}", place.name, problems.join("; ")))
    })?;
    // Any other error would keep the daemon from taking the new file.
    config::load(&place.config_dir).map_err(|errors| invalid(errors.to_string()))?;
    if let Some(event) = source.schedule.iter().find(|event| !super::super::config::systemd_reads(event)) {
        return Err(CtlError::usage(format!(
            "{event:?} is no calendar event that systemd can read; see systemd.time(7)"
        )));
    }
    Ok(source)
}

/// Whether the file is there with this text; another text is somebody's work.
fn is_there(place: &Place, text: &str) -> Result<bool, CtlError> {
    match place.read() {
        Ok(old) if old == text => Ok(true),
        Ok(_) => Err(CtlError::usage(format!(
            "source {} is configured already, in {}; edit that, or take it away by `backupctl source remove {}`",
            place.name,
            place.file.display(),
            place.name
        ))),
        Err(error) if error.is_no_such_source() => Ok(false),
        Err(error) => Err(error),
    }
}

/// A credential that is there and that nobody needs may be replaced; it is what a crash or an old source left.
fn not_needed_by_others<'a>(place: &Place, names: impl Iterator<Item = &'a String>) -> Result<(), CtlError> {
    for name in names.filter(|name| !credential::files(&place.config_dir, name).is_empty()) {
        let why = match credential::named_by_others(&place.file) {
            Ok(others) if others.contains(name) => "another source uses it".to_owned(),
            Ok(_) => continue,
            Err(path) => format!("whether {} uses it cannot be told", path.display()),
        };
        return Err(CtlError::usage(format!("the credential {name} exists and is not replaced, as {why}")));
    }
    Ok(())
}

/// The names of the reading and of the restoring role.
fn roles(source: &SourceConfig) -> (String, String) {
    match &source.kind {
        SourceKind::Postgres(postgres) => {
            let restore = postgres.restore.as_ref().map(|restore| restore.user.clone());
            (postgres.connection.user.clone(), restore.unwrap_or_default())
        }
        SourceKind::Sqlite(_) => Default::default(),
    }
}

/// Says on standard error what was found.
fn report(found: &Examination) {
    for problem in &found.problems {
        let what = if problem.restoring { "Restoring" } else { "Reading" };
        say(format_args!("{what}: {}", visible(&problem.message)));
    }
    for notice in &found.notices {
        say(format_args!("Note: {}", visible(notice)));
    }
}

/// Prints what gives the roles what they lack.
fn help(plan: &Plan, found: &Examination, output: &Output) -> Result<(), CtlError> {
    if output.is_json() {
        return plan.show(output, Some(found));
    }
    let sql = examination::role_sql(&plan.source, found.major, DAEMON);
    if sql.is_empty() {
        return Ok(());
    }
    output.text(&sql)?;
    output.finish()?;
    say(
        "This SQL gives the roles what they need. To run it: the same command with --print-sql, and | sudo -u postgres psql",
    );
    Ok(())
}

/// The error of what was found.
fn verdict(plan: &Plan, found: &Examination, what: &str) -> Result<(), CtlError> {
    let Some(first) = found.problems.first() else { return Ok(()) };
    let message = format!(
        "source {} {what}: {}, see above (--no-check adds it as it is)",
        plan.place.name,
        human::plural(found.problems.len(), "problem")
    );
    Err(CtlError::of_job(&first.code, &message))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("    {line}\n") }).collect()
}
