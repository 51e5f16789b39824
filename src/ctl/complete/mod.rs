//! What the completion scripts of bash and zsh ask: `backupctl complete bash LINE WORDBREAKS`, `backupctl complete zsh WORD...`.
//!
//! This is between the scripts in `packaging/completions` and this program, so it is no verb of the command line. clap's engine
//! knows verbs, options, words and paths; `values` knows what the daemon knows; `line` reads bash's line.
//!
//! Invariant: nobody notices that a daemon is away, refuses or hangs, except that nothing is offered.

mod line;
mod values;

use std::{
    ffi::{OsStr, OsString},
    io::Write as _,
    process::ExitCode,
    sync::Arc,
};

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::{
    CompletionCandidate,
    engine::{ArgValueCompleter, complete},
};

use self::{
    line::Line,
    values::{Daemon, Kind},
};
use super::arguments::Arguments;

/// What bash's script takes as "complete a file name": the word belongs to the shell.
const FILE_NAME: u8 = 1;

/// Answers a completion script, if this is one that asks.
pub(super) fn answer(arguments: &[OsString]) -> Option<ExitCode> {
    let [_, verb, shell, rest @ ..] = arguments else { return None };
    if verb != "complete" {
        return None;
    }
    match (shell.to_str()?, rest) {
        ("bash", [line, breaks]) => Some(bash(line.to_str(), breaks.to_str()?)),
        ("zsh", [words @ .., current]) => Some(zsh(words, current)),
        _ => None,
    }
}

fn bash(line: Option<&str>, breaks: &str) -> ExitCode {
    let Some(line) = line.and_then(|line| Line::parse(line, breaks)) else { return FILE_NAME.into() };
    let words: Vec<OsString> = line.words.iter().map(OsString::from).collect();
    let offered = offer(&words, OsStr::new(&line.current));
    print(offered.iter().filter_map(|(value, _)| line.reply(value)))
}

fn zsh(words: &[OsString], current: &OsStr) -> ExitCode {
    print(offer(words, current).into_iter().map(|(value, help)| format!("{value}\t{help}")))
}

fn print(lines: impl Iterator<Item = String>) -> ExitCode {
    let text: String = lines.flat_map(|line| [line, "\n".to_owned()]).collect();
    // A shell that does not listen any more wants nothing.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// What may stand in place of `current` after `words`, the program's name among them, and a few words about it.
fn offer(words: &[OsString], current: &OsStr) -> Vec<(String, String)> {
    let index = words.len();
    let mut line = words.to_vec();
    line.push(current.to_owned());
    let directory = std::env::current_dir().ok();
    let candidates = complete(&mut command(words), line, index, directory.as_deref()).unwrap_or_default();
    // Only who began to write an option wants one.
    let of_options = current.as_encoded_bytes().starts_with(b"-");
    let wanted = |candidate: &CompletionCandidate| {
        !candidate.is_hide_set() && (of_options || !candidate.get_value().as_encoded_bytes().starts_with(b"-"))
    };
    let text = |candidate: &CompletionCandidate| {
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        let help = help.lines().next().unwrap_or_default().replace(char::is_control, " ");
        Some((candidate.get_value().to_str()?.to_owned(), help))
    };
    let candidates = candidates.iter().filter(|candidate| wanted(candidate)).filter_map(text);
    // The answer has a line each.
    candidates.filter(|(value, _)| !value.contains(char::is_control)).collect()
}

/// The command line, with what the daemon knows attached to the arguments that are about it.
fn command(words: &[OsString]) -> Command {
    let daemon = Arc::new(Daemon::of(words));
    Arguments::command().mut_subcommands(|verb| {
        let name = verb.get_name().to_owned();
        let verb = verb.mut_subcommands(|within| {
            let name = format!("{name} {}", within.get_name());
            within.mut_args(|argument| attach(argument, &name, &daemon))
        });
        verb.mut_args(|argument| attach(argument, &name, &daemon))
    })
}

/// The argument, with what the daemon knows where it is about that.
fn attach(argument: Arg, verb: &str, daemon: &Arc<Daemon>) -> Arg {
    let Some(kind) = kind(verb, argument.get_id().as_str()) else { return argument };
    let daemon = daemon.clone();
    argument.add(ArgValueCompleter::new(move |current: &OsStr| {
        let values = current.to_str().map(|current| daemon.values(kind, current)).unwrap_or_default();
        let candidate = |(value, help): (String, String)| {
            CompletionCandidate::new(value).help((!help.is_empty()).then(|| help.into()))
        };
        values.into_iter().map(candidate).collect()
    }))
}

/// What an argument of a verb names.
fn kind(verb: &str, argument: &str) -> Option<Kind> {
    Some(match (verb, argument) {
        ("create" | "list", "source")
        | ("list", "source_option")
        | ("verify" | "log" | "health" | "stats", "source") => Kind::Source,
        ("show" | "restore" | "export", "of_source") => Kind::Source,
        ("show" | "restore" | "export" | "verify" | "drill" | "pin" | "unpin", "backup")
        | ("delete", "backups")
        | ("diff", "from" | "to") => Kind::Backup,
        ("show" | "restore" | "export", "backup_option") => Kind::BackupOfSource,
        ("prune" | "retention explain", "source") => Kind::Source,
        ("list", "tag") => Kind::Tag,
        ("jobs", "job") => Kind::Job,
        ("cancel", "jobs") => Kind::RunningJob,
        ("restore undo" | "restore forget", "job") => Kind::UndoableJob,
        ("source remove" | "source enable" | "source disable", "name") => Kind::Source,
        ("log", "about") => Kind::JobOrSource,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(line: &str) -> Vec<String> {
        let mut words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let current = words.pop().unwrap();
        offer(&words, &current).into_iter().map(|(value, _)| value).collect()
    }

    #[test]
    fn every_argument_that_names_something_of_the_daemons_is_completed() {
        let mut found = 0;
        let command = Arguments::command();
        let verbs = command.get_subcommands().flat_map(|verb| {
            let within =
                verb.get_subcommands().map(|within| (format!("{} {}", verb.get_name(), within.get_name()), within));
            std::iter::once((verb.get_name().to_owned(), verb)).chain(within)
        });
        // A new source has a new name.
        for (name_of_verb, verb) in verbs.filter(|(name, _)| name != "source add") {
            for argument in verb.get_arguments() {
                let name = argument.get_value_names().map(|names| names.join(" ")).unwrap_or_default();
                let named = |word: &str| name.split('|').any(|part| part == word);
                let wanted = ["SOURCE", "BACKUP", "JOB", "TAG"].into_iter().any(named) && name != "TAG";
                let positional = argument.is_positional()
                    && ["source", "backup", "job", "name"].contains(&argument.get_id().as_str());
                let is = kind(&name_of_verb, argument.get_id().as_str()).is_some();
                assert!(is || !(wanted || positional), "{name_of_verb} {}", argument.get_id());
                found += usize::from(is);
            }
        }
        // Each row of the table is an argument that there is.
        assert_eq!(found, 34);
    }

    #[test]
    fn verbs_options_and_words() {
        assert_eq!(offered("backupctl rest"), ["restore"]);
        assert_eq!(offered("backupctl config "), ["check", "help"]);
        assert_eq!(offered("backupctl verify --lev"), ["--level"]);
        assert_eq!(offered("backupctl verify --level "), ["list", "packs", "data"]);
        assert_eq!(offered("backupctl verify --level=d"), ["--level=data"]);
        assert_eq!(offered("backupctl --json=s"), ["--json=short"]);
        assert!(offered("backupctl ").contains(&"status".to_owned()));
        assert!(!offered("backupctl ").iter().any(|word| word.starts_with('-') || word == "complete"));
        assert!(offered("backupctl restore --").contains(&"--dry-run".to_owned()));
    }

    #[test]
    fn folders() {
        assert_eq!(offered("backupctl --no-daemon --repository /us"), ["/usr/"]);
    }

    #[test]
    fn another_command_line_is_not_answered() {
        for line in [
            "backupctl",
            "backupctl list",
            "backupctl complete",
            "backupctl complete fish x",
            "backupctl complete bash",
        ] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert!(answer(&words).is_none(), "{line}");
        }
    }
}
