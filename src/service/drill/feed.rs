//! Feeds a worker: answers its questions about one backup, and takes its verdict.
//!
//! What it says is foreign input. It gets files of this backup and nothing else, each a few times at most; frames,
//! texts and numbers of things are bounded; the job's time-out and cancel end the conversation at any point.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    net::Shutdown,
    os::unix::net::UnixStream,
};

use crate::{
    drill::wire::{self, Kind, LONGEST, Order, Verdict, Want},
    model::{ErrorCode, job::Phase},
    service::ServiceError,
    source::{JobContext, SetReader},
};

/// How often one file may be asked for: the small ones are read several times.
const OPENINGS: u32 = 8;
/// Checks that a report may have.
const CHECKS: usize = 32;
/// Characters of a text that are kept.
const TEXT: usize = 4096;

/// Answers until the verdict comes.
///
/// # Errors
/// The reader's, which is the backup's own damage; the cancel; `DrillUnavailable` where the worker ended without a verdict.
pub(super) fn feed(
    socket: &UnixStream,
    reader: &dyn SetReader,
    order: &Order,
    context: &JobContext,
) -> Result<Verdict, ServiceError> {
    let lost = |error: &io::Error| {
        ServiceError::new(ErrorCode::DrillUnavailable, format!("cannot talk to the worker of the drill: {error}"))
    };
    let (ours, at_end) =
        socket.try_clone().and_then(|ours| Ok((ours, socket.try_clone()?))).map_err(|error| lost(&error))?;
    // What waits on the socket ends with it.
    let cancel = context.cancel.clone();
    let watcher = context.runtime.spawn(async move {
        cancel.cancelled().await;
        let _ = at_end.shutdown(Shutdown::Both);
    });
    let mut feeding = Feeding { socket: ours, reader, order, context, openings: BTreeMap::new(), broken: None };
    let result = feeding.converse();
    watcher.abort();
    context.cancel.check()?;
    match (feeding.broken, result) {
        // What the worker makes of damage does not count.
        (Some(broken), _) => Err(broken),
        (None, Ok(Some(verdict))) => Ok(bounded(verdict)),
        (None, Ok(None)) => {
            let message = "the worker of the drill ended without a verdict; its messages are in the journal";
            Err(ServiceError::new(ErrorCode::DrillUnavailable, message))
        }
        (None, Err(error)) => Err(lost(&error)),
    }
}

struct Feeding<'a> {
    socket: UnixStream,
    reader: &'a dyn SetReader,
    order: &'a Order,
    context: &'a JobContext,
    openings: BTreeMap<String, u32>,
    /// What was wrong with the backup itself.
    broken: Option<ServiceError>,
}

impl Feeding<'_> {
    /// Until the verdict, or the end of the socket.
    fn converse(&mut self) -> io::Result<Option<Verdict>> {
        while let Some((kind, bytes)) = wire::read(&mut self.socket)? {
            match kind {
                Kind::Want => self.answer(&wire::parse(&bytes)?)?,
                Kind::Phase => self.enter(&bytes),
                Kind::Verdict => return wire::parse(&bytes).map(Some),
                Kind::Data | Kind::End | Kind::Problem => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "it sent what only the daemon sends"));
                }
            }
        }
        Ok(None)
    }

    fn enter(&self, word: &[u8]) {
        if let Some(phase) = Phase::ALL.iter().find(|phase| phase.as_str().as_bytes() == word) {
            self.context.progress.enter(*phase);
        }
    }

    fn answer(&mut self, want: &Want) -> io::Result<()> {
        let name = match want {
            Want::Order => {
                let text = serde_json::to_vec(self.order)?;
                return self.give(&mut text.as_slice(), false);
            }
            Want::File(name) => name,
        };
        if self.reader.manifest().file(name).is_none() {
            return wire::write(&mut self.socket, Kind::Problem, b"the backup has no such file");
        }
        let openings = self.openings.entry(name.clone()).or_default();
        *openings += 1;
        if *openings > OPENINGS {
            return wire::write(&mut self.socket, Kind::Problem, b"that file was asked for too often");
        }
        match self.reader.open(name) {
            Ok(mut file) => self.give(file.as_mut(), true),
            Err(error) => self.broken(error),
        }
    }

    /// Sends all of it. `End` comes after the reader has verified the last byte.
    fn give(&mut self, from: &mut dyn Read, counts: bool) -> io::Result<()> {
        let mut buffer = vec![0; LONGEST / 4];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return wire::write(&mut self.socket, Kind::End, b""),
                Ok(length) => {
                    wire::write(&mut self.socket, Kind::Data, &buffer[..length])?;
                    if counts {
                        self.context.progress.add_bytes(length as u64);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.broken(error),
            }
        }
    }

    fn broken(&mut self, error: io::Error) -> io::Result<()> {
        let error = ServiceError::from(error);
        let told = wire::write(&mut self.socket, Kind::Problem, error.to_string().as_bytes());
        self.broken.get_or_insert(error);
        told
    }
}

/// A verdict as it may be shown and stored.
fn bounded(mut verdict: Verdict) -> Verdict {
    let report = &mut verdict.report;
    report.checks.truncate(CHECKS);
    let names = report.checks.iter_mut().flat_map(|check| [&mut check.name, &mut check.message]);
    let texts = names.chain([&mut report.server]).chain(verdict.failure.as_mut().map(|failure| &mut failure.message));
    for text in texts {
        *text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT).collect();
    }
    // Integers below 2^53, as everywhere in the repository.
    let whole = (1_u64 << 53) - 1;
    let numbers = report.checks.iter_mut().map(|check| &mut check.duration);
    for number in numbers.chain([&mut report.recovery, &mut report.rows, &mut report.tables]) {
        *number = (*number).min(whole);
    }
    verdict
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        model::{
            RunId,
            drill::DrillReport,
            manifest::{Manifest, Range},
        },
        repository::RepositoryError,
        stream::{Cancel, CancelReason},
    };

    /// A backup whose `globals.sql` reads as one word, and whose `post-data.sql` is damaged.
    struct Backup(Manifest);

    impl SetReader for Backup {
        fn manifest(&self) -> &Manifest {
            &self.0
        }

        fn open(&self, file: &str) -> io::Result<Box<dyn Read + Send>> {
            match file {
                "post-data.sql" => Err(RepositoryError::damaged("packs/x", "flipped").into()),
                _ => Ok(Box::new(b"word".as_slice())),
            }
        }

        fn open_ranges(&self, _: &str, _: &[Range]) -> io::Result<Box<dyn Read + Send>> {
            unreachable!("nothing asks for ranges")
        }
    }

    /// Feeds a worker that does this.
    fn fed(worker: impl FnOnce(&mut UnixStream) + Send + 'static, cancel: &Cancel) -> Result<Verdict, ServiceError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let manifest = include_bytes!(
            "../../../tests/golden/format-1/backups/shop/_/20231114T221320Z-35fb746d53666adf9de694873140a826/manifest.json"
        );
        let backup = Backup(Manifest::parse(manifest).unwrap());
        let order = Order {
            version: "1".to_owned(),
            run_id: RunId::new(),
            manifest: backup.0.clone(),
            assertions: None,
            server_bin_dir: None,
            client_bin_dir: None,
            preload_libraries: Vec::new(),
        };
        let context = JobContext {
            cancel: cancel.clone(),
            progress: Arc::default(),
            scratch: "/nonexistent".into(),
            runtime: runtime.handle().clone(),
        };
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let worker = std::thread::spawn(move || worker(&mut theirs));
        let result = feed(&ours, &backup, &order, &context);
        ours.shutdown(Shutdown::Both).unwrap();
        worker.join().unwrap();
        result
    }

    fn ask(socket: &mut UnixStream, file: &str) -> (Kind, Vec<u8>) {
        wire::write_json(socket, Kind::Want, &Want::File(file.to_owned())).unwrap();
        match wire::read(socket).unwrap().unwrap() {
            (Kind::Data, bytes) => {
                assert_eq!(wire::read(socket).unwrap().unwrap().0, Kind::End);
                (Kind::Data, bytes)
            }
            other => other,
        }
    }

    #[test]
    fn a_worker_gets_files_of_this_backup_a_few_times_and_nothing_else() {
        let verdict = fed(
            |socket| {
                for other in ["../manifest.json", "/etc/passwd", ""] {
                    assert_eq!(ask(socket, other), (Kind::Problem, b"the backup has no such file".to_vec()), "{other}");
                }
                for _ in 0..OPENINGS {
                    assert_eq!(ask(socket, "globals.sql"), (Kind::Data, b"word".to_vec()));
                }
                assert_eq!(ask(socket, "globals.sql").0, Kind::Problem);
                let long = "x\n".repeat(TEXT);
                let check = crate::model::drill::Check {
                    name: long.clone(),
                    result: crate::model::drill::CheckResult::Passed,
                    message: long,
                    duration: u64::MAX,
                };
                let report = DrillReport { rows: u64::MAX, checks: vec![check; CHECKS + 1], ..DrillReport::default() };
                wire::write_json(socket, Kind::Verdict, &Verdict { report, failure: None }).unwrap();
            },
            &Cancel::new(),
        );
        let report = verdict.unwrap().report;
        assert_eq!((report.checks.len(), report.rows), (CHECKS, (1 << 53) - 1));
        let message = &report.checks[0].message;
        assert!(message.chars().count() == TEXT && !message.contains(char::is_control));
    }

    #[test]
    fn damage_of_the_backup_is_what_counts_whatever_the_worker_says() {
        let result = fed(
            |socket| {
                assert_eq!(ask(socket, "post-data.sql").0, Kind::Problem);
                let verdict = Verdict { report: DrillReport::default(), failure: None };
                wire::write_json(socket, Kind::Verdict, &verdict).unwrap();
            },
            &Cancel::new(),
        );
        assert!(result.unwrap_err().to_string().contains("flipped"));
    }

    #[test]
    fn a_worker_that_ends_or_talks_nonsense_gave_no_verdict() {
        let nonsense: [&[u8]; 5] = [b"", b"\x01", b"\xff\0\0\0\0", b"\x03\0\0\0\x02{}", b"\x10\0\0\0\0"];
        for bytes in nonsense {
            let said = fed(move |socket| io::Write::write_all(socket, bytes).unwrap(), &Cancel::new());
            assert_eq!(said.unwrap_err().code(), ErrorCode::DrillUnavailable, "{bytes:?}");
        }
    }

    #[test]
    fn a_cancel_ends_the_conversation() {
        let cancel = Cancel::new();
        let flag = cancel.clone();
        let result = fed(
            move |socket| {
                flag.cancel(CancelReason::Requested);
                assert_eq!(wire::read(socket).unwrap(), None);
            },
            &cancel,
        );
        assert_eq!(result.unwrap_err().code(), ErrorCode::Canceled);
    }
}
