//! The options of methods on the wire, and their way to and from the service's own types.

use std::collections::HashMap;

use zbus::{OwnedVariant, Type};

use super::Options;
use crate::{
    bus::limits::{self, short_text},
    model::{ErrorCode, RunId, manifest::Selection},
    service::{
        ServiceError,
        operations::{
            CreateOptions, ListFilter, PruneOptions, RestoreOptions, UndoOptions, VerifyLevel, VerifyRequest,
        },
    },
};

/// `CreateBackup`'s options for the wire.
#[must_use]
pub fn create_options_to_wire(options: &CreateOptions) -> Options<'static> {
    let selection = &options.selection;
    let mut wire = Options::new();
    put_text(&mut wire, "description", &options.description);
    put_list(&mut wire, "tags", &options.tags);
    put_switch(&mut wire, "schema-only", selection.schema_only);
    put_list(&mut wire, "include-tables", &selection.include_tables);
    put_list(&mut wire, "exclude-tables", &selection.exclude_tables);
    put_list(&mut wire, "include-schemas", &selection.include_schemas);
    put_list(&mut wire, "exclude-schemas", &selection.exclude_schemas);
    wire
}

/// `CreateBackup`'s options from the wire.
///
/// # Errors
/// `InvalidArgs` for an option that is not known, has another type or is too long.
pub fn create_options_from_wire(wire: HashMap<String, OwnedVariant>) -> Result<CreateOptions, ServiceError> {
    let mut reader = OptionReader::new(wire);
    let options = CreateOptions {
        description: reader.take_text("description", limits::DESCRIPTION)?,
        tags: reader.take_list("tags", limits::TAGS, limits::TAG)?,
        selection: Selection {
            schema_only: reader.take("schema-only")?,
            include_tables: reader.take_patterns("include-tables")?,
            exclude_tables: reader.take_patterns("exclude-tables")?,
            include_schemas: reader.take_patterns("include-schemas")?,
            exclude_schemas: reader.take_patterns("exclude-schemas")?,
        },
    };
    reader.finish()?;
    Ok(options)
}

/// `RestoreBackup`'s and `PlanRestore`'s options for the wire.
#[must_use]
pub fn restore_options_to_wire(options: &RestoreOptions) -> Options<'static> {
    let mut wire = Options::new();
    put_text(&mut wire, "to", &options.to);
    put_text(&mut wire, "owner", &options.owner);
    put_switch(&mut wire, "create-roles", options.create_roles);
    put_switch(&mut wire, "all", options.all);
    put_switch(&mut wire, "no-owner", options.no_owner);
    put_switch(&mut wire, "no-privileges", options.no_privileges);
    put_switch(&mut wire, "replace", options.replace);
    put_switch(&mut wire, "break-replication", options.break_replication);
    put_switch(&mut wire, "no-backup", options.no_backup);
    put_switch(&mut wire, "no-undo", options.no_undo);
    put_text(&mut wire, "plan", &options.plan);
    put_list(&mut wire, "tables", &options.tables);
    if options.jobs != 0 {
        wire.insert("jobs", options.jobs.into());
    }
    wire
}

/// `RestoreBackup`'s options from the wire.
///
/// # Errors
/// As [`create_options_from_wire`].
pub fn restore_options_from_wire(wire: HashMap<String, OwnedVariant>) -> Result<RestoreOptions, ServiceError> {
    let mut reader = OptionReader::new(wire);
    let plan = reader.take_text("plan", limits::TEXT)?;
    Ok(RestoreOptions { plan, ..what_is_planned(reader)? })
}

/// `PlanRestore`'s options from the wire.
///
/// # Errors
/// As [`create_options_from_wire`].
pub fn plan_options_from_wire(wire: HashMap<String, OwnedVariant>) -> Result<RestoreOptions, ServiceError> {
    what_is_planned(OptionReader::new(wire))
}

fn what_is_planned(mut reader: OptionReader) -> Result<RestoreOptions, ServiceError> {
    let options = RestoreOptions {
        to: reader.take_text("to", limits::TEXT)?,
        owner: reader.take_text("owner", limits::TEXT)?,
        create_roles: reader.take("create-roles")?,
        no_owner: reader.take("no-owner")?,
        no_privileges: reader.take("no-privileges")?,
        tables: reader.take_patterns("tables")?,
        jobs: reader.take("jobs")?,
        all: reader.take("all")?,
        replace: reader.take("replace")?,
        break_replication: reader.take("break-replication")?,
        no_backup: reader.take("no-backup")?,
        no_undo: reader.take("no-undo")?,
        plan: String::new(),
    };
    reader.finish()?;
    Ok(options)
}

/// `UndoRestore`'s options for the wire.
#[must_use]
pub fn undo_options_to_wire(options: &UndoOptions) -> Options<'static> {
    let mut wire = Options::new();
    put_switch(&mut wire, "break-replication", options.break_replication);
    wire
}

/// `UndoRestore`'s options from the wire.
///
/// # Errors
/// As [`create_options_from_wire`].
pub fn undo_options_from_wire(wire: HashMap<String, OwnedVariant>) -> Result<UndoOptions, ServiceError> {
    let mut reader = OptionReader::new(wire);
    let options = UndoOptions { break_replication: reader.take("break-replication")? };
    reader.finish()?;
    Ok(options)
}

/// `VerifyBackup`'s options for the wire; its `backup` is an argument.
#[must_use]
pub fn verify_options_to_wire(request: &VerifyRequest) -> Options<'static> {
    let mut wire = Options::new();
    put_text(&mut wire, "source", &request.source);
    put_text(&mut wire, "subset", &request.subset);
    wire.insert("level", level_word(request.level).into());
    wire
}

/// `VerifyBackup`'s arguments from the wire.
///
/// # Errors
/// As [`create_options_from_wire`]; also for a level that is not known, and a source given beside a backup.
pub fn verify_request_from_wire(
    backup: String,
    wire: HashMap<String, OwnedVariant>,
) -> Result<VerifyRequest, ServiceError> {
    let mut reader = OptionReader::new(wire);
    let source = reader.take_text("source", limits::TEXT)?;
    let word = reader.take_text("level", limits::TEXT)?;
    let subset = reader.take_text("subset", limits::TEXT)?;
    reader.finish()?;
    let level = match word.as_str() {
        "" => VerifyLevel::default(),
        word => [VerifyLevel::List, VerifyLevel::Packs, VerifyLevel::Data]
            .into_iter()
            .find(|&level| level_word(level) == word)
            .ok_or_else(|| invalid(format!("the option \"level\" is {word:?}; it must be list, packs or data")))?,
    };
    if !backup.is_empty() && !source.is_empty() {
        return Err(invalid("give either a backup or the option \"source\", not both"));
    }
    if !backup.is_empty() && !subset.is_empty() {
        return Err(invalid("the option \"subset\" chooses among many backups; one is named"));
    }
    Ok(VerifyRequest { backup, source, level, subset })
}

fn level_word(level: VerifyLevel) -> &'static str {
    match level {
        VerifyLevel::List => "list",
        VerifyLevel::Packs => "packs",
        VerifyLevel::Data => "data",
    }
}

/// `ListBackups`' filter for the wire.
#[must_use]
pub fn list_filter_to_wire(filter: &ListFilter) -> Options<'static> {
    let mut wire = Options::new();
    put_text(&mut wire, "source", &filter.source);
    put_text(&mut wire, "tag", &filter.tag);
    put_text(&mut wire, "backup", &filter.backup);
    put_switch(&mut wire, "damaged", filter.damaged);
    put_switch(&mut wire, "suspect", filter.suspect);
    if let Some(run) = filter.run {
        wire.insert("run", run.to_string().into());
    }
    for (name, time) in [("since", filter.since), ("until", filter.until)] {
        if time != 0 {
            wire.insert(name, time.into());
        }
    }
    wire
}

fn run_from_wire(text: &str) -> Result<Option<RunId>, ServiceError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        ServiceError::new(ErrorCode::InvalidArgs, format!("the option \"run\" must be a run's id, not {text:?}"))
    })
}

/// `ListBackups`' filter from the wire.
///
/// # Errors
/// As [`create_options_from_wire`].
pub fn list_filter_from_wire(wire: HashMap<String, OwnedVariant>) -> Result<ListFilter, ServiceError> {
    let mut reader = OptionReader::new(wire);
    let filter = ListFilter {
        source: reader.take_text("source", limits::TEXT)?,
        tag: reader.take_text("tag", limits::TEXT)?,
        since: reader.take("since")?,
        until: reader.take("until")?,
        run: run_from_wire(&reader.take_text("run", limits::TEXT)?)?,
        backup: reader.take_text("backup", limits::TEXT)?,
        damaged: reader.take("damaged")?,
        suspect: reader.take("suspect")?,
    };
    reader.finish()?;
    Ok(filter)
}

/// Whether what is deleted goes at once, for the wire.
#[must_use]
pub fn delete_options_to_wire(at_once: bool) -> Options<'static> {
    let mut wire = Options::new();
    put_switch(&mut wire, "no-undelete", at_once);
    wire
}

/// Whether what is deleted goes at once, from the wire.
///
/// # Errors
/// As [`create_options_from_wire`].
pub fn delete_options_from_wire(wire: HashMap<String, OwnedVariant>) -> Result<bool, ServiceError> {
    let mut reader = OptionReader::new(wire);
    let at_once = reader.take("no-undelete")?;
    reader.finish()?;
    Ok(at_once)
}

/// Prune options for the wire.
#[must_use]
pub fn prune_options_to_wire(options: &PruneOptions) -> Options<'static> {
    let mut wire = Options::new();
    put_text(&mut wire, "source", &options.source);
    put_switch(&mut wire, "force", options.force);
    put_switch(&mut wire, "despite-clock", options.despite_clock);
    wire
}

/// Prune options from the wire.
///
/// # Errors
/// As [`create_options_from_wire`].
pub fn prune_options_from_wire(wire: HashMap<String, OwnedVariant>) -> Result<PruneOptions, ServiceError> {
    let mut reader = OptionReader::new(wire);
    let options = PruneOptions {
        source: reader.take_text("source", limits::TEXT)?,
        force: reader.take("force")?,
        despite_clock: reader.take("despite-clock")?,
    };
    reader.finish()?;
    Ok(options)
}

/// Whether times are not to be believed, for the wire of `ExplainRetention`.
#[must_use]
pub fn explain_options_to_wire(despite_clock: bool) -> Options<'static> {
    let mut wire = Options::new();
    put_switch(&mut wire, "despite-clock", despite_clock);
    wire
}

/// Whether times are not to be believed, from the wire of `ExplainRetention`.
///
/// # Errors
/// As [`create_options_from_wire`].
pub fn explain_options_from_wire(wire: HashMap<String, OwnedVariant>) -> Result<bool, ServiceError> {
    let mut reader = OptionReader::new(wire);
    let despite_clock = reader.take("despite-clock")?;
    reader.finish()?;
    Ok(despite_clock)
}

/// A pin's end (microseconds since the epoch; 0 for none) and reason for the wire.
#[must_use]
pub fn pin_options_to_wire(until: u64, reason: &str) -> Options<'static> {
    let mut wire = Options::new();
    put_text(&mut wire, "reason", reason);
    if until != 0 {
        wire.insert("until", until.into());
    }
    wire
}

/// A pin's end and reason from the wire.
///
/// # Errors
/// As [`create_options_from_wire`].
pub fn pin_options_from_wire(wire: HashMap<String, OwnedVariant>) -> Result<(u64, String), ServiceError> {
    let mut reader = OptionReader::new(wire);
    let (until, reason) = (reader.take("until")?, reader.take_text("reason", limits::TEXT)?);
    reader.finish()?;
    Ok((until, reason))
}

/// Refuses every option, for methods that have none yet.
///
/// # Errors
/// `InvalidArgs` if there is one.
pub fn no_options(wire: HashMap<String, OwnedVariant>) -> Result<(), ServiceError> {
    OptionReader::new(wire).finish()
}

/// Refuses every flag: none has a meaning yet.
///
/// # Errors
/// `InvalidArgs` if one is set.
pub fn no_flags(flags: u64) -> Result<(), ServiceError> {
    if flags == 0 { Ok(()) } else { Err(invalid(format!("the flags {flags:#x} are not known; flags must be 0"))) }
}

fn invalid(message: impl Into<String>) -> ServiceError {
    ServiceError::new(ErrorCode::InvalidArgs, message)
}

fn put_text(wire: &mut Options<'static>, name: &'static str, text: &str) {
    if !text.is_empty() {
        wire.insert(name, text.to_owned().into());
    }
}

fn put_switch(wire: &mut Options<'static>, name: &'static str, on: bool) {
    if on {
        wire.insert(name, true.into());
    }
}

fn put_list(wire: &mut Options<'static>, name: &'static str, list: &[String]) {
    if !list.is_empty() {
        wire.insert(name, list.to_vec().into());
    }
}

/// Takes the options that are known out of a dictionary; what is left at the end is not.
struct OptionReader {
    left: HashMap<String, OwnedVariant>,
    known: Vec<&'static str>,
}

impl OptionReader {
    fn new(wire: HashMap<String, OwnedVariant>) -> Self {
        Self { left: wire, known: Vec::new() }
    }

    fn take<T>(&mut self, name: &'static str) -> Result<T, ServiceError>
    where
        T: Default + Type + TryFrom<OwnedVariant>,
    {
        self.known.push(name);
        let Some(value) = self.left.remove(name) else { return Ok(T::default()) };
        let given = value.value_signature().to_string();
        T::try_from(value).map_err(|_| {
            invalid(format!("the option {name:?} has the type {given:?} instead of {:?}", T::SIGNATURE.to_string()))
        })
    }

    fn take_text(&mut self, name: &'static str, most: usize) -> Result<String, ServiceError> {
        let text: String = self.take(name)?;
        limits::check(&format!("the option {name:?}"), &text, most)?;
        Ok(text)
    }

    fn take_list(&mut self, name: &'static str, most: usize, most_bytes: usize) -> Result<Vec<String>, ServiceError> {
        let list: Vec<String> = self.take(name)?;
        limits::check_list(&format!("the option {name:?}"), &list, most, most_bytes)?;
        Ok(list)
    }

    fn take_patterns(&mut self, name: &'static str) -> Result<Vec<String>, ServiceError> {
        self.take_list(name, limits::PATTERNS, limits::PATTERN)
    }

    /// Refuses what is left. The message lists what is known: for people, and for the test of the documentation.
    fn finish(self) -> Result<(), ServiceError> {
        let Some(name) = self.left.into_keys().min() else { return Ok(()) };
        let known = match self.known.as_slice() {
            [] => "there are none here".to_owned(),
            known => format!("known are {}", known.join(", ")),
        };
        Err(invalid(format!("the option {:?} is not known; {known}", short_text(&name))))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn over_the_wire(options: Options<'static>) -> HashMap<String, OwnedVariant> {
        options.into_iter().map(|(k, v)| (k.to_owned(), OwnedVariant::try_from(v).unwrap())).collect()
    }

    proptest! {
        #[test]
        fn options_come_back_as_they_went(
            description in ".{0,200}", tags in proptest::collection::vec(".{0,60}", 0..=limits::TAGS),
            tables in proptest::collection::vec(".{0,99}", 0..20), on: bool, number: u32, time: u64,
        ) {
            let create = CreateOptions {
                description: description.replace('\0', ""),
                tags: tags.clone(),
                selection: Selection { schema_only: on, exclude_schemas: tables.clone(), ..Selection::default() },
            };
            prop_assert_eq!(&create_options_from_wire(over_the_wire(create_options_to_wire(&create))).unwrap(), &create);
            let restore = RestoreOptions { to: description, no_owner: on, tables, jobs: number, ..RestoreOptions::default() };
            prop_assert_eq!(&restore_options_from_wire(over_the_wire(restore_options_to_wire(&restore))).unwrap(), &restore);
            let filter = ListFilter { until: time, suspect: on, run: (time % 2 == 1).then(RunId::new), ..ListFilter::default() };
            prop_assert_eq!(&list_filter_from_wire(over_the_wire(list_filter_to_wire(&filter))).unwrap(), &filter);
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let unknown = over_the_wire(Options::from([("colour", "red".into())]));
        let error = create_options_from_wire(unknown).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgs);
        assert!(error.to_string().starts_with("the option \"colour\" is not known; known are description, tags,"));
        let wrong = over_the_wire(Options::from([("schema-only", "yes".into())]));
        let error = create_options_from_wire(wrong).unwrap_err();
        assert_eq!(error.to_string(), "the option \"schema-only\" has the type \"s\" instead of \"b\"");
        let level = over_the_wire(Options::from([("level", "deep".into())]));
        assert_eq!(verify_request_from_wire(String::new(), level).unwrap_err().code(), ErrorCode::InvalidArgs);
    }
}
