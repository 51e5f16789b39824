//! `log`: what the daemon wrote to the journal, shown by journalctl.
//!
//! Only the daemon's own unit is looked at: anybody may write lines with any field to the journal, but not as that unit.

use std::{io, os::unix::process::CommandExt as _, path::Path, process::Command};

use super::super::{
    arguments::{Common, Json, LogArguments},
    error::CtlError,
};
use crate::model::ErrorCode;

/// The daemon's unit.
const UNIT: &str = "backupd.service";
/// Where journald keeps its files; one of them is there where it runs.
const JOURNALS: [&str; 2] = ["/var/log/journal", "/run/log/journal"];

/// Becomes journalctl; comes back only where that fails.
pub(super) fn run(arguments: &LogArguments, common: &Common) -> CtlError {
    if !JOURNALS.iter().any(|folder| Path::new(folder).exists()) {
        return CtlError::new(
            ErrorCode::NotSupported,
            "there is no journal on this host; the daemon's messages are where its standard error goes",
        );
    }
    let error = Command::new("journalctl").args(matches(arguments, common)).exec();
    if error.kind() == io::ErrorKind::NotFound {
        let message = "journalctl is not installed, by which the journal is read";
        return CtlError::new(ErrorCode::NotSupported, message);
    }
    CtlError::io("cannot run journalctl", &error)
}

fn matches(arguments: &LogArguments, common: &Common) -> Vec<String> {
    let mut words = vec!["--unit".to_owned(), UNIT.to_owned()];
    match common.json {
        Json::Pretty => words.push("--output=json-pretty".to_owned()),
        Json::Short => words.push("--output=json".to_owned()),
        Json::Off => {}
    }
    for (wanted, word) in [(arguments.follow, "--follow"), (arguments.catalog, "--catalog"), (common.quiet, "--quiet")]
    {
        if wanted {
            words.push(word.to_owned());
        }
    }
    if let Some(lines) = arguments.lines {
        words.push(format!("--lines={lines}"));
    }
    match (&arguments.about, &arguments.source) {
        (Some(job), _) if job.bytes().all(|byte| byte.is_ascii_digit()) => {
            words.push(format!("BACKUPD_JOB_NUMBER={job}"));
        }
        (Some(source), _) | (None, Some(source)) => words.push(format!("BACKUPD_SOURCE={source}")),
        (None, None) => {}
    }
    words
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::ctl::arguments::{Arguments, Verb};

    #[test]
    fn journalctl_gets_the_matches() {
        for (line, expected) in [
            ("log", ""),
            ("log 12", " BACKUPD_JOB_NUMBER=12"),
            ("log shop -f -n 5", " --follow --lines=5 BACKUPD_SOURCE=shop"),
            ("log --source 12 -x", " --catalog BACKUPD_SOURCE=12"),
            ("log all/shop --json -q", " --output=json-pretty --quiet BACKUPD_SOURCE=all/shop"),
        ] {
            let arguments = Arguments::try_parse_from(std::iter::once("backupctl").chain(line.split(' '))).unwrap();
            let Some(Verb::Log(log)) = &arguments.verb else { panic!("{line}") };
            assert_eq!(matches(log, &arguments.common).join(" "), format!("--unit backupd.service{expected}"));
        }
    }
}
