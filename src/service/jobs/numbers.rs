//! The numbers of jobs.
//!
//! Invariant: a number that was ever given out is smaller than what the file says, and the file says so durably before
//! the number is given out. Blocks are reserved, so that not every job costs a sync; a crash skips the rest of a block.

use std::{
    io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use crate::{
    model::{ErrorCode, job::JobNumber},
    service::{ServiceError, state_file},
};

const BLOCK: u64 = 32;

#[derive(Debug)]
pub(super) struct Numbers {
    file: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next: JobNumber,
    reserved: JobNumber,
}

impl Numbers {
    /// Reads the file; where there is none, numbers follow `highest_known`.
    pub(super) fn open(file: PathBuf, highest_known: JobNumber) -> Result<Self, ServiceError> {
        let reserved = match std::fs::read_to_string(&file) {
            Ok(text) => text.trim().parse().map_err(|_| {
                let message = format!(
                    "the file of job numbers {} holds {:?} instead of a number; write one that is higher than any job's into it",
                    file.display(),
                    text.chars().take(40).collect::<String>()
                );
                ServiceError::new(ErrorCode::Io, message)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 1,
            Err(error) => return Err(super::history::io_error("read the file of job numbers", &file, &error)),
        };
        let next = reserved.max(highest_known + 1);
        Ok(Self { file, state: Mutex::new(State { next, reserved: next }) })
    }

    /// Gives back what was reserved and not used, so that a clean restart goes on without a gap.
    pub(super) fn settle(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.reserved > state.next
            && state_file::replace(&self.file, format!("{}\n", state.next).as_bytes()).is_ok()
        {
            state.reserved = state.next;
        }
    }

    /// A number that was never given before.
    pub(super) fn next(&self) -> Result<JobNumber, ServiceError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.next >= state.reserved {
            let reserved = state.next + BLOCK;
            state_file::replace(&self.file, format!("{reserved}\n").as_bytes())
                .map_err(|error| super::history::io_error("reserve job numbers in", &self.file, &error))?;
            state.reserved = reserved;
        }
        let number = state.next;
        state.next += 1;
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn no_number_comes_twice_whenever_the_daemon_dies(runs in proptest::collection::vec((0_u64..80, any::<bool>()), 1..8)) {
            let folder = tempfile::tempdir().unwrap();
            let mut last = 0;
            for (jobs, settle) in runs {
                let numbers = Numbers::open(folder.path().join("number"), 0).unwrap();
                for _ in 0..jobs {
                    let number = numbers.next().unwrap();
                    prop_assert!(number > last);
                    last = number;
                }
                if settle && jobs > 0 {
                    numbers.settle();
                    let next = Numbers::open(folder.path().join("number"), 0).unwrap().next().unwrap();
                    prop_assert_eq!(next, last + 1);
                    last = next;
                }
            }
        }
    }

    #[test]
    fn a_lost_file_is_replaced_by_what_history_knows_and_a_broken_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("number");
        assert_eq!(Numbers::open(file.clone(), 41).unwrap().next().unwrap(), 42);
        std::fs::write(&file, "forty").unwrap();
        let error = Numbers::open(file.clone(), 41).unwrap_err();
        assert!(error.to_string().contains("forty") && error.to_string().contains(file.to_str().unwrap()));
    }
}
