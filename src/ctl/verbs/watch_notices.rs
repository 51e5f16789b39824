//! What the dead-man's switch tells the configured notifiers, without the daemon.
//!
//! Invariants: each notifier has a memory of its own, which changes only when it was reached: what could not be told is
//! told by the next look; no notifier keeps another, or the look itself, from its end.

use std::{collections::BTreeMap, path::Path, time::Duration};

use futures_util::future::join_all;

use super::super::output::say;
use crate::{
    clock::now_micros,
    config::NotifyConfig,
    health::watch::{Finding, Told},
    model::notice::{Event, Notice, Severity},
    notify::{self, queue::Batch, routing},
    state_file,
};

/// The file of what notifiers were told.
const FILE: &str = "notified.json";

/// Tells each notifier what it was not told yet, or not for `repeat`, and what is over.
pub(super) async fn tell(
    notifiers: &BTreeMap<String, NotifyConfig>,
    findings: &[Finding],
    folder: Option<&Path>,
    repeat: Duration,
) {
    let file = folder.map(|folder| folder.join(FILE));
    let mut memory = read(file.as_deref());
    memory.retain(|name, _| notifiers.contains_key(name));
    let before = memory.clone();
    let now = now_micros();
    // At once: one that does not answer takes its time from nobody.
    let tries = notifiers.iter().map(async |(name, config)| {
        let mut told = memory.get(name).cloned().unwrap_or_default();
        let (due, over) = told.update(findings, now, repeat);
        let notices = notices(config, findings, &due, &over, now);
        let sent = match notices.is_empty() {
            true => Ok(()),
            false => notify::send(config, &Batch::alone(notices, 0)).await,
        };
        (name.clone(), sent.map(|()| told))
    });
    for (name, sent) in join_all(tries).await {
        match sent {
            Ok(told) => drop(memory.insert(name, told)),
            Err(error) => {
                say(format_args!(
                    "The notifier {name} was not reached, which is tried again at the next look: {error}"
                ));
            }
        }
    }
    if let Some(file) = file.filter(|_| memory != before)
        && let Err(error) = write(&file, &memory)
    {
        say(format_args!("Cannot write {}: {error}", file.display()));
    }
}

/// What a notifier wants of that.
fn notices(config: &NotifyConfig, findings: &[Finding], due: &[bool], over: &[String], now: u64) -> Vec<Notice> {
    let wanted = |notice: &Notice| routing::decide(&mut routing::Told::default(), config, notice, now);
    let found = findings.iter().zip(due).filter(|(_, due)| **due).filter_map(|(finding, _)| {
        let source = finding.source.as_deref().unwrap_or_default();
        wanted(&trouble(finding.code, source, &finding.message, now))
    });
    let ended = over.iter().filter_map(|key| {
        let (code, source) = key.split_once(' ').unwrap_or((key, ""));
        let mut told = routing::Told::default();
        routing::decide(&mut told, config, &trouble(code, source, "", now), now)?;
        let of = if source.is_empty() { String::new() } else { format!(" of {source}") };
        let text = format!("{code}{of} is over");
        let end = Notice::new(Event::Recovery, Severity::Info, topic(code, source), &text, now).about(source);
        routing::decide(&mut told, config, &end, now)
    });
    found.chain(ended).collect()
}

fn trouble(code: &str, source: &str, message: &str, now: u64) -> Notice {
    let event = if source.is_empty() { Event::Daemon } else { Event::Missing };
    Notice::new(event, Severity::Critical, topic(code, source), message, now).about(source).detail("finding", code)
}

fn topic(code: &str, source: &str) -> String {
    format!("watch {code} {source}")
}

/// What the notifiers were told; nothing where that cannot be read: then it is told again.
fn read(file: Option<&Path>) -> BTreeMap<String, Told> {
    let bytes = file.and_then(|file| std::fs::read(file).ok());
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn write(file: &Path, memory: &BTreeMap<String, Told>) -> std::io::Result<()> {
    state_file::replace(file, &serde_json::to_vec(memory)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::notify::Transport;

    fn notifier(min_severity: Severity, program: &str) -> NotifyConfig {
        NotifyConfig {
            sources: Vec::new(),
            events: Vec::new(),
            min_severity,
            repeat: None,
            group: Duration::ZERO,
            timeout: Duration::from_secs(10),
            retry_for: Duration::from_secs(1),
            transport: Transport::Command(vec!["/bin/sh".to_owned(), "-c".to_owned(), program.to_owned()]),
        }
    }

    #[tokio::test]
    async fn a_notifier_hears_of_a_finding_once_and_of_its_end_and_again_where_it_was_not_reached() {
        let folder = tempfile::tempdir().unwrap();
        let heard = folder.path().join("heard");
        let append = format!("cat >>{0}; echo \"[$BACKUPD_EVENT $BACKUPD_SOURCE]\" >>{0}", heard.display());
        let fails = format!("test -e {0}/well || exit 1; {append}", folder.path().display());
        let notifiers = BTreeMap::from([
            ("broken".to_owned(), notifier(Severity::Warning, &fails)),
            ("good".to_owned(), notifier(Severity::Warning, &append)),
        ]);
        let finding = Finding::general("daemon-stopped", "backupd.service does not run");
        let day = Duration::from_secs(86_400);
        let look = async |findings: &[Finding]| {
            tell(&notifiers, findings, Some(folder.path()), day).await;
            let text = std::fs::read_to_string(&heard).unwrap_or_default();
            let _ = std::fs::remove_file(&heard);
            (text.matches("[daemon ]").count(), text.matches("[recovery ]").count())
        };
        assert_eq!(look(std::slice::from_ref(&finding)).await, (1, 0));
        assert_eq!(look(std::slice::from_ref(&finding)).await, (0, 0), "one is not told twice, the other not reached");
        std::fs::write(folder.path().join("well"), "").unwrap();
        assert_eq!(look(std::slice::from_ref(&finding)).await, (1, 0), "the other is reached at last");
        assert_eq!(look(&[]).await, (0, 2));
        assert_eq!(look(&[]).await, (0, 0));
    }
}
